"""Where torch.export cannot trace the whole: by submodules, and only where nobody reaches in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import bnfold
from bnfold.errors import ModelError, UsageError, VerificationError
from torch_cases import bn, conv, randomised


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
    with pytest.raises(UsageError, match="no submodule nothing"):
        bnfold.fold(net, (x,), keep_modules=True, submodule="nothing")
    with pytest.raises(UsageError, match="keep_modules=True"):
        bnfold.fold(net, (x,), submodule="head")


@pytest.mark.parametrize("reach", ["a call", "a shared tensor"])
def test_what_others_reach_into_is_left(reach: str) -> None:
    net, x = randomised(Detector(reach)), images(2, 3, 14, 14)
    result = bnfold.fold(net, (x,), keep_modules=True)
    folded = {d.name for d in result.plan.batch_norms if d.reason is None}
    assert folded == {"head.1"}
    assert any("backbone" in note and "is not taken" in note for note in result.notes[1:])
    same(net, result.model, x)


def test_code_that_reads_a_weight_is_found_out() -> None:
    net, x = randomised(Detector("a weight")), images(2, 3, 14, 14)
    with pytest.raises(VerificationError, match="the whole network does not"):
        bnfold.fold(net, (x,), keep_modules=True)
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
