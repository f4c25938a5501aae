"""One inspection that all formats print, and the recorded outputs to compare with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from audit.networks import conv, healthy, network, norm, op, seen
from bnfold.audit import Observed, run_rules
from bnfold.formats.onnx import OnnxModel
from bnfold.jobs import Inspection, inspect
from bnfold.jobs.common import ModelInfo
from bnfold.planning import Plan
from bnfold.reports import sarif

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = Path(__file__).parent / "schemas" / "sarif-2.1.0.json"
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


@pytest.fixture(scope="session")
def undecided(inspection: Inspection) -> Inspection:
    """The same layers in a checkpoint, where nobody knows what stands around them."""
    reports = tuple(
        replace(r, decision=None, epsilon=None, momentum=None) for r in inspection.batch_norms
    )
    findings = tuple(f for f in inspection.findings if f.code.startswith("BN1"))
    model = ModelInfo("models/net.pth", "torch-checkpoint", INFO.sha256)
    return replace(inspection, model=model, batch_norms=reports, findings=findings, plan=Plan(()))


Sarif = Callable[[Inspection], Any]


@pytest.fixture(scope="session")
def sarif_of() -> Sarif:
    """The one run of the SARIF of an inspection, once the standard's schema finds it valid."""
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))

    def check(result: Inspection) -> Any:
        document = json.loads(sarif.render(result))
        validator.validate(document)
        (run,) = document["runs"]
        return run

    return check


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compares a text with the recorded one; BNFOLD_WRITE_GOLDEN=1 records it anew."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("BNFOLD_WRITE_GOLDEN") == "1":
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check
