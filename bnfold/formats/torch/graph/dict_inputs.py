"""Networks that take a whole batch as one dict: what they read of it, and what its entries are called."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils import _pytree as pytree

from bnfold.formats.torch.file.quiet import quietly
from bnfold.formats.torch.graph.trace import outputs_of


class _Watched(dict[str, Any]):
    """A dict that notes which of its entries are read: all, where somebody goes through them."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        super().__init__(entries)
        self.read: set[str] = set()

    def _all(self) -> None:
        self.read |= set(super().keys())

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, *default: Any) -> Any:
        self.read.add(key)
        return super().get(key, *default)

    def pop(self, key: str, *default: Any) -> Any:
        self.read.add(key)
        return super().pop(key, *default)

    def __iter__(self) -> Iterator[str]:
        self._all()
        return super().__iter__()

    def keys(self) -> Any:
        self._all()
        return super().keys()

    def values(self) -> Any:
        self._all()
        return super().values()

    def items(self) -> Any:
        self._all()
        return super().items()

    def copy(self) -> dict[str, Any]:
        self._all()
        return super().copy()


def keys_read(module: nn.Module, batch: Mapping[str, torch.Tensor]) -> set[str] | None:
    """Which entries of ``batch`` the module reads, called with it; None where it does not run so."""
    watched = _Watched({name: tensor.clone() for name, tensor in batch.items()})
    return watched.read if runs_on(module, watched) else None


def runs_on(module: nn.Module, argument: Any) -> bool:
    """Whether a copy of the module, called with this alone, returns something."""
    try:
        alone = quietly(lambda: copy.deepcopy(module)).eval()
        quietly(lambda: outputs_of(alone, ((argument,), {})))
    except Exception:  # the user's own code may raise anything
        return False
    return True


def dict_keys(program: ExportedProgram) -> dict[str, str]:
    """What inputs of a program are called in the dicts that hold them, by their names there.

    Keys that several inputs share say nothing, and none is given for them.
    """
    specs = program.graph_signature.input_specs
    names = [s.arg.name for s in specs if s.kind is InputKind.USER_INPUT]
    whole = pytree.tree_unflatten(range(len(names)), program.call_spec.in_spec)
    found: dict[str, str] = {}
    for path, index in pytree.tree_leaves_with_path(whole):
        key = getattr(path[-1], "key", None)
        if isinstance(key, str) and key != names[index]:
            found[names[index]] = key
    counts = Counter([*found.values(), *(name for name in names if name not in found)])
    return {name: key for name, key in found.items() if counts[key] == 1}
