"""What reaches a submodule where the network as a whole runs on data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from bnfold.data import InputSpec, Sample
from bnfold.errors import DataError, ModelError
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.file.tensors import to_numpy
from bnfold.formats.torch.graph.inputs import bind, from_sample
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.graph.trace import unwrapped

_BATCH = 16
Call = tuple[tuple[Any, ...], dict[str, Any]]


def reaching(
    network: nn.Module,
    name: str,
    model: TorchModel,
    opened: Callable[[Sequence[InputSpec]], Sample],
) -> Iterator[dict[str, NDArray[Any]]]:
    """The inputs of a submodule, a batch at a time, by the names that its program has for them.

    Args:
        network: what holds it, which is put into eval mode.
        name: the submodule's.
        model: what was traced of it.
        opened: gives the data, for inputs of some names.

    Raises:
        DataError: where the network does not run on the data.
        ModelError: where the submodule is not called as it was when it was traced.
    """
    calls: list[Call] = []
    inner = unwrapped(network).eval()
    found = from_sample(opened, inner)  # which tries the network out, and must not be noted
    whole = bind(inner, found.positional, found.named)

    def note(_: Any, args: Any, kwargs: Any) -> None:
        calls.append((args, kwargs))

    handle = inner.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True)
    try:
        for args, kwargs in _batches(whole):
            _run(inner, args, kwargs)
            yield from (_by_name(call, name, model) for call in calls)
            calls.clear()
    finally:
        handle.remove()


def _batches(whole: Call) -> Iterator[Call]:
    """All of the data, cut along the first axis, which counts samples."""
    tensors = [leaf for leaf in pytree.tree_leaves(whole) if isinstance(leaf, torch.Tensor)]
    count = max((len(tensor) for tensor in tensors if tensor.ndim), default=0)
    for start in range(0, count, _BATCH):

        def cut(leaf: Any, start: int = start) -> Any:
            several = isinstance(leaf, torch.Tensor) and leaf.ndim and len(leaf) == count
            return leaf[start : start + _BATCH] if several else leaf

        args, kwargs = pytree.tree_map(cut, whole)
        yield args, kwargs


def _run(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        with torch.no_grad():
            quietly(lambda: network(*args, **kwargs))
    except Exception as error:  # the user's own code may raise anything
        raise DataError(
            f"{type(network).__name__} does not run on the data ({first_line(error)}); check its "
            "shapes, names and types"
        ) from None


def _by_name(call: Call, name: str, model: TorchModel) -> dict[str, NDArray[Any]]:
    leaves, structure = pytree.tree_flatten(call)
    if structure != model.program.call_spec.in_spec:
        raise ModelError(
            f"{name} is called with other arguments on the data than on the example inputs; trace it "
            "on inputs like the data"
        )
    specs = model.program.graph_signature.input_specs
    own = [spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT]
    tensors = {spec.name for spec in model.inputs}
    pairs = zip(own, leaves, strict=True)
    return {n: np.array(to_numpy(leaf)) for n, leaf in pairs if n in tensors}
