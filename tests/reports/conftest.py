"""One inspection that all formats print, and the recorded outputs to compare with."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from audit.networks import conv, healthy, network, norm, op, seen
from bnfold.audit import Observed, run_rules
from bnfold.formats.onnx import OnnxModel
from bnfold.jobs import Inspection, inspect
from bnfold.jobs.common import ModelInfo

GOLDEN = Path(__file__).parent / "golden"
INFO = ModelInfo("models/gate & door.onnx", "onnx", "0123456789abcdef" * 4)


def troubled() -> onnx.ModelProto:
    """Three layers: one with NaN, one with dead channels and another epsilon, one that stays."""
    broken, dead = healthy(), healthy()
    broken["mean"][2] = np.nan
    dead["variance"][:3] = 1e-40
    return network(
        conv("c1", "x", "a"), norm("stem|bn", "a", "b", broken), op("Relu", "b", "r1"),
        conv("c2", "r1", "c"), norm("body<bn>", "c", "d", dead, epsilon=1e-3), op("Relu", "d", "r2"),
        norm("head: bn", "r2", "e"), op("Sigmoid", "e", "y"),
    )  # fmt: skip


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    path = tmp_path_factory.mktemp("troubled") / "model.onnx"
    onnx.save(troubled(), path)
    return OnnxModel(path)


@pytest.fixture(scope="session")
def inspection(opened: OnnxModel) -> Inspection:
    """Without data; file name and hash are made up, so that they are the same everywhere."""
    return replace(inspect(opened), model=INFO)


@pytest.fixture(scope="session")
def inspection_with_data(opened: OnnxModel, inspection: Inspection) -> Inspection:
    """The same with observations, the third layer adrift."""
    body = inspection.batch_norms[1].norm
    calm = Observed(body.mean, body.variance, 10_000)
    adrift = seen(healthy(), shift=1.5, factor=6.0)
    observed = {
        name: replace(found, percentiles=found.mean + np.array([[-1.0], [0.0], [1.0]]))
        for name, found in {"body<bn>": calm, "head: bn": adrift}.items()
    }
    reports = tuple(replace(r, observed=observed.get(r.name)) for r in inspection.batch_norms)
    findings = run_rules(opened, inspection.plan, None, observed)
    return replace(inspection, batch_norms=reports, findings=findings, data="gate.npz")


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compares a text with the recorded one; BNFOLD_WRITE_GOLDEN=1 records it anew."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("BNFOLD_WRITE_GOLDEN") == "1":
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check
