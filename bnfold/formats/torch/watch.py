"""What the modules inside a network are called with, and from where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from bnfold.errors import ModelError
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.graph.axes import cloned


class Watch:
    """Notes what each module inside a network is called with, and from where."""

    def __init__(self, network: nn.Module) -> None:
        self.calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.callers: dict[str, list[tuple[str, ...]]] = {}
        self._network = network

    def run(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Calls the network once."""
        active: list[str] = []
        handles = list(self._hooks(active))
        try:
            given, named = cloned((args, dict(kwargs)))
            with torch.no_grad():
                quietly(lambda: self._network(*given, **named))
        except Exception as error:  # the user's own code may raise anything
            raise ModelError(
                f"{type(self._network).__name__} does not run on the example inputs "
                f"({first_line(error)}); check their shapes, names and types"
            ) from None
        finally:
            for handle in handles:
                handle.remove()

    def _hooks(self, active: list[str]) -> Iterator[Any]:
        for name, module in self._network.named_modules():

            def enter(_: Any, args: Any, kwargs: Any, name: str = name) -> None:
                self.calls.setdefault(name, cloned((args, kwargs)))
                self.callers.setdefault(name, []).append(tuple(active))
                active.append(name)

            def leave(_: Any, args: Any, result: Any) -> None:
                active.pop()

            yield module.register_forward_pre_hook(enter, with_kwargs=True)
            yield module.register_forward_hook(leave, always_call=True)

    def obstacle(self, name: str) -> str | None:
        """Why a module cannot be taken for itself."""
        if name not in self.calls:
            return "it is never called itself"
        inside = (n for n in self.callers if n.startswith(f"{name}."))
        reached = [n for n in inside if any(name not in above for above in self.callers[n])]
        return f"{reached[0]} in it is called from outside" if reached else None
