"""What a BatchNorm that has to stay may be written as (`--rest`), as an edit of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import cast
from bnfold.graph import Node
from bnfold.kinds import Norm

Form = Literal["affine", "depthwise"]


@dataclass(frozen=True, eq=False)
class Lower:
    """A `Norm` node that stays is written as ``scale * x + shift``, for values of ``rank``.

    That is a product and a sum with constants (``affine``; one of the two where the other would do
    nothing), or a depthwise convolution whose kernel has one element.
    """

    node: Node
    form: Form
    scale: Array
    shift: Array
    rank: int

    @property
    def factor(self) -> NDArray[Any] | None:
        """What is multiplied with: the weight of the convolution; None where there is no product."""
        ones, kind = self._ones, self._kind
        if self.form == "depthwise":
            return cast(self.scale, kind.dtype).reshape(-1, 1, *ones)
        if (self.scale == 1).all() and (self.shift != 0).any():
            return None
        return cast(self.scale, kind.dtype).reshape(-1, *ones)

    @property
    def summand(self) -> NDArray[Any] | None:
        """What is added: the bias of the convolution; None where there is no sum."""
        array = cast(self.shift, self._kind.dtype)
        if self.form == "depthwise":
            return array
        return array.reshape(-1, *self._ones) if (self.shift != 0).any() else None

    @property
    def _kind(self) -> Norm:
        assert isinstance(self.node.kind, Norm)
        return self.node.kind

    @property
    def _ones(self) -> tuple[int, ...]:
        return (1,) * (self.rank - self._kind.axis - 1)
