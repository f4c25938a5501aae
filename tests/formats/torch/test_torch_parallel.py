"""Parallel linear branches of exported programs become one layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnfold.formats.torch import open_module
from bnfold.formats.torch.format import FORMAT as TORCH
from bnfold.planning import make_plan
from test_torch_decisions import assert_same
from torch_cases import Matrix, bn, conv, net, randomised


def _three(m: Any, x: Tensor) -> Any:
    return torch.relu(m.p(m.c(x)) + m.q(m.d(x)) + m.r(x))


def _two(m: Any, x: Tensor) -> Any:
    return torch.relu(m.p(m.c(x)) - m.q(m.d(x)))


def _addmm(m: Any, x: Tensor) -> Any:
    return torch.addmm(m.v.value, x, m.w.value, alpha=0.5) + x @ m.u.value


_NORMS = {"p": bn(4), "q": bn(4), "r": bn(4)}
_VECTOR_NORMS = {name: nn.BatchNorm1d(4) for name in "pqr"}
_MADE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "same": (
        net(_three, c=nn.Conv2d(4, 4, 3, padding="same"), d=conv(4, 4, 1), **_NORMS),
        (2, 4, 9, 9), 2),
    "same beside padding": (
        net(_three, c=conv(4, 4), d=nn.Conv2d(4, 4, 3, padding="same"), **_NORMS),
        (2, 4, 9, 9), 2),
    # The even kernel reaches one row further behind than before.
    "same of an even kernel": (
        net(_two, c=nn.Conv2d(4, 4, 2, padding="same"), d=conv(4, 4), **_NORMS), (2, 4, 9, 9), 2),
    "same of a spread kernel": (
        net(_two, c=nn.Conv2d(4, 4, 3, padding="same", dilation=2), d=conv(4, 4, 1), **_NORMS),
        (2, 4, 9, 9), 2),
    "linear": (
        net(_three, c=nn.Linear(4, 4), d=nn.Linear(4, 4, bias=False), **_VECTOR_NORMS), (6, 4), 2),
    # Behind a linear layer on rank 3 the norms would be on another axis.
    "linear on rows": (
        net(lambda m, x: torch.relu(m.c(x) + m.d(x) + x), c=nn.Linear(4, 4), d=nn.Linear(4, 4)),
        (2, 6, 4), 2),
    # addmm and matmul count their axes from different ends; the two stay apart.
    "addmm": (net(_addmm, v=Matrix(4), w=Matrix(4, 4), u=Matrix(4, 4)), (6, 4), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", _MADE)
def test_nodes_left_and_numbers(name: str) -> None:
    make, shape, left = _MADE[name]
    module = randomised(make()).double()
    x = torch.randn(*shape, dtype=torch.float64)
    model = open_module(module, (x,))
    plan = make_plan(model.graph, reparameterize=True)
    edited = TORCH.edit(model, plan)
    assert edited.batch_norm_count == 0
    assert edited.node_count == left
    with torch.no_grad():
        assert_same(module(x), edited.module()(x))
