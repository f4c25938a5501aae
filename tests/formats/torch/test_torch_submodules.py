"""Where torch.export cannot trace the whole: by submodules, and only where nobody reaches in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bnfold
from bnfold.cli.fold import fold as command
from bnfold.errors import BnfoldError, ModelError, UsageError, VerificationError
from bnfold.formats.torch.file.saving import write_tensors
from bnfold.formats.torch.file.state import read_tensors
from situations.command import Called, called
from torch_cases import bn, conv, randomised

SAMPLES = Path(__file__).parents[3] / "sample_models"


class Detector(nn.Module):
    """The number of its outputs depends on the data, as in detectors after suppression."""

    def __init__(self, reach: str = "") -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv(3, 8), bn(), nn.ReLU(), conv(8, 8), bn())
        self.head = nn.Sequential(conv(8, 4), bn(4))
        self.reach = reach
        if reach == "a shared tensor":
            self.other = nn.Conv2d(3, 8, 3)
            self.other.weight = self.backbone[0].weight  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> Any:
        y = self.backbone(x)
        if self.reach == "a call":
            again: Any = self.backbone[3]
            y = again(y)
        if self.reach == "a weight":
            first: Any = self.backbone[0]
            y = y * first.weight.mean()
        found = [self.head(y[i : i + 1]) for i in (y.mean((1, 2, 3)) > -9).nonzero()[:, 0].tolist()]
        return {"found": found}


def same(module: Any, other: Any, x: torch.Tensor) -> None:
    with torch.no_grad():
        a, b = (copy.eval()(x)["found"] for copy in (module, other))
    assert len(a) == len(b) == len(x)
    for one, two in zip(a, b, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_what_traces_inside_is_folded() -> None:
    net, x = randomised(Detector()), images(2, 3, 14, 14)
    with pytest.raises(ModelError, match="keep_modules=True"):
        bnfold.fold(net, (x,))
    result = bnfold.fold(net, (x,), keep_modules=True)
    assert result.ok and result.verification is not None
    assert {d.name for d in result.plan.decisions} == {"backbone.1", "backbone.4", "head.1"}
    assert result.plan.kept == 0 and type(result.model) is Detector
    assert any("backbone, head" in note for note in result.notes)
    changed = {n for n, t in result.model.state_dict().items() if not t.equal(net.state_dict()[n])}
    assert {"backbone.0.weight", "head.0.weight"} <= changed
    same(net, result.model, images(3, 3, 20, 18))


def test_named_submodules_alone() -> None:
    net, x = randomised(Detector()), images(2, 3, 14, 14)
    result = bnfold.fold(net, (x,), keep_modules=True, submodule="head")
    assert {d.name for d in result.plan.decisions} == {"head.1"}
    same(net, result.model, x)
    with pytest.raises(UsageError, match="no submodule nothing; there are backbone, head"):
        bnfold.fold(net, (x,), keep_modules=True, submodule="nothing")
    with pytest.raises(UsageError, match="keep_modules=True"):
        bnfold.fold(net, (x,), submodule="head")


def test_options_hold_for_parts_or_are_refused() -> None:
    net, x = randomised(Detector()), images(2, 3, 14, 14)
    refused = bnfold.fold(net, (x,), keep_modules=True, min_folded=4)
    assert refused.refusal is not None and "3 of 3" in refused.refusal and not refused.ok
    assert bnfold.fold(net, (x,), keep_modules=True, min_folded=3).ok
    unfit: list[dict[str, Any]] = [{"only": "head.*"}, {"skip": "head.*"}, {"rest": "affine"}]
    for options in unfit:
        with pytest.raises(UsageError, match="traced whole"):
            bnfold.fold(net, (x,), keep_modules=True, **options)


def test_a_minimum_holds_in_memory() -> None:
    net, x = randomised(nn.Sequential(conv(3, 8), bn())), images(2, 3, 14, 14)
    refused = bnfold.fold(net, (x,), min_folded=2)
    assert refused.refusal is not None and "1 of 1" in refused.refusal and not refused.ok
    with pytest.raises(UsageError, match="asks for 2"):
        _ = refused.model
    assert bnfold.fold(net, (x,), min_folded=1).ok


@pytest.mark.parametrize("reach", ["a call", "a shared tensor"])
def test_what_others_reach_into_is_left(reach: str) -> None:
    net, x = randomised(Detector(reach)), images(2, 3, 14, 14)
    result = bnfold.fold(net, (x,), keep_modules=True)
    folded = {d.name for d in result.plan.batch_norms if d.reason is None}
    assert folded == {"head.1"}
    assert any("backbone" in note and "is not taken" in note for note in result.notes[1:])
    same(net, result.model, x)


FACTORY = """
from test_torch_submodules import Detector
from torch_cases import randomised


def make():
    return randomised(Detector({reach!r}))
"""


def run(tmp_path: Path, *options: str, reach: str = "") -> Called:
    code = tmp_path / "net.py"
    code.write_text(FACTORY.format(reach=reach))
    return called(command, f"{code}:make", "--input", "2x3x14x14", *options)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_named_submodules_on_the_command_line(tmp_path: Path, suffix: str) -> None:
    written = tmp_path / f"folded{suffix}"
    found = run(tmp_path, "--keep-modules", "--submodule", "head", "-o", str(written), "-f", "json")
    assert found.exit_code == 0, found.stdout
    document = json.loads(found.stdout)
    assert [d["name"] for d in document["decisions"]] == ["head.1"]
    assert document["verification"]["passed"]
    changed = document["output"]["key_map"]["changed"]
    assert changed and all(name.startswith("head.") for name in changed)
    net, other = randomised(Detector()), randomised(Detector())
    other.load_state_dict(read_tensors(written))
    unlike = {n for n, t in other.state_dict().items() if not t.equal(net.state_dict()[n])}
    assert unlike == set(changed)
    same(net, other, images(2, 3, 14, 14))


def test_what_traces_is_found_on_the_command_line_too(tmp_path: Path) -> None:
    written = tmp_path / "folded.pth"
    found = run(tmp_path, "--keep-modules", "-o", str(written))
    assert found.exit_code == 0 and "backbone, head" in found.stdout, found.stdout
    net, other = randomised(Detector()), randomised(Detector())
    other.load_state_dict(read_tensors(written))
    same(net, other, images(2, 3, 14, 14))
    assert run(tmp_path, "--keep-modules", "--dry-run", "--strict").exit_code == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--submodule", "head", "-o", "x.pth"], "add --keep-modules"),
        (["--keep-modules", "--submodule", "head", "-o", "x.pt2"], "state dict of the whole"),
        (["--keep-modules", "--submodule", "nothing", "-o", "x.pth"], "no submodule nothing"),
        (["-o", "x.pth"], "--keep-modules"),
    ],
)
def test_what_does_not_go_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = run(tmp_path, *options).exception
    assert isinstance(error, BnfoldError) and sentence in str(error)
    assert not list(tmp_path.glob("x.*"))


def test_submodules_of_a_file_are_refused(tmp_path: Path) -> None:
    sample = str(SAMPLES / "residual.onnx")
    words = [sample, "--keep-modules", "--submodule", "a", "-o", str(tmp_path / "x.pth")]
    error = called(command, *words).exception
    assert isinstance(error, UsageError) and "ONNX" in str(error)


def test_a_network_that_differs_as_a_whole_is_not_written(tmp_path: Path) -> None:
    written = tmp_path / "folded.pth"
    found = run(tmp_path, "--keep-modules", "-o", str(written), reach="a weight")
    assert found.exit_code == 1 and not written.exists()
    assert "the whole network does not" in found.stdout


def test_a_file_that_does_not_hold_what_was_to_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = write_tensors

    def wrongly(tensors: Any, path: Path, key_map: Any) -> None:
        write({**tensors, "head.0.bias": tensors["head.0.bias"] + 1e-6}, path, key_map)

    monkeypatch.setattr("bnfold.formats.torch.submodules.write_tensors", wrongly)
    error = run(tmp_path, "--keep-modules", "-o", str(tmp_path / "x.pth")).exception
    assert isinstance(error, VerificationError) and "head.0.bias" in str(error)
    assert not (tmp_path / "x.pth").exists()


def test_code_that_reads_a_weight_is_found_out() -> None:
    net, x = randomised(Detector("a weight")), images(2, 3, 14, 14)
    result = bnfold.fold(net, (x,), keep_modules=True)
    assert not result.ok
    with pytest.raises(VerificationError, match="the whole network does not"):
        _ = result.model
    same(net, bnfold.fold(net, (x,), keep_modules=True, submodule="head").model, x)


@pytest.mark.parametrize("enabled", [False, True])
def test_autocast_regions_are_read(enabled: bool) -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.b, self.d = conv(), bn(), conv(8, 4)

        def forward(self, x: torch.Tensor) -> Any:
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                y = self.b(self.c(x))
            return self.d(y.float())

    net, x = randomised(Cast()).eval(), images(2, 3, 14, 14)
    result = bnfold.fold(net, (x,))
    assert [d.name for d in result.plan.decisions] == ["b"] and result.plan.kept == 0
    with torch.no_grad():
        wanted, found = net(x), result.model(x)
    assert (wanted - found).abs().max() < (0.05 if enabled else 1e-4) * wanted.abs().max()


def test_torch_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError) as caught:
        bnfold.fold(Detector(), (images(2, 3, 14, 14),))
    assert capfd.readouterr() == ("", "")
    assert "\n" not in str(caught.value)
