"""Trained networks: exact on ResNet-20 in both formats, and a plate reader that recalibration harms."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from bnfold.formats import Model, open_model  # noqa: E402
from bnfold.jobs.recalibrate import recalibrate  # noqa: E402
from bnfold.jobs.recalibration_result import RecalibrationOptions, RecalibrationResult  # noqa: E402
from bnfold.recalibration.observer import RuntimeOptions  # noqa: E402
from real_networks import LPRNet, ResNet20  # noqa: E402
from situations.command import Command  # noqa: E402
from test_torch_real import network, plates_read  # noqa: E402

from .networks import CALIBRATION, Found, stored  # noqa: E402
from .test_population import assert_same  # noqa: E402

NETWORKS = Path(__file__).parents[1] / "formats" / "torch" / "real_networks.py"
RESNET = "akamaster-resnet-cifar10/resnet20-12fca82f.th"
PLATES = "sirius-lprnet"
COUNT = 128
FORMATS = ["onnx", "torch"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small convolutions, which several threads make slower where others use the processor too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def pictures() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Digits in the colour of their class before clouds, 3 x 32 x 32, normalised as for CIFAR.

    The clouds have the spectrum of natural images, amplitudes that fall with the frequency (Field,
    *Relations between the statistics of natural images …*, J. Opt. Soc. Am. A, 1987).
    """
    with np.load(CALIBRATION) as archive:
        digits, labels = archive["image"][:COUNT], archive["label"][:COUNT]
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32))
    frequency[0, 0] = 1 / 32
    noise = np.fft.rfft2(rng.normal(size=(COUNT, 3, 32, 32))) / frequency
    clouds = np.fft.irfft2(noise, s=(32, 32))
    colours = rng.uniform(0, 1, (10, 3))[labels][:, :, None, None]
    large = digits.repeat(4, axis=2).repeat(4, axis=3)
    images = 0.1 + 0.45 * colours + 0.35 * large + 0.12 * clouds / clouds.std()
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    return ((images.clip(0, 1) - mean) / deviation).astype(np.float32), labels


@cache
def reference(weights: Path, unbiased: bool) -> Found:
    """In float64, the whole sample as one batch; every layer is settled before it runs on."""
    module = network(ResNet20, weights).double()
    names = {m: name for name, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)}
    found: Found = {}

    def settle(layer: Any, arguments: Any) -> None:
        x = arguments[0]
        layer.running_mean = x.mean((0, 2, 3))
        layer.running_var = x.var((0, 2, 3), correction=int(unbiased))
        found[names[layer]] = layer.running_mean.numpy(), layer.running_var.numpy()

    for layer in names:
        layer.register_forward_pre_hook(settle)
    with torch.no_grad():
        module(torch.from_numpy(pictures()[0]).double())
    assert len(found) == 19
    return found


@pytest.fixture(scope="module")
def exported(real_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-20 as ONNX, its BatchNorm left standing."""
    path = tmp_path_factory.mktemp("resnet") / "resnet20.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network(ResNet20, real_models / RESNET),
            (torch.zeros(2, 3, 32, 32),),
            path,
            dynamo=True,
            optimize=False,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
        )
    return path


class Resnet:
    """ResNet-20 in one of the formats, and what to call it at the command line."""

    def __init__(self, format: str, weights: Path, exported: Path) -> None:
        self.weights, self.suffix = weights, ".onnx" if format == "onnx" else ".pth"
        self.arguments = [str(exported)]
        if format == "torch":
            self.arguments = [f"{NETWORKS}:ResNet20", "--weights", str(weights)]
            self.arguments += ["--input", "2x3x32x32"]

    def open(self) -> Model:
        if self.suffix == ".onnx":
            return open_model(self.arguments[0])
        return open_model(self.arguments[0], weights=self.weights, inputs=("2x3x32x32",))

    @property
    def wanted(self) -> Found:
        """In the convention of the format: ONNX stores the biased variance, torch the other."""
        return reference(self.weights, self.suffix == ".pth")

    def stored(self, path: Path) -> Found:
        """By the names that the layers have in torch."""
        if self.suffix == ".onnx":  # node after node, in the order in which the layers run
            return dict(zip(self.wanted, stored(path).values(), strict=True))
        state = {k: v.double().numpy() for k, v in torch.load(path, weights_only=True).items()}
        return {k: (state[f"{k}.running_mean"], state[f"{k}.running_var"]) for k in self.wanted}

    def run(self, target: Path, rows: NDArray[np.int64], batch: int) -> RecalibrationResult:
        np.save(target.with_suffix(".npy"), pictures()[0][rows])
        options = RecalibrationOptions(batch_size=batch, runtime=RuntimeOptions(threads=1))
        result = recalibrate(self.open(), target, target.with_suffix(".npy"), options=options)
        assert result is not None and result.ok
        return result


@pytest.fixture(params=FORMATS)
def resnet(request: pytest.FixtureRequest, real_models: Path, exported: Path) -> Resnet:
    return Resnet(request.param, real_models / RESNET, exported)


ORDERS = {
    "as it is": np.arange(COUNT),
    "shuffled": np.random.default_rng(1).permutation(COUNT),
    "by class": np.argsort(pictures()[1], kind="stable"),
}


@pytest.mark.parametrize(
    ("order", "batch"),
    [
        ("as it is", 1),
        ("as it is", 7),
        ("as it is", 64),
        ("as it is", COUNT),
        ("as it is", COUNT - 1),  # the last batch is one sample
        ("shuffled", 64),
        ("by class", 64),
    ],
)
def test_exact_against_float64(resnet: Resnet, order: str, batch: int, tmp_path: Path) -> None:
    target = tmp_path / f"out{resnet.suffix}"
    result = resnet.run(target, ORDERS[order], batch)
    # Tight enough to tell m2/n from m2/(n - 1), which moves the last variances by 6e-5.
    assert_same(resnet.stored(target), resnet.wanted, rtol=2e-6)
    assert result.check.agrees and result.check.variance_error < 2e-6


def test_two_processes_store_the_same_bits(resnet: Resnet, tmp_path: Path) -> None:
    resnet.run(tmp_path / f"one{resnet.suffix}", ORDERS["as it is"], 32)
    target = tmp_path / f"two{resnet.suffix}"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = ["-m", "bnfold", "recalibrate", *resnet.arguments, "-o", str(target), "--threads=1"]
    done = subprocess.run(
        [*launcher, *command, "--data", str(tmp_path / "one.npy")],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1, "the first process speaks for both"
    one, two = resnet.stored(tmp_path / f"one{resnet.suffix}"), resnet.stored(target)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


SCORE = """
from pathlib import Path
from real_networks import LPRNet
from test_torch_real import network, plates_read

def read(path):
    return plates_read(network(LPRNet, path), Path())
"""


def test_a_plate_reader_that_population_statistics_harm(
    real_models: Path, command: Command, tmp_path: Path
) -> None:
    """Its author trained it in eval mode, so that mean 0 and variance 1 *are* its statistics."""
    folder = real_models / PLATES
    weights = folder / "Final_LPRNet_model.pth"
    with np.load(folder / "plates_300.npz") as archive:
        images, labels = archive["x"][:50], archive["labels"][:50]
    np.savez(tmp_path / "plates_300.npz", x=images, labels=labels)
    np.save(tmp_path / "data.npy", (images.astype(np.float32) - 127.5) / 128)
    (tmp_path / "score.py").write_text(SCORE)
    arguments = (
        "recalibrate", f"{NETWORKS}:LPRNet", "--weights", weights, "--input", "2x3x24x94",
        "--data", "data.npy", "--samples", "24", "--threads", "1", "-o", "out.pth",
        "--evaluate", "score.py:read",
    )  # fmt: skip
    before = plates_read(network(LPRNet, weights), tmp_path)
    assert before >= 45
    refused = command(*arguments)
    assert refused.code == 1 and not (tmp_path / "out.pth").exists()
    assert "warning: the output" in refused.out and "the evaluation fell by" in refused.out
    assert f"evaluation: {before} → 0\n" in refused.out and "nothing written" in refused.out
    allowed = command(*arguments, "--max-drop", before)
    assert allowed.code == 0 and "warning: the output" in allowed.out
    assert plates_read(network(LPRNet, tmp_path / "out.pth"), folder) == 0
