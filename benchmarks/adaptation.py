"""What recalibration is worth, and where it does harm: small networks on digits.

    python -m benchmarks.adaptation --seeds 3

Accuracy on 450 held-out images after the statistics were measured again on 512 training images (in
batches of 32, shuffled or sorted by class), as mean and range over the seeds. Beside bnfold's two
methods: ``torch.optim.swa_utils.update_bn``, and an average after the description of PreciseBN (Wu &
Johnson, *Rethinking "Batch" in BatchNorm*, 2021): train mode, the mean of the batch means, and the
mean of the batch variances plus the variance of the batch means.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

import bnfold
from benchmarks.adaptation_networks import (
    CALIBRATION,
    Images,
    Plain,
    WithDropout,
    accuracy,
    digits,
    trained,
)
from bnfold.jobs.recalibration_result import RecalibrationResult

BATCH = 32
COUNTS, PRIORS, DRAWS = (8, 16, 64), (0, 8, 16, 64), 5
NETWORKS = {"plain": Plain, "dropout": WithDropout}
Shift = Callable[[Tensor], Tensor]
SHIFTS: dict[str, Shift] = {
    "none": lambda x: x,
    "contrast": lambda x: 0.5 + 0.3 * (x - 0.5),
    "brightness": lambda x: (x + 0.4).clamp(max=1),
}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        benches = [
            Bench(name, seed, Path(folder)) for name in NETWORKS for seed in range(options.seeds)
        ]
        print(table(["network", "situation", *METHODS], situation_rows(benches), words=2))
        print(table(["network", *list(METHODS)[1:]], error_rows(benches)))
        plain = [bench for bench in benches if bench.name == "plain"]
        columns = ["images", "samples", "before", *(f"N = {n}" for n in PRIORS)]
        print(table(columns, prior_rows(plain)))
        print(table(["calibrated on", "before", "after", "warned"], harm_rows(plain)))


class Bench:
    """One network trained from one seed, and everything that is done to it."""

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        self.name, self.folder = name, folder
        data, self.test = digits(seed)
        self.pool = data.take(slice(CALIBRATION))
        self.random = np.random.default_rng(seed)
        self.trained, self.averaged = trained(NETWORKS[name], data, seed)

    def situations(self) -> Iterator[tuple[str, nn.Module, Shift]]:
        """What happened to the network, or to the images that it meets."""
        yield "as trained", self.trained, SHIFTS["none"]
        yield "statistics reset", reset(self.trained), SHIFTS["none"]
        yield "SWA, ten epochs", self.averaged, SHIFTS["none"]
        for share in (0.5, 0.7):
            yield f"pruned, {share:.0%}", pruned(self.trained, share), SHIFTS["none"]
        for shift in ("contrast", "brightness"):
            yield f"{shift} shift", self.trained, SHIFTS[shift]

    def recalibrated(
        self, module: nn.Module, image: Tensor, **options: Any
    ) -> tuple[nn.Module, RecalibrationResult]:
        """By bnfold, through files, as a user would."""
        weights, data, target = (self.folder / n for n in ("old.pth", "data.npy", "new.pth"))
        torch.save(module.state_dict(), weights)
        np.save(data, image.numpy())
        source = (
            f"{Path(__file__).parent / 'adaptation_networks.py'}:{NETWORKS[self.name].__name__}"
        )
        model = bnfold.load(source, weights=weights, inputs=("2x1x8x8",))
        result = bnfold.recalibrate(model, data, target, batch_size=BATCH, **options).report
        assert result is not None and result.ok
        module = copy.deepcopy(module)
        module.load_state_dict(torch.load(target, weights_only=True))
        return module, result


def reset(module: nn.Module) -> nn.Module:
    module = copy.deepcopy(module)
    for norm in norms_of(module):
        norm.reset_running_stats()
    return module


def pruned(module: nn.Module, share: float) -> nn.Module:
    """The smallest weights of every convolution set to zero."""
    module = copy.deepcopy(module)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            size = layer.weight.detach().abs()
            layer.weight.data[size <= size.flatten().quantile(share)] = 0
    return module


def norms_of(module: nn.Module) -> list[Any]:
    return [m for m in module.modules() if isinstance(m, NORMS)]


def unchanged(bench: Bench, module: nn.Module, data: Images) -> nn.Module:
    return module


def population(bench: Bench, module: nn.Module, data: Images) -> nn.Module:
    return bench.recalibrated(module, data.image)[0]


def batch(bench: Bench, module: nn.Module, data: Images) -> nn.Module:
    return bench.recalibrated(module, data.image, method="batch")[0]


def updated(bench: Bench, module: nn.Module, data: Images) -> nn.Module:
    module = copy.deepcopy(module)
    update_bn(data.image.split(BATCH), module)
    return module


def precise(bench: Bench, module: nn.Module, data: Images) -> nn.Module:
    module = copy.deepcopy(module).train()
    seen: dict[Any, list[tuple[Tensor, Tensor]]] = {norm: [] for norm in norms_of(module)}
    for norm in seen:
        norm.register_forward_pre_hook(lambda layer, x: seen[layer].append(moments(x[0])))
    with torch.no_grad():
        for images in data.image.split(BATCH):
            module(images)
    for norm, pairs in seen.items():
        means, variances = (torch.stack(each) for each in zip(*pairs, strict=True))
        norm.running_mean = means.mean(0).float()
        norm.running_var = (variances.mean(0) + means.var(0, correction=0)).float()
        norm._forward_pre_hooks.clear()
    return module.eval()


def deployed(module: nn.Module, image: Tensor) -> list[Tensor]:
    """In float64, the variance that each layer meets in eval mode, the layers before it settled."""
    module = copy.deepcopy(module).double().eval()

    def settle(layer: Any, arguments: Any) -> None:
        layer.running_mean, layer.running_var = moments(arguments[0], correction=1)

    for norm in norms_of(module):
        norm.register_forward_pre_hook(settle)
    with torch.no_grad():
        module(image.double())
    return [norm.running_var for norm in norms_of(module)]


def moments(x: Tensor, correction: int = 0) -> tuple[Tensor, Tensor]:
    axes = [i for i in range(x.ndim) if i != 1]
    return x.double().mean(axes), x.double().var(axes, correction=correction)


def shuffled(data: Images) -> Images:
    return data


def by_class(data: Images) -> Images:
    return data.by_class


Method = Callable[[Bench, nn.Module, Images], nn.Module]
METHODS: dict[str, tuple[Method, Callable[[Images], Images]]] = {
    "before": (unchanged, shuffled),
    "population": (population, by_class),
    "batch": (batch, shuffled),
    "batch, by class": (batch, by_class),
    "update_bn": (updated, shuffled),
    "update_bn, by class": (updated, by_class),
    "PreciseBN": (precise, shuffled),
    "PreciseBN, by class": (precise, by_class),
}


def situation_rows(benches: Sequence[Bench]) -> Iterator[list[str]]:
    """Accuracies; the population method is given the images by class, as nothing depends on it."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for bench in benches:
        for situation, module, shift in bench.situations():
            row = found.setdefault((bench.name, situation), {name: [] for name in METHODS})
            pool = Images(shift(bench.pool.image), bench.pool.label)
            test = Images(shift(bench.test.image), bench.test.label)
            for name, (method, order) in METHODS.items():
                torch.manual_seed(0)  # for dropout in train mode
                row[name].append(accuracy(method(bench, module, order(pool)), test))
    for key, cells in found.items():
        yield [*key, *map(spread, cells.values())]


def error_rows(benches: Sequence[Bench]) -> Iterator[list[str]]:
    """How far the variances lie from what the deployed network meets, mean over all channels."""
    found: dict[str, dict[str, list[float]]] = {}
    for bench in benches:
        row = found.setdefault(bench.name, {name: [] for name in list(METHODS)[1:]})
        wanted = torch.cat(deployed(bench.trained, bench.pool.image))
        for name, errors in row.items():
            method, order = METHODS[name]
            torch.manual_seed(0)
            module = method(bench, bench.trained, order(bench.pool))
            ratio = torch.cat([norm.running_var for norm in norms_of(module)]) / wanted
            errors.append(float((ratio - 1).abs().mean()))
    for name, cells in found.items():
        means = [statistics.mean(errors) for errors in cells.values()]
        yield [name, *(f"{m:.0e}" if m < 1e-3 else f"{100 * m:.1f} %" for m in means)]


def prior_rows(benches: Sequence[Bench]) -> Iterator[list[str]]:
    """Few samples, and old statistics that count as N; several draws for every seed."""
    for name, shift in SHIFTS.items():
        for count in COUNTS:
            cells: dict[str, list[float]] = {str(n): [] for n in ("before", *PRIORS)}
            for bench in benches:
                test = Images(shift(bench.test.image), bench.test.label)
                cells["before"].append(accuracy(bench.trained, test))
                for _ in range(DRAWS):
                    drawn = bench.random.choice(CALIBRATION, count, replace=False)
                    image = shift(bench.pool.image[torch.from_numpy(drawn)])
                    for n in PRIORS:
                        module, _ = bench.recalibrated(bench.trained, image, prior=float(n))
                        cells[str(n)].append(accuracy(module, test))
            yield [name, str(count), *map(spread, cells.values())]


def harm_rows(benches: Sequence[Bench]) -> Iterator[list[str]]:
    """A healthy network, and samples that are not what it meets when it is deployed."""
    samples: dict[str, Callable[[Images], Tensor]] = {
        "512 training images": lambda pool: pool.image,
        "zeros, ones and twos only": lambda pool: pool.image[pool.label < 3],
        "images of low contrast": lambda pool: SHIFTS["contrast"](pool.image),
        "values from 0 to 16": lambda pool: 16 * pool.image,
    }
    for name, sample in samples.items():
        before, after, warned = [], [], 0
        for bench in benches:
            module, result = bench.recalibrated(bench.trained, sample(bench.pool))
            before.append(accuracy(bench.trained, bench.test))
            after.append(accuracy(module, bench.test))
            warned += bool(result.warnings)
        yield [name, spread(before), spread(after), f"{warned} of {len(benches)}"]


def spread(values: Sequence[float]) -> str:
    """Mean and range."""
    return f"{statistics.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def table(columns: Sequence[str], rows: Iterator[list[str]], words: int = 1) -> str:
    """In Markdown; the first ``words`` columns are words, the others numbers."""
    rule = "|" + "---|" * words + "--:|" * (len(columns) - words)
    lines = ["| " + " | ".join(cells) + " |" for cells in (columns, *rows)]
    return "\n".join([lines[0], rule, *lines[1:], ""])


if __name__ == "__main__":
    main()
