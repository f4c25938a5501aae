"""Which BatchNorm can be recalibrated, which were asked for, and why the others stay as they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bnfold.errors import UsageError
from bnfold.graph import Node
from bnfold.kinds import Norm
from bnfold.recalibration.observer import Observer, Population

_SENTENCES = {
    "TRAINING_MODE": "normalises by the batch at hand (training mode), so it reads no running "
    "statistics; export the model for inference",
    "STATISTICS_IN_USE": "hands its statistics on to other nodes; export the model for inference",
    "COMPUTED_STATISTICS": "takes its statistics from other nodes instead of stored tensors",
    "OVERRIDABLE_INITIALIZER": "has statistics that are graph inputs, which callers may replace; "
    "--freeze-initializers makes them constants",
    "SPATIAL_STATISTICS": "keeps a statistic for every position instead of every channel",
}
_IN_BODY = "lies in the body of a control-flow node, where activations cannot be observed"
_CONSTANT = "normalises a constant, which no data reaches"
_NO_PROGRAM = (
    "stands in a file that holds weights alone; name the network's factory, with --weights"
)
_NOT_ASKED = "left out by --only or --skip"
NOTHING = (
    "nothing to recalibrate: {what} holds no BatchNorm. Where an exporter or optimiser folded it into "
    "the weights, export once more with the layers left standing (torch.onnx.export(..., "
    "training=TrainingMode.PRESERVE, do_constant_folding=False, dynamo=False), or dynamo=True with "
    "optimize=False), recalibrate that file, then fold it"
)


@dataclass(frozen=True)
class Untouched:
    """A BatchNorm that keeps its statistics, and why."""

    name: str
    reason: str

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "reason": self.reason}


@dataclass(frozen=True, eq=False)
class Selection:
    """The layers to recalibrate, in the order of the graph, and the rest."""

    populations: tuple[Population, ...]
    untouched: tuple[Untouched, ...]


def select(
    observer: Observer, what: str, only: Sequence[str] = (), skip: Sequence[str] = ()
) -> Selection:
    """Sorts the BatchNorm of a model.

    Args:
        observer: the model.
        what: how messages name it.
        only: globs on names; where given, one of them has to match.
        skip: globs on names; none of them may match.

    Raises:
        UsageError: where nothing is left to recalibrate, with the reason.
    """
    norms = observer.graph.norms
    if not norms:
        raise UsageError(NOTHING.format(what=what))
    layers: dict[object, list[Node]] = defaultdict(list)
    untouched = []
    for node in norms:
        reason = _obstacle(node) or (None if _wanted(node.name, only, skip) else _NOT_ASKED)
        if reason is None:
            layers[observer.same_layer(node)].append(node)
        else:
            untouched.append(Untouched(node.name, reason))
    if not layers:
        raise UsageError(_nothing_left(what, untouched))
    return Selection(tuple(Population(tuple(n)) for n in layers.values()), tuple(untouched))


def _obstacle(node: Node) -> str | None:
    assert isinstance(node.kind, Norm)
    if node.kind.obstacle is not None:
        return _SENTENCES.get(node.kind.obstacle.code, "has statistics that cannot be set")
    if node.kind.epsilon is None:
        return _NO_PROGRAM
    if node.scope:
        return _IN_BODY
    return _CONSTANT if node.inputs[0].constant is not None else None


def _wanted(name: str, only: Sequence[str], skip: Sequence[str]) -> bool:
    asked = not only or any(fnmatchcase(name, glob) for glob in only)
    return asked and not any(fnmatchcase(name, glob) for glob in skip)


def _nothing_left(what: str, untouched: Sequence[Untouched]) -> str:
    first = untouched[0]
    if all(u.reason == _NOT_ASKED for u in untouched):
        names = ", ".join(u.name for u in untouched[:4]) + (", ..." if len(untouched) > 4 else "")
        return f"nothing to recalibrate: --only and --skip leave none of the BatchNorm {names}"
    return f"nothing to recalibrate in {what}: the BatchNorm {first.name} {first.reason}"
