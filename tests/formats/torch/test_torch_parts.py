"""Submodules inspected, recalibrated and compared, each on what reaches it in the whole network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bnfold
from bnfold.cli.inspect import inspect as inspect_command
from bnfold.cli.recalibrate import recalibrate as recalibrate_command
from bnfold.cli.verify import verify as verify_command
from bnfold.errors import BnfoldError, UsageError
from bnfold.formats.torch.file.state import read_tensors
from recalibration.truth import distance, running, true_statistics
from situations.command import called
from torch_cases import bn, conv, randomised


class Detector(nn.Module):
    """How many outputs there are depends on the data, so that the whole cannot be traced."""

    def __init__(self, again: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv(3, 8), bn(), nn.ReLU(), conv(8, 8), bn())
        self.head = nn.Sequential(conv(8, 4), bn(4))
        self.refine = nn.Sequential(nn.Conv2d(4, 4, 1), bn(4))
        self.again = again

    def forward(self, x: torch.Tensor) -> Any:
        y = self.refine(self.head(self.backbone(x)))
        if self.again:
            y = self.refine(y)
        return [y[i] for i in (y.mean((1, 2, 3)) > -9).nonzero()[:, 0].tolist()]


NAMES = ("head", "backbone")  # not in the order of their calls


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 + 0.5


def parted(whole: torch.Tensor, size: int) -> list[torch.Tensor]:
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def detector(**options: Any) -> Any:
    return randomised(Detector(**options)).eval()


def by_position(module: nn.Module, batch: Any) -> Any:
    return module(batch)


def test_each_is_measured_on_what_reaches_it_behind_those_before() -> None:
    net, data = detector(), images(37)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    result = bnfold.recalibrate(net, data, submodule=NAMES, batch_size=5)
    wanted = true_statistics(net, parted(data, 7), by_position)
    measured = {k: v for k, v in wanted.items() if k.startswith(NAMES)}
    assert max(distance(running(result.model), measured)) < 1e-5
    # `refine` keeps what it had, and the caller's network all of it.
    for name, tensor in result.model.state_dict().items():
        assert name.startswith(NAMES) or torch.equal(tensor, before[name])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [c.name for c in result.batch_norms] == ["backbone.1", "backbone.4", "head.1"]
    assert result.ok and result.check.agrees and result.check.layer.startswith(NAMES)
    # What would be stored if the head were measured behind the old backbone lies elsewhere.
    alone = bnfold.recalibrate(net, data, submodule="head").model
    assert min(distance(running(alone), {k: v for k, v in wanted.items() if "head" in k})) > 0.01


def test_statistics_are_held_against_what_reaches_a_submodule() -> None:
    net, data = detector(), images(30)
    stale = bnfold.inspect(net, data=data, submodule="head")
    assert [norm.name for norm in stale.batch_norms] == ["head.1"]
    assert stale.findings and all(str(f.layer).startswith("head") for f in stale.findings)
    fresh = bnfold.recalibrate(net, data, submodule=NAMES).model
    drift = [n.drift for n in bnfold.inspect(fresh, data=data, submodule=NAMES).batch_norms]
    assert len(drift) == 3 and all(d is not None and d.mean_rms < 1e-4 for d in drift)
    plan = bnfold.inspect(net, (data[:2],), submodule=NAMES).plan
    assert [d.name for d in plan.decisions] == ["head.1", "backbone.1", "backbone.4"]
    assert plan.foldable == 3


def test_submodules_are_compared() -> None:
    net, data = detector(), images(12)
    folded = bnfold.fold(net, (data[:2],), keep_modules=True, submodule=NAMES).model
    same = bnfold.verify(net, folded, data=data, submodule=NAMES)
    assert same.ok and {o.name.split(":")[0] for o in same.verification.outputs} == set(NAMES)
    with torch.no_grad():
        folded.head[0].weight[0] *= 1.01
    wrong = bnfold.verify(net, folded, data=data, submodule=NAMES)
    assert not wrong.ok
    failed = {o.name.split(":")[0] for o in wrong.verification.outputs if not o.passed}
    assert failed == {"head"}
    assert bnfold.verify(net, folded, data=data, submodule="backbone").ok
    other = nn.Sequential(conv(3, 8), bn())
    with pytest.raises(UsageError, match="no submodule"):
        bnfold.verify(net, other, data=data, submodule="backbone")


FACTORY = """
import sys
sys.path[:0] = {paths!r}
from test_torch_parts import detector as make, images
def loader():
    return list(images(20).split(6))
"""


@pytest.fixture
def factory(tmp_path: Path) -> str:
    own = Path(__file__).parent
    paths = [str(own), str(own.parents[1])]
    (tmp_path / "net.py").write_text(FACTORY.format(paths=paths))
    return f"{tmp_path / 'net.py'}"


def test_the_commands(factory: str, tmp_path: Path) -> None:
    weights, written = tmp_path / "old.pth", tmp_path / "new.pth"
    torch.save(detector().state_dict(), weights)
    model = [f"{factory}:make", "--weights", str(weights), "--submodule", "backbone"]
    data = ["--data", f"{factory}:loader"]
    found = called(recalibrate_command, *model, *data, "-o", str(written))
    assert found.exit_code == 0 and "backbone.4" in found.stdout, found.stdout
    net = detector()
    net.load_state_dict(read_tensors(written))
    wanted = true_statistics(detector(), parted(images(20), 6), by_position)
    backbone = {k: v for k, v in wanted.items() if k.startswith("backbone")}
    assert max(distance(running(net), backbone)) < 1e-5
    found = called(inspect_command, *model, *data, "--fail-on", "never")
    assert found.exit_code == 0 and "backbone.1" in found.stdout and "head" not in found.stdout
    pair = [f"{factory}:make", *model, "--candidate-weights", str(written), *data]
    found = called(verify_command, *pair)
    assert found.exit_code == 1 and "backbone" in found.stdout
    found = called(verify_command, *pair[:-2], "--input", "2x3x12x12", "--submodule", "head")
    assert found.exit_code == 1
    pair[pair.index("backbone")] = "head"
    assert called(verify_command, *pair).exit_code == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"submodule": "nothing"}, "no submodule nothing; there are backbone, head, refine"),
        ({"submodule": "bakcbone"}, "did you mean backbone"),
        ({"submodule": "head", "mask": "m"}, "not which of a submodule's"),
        ({"submodule": "head", "only": "1"}, "name other submodules"),
        ({"submodule": "head", "evaluate": len}, "traced whole"),
        ({"submodule": "head", "dynamic_shapes": "auto"}, "traced whole"),
        ({"submodule": "head", "output": "new.pt2"}, "state dict of the whole"),
    ],
)
def test_what_does_not_go_with_submodules(
    options: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BnfoldError, match=sentence):
        bnfold.recalibrate(detector(), images(8), **options)
    assert not list(tmp_path.iterdir())


def test_a_submodule_that_is_called_twice_has_no_statistics_of_its_own() -> None:
    net, data = detector(again=True), images(8)
    with pytest.raises(UsageError, match="called 2 times"):
        bnfold.recalibrate(net, data, submodule="refine")
    # To look at both calls changes nothing.
    (norm,) = bnfold.inspect(net, data=data, submodule="refine").batch_norms
    assert norm.observed is not None and norm.observed.count == 2 * 8 * 12 * 12


def test_a_tensor_that_another_module_holds_too() -> None:
    net = detector()
    net.refine[1].running_mean = net.head[1].running_mean
    with pytest.raises(UsageError, match="shares a tensor"):
        bnfold.recalibrate(net, images(8), submodule="head")


@pytest.mark.parametrize("job", ["inspect", "recalibrate", "verify"])
def test_submodules_of_files_and_of_graphs_are_refused(job: str) -> None:
    sample = str(Path(__file__).parents[3] / "sample_models" / "residual.onnx")
    given: dict[str, Any] = {
        "inspect": lambda: bnfold.inspect(sample, submodule="a"),
        "recalibrate": lambda: bnfold.recalibrate(sample, np.zeros(3), "x.pth", submodule="a"),
        "verify": lambda: bnfold.verify(sample, sample, submodule="a"),
    }
    with pytest.raises(UsageError, match=r"no factory|name of a factory"):
        given[job]()


def test_data_that_the_network_does_not_run_on() -> None:
    net = detector()
    good, bad = images(2), torch.zeros(2, 4, 12, 12)
    with pytest.raises(BnfoldError, match="does not run on the data"):
        bnfold.recalibrate(net, bad, example_inputs=(good,), submodule="head")
    small = torch.zeros(2, 3, 1, 1)
    with pytest.raises(BnfoldError, match="what reaches head gives"):
        bnfold.recalibrate(net, small, example_inputs=(good,), submodule="head")


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError, match="start one process"):
        bnfold.recalibrate(detector(), images(8), submodule="head")
