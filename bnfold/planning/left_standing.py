"""BatchNorm that the user wants to leave as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase

from bnfold.constants import Obstacle
from bnfold.errors import UsageError
from bnfold.graph import Graph, Node
from bnfold.kinds import Norm
from bnfold.planning.reasons import Reason


@contextmanager
def left_standing(graph: Graph, only: Sequence[str], skip: Sequence[str]) -> Iterator[None]:
    """For as long as a plan is made, what is not asked for has that for an obstacle.

    An obstacle keeps it out of every fold, its own and those of its neighbours.

    Args:
        graph: the network.
        only: globs on the names of BatchNorm; where given, one of them has to match.
        skip: globs; none of them may match.

    Raises:
        UsageError: where one of them names no BatchNorm.
    """
    names = [node.name for node in graph.norms]
    for option, globs in (("--only", only), ("--skip", skip)):
        for glob in globs:
            if not any(fnmatchcase(name, glob) for name in names):
                raise UsageError(f"{option} {glob} names no BatchNorm; there are {_some(names)}")
    kept: dict[Node, Norm] = {}
    try:
        for node in graph.norms:
            kind = node.kind
            assert isinstance(kind, Norm)
            if kind.obstacle is None and not is_wanted(node.name, only, skip):
                kept[node] = kind
                node.kind = replace(kind, obstacle=Obstacle(Reason.NOT_ASKED.name))
        yield
    finally:
        for node, kind in kept.items():
            node.kind = kind


def is_wanted(name: str, only: Sequence[str], skip: Sequence[str]) -> bool:
    """Whether ``name`` matches one of ``only`` (if there are any) and none of ``skip``."""
    asked = not only or any(fnmatchcase(name, glob) for glob in only)
    return asked and not any(fnmatchcase(name, glob) for glob in skip)


def _some(names: Sequence[str]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
