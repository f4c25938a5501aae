"""Opening: a file or a factory becomes a model, or one sentence that says why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.export import ExportedProgram

from bnfold.data import InputSpec
from bnfold.errors import ModelError, UsageError
from bnfold.files import SourceFile
from bnfold.formats.torch.file.archive import check_program, no_unpickling
from bnfold.formats.torch.file.factory import build, is_factory
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.file.scripts import check_loads
from bnfold.formats.torch.file.source import Source, source_of
from bnfold.formats.torch.file.state import (
    find_tensors,
    left_out,
    load_into,
    load_object,
    read_tensors,
)
from bnfold.formats.torch.graph.checkpoint import TorchCheckpoint
from bnfold.formats.torch.graph.inputs import bind, from_arrays, parse_inputs, wanted_inputs
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.graph.trace import trace

# Reads a few samples of data for inputs of these names.
Examples = Callable[[Sequence[InputSpec]], Mapping[str, NDArray[Any]]]


def open_torch(
    source: str | Path,
    *,
    weights: Path | None = None,
    inputs: Sequence[str] = (),
    examples: Examples | None = None,
    allow_pickle: bool = False,
) -> TorchModel | TorchCheckpoint:
    """Opens whatever ``source`` is.

    Args:
        source: a file, or ``package.module:factory``, or ``path/to/file.py:factory``.
        weights: a checkpoint for the module of a factory.
        inputs: shapes of example inputs, for sources that have to be traced.
        examples: gives example inputs themselves, where ``inputs`` has none.
        allow_pickle: load files that hold Python objects, which runs code from them.

    Raises:
        ModelError: where the source is missing, damaged, or cannot be traced.
        UsageError: where options are missing or do not go together.
    """
    path = Path(source)
    if is_factory(str(source)):
        file = None if weights is None else _source_file(weights, "--weights")
        module = build(str(source))
        if weights is not None and file is not None:
            load_into(module, read_tensors(weights, allow_pickle=allow_pickle), weights)
            file.check()
        return _traced(module, path, file, inputs, examples)
    if weights is not None:
        raise UsageError(f"--weights goes with a factory, and {path} is a file of its own")
    file = _source_file(path, "the path")
    model = _opened(file, inputs, examples, allow_pickle)
    file.check()
    return model


def _source_file(path: Path, option: str) -> SourceFile:
    try:
        return SourceFile(path)
    except OSError as error:
        raise ModelError(
            f"{path} does not exist or cannot be read ({error.strerror}); check {option}"
        ) from None


def _opened(
    file: SourceFile, inputs: Sequence[str], examples: Examples | None, allow_pickle: bool
) -> TorchModel | TorchCheckpoint:
    """What a file holds, by its kind."""
    kind = source_of(file.path)
    if kind is Source.PROGRAM:
        return TorchModel(_program(file.path, allow_pickle), file.path, file=file)
    if kind is Source.TORCHSCRIPT:
        return _converted(file, inputs, examples, allow_pickle)
    if kind is Source.SAFETENSORS:
        return TorchCheckpoint(read_tensors(file.path), file)
    return _checkpoint(file, inputs, examples, allow_pickle)


def open_module(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    path: Path | None = None,
    file: SourceFile | None = None,
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
    file: SourceFile | None,
    inputs: Sequence[str],
    examples: Examples | None,
) -> TorchModel:
    args, kwargs = bind(module, *_example_inputs(module, path, inputs, examples))
    return open_module(module, args, kwargs, path=path, file=file)


def _example_inputs(
    module: nn.Module, path: Path, inputs: Sequence[str], examples: Examples | None
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Positional and named tensors to trace ``module`` on."""
    if inputs:
        return parse_inputs(inputs)
    if examples is None:
        raise UsageError(
            f"{path} has to be traced and needs an example of its input: "
            "add --input 1x3x224x224, or --data"
        )
    # By position, as most callers of the written program will give them.
    return from_arrays(examples(wanted_inputs(module)), module), {}


def _program(path: Path, allow_pickle: bool) -> ExportedProgram:
    if not allow_pickle:
        check_program(path)
    try:
        with nullcontext() if allow_pickle else no_unpickling():
            return quietly(lambda: torch.export.load(path))
    except Exception as error:  # the loader raises whatever a damaged archive makes it raise
        raise ModelError(
            f"{path} is an exported program that this torch ({torch.__version__}) cannot load "
            f"({first_line(error)}); export it again with this version"
        ) from None


def _converted(
    file: SourceFile, inputs: Sequence[str], examples: Examples | None, allow_pickle: bool
) -> TorchModel:
    """TorchScript, through the converter that newer versions of torch bring."""
    path = file.path
    if not allow_pickle:
        raise ModelError(
            f"{path} is a TorchScript archive, and loading one runs code from the file, which may "
            "write files; export the network to .pt2 or ONNX, or add --allow-pickle if you trust it"
        )
    check_loads(path)
    try:
        load: Any = torch.jit.load
        script = quietly(lambda: load(str(path), map_location="cpu")).eval()
    except Exception as error:  # the loader raises whatever a damaged archive makes it raise
        raise ModelError(f"{path} is a damaged TorchScript archive ({first_line(error)})") from None
    positional, named = _example_inputs(script, path, inputs, examples)
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
    return TorchModel(program, path, [note], file)


def _checkpoint(
    file: SourceFile, inputs: Sequence[str], examples: Examples | None, allow_pickle: bool
) -> TorchModel | TorchCheckpoint:
    path = file.path
    found = load_object(path, allow_pickle=allow_pickle)
    module = _module_in(found)
    if module is not None and (inputs or examples is not None):
        return _traced(module, path, file, inputs, examples)
    tensors = find_tensors(found)
    if not tensors:
        raise ModelError(f"{path} holds no state dict; save module.state_dict() in it")
    return TorchCheckpoint(tensors, file, left_out(found, tensors))


def _module_in(found: Any) -> nn.Module | None:
    if isinstance(found, nn.Module):
        return found
    if isinstance(found, Mapping):
        return next((v for v in found.values() if isinstance(v, nn.Module)), None)
    return None
