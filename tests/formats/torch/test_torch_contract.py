"""One module, three ways to hold it (exported program, both ONNX exporters): the same decisions and
the same folded numbers."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from bnfold.formats.onnx import OnnxModel
from bnfold.formats.onnx.format import FORMAT as ONNX
from bnfold.formats.torch import TorchModel, open_module
from bnfold.formats.torch.format import FORMAT as TORCH
from bnfold.planning import Plan, make_plan
from torch_cases import FOLDS, STAYS, Case, randomised

pytest.importorskip("onnxscript")

Exporter = Callable[[nn.Module, tuple[Any, ...], Path], None]

# Exporters rewrite these before we see them: a sum with a number, one with weights, a write through a
# view, a matrix product turned, a computed weight evaluated, a grid in a form that takes factors.
_REWRITTEN = {
    "fake_quantised_weight",
    "weighted_sum",
    "add_zero",
    "written_alias",
    "weight_times_x",
    "conv_called_twice",
}
CASES = [case for case in (*FOLDS, *STAYS) if case.name not in _REWRITTEN]
# Without its optimiser the newer exporter writes batch statistics as arithmetic.
_DYNAMO_CANNOT = {"no_statistics", "functional_training"}


def dynamo(module: nn.Module, inputs: tuple[Any, ...], path: Path) -> None:
    torch.onnx.export(
        module, inputs, str(path), dynamo=True, optimize=False, verbose=False, external_data=False
    )


def legacy(module: nn.Module, inputs: tuple[Any, ...], path: Path) -> None:
    torch.onnx.export(
        module,
        inputs,
        str(path),
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )


def exported(export: Exporter, case: Case, path: Path) -> OnnxModel:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # both exporters warn about themselves
        export(randomised(case.module()), case.inputs(), path)
    return OnnxModel(path)


def decided(plan: Plan) -> list[tuple[str, str | None, str | None]]:
    return [
        (
            d.action.value,
            d.direction.value if d.direction else None,
            d.reason.reason.code if d.reason else None,
        )
        for d in plan.batch_norms
    ]


def torch_arrays(model: TorchModel, plan: Plan) -> dict[str, np.ndarray[Any, Any]]:
    edited = TORCH.edit(model, plan)
    state = edited.state_dict()
    names = edited.key_map["changed"] + edited.key_map["added"]
    return {name: state[name].numpy() for name in names}


def onnx_arrays(model: OnnxModel, plan: Plan, folder: Path) -> list[np.ndarray[Any, Any]]:
    files = ONNX.edit(model, plan).write(folder / "folded.onnx")
    return [onnx.numpy_helper.to_array(t) for t in onnx.load(files[-1]).graph.initializer]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("export", [dynamo, legacy])
def test_same_decisions_and_numbers(case: Case, export: Exporter, tmp_path: Path) -> None:
    if export is dynamo and case.name in _DYNAMO_CANNOT:
        pytest.skip("the exporter writes something else")
    try:
        theirs = exported(export, case, tmp_path / "model.onnx")
    except Exception as error:  # an exporter that cannot express the module proves nothing
        pytest.skip(f"{export.__name__} cannot export it: {type(error).__name__}")
    ours = open_module(randomised(case.module()), case.inputs())
    their_plan, our_plan = make_plan(theirs.graph), make_plan(ours.graph)
    if len(their_plan.batch_norms) != len(our_plan.batch_norms):
        pytest.skip("the exporter has folded or taken apart a BatchNorm itself")
    assert decided(our_plan) == decided(their_plan)
    found = onnx_arrays(theirs, their_plan, tmp_path)
    for name, array in torch_arrays(ours, our_plan).items():
        same = (a for a in found if a.size == array.size)
        turned = [
            a.reshape(array.shape) for a in same if a.shape == array.shape or a.ndim != array.ndim
        ]
        turned += [a.T for a in found if a.ndim == 2 and a.T.shape == array.shape]
        assert any(np.array_equal(a, array) for a in turned), name
