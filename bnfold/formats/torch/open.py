"""Opening: a file or a factory becomes a model, or one sentence that says why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from bnfold.errors import ModelError, UsageError
from bnfold.formats.torch.checkpoint import TorchCheckpoint
from bnfold.formats.torch.factory import build, is_factory
from bnfold.formats.torch.inputs import bind, from_arrays, parse_inputs
from bnfold.formats.torch.model import TorchModel
from bnfold.formats.torch.source import Source, source_of
from bnfold.formats.torch.state import find_tensors, load_into, load_object, read_tensors
from bnfold.formats.torch.trace import first_line, quietly, trace

Sample = Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]]


def open_torch(
    source: str | Path,
    *,
    weights: Path | None = None,
    inputs: Sequence[str] = (),
    sample: Sample | None = None,
    allow_pickle: bool = False,
) -> TorchModel | TorchCheckpoint:
    """Opens whatever ``source`` is.

    Args:
        source: a file, or ``package.module:factory``, or ``path/to/file.py:factory``.
        weights: a checkpoint for the module of a factory.
        inputs: shapes of example inputs, for sources that have to be traced.
        sample: example inputs themselves, instead.
        allow_pickle: load files that hold Python objects, which runs code from them.

    Raises:
        ModelError: where the source is missing, damaged, or cannot be traced.
        UsageError: where options are missing or do not go together.
    """
    if is_factory(str(source)):
        module = build(str(source))
        if weights is not None:
            load_into(module, read_tensors(weights, allow_pickle=allow_pickle), weights)
        return _traced(module, Path(str(source)), weights, inputs, sample)
    path = Path(source)
    if weights is not None:
        raise UsageError(f"--weights goes with a factory, and {path} is a file of its own")
    kind = source_of(path)
    if kind is Source.PROGRAM:
        return TorchModel(_program(path), path, file=path)
    if kind is Source.TORCHSCRIPT:
        return _converted(path, inputs, sample)
    if kind is Source.SAFETENSORS:
        return TorchCheckpoint(read_tensors(path), path)
    return _checkpoint(path, inputs, sample, allow_pickle)


def open_module(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    path: Path | None = None,
    file: Path | None = None,
) -> TorchModel:
    """A module in memory, traced on example inputs.

    Raises:
        ModelError: where torch.export cannot trace it.
    """
    program, notes = trace(module, args, kwargs)
    return TorchModel(program, path or Path(type(module).__name__), notes, file)


def _traced(
    module: nn.Module,
    path: Path,
    file: Path | None,
    inputs: Sequence[str],
    sample: Sample | None,
) -> TorchModel:
    if not inputs and sample is None:
        raise UsageError(f"{path} needs the shape of its input: add --input 1x3x224x224 or --data")
    positional, named = from_arrays(sample) if sample is not None else parse_inputs(inputs)
    args, kwargs = bind(module, positional, named)
    return open_module(module, args, kwargs, path=path, file=file)


def _program(path: Path) -> ExportedProgram:
    try:
        return quietly(lambda: torch.export.load(path))
    except Exception as error:  # the loader raises whatever a damaged archive makes it raise
        raise ModelError(
            f"{path} is an exported program that this torch ({torch.__version__}) cannot load "
            f"({first_line(error)}); export it again with this version"
        ) from None


def _converted(path: Path, inputs: Sequence[str], sample: Sample | None) -> TorchModel:
    """TorchScript, through the converter that newer versions of torch bring."""
    try:
        load: Any = torch.jit.load
        script = quietly(lambda: load(str(path), map_location="cpu")).eval()
    except Exception as error:  # the loader raises whatever a damaged archive makes it raise
        raise ModelError(f"{path} is a damaged TorchScript archive ({first_line(error)})") from None
    if not inputs and sample is None:
        raise UsageError(
            f"{path} is a TorchScript archive and needs the shape of its input: "
            "add --input 1x3x224x224 or --data"
        )
    positional, named = from_arrays(sample) if sample is not None else parse_inputs(inputs)
    args = (*positional, *named.values())
    note = "TorchScript was converted to an exported program; its sizes are static"
    try:
        from torch._export.converter import TS2EPConverter

        with torch.no_grad():
            program = quietly(lambda: TS2EPConverter(script, args).convert())
    except Exception as error:  # the converter raises whatever it meets
        raise ModelError(
            f"torch cannot convert the TorchScript archive {path} ({first_line(error)}); "
            "use the Python code of the network as a factory, or export it to ONNX"
        ) from None
    return TorchModel(program, path, [note], path)


def _checkpoint(
    path: Path, inputs: Sequence[str], sample: Sample | None, allow_pickle: bool
) -> TorchModel | TorchCheckpoint:
    found = load_object(path, allow_pickle=allow_pickle)
    module = _module_in(found)
    if module is not None and (inputs or sample is not None):
        return _traced(module, path, path, inputs, sample)
    tensors = find_tensors(found)
    if not tensors:
        raise ModelError(f"{path} holds no state dict; save module.state_dict() in it")
    return TorchCheckpoint(tensors, path)


def _module_in(found: Any) -> nn.Module | None:
    if isinstance(found, nn.Module):
        return found
    if isinstance(found, Mapping):
        return next((v for v in found.values() if isinstance(v, nn.Module)), None)
    return None
