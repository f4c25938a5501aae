"""A BatchNorm in a branch or a loop is a BatchNorm like others, as far as that can be read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._higher_order_ops.map import map as map_over
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

from bnfold.formats.torch import TorchModel, open_module, open_torch
from bnfold.formats.torch.format import FORMAT as TORCH
from bnfold.formats.torch.run.runner import Runner
from bnfold.jobs import fold
from bnfold.planning import Plan, make_plan
from test_torch_decisions import EXACT, outcome
from torch_cases import AHEAD, BACK, Lambda, bn, conv, proved, randomised

Forward = Callable[..., Any]


def _if(then: Forward, otherwise: Forward) -> Forward:
    """``then`` where the input is positive on the whole."""
    return lambda m, x: torch.cond(
        x.sum() > 0, lambda z: then(m, z), lambda z: otherwise(m, z), (x,)
    )


def _layers(**more: nn.Module) -> dict[str, nn.Module]:
    return {"c": conv(), "b": bn(), "d": conv(), "e": bn(), **more}


def _one(m: Any, x: Tensor) -> Any:
    return m.b(m.c(x)).relu()


def _other(m: Any, x: Tensor) -> Any:
    return m.e(m.d(x)).tanh()


def _nested(m: Any, x: Tensor) -> Any:
    return torch.cond(x.mean() > 0.5, lambda z: _one(m, z), lambda z: m.d(z), (x,))


def _behind_main(m: Any, x: Tensor) -> Any:
    y = m.b(m.c(x))
    return torch.cond(x.sum() > 0, lambda z: m.e(m.c(x)) + z, lambda z: z * 2, (y,))


def _captured(m: Any, x: Tensor) -> Any:
    y = m.c(x)
    return torch.cond(x.sum() > 0, lambda z: m.b(z), lambda z: z * 2, (y,))


def _norm_before(m: Any, x: Tensor) -> Any:
    y = m.b(x.relu())
    return torch.cond(x.sum() > 0, lambda z: m.c(z), lambda z: m.d(z), (y,))


def _overwritten(m: Any, x: Tensor) -> Any:
    y = m.c(x)
    z = m.b(y)
    y.add_(1.0)
    return z + y


def _loop(m: Any, x: Tensor) -> Any:
    count = torch.zeros((), dtype=torch.int64)

    def step(i: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return i + 1, m.b(m.c(y)).tanh()

    run: Any = while_loop
    return run(lambda i, y: i < 3, step, (count, x))[1]


def _scan(m: Any, x: Tensor) -> Any:
    start = x.mean((0, 1), keepdim=True).expand(3, 8, 12, 12).clone()
    rows = x.unsqueeze(0).expand(4, 3, 3, 12, 12)
    return scan(lambda total, z: (total + m.b(m.c(z)), z * 2), start, rows)


def _map(m: Any, x: Tensor) -> Any:
    rows = x.unsqueeze(0).expand(4, 3, 3, 12, 12)
    run: Any = map_over
    return run(lambda z: _one(m, z), rows)


def _no_grad(m: Any, x: Tensor) -> Any:
    with torch.no_grad():
        y = _one(m, x)
    return m.d(y)


# What a program computes, its layers, and the decision for each BatchNorm.
CASES: dict[str, tuple[Forward, dict[str, nn.Module], dict[str, str]]] = {
    "both branches": (_if(_one, _other), _layers(), {"b": BACK, "e": BACK}),
    "no bias yet": (_if(_one, _other), _layers(c=conv(bias=False)), {"b": BACK, "e": BACK}),
    "forward": (
        _if(lambda m, x: m.c(m.b(x.relu())), _other),
        _layers(b=bn(3), c=conv(k=1)),
        {"b": AHEAD, "e": BACK},
    ),
    "one convolution in both branches": (
        _if(_one, lambda m, x: m.e(m.c(x))), _layers(), {"b": BACK, "e": BACK}),
    "one convolution, one branch without norm": (
        _if(_one, lambda m, x: m.c(x)), _layers(), {"b": BACK}),
    "everything in both branches": (_if(_one, _one), _layers(), {"b": BACK, "b#2": BACK}),
    "branch in a branch": (_if(_nested, _other), _layers(), {"b": BACK, "e": BACK}),
    "convolution of the main graph too": (_behind_main, _layers(), {"b": BACK, "e": BACK}),
    "convolution outside": (_captured, _layers(), {"b": "captured_value"}),
    "norm outside": (_norm_before, _layers(b=bn(3)), {"b": "opaque_reader"}),
    "read before it is overwritten": (
        _if(_overwritten, lambda m, x: m.d(x)), _layers(), {"b": "shared_value"}),
    "loop": (_loop, _layers(c=conv(3, 3), b=bn(3)), {"b": BACK}),
    "scan": (_scan, _layers(), {"b": BACK}),
    "map": (_map, _layers(), {"b": BACK}),
}  # fmt: skip


@cache
def _opened(name: str) -> tuple[TorchModel, Plan]:
    forward, modules, expected = CASES[name]
    torch._dynamo.reset()
    module = randomised(Lambda(forward, **modules)).double()
    model = open_module(module, (torch.randn(3, 3, 12, 12, dtype=torch.float64),))
    plan = make_plan(model.graph)
    assert outcome(plan) == expected
    return model, plan


def _feeds(model: TorchModel) -> list[dict[str, NDArray[Any]]]:
    """Inputs that are positive, very much so, and negative on the whole: they take all branches."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3, 3, 12, 12))
    return [{model.inputs[0].name: noise + shift} for shift in (0.2, 1.0, -0.2)]


def _assert_same(model: TorchModel, other: Any) -> None:
    runner, found = Runner(model.program), []
    for feeds in _feeds(model):
        ours, theirs = runner.outputs(feeds), Runner(other).outputs(feeds)
        for a, b in zip(ours, theirs, strict=True):
            assert np.abs(a - b).max() <= EXACT * np.abs(a).max()
        found.append(ours[0])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("name", CASES)
def test_decision_and_numbers(name: str, tmp_path: Path) -> None:
    model, plan = _opened(name)
    edited = TORCH.edit(model, plan)
    assert edited.batch_norm_count == plan.kept
    assert edited.node_count == model.node_count - plan.foldable
    _assert_same(model, edited.program)
    again = open_torch(edited.write(tmp_path / "folded.pt2")[-1])
    assert isinstance(again, TorchModel)
    assert again.batch_norm_count == plan.kept
    _assert_same(model, again.program)


@pytest.mark.parametrize("name", CASES)
def test_the_original_stays_as_it_was(name: str) -> None:
    model, plan = _opened(name)
    feeds = _feeds(model)
    before = [Runner(model.program).outputs(f)[0] for f in feeds]
    TORCH.edit(model, plan)
    for expected, each in zip(before, feeds, strict=True):
        np.testing.assert_array_equal(Runner(model.program).outputs(each)[0], expected)
    assert outcome(make_plan(model.graph)) == outcome(plan)


@pytest.mark.parametrize("name", CASES)
def test_keep_modules_computes_the_same(name: str) -> None:
    model, plan = _opened(name)
    kept = TORCH.edit(model, plan).kept
    runner, moved = Runner(model.program), {}
    for spec in model.program.graph_signature.input_specs:
        if spec.target in kept.tensors:
            moved[spec.arg.name] = kept.tensors[spec.target].numpy()
    for feeds in _feeds(model):
        for a, b in zip(runner.outputs(feeds), runner.outputs(feeds, moved), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-11)


def test_what_nothing_reads_any_more_is_gone() -> None:
    model, plan = _opened("both branches")
    edited = TORCH.edit(model, plan)
    assert list(edited.state_dict()) == ["c.weight", "c.bias", "d.weight", "d.bias"]
    bodies = [n for n, _ in edited.program.graph_module.named_children()]
    for name in bodies:
        graph: Any = edited.program.graph_module.get_submodule(name)
        assert len(graph.graph.find_nodes(op="placeholder")) == 5  # both layers, and the input


def test_a_new_bias_is_named_after_its_layer() -> None:
    model, plan = _opened("no bias yet")
    assert TORCH.edit(model, plan).key_map["added"] == ["c.bias"]


def test_a_branch_never_returns_its_own_input(tmp_path: Path) -> None:
    """A norm that does nothing leaves nothing behind; torch.cond wants new tensors all the same."""
    module = randomised(Lambda(_if(lambda m, x: m.b(x), lambda m, x: m.d(x)), b=bn(3, eps=0.0),
                               d=conv(3, 3))).double()  # fmt: skip
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name.startswith("b.") and tensor.is_floating_point():
                tensor.fill_(float(name in ("b.weight", "b.running_var")))
    torch._dynamo.reset()
    model = open_module(module, (torch.randn(3, 3, 12, 12, dtype=torch.float64),))
    edited = TORCH.edit(model, make_plan(model.graph))
    assert edited.batch_norm_count == 0
    again = open_torch(edited.write(tmp_path / "folded.pt2")[-1])
    assert isinstance(again, TorchModel)
    _assert_same(model, again.program)


def test_verification_sees_what_a_branch_computes(tmp_path: Path) -> None:
    """The proof can say no, also where the spoilt weight is used in a branch."""
    torch._dynamo.reset()
    module = randomised(Lambda(_if(_one, _one), **_layers()))
    model = open_module(module, (torch.randn(3, 3, 12, 12),))
    edited = TORCH.edit(model, make_plan(model.graph))
    for spoil, passed in ((0.0, True), (0.01, False)):
        for name in ("c.weight", "c.weight_folded", "c.weight_folded_2"):
            if name in edited.program.state_dict:
                edited.program.state_dict[name].data[0] *= 1 + spoil
        written = edited.write(tmp_path / "folded.pt2")[-1]
        proof = proved(edited, written)
        assert proof.passed is passed
        assert all(o.passed for o in proof.outputs) is passed


def _saved(forward: Forward, path: Path, **modules: nn.Module) -> TorchModel:
    """As somebody else exports it, gradients on."""
    module = randomised(Lambda(forward, **modules))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (torch.randn(3, 3, 12, 12),))
        torch.export.save(program, path)
    opened = open_torch(path)
    assert isinstance(opened, TorchModel)
    return opened


def test_a_backbone_without_gradients_folds(tmp_path: Path) -> None:
    model = _saved(_no_grad, tmp_path / "model.pt2", c=conv(), b=bn(), d=conv(8))
    assert "wrap_with_set_grad_enabled" in str(model.program.graph)
    plan = make_plan(model.graph)
    assert outcome(plan) == {"b": BACK}
    edited = TORCH.edit(model, plan)
    again = open_torch(edited.write(tmp_path / "folded.pt2")[-1])
    assert isinstance(again, TorchModel)
    assert again.batch_norm_count == 0
    for feeds in _feeds(model):
        single = {name: array.astype(np.float32) for name, array in feeds.items()}
        expected = Runner(model.program).outputs(single)[0]
        found = Runner(again.program).outputs(single)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_mixed_precision_is_read_with_its_conversions(tmp_path: Path) -> None:
    def forward(m: Any, x: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m.b(m.c(x)).float()

    model = _saved(forward, tmp_path / "model.pt2", c=conv(), b=bn())
    assert outcome(make_plan(model.graph)) == {"b": BACK} and model.notes == []
    assert fold(model, tmp_path / "folded.pt2").ok
