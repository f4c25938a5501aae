"""A folded network goes on to be quantised, as the original would: torchao, FX, PT2E.

What is quantised is counted, as a tool that finds nothing to quantise changes nothing either.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import bnfold
from torch_cases import randomised

# Of torch and torchao, about their own code.
pytestmark = pytest.mark.filterwarnings("ignore")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.conv, self.norm = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.head = nn.Sequential(
            nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 32)
        )

    def forward(self, x: Tensor) -> Any:
        return self.head(self.norm(self.conv(self.stem(x))).mean((2, 3)))


def images() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def with_torchao(module: nn.Module) -> tuple[nn.Module, int]:
    """int8 weights of the linear layers."""
    ao = pytest.importorskip("torchao.quantization")
    ao.quantize_(module, ao.Int8WeightOnlyConfig())
    return module, sum(type(p).__name__ != "Parameter" for p in module.parameters())


def with_fx(module: nn.Module) -> tuple[nn.Module, int]:
    """Static int8, by the modules' classes."""
    quantisation = pytest.importorskip("torch.ao.quantization")
    tools = pytest.importorskip("torch.ao.quantization.quantize_fx")
    mapping = quantisation.get_default_qconfig_mapping("x86")
    prepared = tools.prepare_fx(module, mapping, (images(),))
    prepared(images())
    found = tools.convert_fx(prepared)
    return found, sum(type(m).__module__.startswith("torch.ao.nn") for m in found.modules())


def with_pt2e(module: nn.Module) -> tuple[nn.Module, int]:
    """Static int8, by the operators of an exported program."""
    tools = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    x86 = pytest.importorskip("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = tools.prepare_pt2e(
        torch.export.export(module, (images(),)).module(check_guards=False), quantizer
    )
    prepared(images())
    found = tools.convert_pt2e(prepared)
    return found, sum("quantize" in str(node.target) for node in found.graph.nodes)


def noise(wanted: Tensor, found: Tensor) -> float:
    """Signal to noise in dB."""
    return float(10 * torch.log10(wanted.square().sum() / (found - wanted).square().sum()))


@pytest.mark.parametrize(
    ("quantised", "keep_modules"),
    [(with_torchao, True), (with_fx, True), (with_pt2e, True), (with_pt2e, False)],
)
@torch.no_grad()
def test_it_is_quantised_as_the_original_is(
    quantised: Callable[[nn.Module], tuple[nn.Module, int]], keep_modules: bool
) -> None:
    net = randomised(Net())
    folded: Any = bnfold.fold(net, (images(),), keep_modules=keep_modules).model
    wanted = net(images())
    own, count = quantised(copy.deepcopy(net))
    new, new_count = quantised(folded.eval())
    assert count > 0 and new_count >= (count if keep_modules else 1)
    assert noise(wanted, new(images())) > max(20.0, noise(wanted, own(images())) - 3)


@torch.no_grad()
def test_the_folded_graph_can_be_traced_symbolically() -> None:
    """FX tools begin so; they find operators there and no modules, and leave it as it is."""
    net = randomised(Net())
    folded: Any = bnfold.fold(net, (images(),)).model
    torch.testing.assert_close(fx.symbolic_trace(folded)(images()), folded(images()))
    left, count = with_fx(copy.deepcopy(folded))
    assert count == 0
    torch.testing.assert_close(left(images()), folded(images()))
