"""Does the proof of a PyTorch fold find what is wrong? As `benchmarks.detection`, for programs.

    python -m benchmarks.detection_torch [--draws 4] [--only-files] [PROGRAM.pt2 ...]

The writer's faults are planted in a ``.pt2`` file and in a state dict in turn. Networks built here
are a residual one, a pre-activation one, transposed convolutions, a recurrent one and one in half
precision, and one that ends in each of several heads. Programs of others come from the command line.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.detection import computed_as, wrong_tensor
from benchmarks.faults import FAULTS, Array, Outcome, is_kind, parameters, scratch, spoilt, table
from bnfold.constants import Constant
from bnfold.errors import BnfoldError
from bnfold.formats.torch.format import FORMAT
from bnfold.formats.torch.graph.constants import Constants
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.graph.open import open_torch
from bnfold.kinds import Norm
from bnfold.planning import Plan, make_plan
from bnfold.proof.regions import touched_nodes
from bnfold.proof.verification import Verification, prove

SUFFIXES = (".pt2", ".safetensors")


def opened(path: Path) -> TorchModel:
    model = open_torch(path)
    assert isinstance(model, TorchModel)
    return model


def written(model: TorchModel, plan: Plan, path: Path) -> Any:
    edited = FORMAT.edit(model, plan)
    edited.write(path)
    return edited


def judged(model: TorchModel, plan: Plan, path: Path, edited: Any) -> Verification | None:
    """None where the fold does not come to a verdict, which refuses it as well."""
    try:
        fold = FORMAT.fold(edited, path)
        return prove(fold, model.graph, plan, FORMAT.generated_inputs(model), "generated")
    except BnfoldError:
        return None


def outcome(found: Verification | None, moved: float) -> Outcome:
    return Outcome(found is None or not found.passed, moved)


class TorchSide:
    """See `benchmarks.faults.Side`."""

    def honest(self, path: Path) -> Verification | None:
        with scratch() as folder:
            model = opened(path)
            plan = make_plan(model.graph)
            target = folder / f"folded{SUFFIXES[0]}"
            return judged(model, plan, target, written(model, plan, target))

    def planted(
        self, place: str, path: Path, fault: str, rng: np.random.Generator, folder: Path
    ) -> Outcome | None:
        makers = {"reader": _in_reader, "planner": _in_planner, "writer": _in_writer}
        return makers[place](path, fault, rng, folder / f"folded{rng.choice(SUFFIXES)}")

    def wrong_epsilon(self, path: Path, folder: Path) -> Outcome | None:
        vectors = Norm.vectors

        def wrongly(self: Norm) -> tuple[Array, Array]:
            assert self.epsilon is not None
            return vectors(replace(self, epsilon=10 * self.epsilon))

        model, target = opened(path), folder / "folded.pt2"
        with mock.patch.object(Norm, "vectors", wrongly):
            plan = make_plan(model.graph)
            if not plan.edits:
                return None
            edited = written(model, plan, target)
        return outcome(judged(model, plan, target, edited), float("nan"))


def _in_reader(path: Path, fault: str, rng: np.random.Generator, target: Path) -> Outcome | None:
    """A constant of a layer that folds comes out wrong when the program is read."""
    right = opened(path)
    plan = make_plan(right.graph)
    every = [c for node in touched_nodes(plan) for c in parameters(node)]
    names = [c.name for c in every if is_kind(np.asarray(c.load()), FAULTS[fault][1])]
    if not names:
        return None
    chosen, moved = str(rng.choice(names)), 0.0
    find = Constants.find
    arrays: dict[str, Array] = {}

    def misread(self: Constants, node: Any) -> Constant | None:
        nonlocal moved
        constant = find(self, node)
        if constant is None or constant.name != chosen:
            return constant
        if chosen not in arrays:
            arrays[chosen], moved = spoilt(np.asarray(constant.load()), fault, rng)
        return Constant(
            chosen, constant.shape, constant.dtype, lambda: arrays[chosen], constant.obstacle
        )

    model = opened(path)
    with mock.patch.object(Constants, "find", misread):
        wrong = make_plan(model.graph)
        edited = written(model, wrong, target)
    if not moved or _same(edited.state_dict(), FORMAT.edit(right, plan).state_dict()):
        return None  # what the plan computes from it came out the same
    return outcome(judged(model, wrong, target, edited), moved)


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


def _in_planner(path: Path, fault: str, rng: np.random.Generator, target: Path) -> Outcome | None:
    """One tensor that the plan computes is wrong, each time that it is computed."""
    model = opened(path)
    plan = make_plan(model.graph)
    wrong = wrong_tensor(fault, rng, lambda: FORMAT.edit(model, plan))
    if wrong is None:
        return None
    wrongly, moved = wrong
    with computed_as(wrongly):
        found = judged(model, plan, target, written(model, plan, target))
    return outcome(found, moved)


def _in_writer(path: Path, fault: str, rng: np.random.Generator, target: Path) -> Outcome | None:
    """One tensor of the written file is wrong."""
    model = opened(path)
    plan = make_plan(model.graph)
    edited = written(model, plan, target)
    tensors = _tensors(target)
    names = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and is_kind(tensor.numpy(), FAULTS[fault][1])
    ]
    if not names:
        return None
    name = str(rng.choice(names))
    wrong, moved = spoilt(tensors[name].numpy(), fault, rng)
    if not moved:
        return None
    _replace(target, name, torch.from_numpy(np.ascontiguousarray(wrong)))
    return outcome(judged(model, plan, target, edited), moved)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    return {n: t.detach().clone() for n, t in torch.export.load(path).state_dict.items()}


def _replace(path: Path, name: str, tensor: torch.Tensor) -> None:
    if path.suffix == ".safetensors":
        save_file({**load_file(path), name: tensor}, path)
        return
    program = torch.export.load(path)
    old = program.state_dict[name]
    parameter = isinstance(old, nn.Parameter)
    program.state_dict[name] = nn.Parameter(tensor, False) if parameter else tensor
    path.unlink()
    torch.export.save(program, path)


# Networks


class Heads(nn.Module):
    """Two convolutions with BatchNorm, a pooled linear layer, and what the network ends in."""

    def __init__(self, head: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        )  # fmt: skip
        self.scores, self.head = nn.Linear(12, 5), head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.scores(self.body(x).mean((2, 3))))


class Residual(nn.Module):
    """A residual block in the usual order, or in pre-activation order."""

    def __init__(self, *, before: bool) -> None:
        super().__init__()
        self.before = before
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3))
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            y = layer(norm(x).relu()) if self.before else norm(layer(x)).relu()
            x = x + y
        return self.last(x)


class Recurrent(nn.Module):
    """A convolution over time, an LSTM on what it gives, a linear layer with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.linear, self.last = nn.Linear(8, 6), nn.BatchNorm1d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(self.norm(self.conv(x)).transpose(1, 2))
        return self.last(self.linear(y[:, -1]))


def _upwards() -> nn.Module:
    return nn.Sequential(
        nn.ConvTranspose2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 3, groups=2), nn.BatchNorm2d(4),
    )  # fmt: skip


HEADS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "scores": lambda y: y,
    "saturated sigmoid": lambda y: (y + 40).sigmoid(),
    "saturated softmax": lambda y: (1e4 * y).softmax(1),
    "y > 0": lambda y: (y > 0).float(),
    "argmax": lambda y: y.argmax(1).float(),
    "round": lambda y: y.round(),
    "constant": lambda y: 0 * y,
}
IMAGE, SEQUENCE = (2, 3, 10, 10), (2, 4, 12)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{f"head: {n}": (lambda h=h: Heads(h), IMAGE) for n, h in HEADS.items()},
    "residual": (lambda: Residual(before=False), IMAGE),
    "pre-activation": (lambda: Residual(before=True), IMAGE),
    "transposed": (_upwards, IMAGE),
    "recurrent": (Recurrent, SEQUENCE),
    "half precision": (lambda: Heads(HEADS["scores"]).half(), IMAGE),
}


def lively(module: nn.Module) -> nn.Module:
    """The module with statistics, scales and shifts that are not those of a new one."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low in ((norm.running_mean, -0.5), (norm.running_var, 0.5)):
                assert tensor is not None
                tensor.copy_(low + torch.rand(tensor.shape))
            norm.weight.data.copy_(0.5 + torch.rand(norm.weight.shape))
            norm.bias.data.copy_(0.2 + torch.rand(norm.bias.shape))
    return module.eval()


def networks(folder: Path, files: list[Path], *, only_files: bool) -> Iterator[tuple[str, Path]]:
    yield from ((file.stem, file) for file in files)
    for number, (name, (make, shape)) in enumerate([] if only_files else NETWORKS.items()):
        torch.manual_seed(0)
        module = lively(make())
        example = torch.randn(shape).to(next(module.parameters()).dtype)
        path = folder / f"{number}.pt2"
        torch.export.save(torch.export.export(module, (example,)), path)
        yield name, path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--only-files", action="store_true", help="try no network built here")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tried = networks(Path(folder), chosen.files, only_files=chosen.only_files)
        table(TorchSide(), tried, chosen.draws)


if __name__ == "__main__":
    main()
