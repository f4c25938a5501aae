"""Networks whose ``forward`` takes a whole batch as one dict, with nothing but the data to go by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bnfold
from bnfold.errors import DataError
from torch_cases import randomised


class Net(nn.Module):
    """Reads two entries of its batch; ``how`` it does that varies."""

    def __init__(self, how: str = "by name") -> None:
        super().__init__()
        self.c, self.b, self.how = nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4), how

    def forward(self, batch: Any) -> Any:
        if self.how == "by name":
            x, mask = batch["x"], batch.get("mask")
        elif self.how == "popped":
            x, mask = batch.pop("x"), batch.pop("mask")
        else:
            x, mask = (
                value for name, value in sorted(batch.items(), reverse=True) if name != "label"
            )
        y = self.b(self.c(x)) if mask is None else self.b(self.c(x * mask[:, None]))
        return {"scores": y.sum(2)}


def made(how: str = "by name") -> Any:
    return randomised(Net(how))


def batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "x": torch.randn(4, 3, 9, generator=generator) + number,
            "mask": (torch.rand(4, 9, generator=generator) > 0.3).float(),
            "label": torch.zeros(4),
        }
        for number in range(3)
    ]


def true_statistics(net: Any) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        reached = [net.c.double()(b["x"].double() * b["mask"].double()[:, None]) for b in batches()]
    flat = torch.cat(reached).transpose(0, 1).flatten(1)
    return flat.mean(1), flat.var(1)


@pytest.mark.parametrize("how", ["by name", "popped", "gone through"])
def test_the_whole_batch_goes_in(how: str) -> None:
    net = made(how)
    result = bnfold.recalibrate(net, batches())
    mean, variance = true_statistics(made(how))
    torch.testing.assert_close(result.model.b.running_mean.double(), mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(result.model.b.running_var.double(), variance, rtol=1e-5, atol=0)
    with torch.no_grad():
        result.model.eval()(batches()[0])  # of the same class still


def test_what_is_not_read_is_left_out_and_named_once() -> None:
    net = made()
    result = bnfold.recalibrate(net, batches())
    assert sum("label" in note for note in result.notes) == 1
    assert not any("mask of the data" in note for note in result.notes)


def test_padding_by_the_name_in_the_dict() -> None:
    net = made()
    result = bnfold.recalibrate(net, batches(), mask="mask")
    with torch.no_grad():
        reached = [net.c(b["x"] * b["mask"][:, None]).transpose(1, 2) for b in batches()]
    frames = torch.cat([y[b["mask"] > 0] for y, b in zip(reached, batches(), strict=True)])
    torch.testing.assert_close(result.model.b.running_mean, frames.mean(0), rtol=0, atol=1e-5)


def test_all_commands_take_it(tmp_path: Path) -> None:
    net = made()
    assert bnfold.inspect(net, data=batches()).plan.foldable == 1
    folded = bnfold.fold(net, data=batches())
    assert folded.ok and folded.plan.kept == 0
    assert bnfold.verify(net, folded.model, data=batches()).ok
    # A program is fed by the same names, and by those that torch gives its inputs.
    bnfold.fold(net, tmp_path / "f.pt2", data=batches())
    array = {name: tensor.numpy() for name, tensor in batches()[0].items() if name != "label"}
    for names in (lambda name: name, lambda name: f"batch_{name}"):
        named: dict[str, Any] = {names(name): a for name, a in array.items()}
        np.savez(tmp_path / "d.npz", **named)
        again = bnfold.verify(tmp_path / "f.pt2", tmp_path / "f.pt2", data=tmp_path / "d.npz")
        assert "4 samples" in again.verification.inputs
    np.savez(tmp_path / "d.npz", other=array["x"], mask=array["mask"])
    with pytest.raises(DataError, match="wants x float32"):
        bnfold.verify(tmp_path / "f.pt2", tmp_path / "f.pt2", data=tmp_path / "d.npz")


class Plain(nn.Module):
    def __init__(self, forward: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.b, self._forward = nn.BatchNorm1d(3), forward

    def forward(self, batch: Any) -> Any:
        return self._forward(self, batch)


def single() -> Iterator[dict[str, Tensor]]:
    yield {"x": torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 5}


@pytest.mark.parametrize("forward", [lambda m, x: m.b(x), lambda m, batch: m.b(batch["x"])])
def test_a_single_array_by_itself_or_in_its_dict(forward: Callable[[Any, Any], Any]) -> None:
    norm: Any = bnfold.recalibrate(Plain(forward), list(single())).model.b
    assert (norm.running_mean - 5).abs().max() < 1


def test_what_no_dict_helps_is_said_of_the_input() -> None:
    with pytest.raises(DataError, match="wants batch"):
        bnfold.recalibrate(Plain(lambda m, x: m.b(x)), batches())
