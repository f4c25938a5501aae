"""How the networks of `ecosystem` are made: a module of a library, a name in it, options, inputs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]
"""A network, its inputs by position and by name."""

Maker = Callable[[], Made]
IMAGE = (2, 3, 64, 64)


def noise(*shape: int) -> Tensor:
    return torch.randn(*(shape or IMAGE), generator=torch.Generator().manual_seed(0))


def tokens(*shape: int, below: int = 20) -> Tensor:
    return torch.randint(1, below, shape, generator=torch.Generator().manual_seed(0))


def found(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def network(module: str, name: str, *shape: int, **options: Any) -> Maker:
    """``module.name(**options)`` on one tensor, an image unless ``shape`` says otherwise."""
    return lambda: (found(module, name)(**options), (noise(*shape),), {})


def networks(
    library: str, module: str, names: str, *shape: int, **options: Any
) -> dict[str, Maker]:
    """Several of one module, with the same options."""
    return {f"{library} {n}": network(module, n, *shape, **options) for n in names.split()}


def hugging(
    config: str, model: str, inputs: Callable[[], dict[str, Tensor]] | None = None, **options: Any
) -> Maker:
    """A network of transformers from its configuration. Options that are a pair are the class of an
    inner configuration and its options."""

    def make() -> Made:
        transformers = importlib.import_module("transformers")
        inner = {
            key: getattr(transformers, value[0])(**value[1])
            for key, value in options.items()
            if isinstance(value, tuple) and isinstance(value[-1], dict)
        }
        made = getattr(transformers, model)(getattr(transformers, config)(**(options | inner)))
        return made, (), {"pixel_values": noise()} if inputs is None else inputs()

    return make


def named(**shapes: tuple[int, ...]) -> Callable[[], dict[str, Tensor]]:
    """Inputs by name: tokens where the name ends in ``ids``, otherwise noise."""
    return lambda: {
        name: tokens(*shape) if name.endswith("ids") else noise(*shape)
        for name, shape in shapes.items()
    }
