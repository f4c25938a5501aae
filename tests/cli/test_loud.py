"""What nobody should overlook: nothing folds, too little folds, a proof that decides nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from situations.build import Net
from situations.command import Command
from situations.fold import ROOT, save


def test_nothing_folds_and_the_flag_that_helps(command: Command) -> None:
    outcome = command("fold", "frozen.onnx", "-o", "out.onnx")
    words = "warning: 0 of 1 BatchNorm fold; 1 would be tried with --freeze-initializers"
    assert outcome.code == 0 and words in outcome.out
    outcome = command("fold", "frozen.onnx", "-o", "out.onnx", "-f", "json")
    assert outcome.json["warnings"] == [words.removeprefix("warning: ")] and words in outcome.err
    outcome = command("fold", "frozen.onnx", "-o", "out.onnx", "--freeze-initializers")
    assert outcome.code == 0 and "warning" not in outcome.out


def test_branches_that_fold_with_the_flag(command: Command) -> None:
    model = ROOT / "sample_models" / "repvgg.onnx"
    plan = command("fold", model, "--dry-run", "-f", "json").json
    kept = [d["name"] for d in plan["decisions"] if d["action"] == "keep"]
    if len(kept) == len(plan["decisions"]):
        assert "--reparameterize" in plan["warnings"][0]
    only = [word for name in kept[:1] for word in ("--only", name)]
    outcome = command("fold", model, "--dry-run", *only)
    assert not kept or "warning: 0 of 10 BatchNorm fold" in outcome.out


def test_what_cannot_fold_has_its_reason(command: Command) -> None:
    outcome = command("fold", "kept.onnx", "-o", "out.onnx")
    assert "warning: 0 of 1 BatchNorm fold; the reason is above" in outcome.out
    assert "warning" not in command("fold", "none.onnx", "-o", "out.onnx").out


def test_a_copy_needs_no_excuse(command: Command) -> None:
    """Nothing was changed, so that no output could show anything: no word of saturation."""
    out = command("fold", "kept.onnx", "-o", "out.onnx").out
    assert "no difference could show" not in out and "as the plan computed" not in out
    assert "as in the original" in out and "wrote out.onnx (a copy)" in out


def test_what_was_taken_apart_did_not_disappear(command: Command, tmp_path: Path) -> None:
    """A BatchNorm as Mul and Add: not what the exporter folded."""
    net = Net()
    y = net.conv(net.input("N", 3, 8, 8), 3, 4)
    scaled = net.op("Mul", y, net.weight(1, 4, 1, 1), name="scaled")
    shifted = net.op("Add", scaled, net.weight(1, 4, 1, 1), name="shifted")
    save(net.model(net.relu(shifted)), tmp_path / "apart.onnx")
    for line in ("inspect apart.onnx", "fold apart.onnx -o out.onnx"):
        out = command(*line.split()).out
        assert "apart.onnx: no BatchNorm; 2 affine operations can go" in out
        assert "the exporter folded it" not in out
    assert "the exporter folded it" in command("inspect", "none.onnx").out


@pytest.mark.parametrize(
    ("least", "code"), [("0", 0), ("1", 0), ("2", 1), ("100%", 0), ("50%", 0), ("0.5%", 0)]
)
def test_a_minimum(least: str, code: int, command: Command, tmp_path: Path) -> None:
    outcome = command("fold", "model.onnx", "-o", "out.onnx", "--min-folded", least)
    assert outcome.code == code and (tmp_path / "out.onnx").exists() == (code == 0)
    if code:
        assert "nothing written: 1 of 1 BatchNorm fold, and --min-folded asks for 2" in outcome.out


@pytest.mark.parametrize(("least", "code"), [("0%", 0), ("1%", 1), ("1", 1)])
def test_a_minimum_that_is_missed(least: str, code: int, command: Command, tmp_path: Path) -> None:
    assert command("fold", "kept.onnx", "-o", "out.onnx", "--min-folded", least).code == code
    assert (tmp_path / "out.onnx").exists() == (code == 0)


def test_none_of_none_is_all(command: Command) -> None:
    assert command("fold", "none.onnx", "-o", "out.onnx", "--min-folded", "100%").code == 0
    assert command("fold", "none.onnx", "-o", "out.onnx", "--min-folded", "1").code == 1


def test_a_proof_that_decides_nothing_is_no_verdict(command: Command, tmp_path: Path) -> None:
    """A constant output: two models that differ in all else look alike, and are not called different."""
    net = Net()
    y = net.relu(net.bn(net.conv(net.input("N", 4, 9, 9), 4, 6), 6))
    save(net.model(net.op("Shape", y, name="shape")), tmp_path / "size.onnx")
    outcome = command("verify", "size.onnx", "size.onnx")
    assert outcome.code == 1
    assert "warning: the proof decides nothing" in outcome.out and "--data" in outcome.out
    assert "could not be told apart, nor shown to be the same" in outcome.out
    assert "do not compute the same" not in outcome.out
