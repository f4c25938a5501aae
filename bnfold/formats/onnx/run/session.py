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

from bnfold.errors import ModelNotLoadedError, RuntimeUnavailableError
from bnfold.formats.onnx.graph.quiet import frugal_options

Arrays = Mapping[str, NDArray[Any]]


class Session:
    """One model in onnxruntime on the CPU."""

    def __init__(self, model: Path | onnx.ModelProto) -> None:
        """Loads a file, or a model held in memory.

        Raises:
            ModelNotLoadedError: where onnxruntime does not accept the model.
        """
        import onnxruntime as ort

        source = str(model) if isinstance(model, Path) else model.SerializeToString()
        try:
            self._session = ort.InferenceSession(
                source, frugal_options(), providers=["CPUExecutionProvider"]
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


def runtime_name() -> str:
    """What runs the models, for reports."""
    import onnxruntime as ort

    return f"onnxruntime {ort.__version__}, graph optimisations off"
