"""Results that are known before the model runs: small ones computed together, large ones on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TypeProto, helper

from bnfold.errors import ModelError
from bnfold.formats.onnx.graph.evaluation import Calculation, Piece, Runtime, in_parts, piece_of
from bnfold.formats.onnx.graph.inference import (
    Contradiction,
    Inference,
    may_steer,
    read_off,
    shape_in,
    size_in,
    tensor_type,
)

Load = Callable[[], NDArray[Any]]
_SMALL, _LARGEST = 1 << 16, 1 << 30  # bytes
# The sizes of their results depend on elements, and are no larger than what goes in.
_BOUNDED = {"NonZero", "Compress", "Unique", "SequenceAt"}


class Precomputed:
    """Values of one model by their keys, names that are unique in it."""

    def __init__(self, inference: Inference, runtime: Runtime) -> None:
        self._inference = inference
        self._runtime = runtime
        self._calculation = Calculation(runtime)
        self._types: dict[str, TypeProto] = {}
        self._loads: dict[str, Load] = {}
        self._large: dict[str, Piece] = {}
        self._checked: set[str] = set()

    def type(self, key: str) -> TypeProto | None:
        return self._types.get(key)

    def give(self, key: str, dtype: np.dtype[Any], shape: Sequence[int], load: Load) -> None:
        """A value of the file."""
        self._types[key] = tensor_type(dtype, shape)
        self._loads[key] = load

    def take(self, nodes: Sequence[onnx.NodeProto], key: Callable[[str], str]) -> bool:
        """A node, or a chain of them, all of whose inputs are here; whether its results are, too.

        Args:
            nodes: the last one's outputs are wanted.
            key: of a name in the file.
        """
        piece, node = piece_of(nodes, key), nodes[-1]
        if self._is_plain(piece, node):
            return True
        types = self._inferred(piece) if len(nodes) == 1 else {}
        sizes = [size_in(types[name]) if name in types else None for name in piece.makes]
        if any(name not in self._types for name in piece.reads):
            return False  # it has just turned out that one of them cannot be computed
        if None in sizes:
            return node.op_type in _BOUNDED and self._tried(piece)
        if max(filter(None, sizes), default=0) > _LARGEST:
            return False
        self._types |= {name: types[name] for name in piece.makes}
        if all(self._is_small(name) for name in (*piece.reads, *piece.makes)):
            self._await(piece)
        else:
            self._large |= dict.fromkeys(piece.makes, piece)
        return True

    def _is_plain(self, piece: Piece, node: onnx.NodeProto) -> bool:
        """A shape, or the same value once more: exporters write many of these."""
        read, made = piece.reads[0], piece.makes[0]
        shape = shape_in(self._types[read])
        told = None if shape is None else read_off(node, shape)
        if told is not None:
            self._keep(made, told)
        elif node.op_type == "Identity" and read in self._loads:
            self._types[made], self._loads[made] = self._types[read], self._loads[read]
        else:
            return False
        return True

    def finish(self) -> None:
        """Computes what is small. What cannot be computed, large values included, is forgotten."""
        self._run()
        unchecked = [
            p for n, p in self._large.items() if n == p.makes[0] and n not in self._checked
        ]
        given = self._types.keys() - {n for piece in unchecked for n in piece.makes}
        in_parts(unchecked, given, self._check)
        for piece in unchecked:
            self._checked.add(piece.makes[0])
            for name in piece.makes:
                if name not in given:
                    del self._types[name], self._large[name]

    def elements(self, key: str) -> NDArray[Any]:
        """The elements of a value that is here.

        Raises:
            ModelError: where the runtime does not compute it after all.
        """
        load = self._loads.get(key)
        if load is not None:
            return load()
        try:
            return self._computed(self._large[key])[key]
        except NotImplementedError as error:
            raise ModelError(f"a constant of the model cannot be computed: {error}") from None

    def _is_small(self, key: str) -> bool:
        return key not in self._large and (size_in(self._types[key]) or 0) <= _SMALL

    def _inferred(self, piece: Piece) -> dict[str, TypeProto]:
        types = {name: self._types[name] for name in piece.reads}
        try:
            found = self._inference.outputs(piece.nodes[0], types, self._data(types))
            if any(shape_in(t) is None for t in found.values()) and any(
                map(self._calculation.awaits, types)
            ):
                self._run()
                found = self._inference.outputs(piece.nodes[0], types, self._data(types))
        except (Contradiction, KeyError):  # KeyError: an input that turned out not to be known
            return {}
        return found

    def _data(self, types: Mapping[str, TypeProto]) -> dict[str, NDArray[Any]]:
        """Elements of small inputs, as far as they are at hand."""
        return {
            name: self._loads[name]()
            for name, known in types.items()
            if name in self._loads and may_steer(known) and self._is_small(name)
        }

    def _await(self, piece: Piece) -> None:
        for name in piece.reads:
            if not self._calculation.has(name):
                self._calculation.fix(name, self._loads[name]())
        codes = [self._types[name].tensor_type.elem_type for name in piece.makes]
        self._calculation.add(piece, codes)

    def _run(self) -> None:
        """Computes what waits."""
        computed, failed = self._calculation.run()
        for name in computed:
            self._keep(name, self._calculation.values[name])
        for name in failed:
            self._types.pop(name, None)

    def _keep(self, name: str, array: NDArray[Any]) -> None:
        self.give(name, array.dtype, array.shape, lambda: array)

    def _tried(self, piece: Piece) -> bool:
        """A result whose size nobody tells: it is computed to see."""
        try:
            results = self._computed(piece)
        except NotImplementedError:
            return False
        for name, array in results.items():
            self._keep(name, array)
            if array.nbytes > _SMALL:
                del self._loads[name]
                self._large[name] = piece
        return True

    def _computed(self, piece: Piece) -> dict[str, NDArray[Any]]:
        """The results of a piece, with what they follow from.

        Raises:
            NotImplementedError: where the runtime does not run that.
        """
        self._run()
        pieces, reads = self._cone(piece)
        arrays = {name: self._loads[name]() for name in reads if name in self._loads}
        if len(arrays) < len(reads):
            raise NotImplementedError("an input of it cannot be computed")
        feeds = {n: a for n, a in arrays.items() if a.nbytes > _SMALL and a.dtype.kind in "biuf"}
        fixed = {n: a for n, a in arrays.items() if n not in feeds}
        wanted = {n: self._code(n) for n in piece.makes}
        results = self._runtime.run(pieces, fixed, feeds, wanted)
        for name, array in results.items():
            expected = shape_in(self._types.get(name))
            if expected is not None and expected != array.shape:
                raise NotImplementedError(f"{name} has shape {array.shape}, not {expected}")
        return results

    def _code(self, name: str) -> int:
        known = self._types.get(name)
        return int(known.tensor_type.elem_type) if known else 0

    def _cone(self, piece: Piece) -> tuple[list[Piece], list[str]]:
        """The large pieces that lead to this one, in order, and what they read of the others."""
        order: dict[Piece, None] = {}
        stack = [(piece, False)]
        while stack:
            current, complete = stack.pop()
            if complete:
                order[current] = None
            elif current not in order:
                stack.append((current, True))
                stack += [(self._large[n], False) for n in current.reads if n in self._large]
        reads = {n: None for p in order for n in p.reads if n not in self._large}
        return list(order), list(reads)

    def _check(self, pieces: Sequence[Piece]) -> None:
        """Whether the runtime takes pieces, without their elements."""
        made = [name for piece in pieces for name in piece.makes]
        reads = {name for piece in pieces for name in piece.reads} - set(made)
        inputs = [helper.make_value_info(name, self._types[name]) for name in reads]
        self._runtime.session(pieces, inputs, [], dict.fromkeys(made, 0))
