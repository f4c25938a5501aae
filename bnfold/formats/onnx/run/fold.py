"""An original ONNX file and the folded one, as the proof runs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from bnfold.errors import RuntimeUnavailableError
from bnfold.formats.onnx.graph.element_types import element_type
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.scopes import Scope, scopes_of
from bnfold.formats.onnx.run.cutting import Cut, piece_of
from bnfold.formats.onnx.run.float64 import run_in_double
from bnfold.formats.onnx.run.inference import OnnxRuns, taken_by
from bnfold.formats.onnx.run.listing import listing_of, places_of, qualified, with_provenance
from bnfold.formats.onnx.run.parameters import FedModel, fed_model
from bnfold.formats.onnx.run.readers import unseen_readers
from bnfold.formats.onnx.run.session import Session
from bnfold.graph import Node, Value
from bnfold.kinds import Linear
from bnfold.planning import Plan
from bnfold.proof.congruence import Congruence, compare_files
from bnfold.proof.regions import Region, channel_axis, rounded_biases, touched_nodes
from bnfold.proof.subject import Arrays, Fed, Leaving, PreciseRun

_GROUP_BYTES = 1 << 26


class OnnxFold:
    """See `bnfold.proof.subject.Fold`."""

    def __init__(
        self,
        original: OnnxModel,
        plan: Plan,
        written: OnnxModel,
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        """``provenance``: the entries of the metadata that the written file has to have besides."""
        self.original, self.plan, self.written = original, plan, written
        self._provenance = provenance or {}
        self.reference = OnnxRuns(original, touched_nodes(plan), rounded_biases(plan))
        self.candidate = OnnxRuns(written)

    @property
    def named_outputs(self) -> list[str]:
        return [output.name for output in self.original.proto.graph.output]

    def exported(self, names: Mapping[str, str]) -> None:
        """None: the pieces are cut out of the file."""

    def congruence(self) -> Congruence:
        frozen = self.original.freeze_initializers
        noted = self._provenance
        ours = with_provenance(listing_of(self.original, frozen=frozen, apart=noted), noted)
        theirs = listing_of(self.written, frozen=frozen, apart=noted)
        found = compare_files(ours, theirs, self.plan, places_of(self.original))
        unseen = unseen_readers(self.original, self.plan)
        return replace(found, differences=(*found.differences, *unseen))

    def values(self, feeds: Arrays, names: Sequence[str]) -> Arrays:
        return self.reference.values(feeds, names)

    def pieces(self, regions: Sequence[Region], names: Mapping[str, str]) -> list[OnnxPiece]:
        return [OnnxPiece(self, group, names) for group in self._groups(regions)]

    def _groups(self, regions: Sequence[Region]) -> Iterator[list[Region]]:
        """Regions of one body, as many as keep their weights and what they compute within bounds.

        Each group costs a run of the whole network, for the values around its regions.
        """
        group: list[Region] = []
        size = 0
        for region in sorted((r for r in regions if r.outputs), key=lambda r: r.scope):
            own = sum(_weight_bytes(node) for node in region.nodes) + self._border_bytes(region)
            if group and (region.scope != group[0].scope or size + own > _GROUP_BYTES):
                yield group
                group, size = [], 0
            group.append(region)
            size += own
        if group:
            yield group

    def _border_bytes(self, region: Region) -> int:
        """What enters a region and leaves it, for one of the inputs that the planner tries. The two
        together are held half a dozen times: of either file, random, moved."""
        oracle = self.original.graph.oracle
        inside = {value for node in region.nodes for value in node.outputs}
        read = (v for node in region.nodes for v in node.inputs if v.constant is None)
        border = {v for v in read if v not in inside} | set(region.outputs)
        return sum(4 * prod(oracle.shape(value, 0) or (0,)) for value in border)

    @cached_property
    def fed_written(self) -> FedModel:
        """The written file's structure, its tensors fed."""
        return fed_model(self.written)

    def there(
        self, scope: Scope, wanted: Iterable[str], names: Mapping[str, str]
    ) -> dict[str, str]:
        """What values of the original are called in the written file's body of the same place."""
        known = self._written_names
        return {n: known.get(names.get(qualified(scope, n), ""), f"{n} (gone)") for n in wanted}

    @cached_property
    def _written_names(self) -> dict[str, str]:
        """The names of the written file as its bodies have them, by those that are unique."""
        scopes = scopes_of(self.written.proto.graph)
        return {
            qualified(s, n): n for s in scopes for n in (*s.producers, *s.inputs, *s.initializers)
        }


class OnnxPiece:
    """See `bnfold.proof.subject.Piece`."""

    def __init__(self, fold: OnnxFold, regions: Sequence[Region], names: Mapping[str, str]) -> None:
        self._fold = fold
        self._regions = regions
        scope = fold.original.scopes[regions[0].scope]
        self._original: list[Cut] = []
        self._written: list[Cut] = []
        self.inputs: list[Fed] = []
        self.outputs: list[Leaving] = []
        for index, region in enumerate(regions):
            label = f"r{index}"
            entering = {n: f"{label}<{n}" for n in _entering(region, fold.original)}
            leaving = {f"{label}>{v.name}": v.name for v in region.outputs}
            there = fold.there(scope, [*entering, *leaving.values()], names)
            theirs = {there[n]: key for n, key in entering.items()}
            # Where all that stood between them is gone, what enters is what leaves.
            through = {
                key: theirs[there[name]]
                for key, name in leaving.items()
                if there[name] in theirs and name not in entering
            }
            made = {key: there[name] for key, name in leaving.items() if key not in through}
            self._original.append(Cut(label, scope.index, entering, leaving))
            self._written.append(Cut(label, scope.index, theirs, made, through))
            self.inputs += [self._fed(name, key) for name, key in entering.items()]
            observable = scope.parent is None
            self.outputs += [
                Leaving(
                    f"{label}>{v.name}", v.name if observable else None, v.name, channel_axis(v)
                )
                for v in region.outputs
            ]
        self._sessions: dict[str, Session] = {}

    @property
    def hides(self) -> bool:
        return any(region.hides for region in self._regions)

    def alone(self) -> OnnxRuns:
        nodes = [node for region in self._regions for node in region.nodes]
        return OnnxRuns(self._fold.original, nodes)

    def _fed(self, name: str, key: str) -> Fed:
        model, scope = self._fold.original, self._fold.original.scopes[self._original[0].scope]
        owner = scope.owner(name)
        observable = owner is not None and owner.parent is None
        code = element_type(scope, name, model.opset) or 1
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(code))
        shape = None if observable else model.graph.oracle.shape(Value(name, scope.index), 0)
        return Fed(key, name if observable else None, shape, dtype)

    def original(self, feeds: Arrays, draw: int | None = None) -> Arrays:
        fed = self._fold.reference.fed
        session = self._session("original", fed, self._original, feeds)
        return session.run({**taken_by(session, feeds), **fed.feeds(session.inputs, draw)})

    def written(self, feeds: Arrays) -> Arrays:
        fed = self._fold.fed_written
        session = self._session("written", fed, self._written, feeds)
        return session.run({**taken_by(session, feeds), **fed.feeds(session.inputs)})

    def _session(self, which: str, fed: FedModel, cuts: Sequence[Cut], feeds: Arrays) -> Session:
        if which not in self._sessions:
            self._sessions[which] = Session(_cut_out(fed, cuts, feeds))
        return self._sessions[which]

    def moved(self, leaving: Leaving, feeds: Arrays, draws: int) -> list[NDArray[Any]]:
        fed, mine = self._fold.reference.fed, self._place(leaving)[0]
        session = Session(_cut_out(fed, [mine], feeds))
        known = taken_by(session, feeds)
        runs = (session.run({**known, **fed.feeds(session.inputs, d)}) for d in range(draws))
        return [run[leaving.key] for run in runs]

    def _place(self, leaving: Leaving) -> tuple[Cut, Cut]:
        """The part of a region that one value needs, in both files."""
        place = next(i for i, cut in enumerate(self._original) if leaving.key in cut.outputs)
        return (
            self._original[place].only(leaving.key),
            self._written[place].only(leaving.key),
        )

    def in_double(self, leaving: Leaving, feeds: Arrays, draws: int) -> PreciseRun | None:
        mine, theirs = self._place(leaving)
        reference, written = self._fold.reference.fed, self._fold.fed_written
        try:
            exact = run_in_double(_cut_out(reference, [mine], feeds), reference, feeds)
            candidate = run_in_double(_cut_out(written, [theirs], feeds), written, feeds)
            moved = [
                run_in_double(_cut_out(reference, [mine], feeds), reference, feeds, draw)
                for draw in range(draws)
            ]
        except NotImplementedError:
            return None
        dtype = next((f.dtype for f in self.inputs if f.key in mine.inputs.values()), None)
        return PreciseRun(exact, candidate, moved, dtype or np.dtype(np.float32))


def _cut_out(fed: FedModel, cuts: Sequence[Cut], feeds: Arrays) -> Any:
    dtypes = {key: feeds[key].dtype for cut in cuts for key in cut.inputs.values()}
    try:
        return piece_of(fed.proto, cuts, dtypes)
    except LookupError as error:
        raise RuntimeUnavailableError(str(error)) from None


def _entering(region: Region, model: OnnxModel) -> list[str]:
    """The names that enter a region: what its nodes read, computed and unchanged."""
    changed = {value.name for value in region.hidden}
    found: dict[str, None] = {}
    for node in region.nodes:
        native = node.native
        for proto in (native.proto, native.bias_add):
            inner = set(native.proto.output) if proto is not native.proto else set()
            for name in proto.input if proto is not None else ():
                skipped = not name or name in changed or name in inner
                if not skipped and not model.has_constant(native.scope, name):
                    found[name] = None
        for cut in native.scope.chain(native.proto)[:-1]:
            found.pop(cut.output[0], None)
            found |= dict.fromkeys(n for n in cut.input if n and n not in changed)
    return list(found)


def _weight_bytes(node: Node) -> int:
    kind = node.kind
    if not isinstance(kind, Linear):
        return 0
    return prod(kind.weight.shape) * kind.weight.dtype.itemsize
