"""The population statistics of a module by another way than bnfold's: hooks on it, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Call = Callable[[nn.Module, Any], Any]
"""How a batch goes into a network."""
Counted = Callable[[Any, Tensor], Tensor]
"""The values that count, shape ``(values, channels)``, of what reaches a layer in a batch."""
Running = dict[str, Tensor]


def every_value(batch: Any, reaching: Tensor) -> Tensor:
    return reaching.transpose(0, 1).flatten(1).T


def true_statistics(
    module: nn.Module, batches: Sequence[Any], call: Call, counted: Counted = every_value
) -> Running:
    """The running means and (unbiased) variances that ``module`` should have, by their names.

    Layer by layer in the order in which they are called: the whole network runs in float64 in eval
    mode on every batch, all values that reach the layer are put side by side, their mean and
    variance are set, and the next layer is looked at.

    Args:
        module: what is measured; not changed.
        batches: what it is called on, one after the other.
        call: how.
        counted: which of the values count.
    """
    network = copy.deepcopy(module).double().eval()
    for layer in _in_order_of_calls(network, batches[0], call):
        values = torch.cat([_reaching(network, layer, b, call, counted) for b in batches])
        layer.running_mean = values.mean(0)
        layer.running_var = values.var(0)
    return running(network)


def running(module: nn.Module) -> Running:
    """Its running means and variances by name, in float64."""
    state = module.state_dict()
    return {k: v.double() for k, v in state.items() if k.endswith(("running_mean", "running_var"))}


def doubled(batch: Any) -> Any:
    """A batch with its floating-point tensors in float64."""
    if isinstance(batch, Mapping):
        return {name: doubled(value) for name, value in batch.items()}
    return batch.double() if isinstance(batch, Tensor) and batch.is_floating_point() else batch


def _in_order_of_calls(network: nn.Module, batch: Any, call: Call) -> list[Any]:
    """A layer that is called several times stands where its last call does."""
    order: list[Any] = []
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    hooks = [m.register_forward_pre_hook(lambda layer, _: order.append(layer)) for m in layers]
    with torch.no_grad():
        call(network, doubled(batch))
    for hook in hooks:
        hook.remove()
    return list(dict.fromkeys(reversed(order)))[::-1]


def _reaching(network: nn.Module, layer: Any, batch: Any, call: Call, counted: Counted) -> Tensor:
    rows: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, x: rows.append(counted(batch, x[0])))
    with torch.no_grad():
        call(network, doubled(batch))
    hook.remove()
    return torch.cat(rows)


def distance(found: Running, wanted: Running) -> tuple[float, float]:
    """How far statistics lie apart at most: means in standard deviations, variances as a share."""
    means = variances = 0.0
    for name, true in wanted.items():
        off = (found[name] - true).abs()
        if name.endswith("running_var"):
            variances = max(variances, float((off / true).max()))
        else:
            deviation = wanted[name.replace("running_mean", "running_var")].sqrt()
            means = max(means, float((off / deviation).max()))
    return means, variances
