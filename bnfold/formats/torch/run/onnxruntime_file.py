"""An ONNX file that torch's exporter wrote, in onnxruntime with its graph optimisations off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import RuntimeUnavailableError
from bnfold.formats.torch.file.quiet import first_line

Arrays = Mapping[str, NDArray[Any]]


class OnnxFile:
    """The file, its outputs under the names that they have in the program."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """Loads the file.

        Raises:
            RuntimeUnavailableError: where onnxruntime does not accept it.
        """
        import onnxruntime as ort

        self.path = path
        self.runtime = f"onnxruntime {ort.__version__}, graph optimisations off"
        self._names = names
        try:
            self._session = _session(path)
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise RuntimeUnavailableError(
                "onnxruntime does not run the ONNX file that torch wrote "
                f"({first_line(error)}), so that it cannot be verified; write .pt2, or convert the "
                "module with .float() first"
            ) from None

    @cached_property
    def tensors(self) -> dict[str, NDArray[Any]]:
        """The tensors that the file stores, by name."""
        import onnx
        from onnx import numpy_helper

        stored = onnx.load(self.path).graph.initializer
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in stored}

    def outputs(self, feeds: Arrays) -> Arrays:
        known = {i.name: np.asarray(feeds[i.name]) for i in self._session.get_inputs()}
        try:
            found = [np.asarray(y) for y in self._session.run(None, known)]
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise RuntimeUnavailableError(first_line(error)) from None
        return dict(zip(self._names, found, strict=True))

    @cached_property
    def inner_names(self) -> frozenset[str]:
        """What its operators compute, by name."""
        nodes = self._skeleton.graph.node
        return frozenset(name for node in nodes for name in node.output if name)

    @cached_property
    def _skeleton(self) -> Any:
        import onnx

        return onnx.load(self.path, load_external_data=False)

    def values(self, feeds: Arrays, names: Sequence[str]) -> Arrays:
        """Inner values by name. Raises as `outputs`."""
        from onnx import ModelProto, helper

        shown = ModelProto()
        shown.CopyFrom(self._skeleton)
        known = {output.name for output in shown.graph.output}
        shown.graph.output.extend(
            helper.make_empty_tensor_value_info(name) for name in names if name not in known
        )
        beside = self.path.with_suffix(".values.onnx")  # external data lies there
        try:
            beside.write_bytes(shown.SerializeToString())
            session = _session(beside)
            given = {i.name: np.asarray(feeds[i.name]) for i in session.get_inputs()}
            found = session.run(list(names), given)
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise RuntimeUnavailableError(first_line(error)) from None
        finally:
            beside.unlink(missing_ok=True)
        return dict(zip(names, map(np.asarray, found), strict=True))

    def release(self) -> None:
        """The session is small beside the program that the file was written from."""


def _session(path: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
