"""Running ONNX models in onnxruntime with its graph optimisations off.

With them on, the runtime folds both models itself and a comparison proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bnfold.errors import ModelNotLoadedError, RuntimeUnavailableError, UsageError
from bnfold.formats.onnx.graph.quiet import frugal_options
from bnfold.recalibration.observer import CPU_DEVICE, CPU_PROVIDER, RuntimeOptions

Arrays = Mapping[str, NDArray[Any]]


def check_runtime(options: RuntimeOptions) -> None:
    """Raises a `UsageError` where onnxruntime cannot run so here."""
    import onnxruntime as ort

    if options.device != CPU_DEVICE:
        raise UsageError("--device is for PyTorch models; an ONNX model runs with --provider")
    known = ort.get_available_providers()
    if options.provider not in known:
        raise UsageError(f"onnxruntime has no {options.provider} here, only {', '.join(known)}")


class Session:
    """One model in onnxruntime, on the CPU if nothing else is asked for."""

    def __init__(
        self, model: Path | onnx.ModelProto, options: RuntimeOptions | None = None
    ) -> None:
        """Loads a file, or a model held in memory.

        Args:
            model: what to load.
            options: how it runs.

        Raises:
            ModelNotLoadedError: where onnxruntime does not accept the model.
        """
        import onnxruntime as ort

        options = options or RuntimeOptions()
        source = str(model) if isinstance(model, Path) else model.SerializeToString()
        try:
            self._session = ort.InferenceSession(
                source, _settings(options), providers=[options.provider]
            )
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise ModelNotLoadedError(_first_line(error)) from None
        self.outputs: list[str] = [o.name for o in self._session.get_outputs()]
        self.inputs: list[str] = [i.name for i in self._session.get_inputs()]

    def run(self, feeds: Arrays, outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Named outputs for named inputs.

        Raises:
            RuntimeUnavailableError: where the run fails.
        """
        names = list(self.outputs if outputs is None else outputs)
        try:
            results = self._session.run(names, dict(feeds))
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise RuntimeUnavailableError(_first_line(error)) from None
        return {name: _array(y) for name, y in zip(names, results, strict=True)}


def _array(result: Any) -> NDArray[Any]:
    """Sequences and maps, which no comparison of ours can judge, become object arrays."""
    return np.asarray(result) if isinstance(result, np.ndarray) else np.empty(0, dtype=object)


def _first_line(error: Exception) -> str:
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error).strip()).splitlines()
    return text[0][:300] if text else type(error).__name__


def _settings(options: RuntimeOptions) -> Any:
    settings = frugal_options()
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    return settings


def runtime_name(options: RuntimeOptions | None = None) -> str:
    """What runs the models, for reports."""
    import onnxruntime as ort

    other = options is not None and options.provider != CPU_PROVIDER
    where = f", {options.provider}" if options is not None and other else ""
    return f"onnxruntime {ort.__version__}{where}, graph optimisations off"
