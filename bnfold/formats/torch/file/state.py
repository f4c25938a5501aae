"""Checkpoints: finding the tensors in whatever a training script saved, and fitting them to a module."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bnfold.errors import ModelError, UsageError
from bnfold.formats.torch.file.quiet import first_line, quietly

# In the order of preference; a checkpoint may hold several.
_HOMES = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "model_ema",
    "ema",
    "ema_state_dict",
    "state_dict_ema",
    "module",
    "params",
    "weights",
    "student",
    "generator",
)
_PREFIXES = ("module.", "_orig_mod.", "model.")


def load_object(path: Path, *, allow_pickle: bool) -> Any:
    """What a checkpoint file holds, on the CPU.

    Raises:
        ModelError: where it is damaged, or holds Python objects and ``allow_pickle`` is off.
    """
    try:
        return quietly(lambda: torch.load(path, map_location="cpu", weights_only=not allow_pickle))
    except pickle.UnpicklingError as error:
        if allow_pickle:
            raise ModelError(f"{path} is damaged or no checkpoint ({first_line(error)})") from None
        raise ModelError(_refusal(path, error)) from None
    except Exception as error:  # a damaged pickle can make Python raise anything
        raise ModelError(
            f"{path} cannot be loaded ({first_line(error)}); save it again with torch.save"
        ) from None


def _refusal(path: Path, error: Exception) -> str:
    import re

    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if not found:
        return f"{path} is damaged or no checkpoint ({first_line(error)})"
    return (
        f"{path} holds pickled Python objects ({found.group(1)}), and loading those runs code from "
        "the file; save module.state_dict() instead, or add --allow-pickle if you trust the file"
    )


def read_tensors(path: Path, *, allow_pickle: bool = False) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint or safetensors file, names as they stand there.

    Raises:
        ModelError: where there is none.
    """
    if is_safetensors(path):
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            # Not load_file, which maps the file: see bnfold.files.source.
            return dict(load(path.read_bytes()))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is a damaged safetensors file ({error})") from None
    found = load_object(path, allow_pickle=allow_pickle)
    return next(iter(networks_of(found, path).values()))


def networks_in(path: Path, *, allow_pickle: bool = False) -> dict[str, dict[str, torch.Tensor]]:
    """The state dicts of all networks in a file, by the names under which they stand in it.

    Raises:
        ModelError: where there is none.
    """
    if is_safetensors(path):
        return {"": read_tensors(path)}
    return networks_of(load_object(path, allow_pickle=allow_pickle), path)


def networks_of(found: Any, path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """`networks_in` for what was loaded; the most likely network comes first.

    Raises:
        ModelError: where there is none.
    """
    first = find_tensors(found)
    if not first:
        raise ModelError(f"{path} holds no state dict; save module.state_dict() in it")
    if not isinstance(found, Mapping) or any(isinstance(v, torch.Tensor) for v in found.values()):
        return {"": first}
    parts = {str(key): find_tensors(value) for key, value in found.items() if key != "optimizer"}
    networks = {key: tensors for key, tensors in parts.items() if tensors}
    own = next((k for k, tensors in networks.items() if _same_tensors(tensors, first)), "")
    others = {k: t for k, t in networks.items() if k != own and _is_network(t, first)}
    return {own: first, **others}


def _same_tensors(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name] is b[name] for name in a)


def _is_network(tensors: Mapping[str, torch.Tensor], first: Mapping[str, torch.Tensor]) -> bool:
    """Whether it is another network beside ``first``: one with BatchNorm, or of the same names."""
    known = {id(tensor) for tensor in first.values()}
    norms = any(n.endswith("running_mean") and id(t) not in known for n, t in tensors.items())
    return norms or (len(tensors) > 1 and set(_bare(tensors)) == set(_bare(first)))


def chosen(
    networks: Mapping[str, dict[str, torch.Tensor]],
    key: str | None,
    path: Path,
    module: nn.Module | None = None,
) -> dict[str, torch.Tensor]:
    """The network of that name, or the only one, or the only one that fits ``module``.

    Raises:
        UsageError: where there is none of that name, or several and no name.
    """
    names = ", ".join(key for key in networks if key) or "a single one without a name"
    if key is not None:
        if key not in networks:
            raise UsageError(f"{path} holds no network {key}; --weights-key names one of: {names}")
        return networks[key]
    fitting = [k for k in networks if module is None or fits(module, networks[k])]
    if len(networks) > 1 and len(fitting) != 1:
        raise UsageError(
            f"{path} holds several networks ({names}); choose one, for example with "
            f"--weights-key {list(networks)[-1]}"
        )
    return networks[fitting[0] if fitting else next(iter(networks))]


def is_safetensors(path: Path) -> bool:
    """Eight bytes of header length, then a JSON object."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27


def find_tensors(found: Any, depth: int = 4) -> dict[str, torch.Tensor]:
    """The state dict in a loaded object: itself, or nested under one of the usual names."""
    if isinstance(found, nn.Module):
        return dict(found.state_dict())
    if not isinstance(found, Mapping) or depth == 0:
        return {}
    direct = {str(k): v for k, v in found.items() if isinstance(v, torch.Tensor)}
    homes = [key for key in _HOMES if isinstance(found.get(key), Mapping | nn.Module)]
    if "n_averaged" in direct and all(k == "n_averaged" or k.startswith("module.") for k in direct):
        del direct["n_averaged"]  # of torch.optim.swa_utils.AveragedModel
    if not direct or len(direct) < len(homes):
        for key in homes:
            nested = find_tensors(found[key], depth - 1)
            if nested:
                return nested
    nested_maps = {k: v for k, v in found.items() if isinstance(v, Mapping)}
    if direct or not nested_maps:
        return direct
    parts = {str(k): find_tensors(v, depth - 1) for k, v in nested_maps.items() if k != "optimizer"}
    return {f"{part}.{k}": v for part, tensors in parts.items() for k, v in tensors.items()}


def without_prefixes(names: Iterable[str]) -> dict[str, str]:
    """Each name without what a wrapper put before all of them."""
    shown = {name: name for name in names}
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if shown and all(s.startswith(prefix) for s in shown.values()):
                shown = {name: s[len(prefix) :] for name, s in shown.items()}
                stripped = True
    return shown


def load_into(module: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Loads a state dict strictly, wrappers' prefixes put right on either side.

    ``num_batches_tracked`` may be absent: inference does not read it.

    Raises:
        ModelError: where names or shapes do not fit; some are named.
    """
    fitted, missing, surplus = _compared(module, tensors)
    if missing or surplus:
        raise ModelError(
            f"{path} does not fit {type(module).__name__}: {_some('missing', missing)}"
            f"{_some('unknown', surplus)}; check that factory and weights belong together"
        )
    try:
        module.load_state_dict(fitted, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        detail = lines[0] if lines else first_line(error)
        raise ModelError(f"{path} does not fit {type(module).__name__}: {detail}") from None


def fits(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether a state dict has the names and shapes of ``module``."""
    fitted, missing, surplus = _compared(module, tensors)
    own = module.state_dict()
    return not missing and not surplus and all(own[n].shape == t.shape for n, t in fitted.items())


def _compared(
    module: nn.Module, tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str], list[str]]:
    """The tensors by the module's names, the names that it misses, and those that it does not know."""
    wanted = set(module.state_dict())
    fitted = _fitted(tensors, wanted)
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    return fitted, sorted(wanted - set(fitted) - optional), sorted(set(fitted) - wanted)


def _bare(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {short: tensors[name] for name, short in without_prefixes(tensors).items()}


def _fitted(tensors: Mapping[str, torch.Tensor], wanted: set[str]) -> dict[str, torch.Tensor]:
    """The tensors under those names of theirs that fit ``wanted`` best."""
    bare = _bare(tensors)
    tried = [dict(tensors), bare]
    tried += [{f"{prefix}{name}": t for name, t in bare.items()} for prefix in _PREFIXES]
    for depth in range(1, 3):  # one prefix too many, such as model. below module.
        cut = {n.split(".", depth)[-1]: t for n, t in tensors.items() if n.count(".") >= depth}
        tried.append(cut if len(cut) == len(tensors) else {})
    return max(tried, key=lambda names: len(wanted & set(names)))


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{what} {shown} "
