"""An original program and what was written of its folded copy, as the proof runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.fx import Node as Fx

from bnfold.errors import RuntimeUnavailableError
from bnfold.formats.torch.edit.edited import ONNX, PROGRAM, TorchEdited
from bnfold.formats.torch.file.state import read_tensors
from bnfold.formats.torch.file.tensors import (
    has_numpy_dtype,
    numpy_dtype,
    same_elements,
    to_numpy,
)
from bnfold.formats.torch.graph.arguments import base_name, is_tensor, nodes_in
from bnfold.formats.torch.graph.outputs import output_names
from bnfold.formats.torch.graph.written import read_back
from bnfold.formats.torch.run.ahead import Ahead
from bnfold.formats.torch.run.inference import TorchReference, TorchRuns
from bnfold.formats.torch.run.listing import listing_of, places_of
from bnfold.formats.torch.run.onnxruntime_file import OnnxFile
from bnfold.formats.torch.run.readers import unseen_readers
from bnfold.formats.torch.run.runner import Runner
from bnfold.graph import Value
from bnfold.kinds import Norm
from bnfold.proof.congruence import Congruence, compare_files
from bnfold.proof.listing import same_bits
from bnfold.proof.regions import Region, channel_axis, layers, touched_nodes
from bnfold.proof.subject import Arrays, Exported, Fed, Leaving, PreciseRun, Runs


class TorchFold:
    """See `bnfold.proof.subject.Fold`.

    A ``.pt2`` file is compared as a program, a state dict by its tensors in the program that it
    belongs to. The pieces of an ONNX file that torch's exporter wrote are those of the program that
    was exported; the file itself is compared by its outputs, and by the inner values that it names.
    """

    def __init__(
        self,
        edited: TorchEdited,
        written: Path | None,
        stored: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Reads a written file back.

        Args:
            edited: the original, the plan, and the edited copy.
            written: what it was written to; None for a network that stays in memory.
            stored: the tensors that such a network holds, by name; None: those of the edited copy.

        Raises:
            ModelError: where torch cannot read what it wrote.
        """
        self.edited, self.model = edited, edited.model
        self.suffix = "" if written is None else written.suffix.lower()
        self._stored: Mapping[str, torch.Tensor] = stored or {}
        # Another runtime sums in another order in every layer, not only in those that change.
        nodes = layers(self.model.graph) if self.suffix == ONNX else touched_nodes(edited.plan)
        self.reference = TorchReference(self.model, nodes)
        self._ahead = Ahead(self.reference)
        self._noted = dict.fromkeys(edited.provenance, "")  # what the file says of itself
        self.folded = self._read_back(written)
        self.candidate: Runs = self.folded
        self._is_state_dict = written is not None and self.suffix not in (ONNX, PROGRAM)
        self._file: OnnxFile | None = None
        if written is not None and self.suffix == ONNX:
            self._file = OnnxFile(written, output_names(self.model.program))
            self.candidate = self._file

    def _read_back(self, written: Path | None) -> TorchRuns:
        if written is not None and self.suffix == PROGRAM:
            return TorchRuns(read_back(written, self._noted))
        base = self.model.program if self.edited.keep_modules else self.edited.program
        if written is None or self.suffix == ONNX:
            return TorchRuns(base, _by_node(base, self._stored))
        self._stored = read_tensors(written)
        return TorchRuns(base, _by_node(base, self._stored))

    @property
    def named_outputs(self) -> tuple[str, ...]:
        """None: the program that is run is the one that was read."""
        return ()

    def congruence(self) -> Congruence:
        found = self._same_class() if self.edited.keep_modules else self._compared()
        unseen = unseen_readers(self.model, self.edited.plan)
        others = self._other_notes()
        return replace(found, differences=(*found.differences, *unseen, *others))

    def _other_notes(self) -> list[str]:
        """What a program's file says of itself that it was not to say."""
        wanted = self.edited.provenance if self.suffix == PROGRAM else {}
        return [f"'{key}' is another" for key, text in wanted.items() if self._noted[key] != text]

    def _compared(self) -> Congruence:
        original = listing_of(self.model.program)
        written = listing_of(self.folded.runner.program, self._stored)
        found = compare_files(original, written, self.edited.plan, places_of(self.model))
        return replace(found, differences=(*found.differences, *self._stored_differences()))

    def _stored_differences(self) -> list[str]:
        """What a state dict lacks, or holds beside what the program reads; and in what an exported
        file is unlike the program. There, constants that the exporter computed have other names."""
        if self._file is not None:
            stored = self._file.tensors
            shared = {n: t for n, t in self.edited.state_dict().items() if n in stored}
            same_kind = {n: t for n, t in shared.items() if has_numpy_dtype(t.dtype)}
            return [
                f"tensor '{name}' differs"
                for name, tensor in same_kind.items()
                if stored[name].shape == tuple(tensor.shape)
                and not same_bits(to_numpy(tensor), stored[name])
            ]
        if not self._is_state_dict:
            return []
        wanted = self.edited.state_dict()
        unlike = [n for n, t in wanted.items() if not same_elements(t, self._stored.get(n))]
        more = [n for n in self._stored if n not in wanted]
        return [
            *(f"tensor '{n}' {'differs' if n in self._stored else 'is missing'}" for n in unlike),
            *(f"tensor '{n}' was not in the original" for n in more),
        ]

    def exported(self, names: Mapping[str, str]) -> Exported | None:
        """The values of an ONNX file: torch's exporter calls them as the program does."""
        file = self._file
        if file is None:
            return None
        calls = self.model.oracle.calls
        changed = {calls[v].name for region in self.edited.plan.regions for v in region}
        found = {
            node.name: there
            for node in self.model.program.graph.nodes
            if node.op == "call_function" and is_tensor(node) and node.name not in changed
            if (there := names.get(node.name)) in file.inner_names
        }
        return Exported(found, file.values)

    def _same_class(self) -> Congruence:
        """A state dict for the unchanged class: its tensors are the original's, or what was
        computed; its program is the original's."""
        kept, old = self.edited.kept, self.model.program.state_dict
        differences = [
            f"tensor '{name}' differs"
            for name, tensor in kept.tensors.items()
            if name not in self._stored or not same_elements(tensor, self._stored[name])
        ]
        differences += [
            f"tensor '{name}' changed without an edit"
            for name, tensor in old.items()
            if name not in kept.changed and not same_elements(tensor, self._stored.get(name))
        ]
        differences += [
            f"tensor '{n}' was not in the original" for n in self._stored if n not in old
        ]
        names = {node.name: node.name for node in self.model.program.graph.nodes}
        return Congruence(
            self.model.node_count, len(old), len(kept.changed), tuple(differences), names
        )

    def values(self, feeds: Arrays, names: Sequence[str]) -> Arrays:
        return self._ahead.values(feeds, names)

    def pieces(self, regions: Sequence[Region], names: Mapping[str, str]) -> list[TorchPiece]:
        found = [TorchPiece(self, region, names) for region in regions if region.outputs]
        self._ahead.coming = [piece.observed for piece in found]
        return found


class TorchPiece:
    """See `bnfold.proof.subject.Piece`."""

    def __init__(self, fold: TorchFold, region: Region, names: Mapping[str, str]) -> None:
        self._fold, self._names, self._region = fold, names, region
        self._calls = fold.model.oracle.calls
        entering = self._entering(region)
        observable = region.scope == 0
        self.inputs = [_fed(call, observable=observable) for call in entering]
        self.outputs = [
            Leaving(self._calls[v].name, self._calls[v].name, _shown(v), channel_axis(v))
            for v in region.outputs
        ]

    @property
    def observed(self) -> list[str]:
        """The values that the network as a whole has to be asked for."""
        names = [f.value for f in self.inputs] + [o.value for o in self.outputs]
        return list(dict.fromkeys(name for name in names if name is not None))

    @property
    def hides(self) -> bool:
        return self._region.hides

    def alone(self) -> TorchReference:
        return TorchReference(self._fold.model, self._region.nodes)

    def _entering(self, region: Region) -> list[Fx]:
        """What the region's calls read, computed and unchanged; and the program's inputs, whose
        sizes they may ask for."""
        model = self._fold.model
        changed = {self._calls[value] for value in region.hidden}
        found: dict[Fx, None] = {}
        for node in region.nodes:
            for call in node.native.calls:
                for read in nodes_in((call.args, call.kwargs)):
                    own = read in node.native.calls or read in changed or _follows_from_sizes(read)
                    if not own and is_tensor(read) and model.constants.find(read) is None:
                        found[read] = None
        inputs = {spec.name for spec in model.inputs}
        nodes = model.program.graph.nodes
        found |= dict.fromkeys(n for n in nodes if n.op == "placeholder" and n.name in inputs)
        return list(found)

    def original(self, feeds: Arrays, draw: int | None = None) -> Arrays:
        reference = self._fold.reference
        wanted = [leaving.key for leaving in self.outputs]
        return reference.runner.each(feeds, wanted, reference.moved(draw))

    def written(self, feeds: Arrays) -> Arrays:
        folded = self._fold.folded
        there = {o.key: self._names.get(o.key, o.key) for o in self.outputs}
        given = {self._names.get(name, name): array for name, array in feeds.items()}
        # Where all that stood between them is gone, what enters is what leaves.
        through = {n for key, n in there.items() if n in given and key not in feeds}
        made = [name for name in dict.fromkeys(there.values()) if name not in through]
        found = folded.runner.each(given, made, folded.tensors)
        return {key: given[n] if n in through else found[n] for key, n in there.items()}

    def moved(self, leaving: Leaving, feeds: Arrays, draws: int) -> list[NDArray[Any]]:
        reference, key = self._fold.reference, leaving.key
        runs = (reference.runner.each(feeds, [key], reference.moved(d)) for d in range(draws))
        return [run[key] for run in runs]

    def in_double(self, leaving: Leaving, feeds: Arrays, draws: int) -> PreciseRun | None:
        reference, folded = self._fold.reference, self._fold.folded
        there = self._names.get(leaving.key, leaving.key)
        given = {self._names.get(name, name): array for name, array in feeds.items()}
        dtype = reference.runner.dtype_of(leaving.key)
        if dtype is None:
            return None
        exact = Runner(reference.runner.program, double=True)
        theirs = Runner(folded.runner.program, double=True)
        try:
            plain, *moved = (
                exact.each(feeds, [leaving.key], reference.moved(draw))[leaving.key]
                for draw in (None, *range(draws))
            )
            candidate = theirs.each(given, [there], folded.tensors)[there]
        except RuntimeUnavailableError:  # an operator that is told to compute in another type
            return None
        return PreciseRun(plain, candidate, moved, dtype)


def _fed(call: Fx, *, observable: bool) -> Fed:
    value = call.meta["val"]
    known = isinstance(value, torch.Tensor) and has_numpy_dtype(value.dtype)
    dtype = numpy_dtype(value.dtype) if known else np.dtype(np.float32)
    return Fed(call.name, call.name if observable else None, None, dtype)


def _shown(value: Value) -> str:
    """The layer that a value comes from, with a position where that has several outputs."""
    node = value.producer
    assert node is not None
    if isinstance(node.kind, Norm) or len(node.outputs) == 1:
        return node.name
    return f"{node.name}[{node.outputs.index(value)}]"


def _by_node(program: ExportedProgram, tensors: Mapping[str, torch.Tensor]) -> Arrays:
    """Parameters by the name of their node in ``program``; those that NumPy has no type for stay."""
    return {
        spec.arg.name: to_numpy(tensors[spec.target])
        for spec in program.graph_signature.input_specs
        if spec.target in tensors and has_numpy_dtype(tensors[spec.target].dtype)
    }


_MADE_OF_SIZES = frozenset("zeros ones full arange eye".split())


def _follows_from_sizes(call: Fx) -> bool:
    """Whether a call makes a tensor of sizes alone, always the same."""
    reads = nodes_in((call.args, call.kwargs))
    return base_name(call) in _MADE_OF_SIZES and not any(map(is_tensor, reads))
