"""Opening: a file or a factory becomes a model, or one sentence that says why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from bnfold.data import InputSpec, Sample
from bnfold.errors import ModelError, UsageError
from bnfold.files import SourceFile
from bnfold.formats.torch.file.archive import check_program, no_unpickling
from bnfold.formats.torch.file.factory import is_factory, loaded
from bnfold.formats.torch.file.output_types import import_homes, unknown_types
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.file.scripts import check_loads
from bnfold.formats.torch.file.source import Source, source_file, source_of
from bnfold.formats.torch.file.state import (
    chosen,
    load_object,
    networks_of,
    read_tensors,
)
from bnfold.formats.torch.graph.checkpoint import TorchCheckpoint
from bnfold.formats.torch.graph.inputs import ExampleInputs, bind, from_sample, parse_inputs
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.graph.trace import checked_functional, trace

# The first samples of some data for inputs of these names; for all that it holds, without names.
Given = tuple[tuple[Any, ...], Mapping[str, Any]]
Examples = Callable[[Sequence[InputSpec]], Sample]


def open_torch(
    source: str | Path,
    *,
    weights: Path | None = None,
    weights_key: str | None = None,
    inputs: Sequence[str] = (),
    examples: Examples | None = None,
    given: Given | None = None,
    dynamic: Any = None,
    allow_pickle: bool = False,
) -> TorchModel | TorchCheckpoint:
    """Opens whatever ``source`` is.

    Args:
        source: a file, or ``package.module:factory``, or ``path/to/file.py:factory``.
        weights: a checkpoint for the module of a factory.
        weights_key: which network of a checkpoint, where it holds several.
        inputs: shapes of example inputs, for sources that have to be traced.
        examples: gives example inputs themselves, where ``inputs`` has none.
        given: example inputs themselves.
        dynamic: which of their axes are free, see `trace`.
        allow_pickle: load files that hold Python objects, which runs code from them.

    Raises:
        ModelError: where the source is missing, damaged, or cannot be traced.
        UsageError: where options are missing or do not go together.
    """
    tracing = Tracing.of(inputs, examples, given, dynamic)
    path = Path(source)
    if is_factory(str(source)):
        module, file = loaded(str(source), weights, weights_key, allow_pickle=allow_pickle)
        return _traced(module, path, file, tracing)
    if weights is not None:
        raise UsageError(f"--weights goes with a factory, and {path} is a file of its own")
    file = source_file(path, "the path")
    model = _opened(file, weights_key, tracing, dynamic, allow_pickle)
    file.check()
    return model


def _opened(
    file: SourceFile, weights_key: str | None, tracing: Tracing, dynamic: Any, allow_pickle: bool
) -> TorchModel | TorchCheckpoint:
    """What a file holds, by its kind."""
    path = file.path
    kind = source_of(path)
    if weights_key is not None and kind is not Source.CHECKPOINT:
        raise UsageError(f"--weights-key is for checkpoints, and {path} is {kind.value}")
    if dynamic is not None and kind is not Source.CHECKPOINT:
        raise UsageError(f"--dynamic is for what has to be traced, and {path} is {kind.value}")
    if kind is Source.PROGRAM:
        program = checked_functional(_program(path, allow_pickle), path)
        return TorchModel(program, path, file=file)
    if kind is Source.TORCHSCRIPT:
        return _converted(file, tracing, allow_pickle)
    if kind is Source.SAFETENSORS:
        return TorchCheckpoint(read_tensors(path), file)
    return _checkpoint(file, weights_key, tracing, allow_pickle)


@dataclass(frozen=True)
class Tracing:
    """What a module is traced on, one of three, and which axes are free."""

    inputs: Sequence[str] = ()
    examples: Examples | None = None
    given: ExampleInputs | None = None
    dynamic: Any = None

    @classmethod
    def of(
        cls, inputs: Sequence[str], examples: Examples | None, given: Given | None, dynamic: Any
    ) -> Tracing:
        return cls(inputs, examples, None if given is None else ExampleInputs(*given), dynamic)

    @property
    def possible(self) -> bool:
        return bool(self.inputs) or self.examples is not None or self.given is not None

    def on(self, module: nn.Module, path: Path) -> ExampleInputs:
        """Example inputs for ``module``.

        Raises:
            UsageError: where there are none.
        """
        if self.given is not None:
            return self.given
        if self.inputs:
            return parse_inputs(self.inputs)
        if self.examples is None:
            raise UsageError(
                f"{path} has to be traced and needs an example of its input: "
                "add --input 1x3x224x224, or --data (in Python example_inputs=(x,), or data=)"
            )
        return from_sample(self.examples, module)


def open_network(
    network: nn.Module | ExportedProgram,
    *,
    inputs: Sequence[str] = (),
    given: Given | None = None,
    examples: Examples | None = None,
    dynamic: Any = None,
) -> TorchModel:
    """A module or a program in memory. Arguments as for `open_torch`.

    Raises:
        ModelError: where torch.export cannot trace it.
        UsageError: where options are missing or do not go together.
    """
    tracing = Tracing.of(inputs, examples, given, dynamic)
    path = Path(type(network).__name__)
    if isinstance(network, nn.Module):
        return _traced(network, path, None, tracing)
    if given is not None or inputs or dynamic is not None:
        raise UsageError(
            "an ExportedProgram is traced already; example inputs and dynamic shapes go with its module"
        )
    return TorchModel(checked_functional(network, path), path)


def example_inputs_for(
    module: nn.Module, inputs: Sequence[str], given: Given | None, examples: Examples | None
) -> Given:
    """What ``module`` is called with when it is traced, by position and by name.

    Raises:
        UsageError: where there is nothing to call it with.
    """
    tracing = Tracing.of(inputs, examples, given, None)
    found = tracing.on(module, Path(type(module).__name__))
    return bind(module, found.positional, found.named)


def open_module(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    path: Path | None = None,
    file: SourceFile | None = None,
    dynamic: Any = None,
) -> TorchModel:
    """A module in memory, traced on example inputs; ``dynamic`` as for `trace`.

    Raises:
        ModelError: where torch.export cannot trace it.
    """
    program, notes = trace(module, args, kwargs, dynamic)
    return TorchModel(program, path or Path(type(module).__name__), notes, file)


def _traced(module: nn.Module, path: Path, file: SourceFile | None, tracing: Tracing) -> TorchModel:
    found = tracing.on(module, path)
    args, kwargs = bind(module, found.positional, found.named)
    model = open_module(module, args, kwargs, path=path, file=file, dynamic=tracing.dynamic)
    model.notes += found.notes
    return model


def _program(path: Path, allow_pickle: bool, again: bool = True) -> ExportedProgram:
    if not allow_pickle:
        check_program(path)
    try:
        with nullcontext() if allow_pickle else no_unpickling():
            return quietly(lambda: torch.export.load(path))
    except Exception as error:  # the loader raises whatever a damaged archive makes it raise
        types = unknown_types(path)
        if types and again and import_homes(types):
            return _program(path, allow_pickle, again=False)
        if types:
            raise ModelError(
                f"{path} holds values of the type {types[0]}, which torch does not know here; "
                f"install the package {types[0].partition('.')[0]} that the program was made with"
            ) from None
        raise ModelError(
            f"{path} is an exported program that this torch ({torch.__version__}) cannot load "
            f"({first_line(error)}); export it again with this version"
        ) from None


def _converted(file: SourceFile, tracing: Tracing, allow_pickle: bool) -> TorchModel:
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
    found = tracing.on(script, path)
    args = (*found.positional, *found.named.values())
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
    file: SourceFile,
    weights_key: str | None,
    tracing: Tracing,
    allow_pickle: bool,
) -> TorchModel | TorchCheckpoint:
    path = file.path
    found = load_object(path, allow_pickle=allow_pickle)
    module = _module_in(found if weights_key is None else {"": _of_key(found, weights_key)})
    if module is not None and tracing.possible:
        return _traced(module, path, file, tracing)
    if tracing.dynamic is not None:
        raise UsageError(f"--dynamic is for what has to be traced, and {path} holds no network")
    networks = networks_of(found, path)
    key = weights_key or next(iter(networks))
    tensors = chosen(networks, key, path)
    return TorchCheckpoint(tensors, file, [other for other in networks if other != key])


def _of_key(found: Any, key: str) -> Any:
    return found.get(key) if isinstance(found, Mapping) else None


def _module_in(found: Any) -> nn.Module | None:
    if isinstance(found, nn.Module):
        return found
    if isinstance(found, Mapping):
        return next((v for v in found.values() if isinstance(v, nn.Module)), None)
    return None
