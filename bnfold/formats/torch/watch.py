"""What happens between the modules of a network while it runs once: calls, and reads of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from bnfold.errors import ModelError
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.graph.axes import cloned

_Inputs = tuple[tuple[Any, ...], dict[str, Any]]
_Active = list[tuple[str, _Inputs]]
"""The modules that are being called, the outermost first, and what with."""


class Watch:
    """Notes what each module inside a network is called with, from where, and who reads its tensors."""

    def __init__(self, network: nn.Module) -> None:
        self.calls: dict[str, _Inputs] = {}
        self.callers: dict[str, list[tuple[str, ...]]] = {}
        self._network = network
        self._active: _Active = []
        self._reads = _Reads(network, self._active)

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Calls the network once.

        Raises:
            ModelError: where it does not run.
        """
        handles = list(self._hooks())
        try:
            given, named = cloned((args, dict(kwargs)))
            with torch.no_grad(), self._reads:
                quietly(lambda: self._network(*given, **named))
        except Exception as error:  # the user's own code may raise anything
            raise ModelError(
                f"{type(self._network).__name__} does not run on the example inputs "
                f"({first_line(error)}); check their shapes, names and types"
            ) from None
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self) -> Iterator[Any]:
        active = self._active
        for name, module in self._network.named_modules():

            def enter(_: Any, args: Any, kwargs: Any, name: str = name) -> None:
                active.append((name, cloned((args, kwargs))))

            def returned(_: Any, args: Any, result: Any) -> None:
                # Code may try a call and catch what it raises: such inputs are none to trace on.
                name, inputs = active[-1]
                self.calls.setdefault(name, inputs)
                self.callers.setdefault(name, []).append(_names(active[:-1]))

            def leave(_: Any, args: Any, result: Any) -> None:
                active.pop()

            yield module.register_forward_pre_hook(enter, with_kwargs=True)
            yield module.register_forward_hook(returned)
            yield module.register_forward_hook(leave, always_call=True)

    def obstacle(self, name: str) -> str | None:
        """Why a module cannot be taken for itself."""
        if name not in self.calls:
            return "it is never called itself"
        for what, seen in ((self.callers, "called"), (self._reads.found, "read")):
            for inner, stacks in what.items():
                if inner.startswith(f"{name}.") and any(name not in above for above in stacks):
                    return f"{inner} in it is {seen} from outside"
        return None


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which tensors operators read while the modules that they belong to are not being called.

    ``found``: the modules that are being called then, by the tensor's name. Only elements count: what
    asks for a shape or a type calls no operator.
    """

    def __init__(self, network: nn.Module, active: _Active) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[str, list[tuple[str, ...]]] = {}
        self._active = active
        self._owners: dict[int, list[str]] = {}
        own = (
            network.named_parameters(remove_duplicate=False),
            network.named_buffers(remove_duplicate=False),
        )
        for name, tensor in chain(*own):
            self._owners.setdefault(_memory(tensor), []).append(name)
        self._owners.pop(0, None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                self._note(self._owners.get(_memory(leaf), ()))
        return func(*args, **(kwargs or {}))

    def _note(self, names: Any) -> None:
        above = _names(self._active)
        if not any(name.rpartition(".")[0] in above for name in names):
            for name in names:
                self.found.setdefault(name, []).append(above)


def _memory(tensor: torch.Tensor) -> int:
    """Where the elements lie, the same for all views; 0 where there are none."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


def _names(active: _Active) -> tuple[str, ...]:
    return tuple(name for name, _ in active)
