"""What callers mean by a model: a file, a factory, a model in memory, or what `load` has opened."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold import errors

if TYPE_CHECKING:
    from bnfold.data import Data, SampleOptions
    from bnfold.formats import Model
    from bnfold.jobs.common import ModelInfo

PATH, OPENED, PROTO, BYTES, TORCH = "path", "opened", "ModelProto", "bytes", "torch"
IN_MEMORY = (PROTO, BYTES, TORCH)


@dataclass(frozen=True, eq=False)
class Subject:
    """An opened model, and what the caller gave: ``kind`` says what that is."""

    model: Model
    given: Any
    kind: str

    @property
    def in_memory(self) -> bool:
        return self.kind in IN_MEMORY

    def shown(self, info: ModelInfo) -> ModelInfo:
        """``info`` under a name that says something to the caller."""
        return replace(info, path=self.kind) if self.kind in (PROTO, BYTES) else info

    def returned(self, written: Path) -> Any:
        """A written file in the form that was given: a path, a proto, bytes, or an opened model."""
        if self.kind == PATH:
            return str(written) if isinstance(self.given, str) else written
        if self.kind == BYTES:
            return written.read_bytes()
        if self.kind == OPENED:
            from bnfold.formats import open_model

            return open_model(written)
        import onnx

        return onnx.load(written)


@dataclass(frozen=True, eq=False)
class Opening:
    """How a model is opened, and what a module is traced on."""

    example_inputs: Any = None
    kwargs: Mapping[str, Any] | None = None
    dynamic_shapes: Any = None
    data: Data | None = None
    sampling: SampleOptions | None = None
    weights: str | PathLike[str] | None = None
    weights_key: str | None = None
    inputs: Sequence[str] = ()
    allow_pickle: bool = False
    freeze_initializers: bool = False

    def subject(self, model: Any) -> Subject:
        """Opens whatever ``model`` is.

        Raises:
            errors.UsageError: where it is no model, or an option does not go with it.
            errors.ModelError: where it cannot be read or traced.
        """
        if isinstance(model, str | PathLike):
            return Subject(self._opened(str(model)), model, PATH)
        if isinstance(model, bytes | bytearray) or type(model).__name__ == PROTO:
            self._refuse_tracing(f"a {PROTO}")
            kind = BYTES if isinstance(model, bytes | bytearray) else PROTO
            return Subject(_onnx(model, self.freeze_initializers), model, kind)
        if is_torch(model):
            return Subject(self._traced(model), model, TORCH)
        if not hasattr(model, "sha256"):
            raise errors.UsageError(
                "a model is a path, the name of a factory, an onnx.ModelProto, its bytes, a "
                "torch.nn.Module, an ExportedProgram, or what bnfold.load returns, not "
                f"{type(model).__name__}"
            )
        self._refuse_tracing("a model that is open already")
        return Subject(model, model, OPENED)

    def _opened(self, source: str) -> Model:
        from bnfold.formats import open_model

        return open_model(
            source,
            freeze_initializers=self.freeze_initializers,
            weights=None if self.weights is None else Path(self.weights),
            weights_key=self.weights_key,
            inputs=self.inputs,
            given=self._examples(),
            data=self.data,
            sampling=self.sampling,
            dynamic=self.dynamic_shapes,
            allow_pickle=self.allow_pickle,
        )

    def _traced(self, model: Any) -> Model:
        from bnfold.formats import examples_in
        from bnfold.formats.torch import open_network

        if self.weights is not None or self.weights_key is not None or self.freeze_initializers:
            raise errors.UsageError(
                "weights, weights_key and freeze_initializers are for files; load the state dict "
                "into the module"
            )
        return open_network(
            model,
            inputs=self.inputs,
            given=self._examples(),
            examples=examples_in(self.data, self.sampling),
            dynamic=self.dynamic_shapes,
        )

    def _examples(self) -> tuple[tuple[Any, ...], Mapping[str, Any]] | None:
        given = self.example_inputs
        if given is None:
            return ((), self.kwargs) if self.kwargs else None
        if isinstance(given, Mapping):
            return (), {**given, **(self.kwargs or {})}
        if not isinstance(given, tuple | list):
            given = (given,)
        return tuple(given), self.kwargs or {}

    def examples_for(self, module: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """What ``module`` is called with when it is traced."""
        from bnfold.formats import examples_in
        from bnfold.formats.torch import example_inputs_for

        return example_inputs_for(
            module, self.inputs, self._examples(), examples_in(self.data, self.sampling)
        )

    def parts(self, model: Any, only: Sequence[str]) -> Any:
        """The submodules of a module, or of what a factory makes; see `formats.torch.Parts`.

        Raises:
            errors.UsageError: where it has no modules, or none of these names.
            errors.ModelError: where it does not run, or no submodule of it traces.
        """
        from bnfold.formats import examples_in

        if self.dynamic_shapes is not None:
            raise errors.UsageError("dynamic_shapes go with what is traced whole, not submodule=")
        if is_module(model):
            from bnfold.formats.torch import Parts

            return Parts.of(model, *self.examples_for(model), only)
        if not isinstance(model, str) or find_spec("torch") is None:
            raise errors.UsageError(
                "submodule= goes with a torch.nn.Module or the name of a factory, as nothing else "
                "has submodules"
            )
        from bnfold.formats.torch import Parts

        examples = examples_in(self.data, self.sampling)
        return Parts.open(
            model, only, inputs=self.inputs, examples=examples, given=self._examples()
        )

    def _refuse_tracing(self, what: str) -> None:
        given = {
            "example_inputs": self.example_inputs is not None,
            "kwargs": bool(self.kwargs),
            "dynamic_shapes": self.dynamic_shapes is not None,
            "weights": self.weights is not None,
            "weights_key": self.weights_key is not None,
            "inputs": bool(self.inputs),
        }
        wrong = [name for name, there in given.items() if there]
        if wrong:
            raise errors.UsageError(f"{', '.join(wrong)}: for PyTorch models, and this is {what}")


def is_torch(model: object) -> bool:
    """Whether it is a module or a program; where torch is not loaded there is none."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if isinstance(model, torch.nn.Module):
        return True
    export = sys.modules.get("torch.export")
    return export is not None and isinstance(model, export.ExportedProgram)


def is_module(model: object) -> bool:
    """Whether it is a module, which has to be traced."""
    return is_torch(model) and hasattr(model, "forward")


def _onnx(model: Any, freeze_initializers: bool) -> Model:
    """A model in memory as a file, which all else works on; gone with the model."""
    import onnx

    from bnfold.formats.onnx import OnnxModel

    folder = Path(tempfile.mkdtemp(prefix="bnfold-model-"))
    path = folder / "model.onnx"
    try:
        if isinstance(model, bytes | bytearray):
            path.write_bytes(model)
        else:
            _refuse_unloaded(model)
            _save(onnx, model, path)
        opened = OnnxModel(path, freeze_initializers=freeze_initializers)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(opened, shutil.rmtree, folder, True)
    return opened


def _save(onnx: Any, model: Any, path: Path) -> None:
    if model.ByteSize() < _LARGE:
        onnx.save(model, path)
        return
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    onnx.save(copied, path, save_as_external_data=True, location="model.onnx.data")


_LARGE = 1 << 30


def _refuse_unloaded(model: Any) -> None:
    import onnx

    if any(onnx.external_data_helper.uses_external_data(t) for t in model.graph.initializer):
        raise errors.UsageError(
            "the ModelProto refers to a file of weights that is not loaded; give the path of the "
            "model instead, or onnx.load it with its external data"
        )


def data_of(data: Any) -> Data | None:
    """Data as the jobs take it: the name of a source, or what is in memory."""
    if data is None:
        return None
    if isinstance(data, str | PathLike):
        return os.fspath(data)
    from bnfold.data import Given

    return Given(data)
