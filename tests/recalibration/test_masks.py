"""Dict batches and padding masks: the statistics of a conformer, beside an independent network."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import bnfold  # noqa: E402
from bnfold import cli  # noqa: E402
from bnfold.algebra.moments import counted_moments, sample_moments  # noqa: E402
from bnfold.errors import BnfoldError, DataError  # noqa: E402

from .speech import Conformer, batches, call, frames_that_count  # noqa: E402
from .truth import every_value, true_statistics  # noqa: E402

HERE = Path(__file__).parent


def found(module: Any) -> dict[str, Any]:
    return {k: np.asarray(v) for k, v in module.state_dict().items() if "running" in k}


def statistics(
    module: nn.Module, data: Sequence[dict[str, Any]], *, masked: bool = True, given: bool = True
) -> dict[str, Any]:
    """What the true ones are, or would be if padding counted, or if no mask were given.

    Args:
        module: what is measured; not changed.
        data: the batches, each run by itself.
        masked: padded frames do not count.
        given: the network gets to see the mask.
    """

    def without_mask(network: nn.Module, batch: dict[str, Any]) -> Any:
        return network(batch["input_features"])

    counted = frames_that_count if masked else every_value
    found = true_statistics(module, data, call if given else without_mask, counted)
    return {name: np.asarray(tensor) for name, tensor in found.items()}


def differ(a: dict[str, Any], b: dict[str, Any]) -> float:
    """The largest difference, in standard deviations and relative variances."""
    worst = 0.0
    for name in a:
        scale = np.sqrt(b[name.replace("mean", "var")]) if "mean" in name else b[name]
        worst = max(worst, float(np.max(np.abs(a[name] - b[name]) / scale)))
    return worst


@pytest.mark.parametrize("ragged", [False, True])
def test_a_mask_goes_in_and_its_padding_does_not_count(ragged: bool) -> None:
    net, data = Conformer(), batches(ragged=ragged)
    free = "auto" if ragged else None
    result = bnfold.recalibrate(net, data, mask="attention_mask", dynamic_shapes=free)
    wanted = statistics(net, data)
    assert differ(found(result.model), wanted) < 1e-5
    # The faults that this is about lie far away.
    assert differ(statistics(net, data, given=False, masked=False), wanted) > 0.3
    assert differ(statistics(net, data, masked=False), wanted) > 0.3
    (note,) = [note for note in result.notes if "labels" in note]
    assert note.count("labels") == 1 and "texts" in note
    assert any("attention_mask is 0" in note and "%" in note for note in result.notes)


def test_a_mask_that_is_not_named_goes_in_all_the_same_and_is_asked_about() -> None:
    net, data = Conformer(), batches(ragged=False)
    result = bnfold.recalibrate(net, data)
    assert differ(found(result.model), statistics(net, data, masked=False)) < 1e-5
    assert any("--mask attention_mask" in note for note in result.notes)


def test_the_opposite_of_a_mask() -> None:
    net, data = Conformer(), batches(ragged=False)
    wanted = found(bnfold.recalibrate(net, data, mask="attention_mask").model)
    turned = [{**batch, "padding_mask": 1 - batch["attention_mask"]} for batch in data]
    assert differ(found(bnfold.recalibrate(net, turned, padding="padding_mask").model), wanted) == 0


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 64, "cache_memory": 0}])
def test_neither_batches_nor_memory_matter(options: dict[str, Any]) -> None:
    net, data = Conformer(), batches(ragged=False)
    wanted = found(bnfold.recalibrate(net, data, mask="attention_mask").model)
    got = found(bnfold.recalibrate(net, data, mask="attention_mask", **options).model)
    assert differ(got, wanted) < 1e-5


def test_inspect_leaves_padding_out_as_well() -> None:
    net, data = Conformer(), batches(ragged=False)
    for name, tensor in statistics(net, data).items():
        net.state_dict()[name].copy_(torch.from_numpy(tensor))
    drift = [r.drift for r in bnfold.inspect(net, data=data, mask="attention_mask").batch_norms]
    assert all(d is not None and np.max(np.abs(d.mean_shift)) < 1e-3 for d in drift)
    drift = [r.drift for r in bnfold.inspect(net, data=data).batch_norms]
    assert all(d is not None and np.max(np.abs(d.mean_shift)) > 0.1 for d in drift)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("nothing", "holds no nothing"),
        ("labels", "cannot be a mask"),
        ("short", "no axis of frames as the mask has them"),
        ("zeros", "no frame counts"),
    ],
)
def test_masks_that_do_not_fit(mask: str, words: str) -> None:
    data = [
        {**b, "short": b["attention_mask"][:, ::2], "zeros": 0 * b["attention_mask"]}
        for b in batches(ragged=False)
    ]
    with pytest.raises(DataError, match=words):
        bnfold.recalibrate(Conformer(), data, mask=mask)


def test_a_mask_whose_axis_cannot_be_told() -> None:
    values = np.zeros((2, 3, 7, 7))
    from bnfold.recalibration.batches import Batch

    batch = Batch(0, {}, 2, 2, (np.ones((2, 7), np.bool_),))
    with pytest.raises(DataError, match="several axes"):
        batch.counted(values.shape, 1, "layer")
    plane = Batch(0, {}, 2, 2, (np.ones((2, 7, 7), np.bool_),))
    assert plane.counted(values.shape, 1, "layer") is not None


def test_moments_of_what_counts() -> None:
    rng = np.random.default_rng(0)
    values, counted = rng.normal(3, 2, (5, 4, 9)), rng.random((5, 9)) < 0.5
    counted[2] = False
    got = counted_moments(values, 1, counted).pooled()
    flat = values.transpose(0, 2, 1)[counted]
    assert got.count == len(flat)
    np.testing.assert_allclose(got.mean, flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(got.variance(), flat.var(0), rtol=1e-12)
    every = counted_moments(values, 1, np.ones((5, 9), np.bool_)).pooled()
    np.testing.assert_allclose(every.mean, sample_moments(values).pooled().mean, rtol=1e-13)


LOADER = """
import sys
sys.path.insert(0, {folder!r})
from speech import Conformer as net, batches
def loader():
    return batches(ragged=False)
"""


def test_the_command_does_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ``--data`` alone, as all arguments of the network have defaults."""
    code = tmp_path / "mynet.py"
    code.write_text(LOADER.format(folder=str(HERE)))
    target = tmp_path / "new.pth"
    arguments = ["recalibrate", f"{code}:net", "--data", f"{code}:loader", "-o", str(target)]
    monkeypatch.setattr(sys, "argv", ["bnfold", *arguments, "--mask", "attention_mask"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code, capsys.readouterr().err
    wanted = statistics(Conformer(), batches(ragged=False))
    state = torch.load(target, weights_only=True)
    assert differ({k: np.asarray(state[k]) for k in wanted}, wanted) < 1e-5


class Keyword(nn.Module):
    """Hands on whatever names it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Conformer()

    def forward(self, **inputs: Any) -> Any:
        return self.inner(**inputs)


def test_names_that_go_through_keywords() -> None:
    data = batches(ragged=False, extra=False)
    result = bnfold.recalibrate(Keyword(), data, mask="attention_mask")
    wanted = statistics(Conformer(), data)
    got = {k.removeprefix("inner."): v for k, v in found(result.model).items()}
    assert differ(got, wanted) < 1e-5
    with pytest.raises(BnfoldError):
        bnfold.recalibrate(Keyword(), batches(ragged=False))
