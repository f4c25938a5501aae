"""PyTorch models: the same method, in torch, with torch's own convention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bnfold.errors import OutputError  # noqa: E402
from bnfold.formats import open_model  # noqa: E402
from bnfold.formats.torch import open_module  # noqa: E402
from bnfold.jobs.recalibrate import recalibrate  # noqa: E402
from bnfold.jobs.recalibration_result import RecalibrationOptions, RecalibrationResult  # noqa: E402

FACTORY = f"{Path(__file__).parent / 'torch_networks.py'}:Network"


def network() -> Any:
    from .torch_networks import Network

    return Network()


def images(count: int) -> Any:
    return np.random.default_rng(0).normal(1, 2, (count, 3, 8, 8)).astype(np.float32)


def reference(module: Any, values: Any, *, unbiased: bool = True) -> dict[str, Any]:
    """Layer by layer in float64: run the whole network, measure, set, go on."""
    module = module.double().eval()
    for layer in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)):
        seen: list[Any] = []
        hook = layer.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0]))
        with torch.no_grad():
            module(torch.from_numpy(values).double())
        hook.remove()
        x = torch.cat([s.transpose(0, 1).flatten(1) for s in seen], dim=1)
        layer.running_mean = x.mean(1)
        layer.running_var = x.var(1, correction=int(unbiased))
    return {k: v.numpy() for k, v in module.state_dict().items() if "running" in k}


def run(model: Any, target: Path, values: Any, **options: Any) -> RecalibrationResult:
    np.save(target.with_suffix(".npy"), values)
    wanted = RecalibrationOptions(**options)
    result = recalibrate(model, target, target.with_suffix(".npy"), options=wanted)
    assert result is not None and result.ok
    return result


def assert_statistics(state: Any, wanted: dict[str, Any]) -> None:
    for name, array in wanted.items():
        np.testing.assert_allclose(
            np.asarray(state[name]), array, rtol=1e-5, atol=2e-6, err_msg=name
        )


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"batch_size": 64, "cache_memory": 0}])
def test_a_program(options: dict[str, Any], tmp_path: Path) -> None:
    module, values = network(), images(21)
    wanted = reference(network(), values)
    result = run(
        open_module(module, (torch.zeros(2, 3, 8, 8),)), tmp_path / "o.pt2", values, **options
    )
    assert result.variance == "unbiased" and result.check.agrees
    assert [c.name for c in result.batch_norms] == ["stem.1", "twice", "last"]
    assert result.batch_norms[1].values == 2 * 21 * 64
    assert_statistics(torch.export.load(tmp_path / "o.pt2").state_dict, wanted)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_state_dict_comes_back_as_one(suffix: str, tmp_path: Path) -> None:
    module, values = network(), images(21)
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    model = open_model(FACTORY, weights=tmp_path / "weights.pth", inputs=("2x3x8x8",))
    run(model, tmp_path / f"o{suffix}", values)
    if suffix == ".pth":
        state = torch.load(tmp_path / "o.pth", weights_only=True)
    else:
        from safetensors.torch import load_file

        state = load_file(tmp_path / "o.safetensors")
    assert state.keys() == module.state_dict().keys()
    for name, tensor in module.state_dict().items():
        assert "running" in name or torch.equal(tensor, state[name]), name
    network().load_state_dict(state)
    assert_statistics(state, reference(network(), values))


def test_biased_and_batch(tmp_path: Path) -> None:
    values = images(21)
    model = open_module(network(), (torch.zeros(2, 3, 8, 8),))
    run(model, tmp_path / "o.pt2", values, variance="biased")
    wanted = reference(network(), values, unbiased=False)
    assert_statistics(torch.export.load(tmp_path / "o.pt2").state_dict, wanted)
    run(model, tmp_path / "b.pt2", values, method="batch", batch_size=21)
    trained = network().train()
    for layer in trained.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            layer.momentum = None
            layer.reset_running_stats()
    trained(torch.from_numpy(values))
    state = torch.export.load(tmp_path / "b.pt2").state_dict
    for name in (
        "stem.1.running_mean",
        "stem.1.running_var",
    ):  # `twice` counts as two batches there
        np.testing.assert_allclose(state[name], trained.state_dict()[name], rtol=1e-4, atol=1e-5)


class Tied(nn.Module):
    """Two norms that read one running mean; ``z`` is a second name of the first of them."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.c, self.a = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
        self.d, self.b = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
        self.form = form
        if form == "two names":
            self.z = self.a
        if form == "one tensor":
            self.b.running_mean = self.a.running_mean

    def forward(self, x: Any) -> Any:
        again = self.a if self.form == "called on its own output" else self.b
        return again(self.d(self.a(self.c(x)).relu()))


def test_a_module_under_two_names_is_written_under_both(tmp_path: Path) -> None:
    model = open_module(Tied("two names").eval(), (torch.from_numpy(images(4)),))
    run(model, tmp_path / "new.pth", images(40))
    state = torch.load(tmp_path / "new.pth")
    assert torch.equal(state["a.running_mean"], state["z.running_mean"])
    assert state["a.running_mean"].abs().max() > 0


@pytest.mark.parametrize("form", ["one tensor", "called on its own output"])
def test_tied_statistics_that_part_fit_no_state_dict(form: str, tmp_path: Path) -> None:
    model = open_module(Tied(form).eval(), (torch.from_numpy(images(4)),))
    run(model, tmp_path / "new.pt2", images(40))
    with pytest.raises(OutputError, match="a shares a tensor"):
        run(model, tmp_path / "new.pth", images(40))
    assert not (tmp_path / "new.pth").exists()
