"""What `ecosystem` measures of one network, in the process that this is imported in."""

from __future__ import annotations

import copy
import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import bnfold
from benchmarks.ecosystem import NAMES
from benchmarks.ecosystem_signals import SIGNALS
from benchmarks.ecosystem_vision import VISION
from benchmarks.torch_peers import PEERS, count_batch_norms
from bnfold.errors import BnfoldError, TracingError
from bnfold.formats import format_of
from bnfold.formats.torch import open_module
from bnfold.planning import make_plan

Found = dict[str, Any]


def measured(name: str) -> Found:
    """All about one network, or why there is nothing to say."""
    torch.set_num_threads(1)
    try:
        network, args, kwargs = (VISION | SIGNALS)[name]()
        network.eval()
        randomise(network)
        outputs_of(network, args, kwargs)
    except Exception as error:  # a library that is not there, or has moved on
        return {"name": name, "failed": f"not made: {_first_line(error)}"}
    found: Found = {"name": name, "modules": len(norms_of(network))}
    begin = time.process_time()
    try:
        result, found["how"] = _folded(network, args, kwargs)
        found["seconds"] = round(time.process_time() - begin, 1)
        found |= _outcome(result, network, args, kwargs)
    except BnfoldError as error:
        return found | {"failed": f"{type(error).__name__}: {error}"}
    found |= _in_double(network, args, kwargs, found)
    found["peers"] = {
        peer: _peer(peer, network, args, kwargs, found["before"])
        for peer in NAMES
        if PEERS[peer].version
    }
    return found


def norms_of(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(getattr(m, "running_mean", None), Tensor)]


def randomise(network: nn.Module) -> None:
    """Statistics and scales far from those of a new layer."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in norms_of(network):
            for name, low, high in (
                ("running_mean", -0.5, 0.5),
                ("running_var", 0.5, 1.5),
                ("weight", 0.5, 1.5),
                ("bias", -0.5, 0.5),
            ):
                tensor = getattr(norm, name, None)
                if tensor is not None:
                    draw = torch.rand(tensor.shape, generator=generator)
                    tensor.copy_(low + (high - low) * draw)
        for bias in network.parameters():  # zeros, as most are made, would fold too easily
            if bias.numel() and not bias.any():
                bias.copy_(torch.rand(bias.shape, generator=generator) - 0.5)


def _folded(network: nn.Module, args: Any, kwargs: Any, **options: Any) -> tuple[Any, str]:
    """As a whole, or as the message of what cannot be traced advises: by its submodules."""
    try:
        return bnfold.fold(network, args, kwargs=kwargs, **options), "whole"
    except TracingError:
        made = bnfold.fold(network, args, kwargs=kwargs, keep_modules=True, **options)
        return made, "parts"


def _outcome(result: Any, network: nn.Module, args: Any, kwargs: Any) -> Found:
    plan, proof = result.plan, result.verification
    left = plan.kept  # by parts the class stays, and a folded BatchNorm in it as an identity
    calls = count_batch_norms(network, *args, **kwargs)
    return {
        "before": len(plan.batch_norms),
        "calls": calls,
        "left": left,
        "merged": left,
        "reasons": dict(Counter(d.reason.reason.code for d in plan.batch_norms if d.reason)),
        "why": sorted({f"{d.name} {d.reason.message}" for d in plan.batch_norms if d.reason})[:9],
        "notes": list(result.notes),
        "passed": proof.passed,
        "floors": max((o.ratio for o in proof.outputs if o.informs), default=None),
        "pieces": None if proof.worst_piece is None else proof.worst_piece.ratio,
        "float32": difference(network, result.model, args, kwargs),
        "seen_left": count_batch_norms(result.model, *args, **kwargs),
    }


def _in_double(network: nn.Module, args: Any, kwargs: Any, found: Found) -> Found:
    """The error of a fold of the network in float64, and what ``reparameterize`` leaves."""
    before = torch.get_default_dtype()
    wide, given, named = copy.deepcopy(network).double(), *_double((args, kwargs))
    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        try:
            outputs_of(wide, given, named)
        except Exception:  # a type that is written into the network's code
            continue
        try:
            if found["how"] == "parts":
                made = _folded(wide, given, named, verify=False)[0].model
                return {"float64": difference(wide, made, given, named)}
            model = open_module(wide, given, named)
            plans = [make_plan(model.graph, reparameterize=merge) for merge in (False, True)]
            made = [format_of(model).edit(model, plan).module() for plan in plans]
            errors = [difference(wide, each, given, named) for each in made]
            return {"float64": max(errors), "merged": plans[1].kept}
        except BnfoldError as error:
            return {"float64": None, "double": str(error)}
        finally:
            torch.set_default_dtype(before)
    torch.set_default_dtype(before)
    return {"float64": None}


def _double(inputs: Any) -> Any:
    def cast(leaf: Any) -> Any:
        floating = isinstance(leaf, Tensor) and leaf.is_floating_point()
        return leaf.double() if floating else leaf

    return pytree.tree_map(cast, inputs)


def _peer(name: str, network: nn.Module, args: Any, kwargs: Any, before: int) -> Found:
    """How many BatchNorm a peer leaves, and its error. Frozen ones are calls of no batch_norm."""
    calls = count_batch_norms(network, *args, **kwargs)
    try:
        made = PEERS[name].fold(copy.deepcopy(network), args, kwargs)
        left = count_batch_norms(made, *args, **kwargs)
        left = max(before - calls + left, 0)  # TorchScript counts no norms of instances
        return {"left": left, "error": difference(network, made, args, kwargs)}
    except Exception as error:  # peers fail in many ways
        return {"failed": f"{type(error).__name__}: {_first_line(error)}"}


def outputs_of(network: Any, args: Any, kwargs: Any) -> list[Any]:
    """The leaves of what a network returns, on copies of its inputs."""
    given, named = pytree.tree_map(
        lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, (args, kwargs)
    )
    with torch.no_grad():
        torch.manual_seed(0)
        return pytree.tree_leaves(network(*given, **named))


def difference(a: Any, b: Any, args: Any, kwargs: Any) -> float:
    """The largest of any output over its largest value."""
    pairs = zip(outputs_of(a, args, kwargs), outputs_of(b, args, kwargs), strict=True)
    errors = [_apart(x, y) for x, y in pairs if isinstance(x, Tensor) and x.is_floating_point()]
    return max(errors, default=0.0)


def _apart(x: Tensor, y: Tensor) -> float:
    if x.shape != y.shape:
        return float("inf")
    finite = x.isfinite()
    if not torch.equal(finite, y.isfinite()):
        return float("inf")
    x, y = x[finite].double(), y[finite].double()
    return float((x - y).abs().max() / x.abs().max().clamp_min(1e-30)) if x.numel() else 0.0


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
