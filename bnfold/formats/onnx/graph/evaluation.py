"""Pieces of a model in onnxruntime, at the file's own operator set, many nodes in one session.

What is known before a model runs is computed by the runtime that would compute it, never by a second
implementation. Where a session with many pieces fails, halves of it are tried, so that one
piece that does not run costs nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bnfold.formats.onnx.file.tensors import tensor_of
from bnfold.formats.onnx.graph.quiet import small_options

if TYPE_CHECKING:
    import onnxruntime as ort

Array = NDArray[Any]
STANDARD = ("", "ai.onnx")
CONTRIBUTED = "com.microsoft"  # onnxruntime's own operators
_QUANTISING = ("QuantizeLinear", "DequantizeLinear")
# What the runtime hands over only after a cast to a type that holds the same numbers.
_WIDER: dict[int, int] = {
    TensorProto.BFLOAT16: TensorProto.FLOAT,
    TensorProto.FLOAT8E4M3FN: TensorProto.FLOAT,
    TensorProto.FLOAT8E4M3FNUZ: TensorProto.FLOAT,
    TensorProto.FLOAT8E5M2: TensorProto.FLOAT,
    TensorProto.FLOAT8E5M2FNUZ: TensorProto.FLOAT,
    TensorProto.UINT4: TensorProto.UINT8,
    TensorProto.INT4: TensorProto.INT8,
}


@dataclass(frozen=True, eq=False)
class Piece:
    """A node, or a chain of them, by names that are unique in the model."""

    nodes: tuple[onnx.NodeProto, ...]
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def piece_of(nodes: Sequence[onnx.NodeProto], name: Callable[[str], str]) -> Piece:
    """Copies of ``nodes``; only the last one's outputs are of interest.

    Args:
        nodes: a chain.
        name: what a name in the file is called here.
    """
    makes = tuple(name(output) for output in nodes[-1].output if output)
    inner = {o: f"{makes[0]}:{i}" for i, node in enumerate(nodes[:-1]) for o in node.output if o}
    reads: dict[str, None] = {}
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = ""
        copy.domain = "" if node.domain in STANDARD else node.domain
        for i, given in enumerate(node.input):
            if given:
                copy.input[i] = inner.get(given) or name(given)
                if given not in inner:
                    reads[copy.input[i]] = None
        for i, made in enumerate(node.output):  # the runtime may insist on all of them
            copy.output[i] = inner.get(made) or (name(made) if made else f"{makes[0]}:unread{i}")
        copies.append(copy)
    return Piece(tuple(copies), tuple(reads), makes)


def is_known(node: onnx.NodeProto) -> bool:
    """Whether its meaning is: a standard operator, or the like of one that onnxruntime has of its own."""
    contributed = node.domain == CONTRIBUTED and node.op_type in _QUANTISING
    return contributed or node.domain in STANDARD


def inputs_of(nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """The names, each once, that a chain of nodes reads from outside."""
    made = {name for node in nodes for name in node.output}
    return list(dict.fromkeys(i for node in nodes for i in node.input if i and i not in made))


@dataclass(frozen=True, eq=False)
class Runtime:
    """What all pieces of one model run in."""

    opset: int
    ir_version: int
    _sessions: dict[Any, ort.InferenceSession] = field(default_factory=dict)

    def run(
        self,
        pieces: Sequence[Piece],
        constants: Mapping[str, Array],
        feeds: Mapping[str, Array],
        wanted: Mapping[str, int],
        *,
        again: bool = False,
    ) -> dict[str, Array]:
        """The ``wanted`` results (name to element type, 0 where that is not known).

        Args:
            pieces: what is run, each after those that it reads from.
            constants: values that are part of the model.
            feeds: values that are given to it, in types that NumPy has.
            wanted: what to return.
            again: keep the session for other feeds of the same types and ranks.

        Raises:
            NotImplementedError: where the runtime does not run that.
        """
        key = (*map(id, pieces), *((n, a.dtype, a.ndim) for n, a in feeds.items()), *wanted)
        session = self._sessions.get(key) or self.open(pieces, constants, feeds, wanted)
        if again:
            self._sessions[key] = session
        return self.answer(session, feeds, wanted)

    def open(
        self,
        pieces: Sequence[Piece],
        constants: Mapping[str, Array],
        feeds: Mapping[str, Array],
        wanted: Mapping[str, int],
    ) -> ort.InferenceSession:
        """A session for feeds of these types and ranks. Raises as `session` does."""
        inputs = [_declared(name, array) for name, array in feeds.items()]
        return self.session(pieces, inputs, [tensor_of(a, n) for n, a in constants.items()], wanted)

    @staticmethod
    def answer(
        session: ort.InferenceSession, feeds: Mapping[str, Array], wanted: Mapping[str, int]
    ) -> dict[str, Array]:
        """What a session for ``wanted`` makes of ``feeds``.

        Raises:
            NotImplementedError: where the run fails.
        """
        try:
            results = session.run(None, dict(feeds))
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise NotImplementedError(str(error)) from None
        return {n: _narrowed(y, wanted[n]) for n, y in zip(wanted, results, strict=True)}

    def session(
        self,
        pieces: Iterable[Piece],
        inputs: Sequence[onnx.ValueInfoProto],
        tensors: Sequence[onnx.TensorProto],
        wanted: Mapping[str, int],
    ) -> ort.InferenceSession:
        """A session with graph optimisations off.

        Raises:
            NotImplementedError: where the runtime does not take the model.
        """
        import onnxruntime as ort

        nodes = [node for piece in pieces for node in piece.nodes]
        outputs = []
        for name, code in wanted.items():
            if code in _WIDER:
                nodes.append(helper.make_node("Cast", [name], [f"{name}:wide"], to=_WIDER[code]))
                name = f"{name}:wide"
            outputs.append(helper.make_empty_tensor_value_info(name))
        graph = helper.make_graph(nodes, "ahead", list(inputs), outputs, list(tensors))
        model = helper.make_model(
            graph,
            opset_imports=[
                helper.make_opsetid("", self.opset),
                helper.make_opsetid(CONTRIBUTED, 1),
            ],
            ir_version=max(4, self.ir_version),  # inputs are no constants, constants no inputs
        )
        try:
            return ort.InferenceSession(
                model.SerializeToString(), small_options(), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise NotImplementedError(str(error)) from None

    def forget(self) -> None:
        """Drops sessions that were kept."""
        self._sessions.clear()


def in_parts(
    pieces: Sequence[Piece], given: set[str], attempt: Callable[[Sequence[Piece]], None]
) -> None:
    """Calls ``attempt`` with all ``pieces`` at once, or, where that fails, with halves of them.

    ``given`` are the names that are known before; what succeeds joins them. A piece that reads what
    is not known is left out.
    """
    ready, known = [], set(given)
    for piece in pieces:
        if known.issuperset(piece.reads):
            ready.append(piece)
            known.update(piece.makes)
    if not ready:
        return
    try:
        attempt(ready)
    except NotImplementedError:
        half = len(ready) // 2
        if half:
            in_parts(ready[:half], given, attempt)
            in_parts(ready[half:], given, attempt)
    else:
        given |= known


class Calculation:
    """Values that are known ahead, and pieces that wait until one of their results is needed."""

    def __init__(self, runtime: Runtime, *, again: bool = False) -> None:
        """``again``: the same pieces will run with other feeds."""
        self.values: dict[str, Array] = {}
        self._fixed: dict[str, Array] = {}
        self._waiting: list[Piece] = []
        self._codes: dict[str, int] = {}
        self._runtime = runtime
        self._again = again

    def fix(self, name: str, array: Array) -> None:
        """A value that is part of the model."""
        self._fixed[name] = array

    def add(self, piece: Piece, codes: Sequence[int]) -> None:
        """Takes a piece, with the element types of what it makes (0: unknown).

        Whatever it reads has to be here: fixed, a value, or made by a piece that waits.
        """
        self._waiting.append(piece)
        self._codes |= dict(zip(piece.makes, codes, strict=True))

    def awaits(self, name: str) -> bool:
        return name in self._codes

    def has(self, name: str) -> bool:
        """Whether a piece may read ``name``."""
        return name in self._codes or name in self.values or name in self._fixed

    def run(self) -> tuple[list[str], list[str]]:
        """Computes all that waits: the names of what is in `values` now, and of what failed."""
        names = list(self._codes)
        in_parts(self._waiting, self._fixed.keys() | self.values.keys(), self._attempt)
        self._waiting, self._codes = [], {}
        return [n for n in names if n in self.values], [n for n in names if n not in self.values]

    def _attempt(self, pieces: Sequence[Piece]) -> None:
        made = dict.fromkeys(name for piece in pieces for name in piece.makes)
        reads = dict.fromkeys(n for piece in pieces for n in piece.reads if n not in made)
        constants = {n: self._fixed[n] for n in reads if n in self._fixed}
        feeds = {n: self.values[n] for n in reads if n not in self._fixed}
        wanted = {n: self._codes[n] for n in made}
        self.values |= self._runtime.run(pieces, constants, feeds, wanted, again=self._again)


def _declared(name: str, array: Array) -> onnx.ValueInfoProto:
    code = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, code, [None] * array.ndim)


def _narrowed(result: Any, code: int) -> Array:
    if not isinstance(result, np.ndarray | np.generic):
        raise NotImplementedError("a sequence is no tensor")
    array = np.asarray(result)
    return array.astype(helper.tensor_dtype_to_np_dtype(code)) if code in _WIDER else array
