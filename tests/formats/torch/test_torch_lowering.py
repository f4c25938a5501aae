"""`rest=` on PyTorch models: other operators in place of a BatchNorm that has to stay."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnfold
from bnfold.errors import UsageError
from bnfold.formats.torch import open_module
from bnfold.formats.torch.format import FORMAT as TORCH
from bnfold.planning import Rest, make_plan
from torch_cases import proved, randomised

_RANKS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def _between(rank: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A BatchNorm between activations: it has to stay."""
    module = nn.Sequential(nn.Sigmoid(), _RANKS[rank](4), nn.Tanh())
    return randomised(module), (torch.randn(2, 4, *[5, 3, 6][: rank - 2]),)


def _calls(program: Any) -> Counter[str]:
    return Counter(str(n.target) for n in program.graph.nodes if n.op == "call_function")


@pytest.mark.parametrize("rest", ["affine", "depthwise"])
@pytest.mark.parametrize("rank", _RANKS)
def test_it_computes_the_same(rank: int, rest: str) -> None:
    module, inputs = _between(rank)
    model = open_module(module, inputs)
    plan = make_plan(model.graph, rest=Rest(rest))
    assert [d.action.value for d in plan.batch_norms] == ["lower"]
    edited = TORCH.edit(model, plan)
    assert edited.batch_norm_count == 0
    depthwise = rest == "depthwise" and rank > 2
    found = _calls(edited.program)
    added = (
        [f"aten.conv{rank - 2}d.default"] if depthwise else ["aten.mul.Tensor", "aten.add.Tensor"]
    )
    assert found == Counter(["aten.sigmoid.default", *added, "aten.tanh.default"])
    with torch.no_grad():
        torch.testing.assert_close(edited.module()(*inputs), module(*inputs))
    names = {name.rpartition(".")[2] for name in edited.program.state_dict}
    assert names == {"weight_folded", "bias_folded"}  # nothing is left of the statistics


@pytest.mark.parametrize("rest", ["affine", "depthwise"])
def test_it_is_proved_in_memory_and_as_a_file(rest: Any, tmp_path: Path) -> None:
    module, inputs = _between(4)
    found = bnfold.fold(module, inputs, rest=rest)
    assert found.ok and found.batch_norms_left == 0
    with torch.no_grad():
        torch.testing.assert_close(found.model(*inputs), module(*inputs))
    torch.export.save(torch.export.export(module, inputs), tmp_path / "a.pt2")
    for suffix in (".pt2", ".onnx"):
        assert bnfold.fold(tmp_path / "a.pt2", tmp_path / f"b{suffix}", rest=rest).ok


@pytest.mark.parametrize("rest", ["affine", "depthwise"])
def test_a_planted_fault_is_found(rest: str) -> None:
    module, inputs = _between(4)
    model = open_module(module, inputs)
    edited = TORCH.edit(model, make_plan(model.graph, rest=Rest(rest)))
    for call in edited.program.graph.nodes:
        if call.target is torch.ops.aten.mul.Tensor:
            call.target = torch.ops.aten.div.Tensor
        if call.target is torch.ops.aten.conv2d.default:
            call.args = (*call.args[:4], [1, 0], *call.args[5:])
    edited.program.graph_module.recompile()
    verification = proved(edited, None)
    assert verification.congruence is not None and not verification.congruence.passed


def test_the_unchanged_class_has_no_other_operators() -> None:
    module, inputs = _between(4)
    with pytest.raises(UsageError, match="leave out --keep-modules"):
        bnfold.fold(module, inputs, rest="affine", keep_modules=True)
