"""Writing state dicts, in the form that the suffix of the file names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

STATE_DICTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".th")


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, noted: Any) -> None:
    """Writes tensors by name; ``noted`` is written beside them, where the form has a place for that:
    in a .safetensors file as JSON, under the one key ``bnfold`` of its metadata."""
    if path.suffix.lower() != STATE_DICTS[0]:
        torch.save({n: t.clone() for n, t in tensors.items()}, path)
        return
    from safetensors.torch import save_file

    plain = {n: t.cpu().contiguous().clone() for n, t in tensors.items()}
    save_file(plain, path, metadata={"bnfold": json.dumps(noted)})
