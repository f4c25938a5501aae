"""Fold, prove, then quantise statically with onnxruntime: no float BatchNorm is left between Q/DQ pairs.

python integrations/quantize_static.py model.onnx calibration.npz quantised.onnx
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import bnfold


class Batches(CalibrationDataReader):
    """The arrays of an .npz that the model takes, in batches of 32."""

    def __init__(self, model: str, data: str) -> None:
        names = [spec.name for spec in bnfold.load(model).inputs]
        arrays = {name: array for name, array in np.load(data).items() if name in names}
        count = len(next(iter(arrays.values())))
        self.batches = iter(
            {name: array[i : i + 32] for name, array in arrays.items()} for i in range(0, count, 32)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def main(model: str, data: str, target: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        folded, prepared = Path(folder, "folded.onnx"), Path(folder, "prepared.onnx")
        done = bnfold.fold(model, folded, data=data, reparameterize=True)
        if not done.ok:
            sys.exit(f"{model} was not folded: {done}")
        # The shape inference that is skipped needs sympy; ONNX's own is enough here.
        quant_pre_process(folded, prepared, skip_symbolic_shape=True)
        quantize_static(prepared, target, Batches(model, data), quant_format=QuantFormat.QDQ)


if __name__ == "__main__":
    main(*sys.argv[1:])
