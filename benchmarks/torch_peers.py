"""Other tools that fold the BatchNorm of a PyTorch network, one small function each.

Every function takes a network in eval mode, which it may change, and what to call it with, by
position and by name, and returns what is to be called in its place. A new peer is one function and
one entry in PEERS.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple


def fx_fuse(module: Any, args: Any, kwargs: Any) -> Any:
    from torch.fx.experimental.optimization import fuse

    return fuse(module)


def jit_freeze(module: Any, args: Any, kwargs: Any) -> Any:
    import torch

    inputs = {"example_kwarg_inputs": kwargs} if kwargs else {"example_inputs": args}
    return torch.jit.freeze(torch.jit.trace(module, **inputs, check_trace=False, strict=False))


def torchao(module: Any, args: Any, kwargs: Any) -> Any:
    import torch
    from torchao.quantization.pt2e.utils import _fuse_conv_bn_

    program = torch.export.export(module, args, kwargs or None).module()
    _fuse_conv_bn_(program)
    return program


def aimet(module: Any, args: Any, kwargs: Any) -> Any:
    from aimet_torch.batch_norm_fold import fold_all_batch_norms

    (example,) = args
    fold_all_batch_norms(module, tuple(example.shape), dummy_input=example)
    return module


class Peer(NamedTuple):
    """What is compared: the package that it comes in, and what folds."""

    package: str
    fold: Callable[[Any, Any, Any], Any]

    @property
    def version(self) -> str | None:
        """Of the package, None where that is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


PEERS = {
    "fx.fuse": Peer("torch", fx_fuse),
    "jit.freeze": Peer("torch", jit_freeze),
    "torchao": Peer("torchao", torchao),
    "AIMET": Peer("aimet-torch", aimet),
}


def count_batch_norms(network: Any, *args: Any, **kwargs: Any) -> int:
    """How often a network, whatever a peer made of it, calls BatchNorm.

    Counted where every call of a module or an exported program arrives, in torch's dispatcher;
    of TorchScript, which does not run under such a counter everywhere, in its graph.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    if isinstance(network, torch.jit.ScriptModule):
        return len(network.inlined_graph.findAllNodes("aten::batch_norm"))

    class Counter(TorchDispatchMode):
        count: int = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, given: Any = (), named: Any = None
        ) -> Any:
            self.count += "batch_norm" in func.overloadpacket.__name__
            return func(*given, **(named or {}))

    with torch.no_grad(), Counter() as counter:
        network(*args, **kwargs)
    return int(counter.count)
