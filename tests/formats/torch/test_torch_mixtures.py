"""Attention, message passing and masks in PyTorch: what passes them, and its nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnfold.formats.torch import open_module
from bnfold.formats.torch.format import FORMAT as TORCH
from bnfold.planning import make_plan
from torch_cases import Matrix, net, proved, randomised

EXACT = 1e-9


def _attention(axis: int, **parts: Any) -> Callable[[Any, Tensor], Tensor]:
    def forward(m: Any, x: Tensor) -> Tensor:
        weights = (x.transpose(1, 2) @ x).softmax(axis)
        mixed: Tensor = m.b((weights @ m.v(x).transpose(1, 2)).transpose(1, 2))
        return mixed

    return forward


def _heads(m: Any, x: Tensor) -> Any:
    """Written with expand, view and bmm, as the decomposed matmul is."""
    weights = (x.transpose(1, 2) @ x).softmax(-1).expand(2, 5, 5).reshape(2, 5, 5)
    return m.b(torch.bmm(weights, m.v(x).transpose(1, 2)).transpose(1, 2))


def _fused(mask: bool) -> Callable[[Any, Tensor], Any]:
    def forward(m: Any, x: Tensor) -> Any:
        q, v = x.transpose(1, 2), m.v(x).transpose(1, 2)
        allowed = (q @ x) > 0 if mask else None
        return m.b(F.scaled_dot_product_attention(q, q, v, allowed).transpose(1, 2))

    return forward


def _graph(m: Any, x: Tensor, scattered: bool, base: float) -> Any:
    """A graph convolution (GCNConv): messages along edges are summed up where they arrive."""
    source, target = (x.sum(1) > 0).long(), (x[:, 0] > 0).long()
    messages = m.c(x).index_select(0, source) * x[:, 1:2].sigmoid()
    zeros = torch.full((x.shape[0], 8), base, dtype=x.dtype)
    if scattered:
        summed = zeros.scatter_add(0, target.view(-1, 1).expand_as(messages), messages)
    else:
        summed = zeros.index_add(0, target, messages)
    return m.b(summed + m.o.value)


def _convolved(scattered: bool = False, base: float = 0.0) -> Callable[[], nn.Module]:
    return net(
        lambda m, x: _graph(m, x, scattered, base),
        c=nn.Linear(4, 8, bias=False), o=Matrix(8), b=nn.BatchNorm1d(8),
    )  # fmt: skip


def _attending(forward: Any) -> Callable[[], nn.Module]:
    return net(forward, v=nn.Conv1d(4, 4, 1), b=nn.BatchNorm1d(4))


def _masked(number: float) -> Callable[[], nn.Module]:
    def forward(m: Any, x: Tensor) -> Any:
        y = m.s(x)
        for norm, layer in ((m.b, m.c), (m.d, m.e)):
            y = y + layer(norm(y).relu().masked_fill(x[:, :1] > 0, number))
        return m.h(y)

    layers = {
        n: nn.Conv2d(4, 4, k, padding=k // 2) for n, k in (("s", 1), ("c", 3), ("e", 3), ("h", 1))
    }
    return net(forward, b=nn.BatchNorm2d(4), d=nn.BatchNorm2d(4), **layers)


ROWS, IMAGES = (2, 4, 5), (2, 4, 6, 6)
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], list[str]]] = {
    "attention": (_attending(_attention(-1)), ROWS, ["fold"]),
    "over_the_other_axis": (_attending(_attention(1)), ROWS, ["computed_weight"]),
    "heads": (_attending(_heads), ROWS, ["fold"]),
    "fused": (_attending(_fused(False)), ROWS, ["fold"]),
    "fused_with_a_mask": (_attending(_fused(True)), ROWS, ["shift_blocked"]),
    "index_add": (_convolved(), (6, 4), ["fold"]),
    "scatter_add": (_convolved(scattered=True), (6, 4), ["fold"]),
    "onto_ones": (_convolved(base=1.0), (6, 4), ["opaque_producer"]),
    "zero_filled": (_masked(0.0), IMAGES, ["fold", "fold"]),
    "one_filled": (_masked(1.0), IMAGES, ["fold", "shared_value"]),
    "summed": (
        net(lambda m, x: m.l(m.b(x.sigmoid()).sum((2, 3))), b=nn.BatchNorm2d(4), l=nn.Linear(4, 2)),
        IMAGES,
        ["shift_blocked"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_decision_and_numbers(name: str) -> None:
    build, shape, expected = CASES[name]
    module = randomised(build()).double()
    inputs = (torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)),)
    model = open_module(module, inputs)
    plan = make_plan(model.graph)
    found = [d.reason.reason.code if d.reason else d.action.value for d in plan.batch_norms]
    assert found == expected
    edited = TORCH.edit(model, plan)
    with torch.no_grad():
        a, b = module(*inputs), edited.module()(*inputs)
    assert (a - b).abs().max() <= EXACT * a.abs().max()


@pytest.mark.parametrize("name", ["attention", "heads", "fused", "index_add", "scatter_add"])
def test_it_is_proved(name: str) -> None:
    build, shape, _ = CASES[name]
    inputs = (torch.randn(shape, generator=torch.Generator().manual_seed(3)),)
    model = open_module(randomised(build()), inputs)
    verification = proved(TORCH.edit(model, make_plan(model.graph)), None)
    assert verification.passed and verification.pieces


def test_what_a_merge_takes_from_the_gauges_is_no_reason() -> None:
    """The bias is merged into the norm that stays; why it stays was found before that."""
    build = net(
        lambda m, x: torch.relu(_graph(m, x, True, 0.0)),
        c=nn.Linear(4, 8, bias=False), o=Matrix(8), b=nn.BatchNorm1d(8),
    )  # fmt: skip
    module: Any = randomised(build())
    with torch.no_grad():
        module.b.weight.abs_()[3] = 0.004
        module.b.bias.fill_(1.0)
    plan = make_plan(open_module(module, (torch.randn(6, 4),)).graph)
    assert [d.action.value for d in plan.affines] == ["merge"]
    (reason,) = [d.reason for d in plan.batch_norms]
    assert reason is not None and reason.reason.code == "far_offset"
    assert "1 of 8 scales" in reason.message and "no exact fold" not in reason.message
