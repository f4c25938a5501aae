"""What the suffix of an output promises, known without importing a format."""

from __future__ import annotations

from pathlib import Path

from bnfold.errors import OutputError

ONNX = ".onnx"
# What a PyTorch model can be written as; a test holds this beside what its writers know.
STATE_DICTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".th")
TORCH = (".pt2", ONNX, *STATE_DICTS)


def check_suffix(model: str, target: Path, *, onnx: bool) -> None:
    """Refuses a file name that promises another kind of file than can be written.

    Raises:
        OutputError: with what would be right.
    """
    suffix = target.suffix.lower()
    if onnx and suffix not in (ONNX, Path(model).suffix.lower()):
        raise OutputError(f"{target.name}: an ONNX model is written as {ONNX}; name it so with -o")
    if not onnx and suffix not in TORCH:
        raise OutputError(
            f"{target.name} has no suffix of a PyTorch file; use .pt2, .onnx, .safetensors or .pth"
        )
