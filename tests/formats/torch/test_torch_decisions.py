"""What must fold folds, what must not stays with its reason, and the numbers are exact."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils import _pytree as pytree

import bnfold
from bnfold.formats.torch import TorchModel, open_module
from bnfold.formats.torch.format import FORMAT as TORCH
from bnfold.kinds import Affine, Norm
from bnfold.planning import Plan, make_plan
from bnfold.planning.decision import Reweight
from torch_cases import FOLDS, STAYS, Case, Lambda, bn, chain, conv, net, proved, randomised

EXACT = 1e-9  # relative, in float64, where only exactness counts


def opened(case: Case) -> tuple[nn.Module, tuple[Tensor, ...], TorchModel]:
    module = randomised(case.module()).double()
    if case.name == "negative_scale":
        with torch.no_grad():
            dict(module.named_parameters())["b.weight"].neg_()
    inputs = tuple(x.double() for x in case.inputs())
    return module, inputs, open_module(module, inputs)


def outcome(plan: Plan) -> dict[str, str]:
    return {
        d.name: d.reason.reason.code
        if d.reason
        else f"{d.action.value} {d.direction.value if d.direction else ''}".strip()
        for d in plan.batch_norms
    }


def assert_same(reference: Any, other: Any) -> None:
    pairs = zip(pytree.tree_leaves(reference), pytree.tree_leaves(other), strict=True)
    for a, b in pairs:
        assert a.shape == b.shape
        assert (a - b).abs().max() <= EXACT * a.abs().max()


@pytest.mark.parametrize("case", [*FOLDS, *STAYS], ids=lambda case: case.name)
def test_decision_and_numbers(case: Case) -> None:
    module, inputs, model = opened(case)
    plan = make_plan(model.graph)
    assert outcome(plan) == case.expected
    assert len(plan.affines) == case.affines
    edited = TORCH.edit(model, plan)
    assert edited.batch_norm_count == plan.kept
    with torch.no_grad():
        expected = module(*inputs)
        assert_same(expected, edited.module()(*inputs))


@pytest.mark.parametrize("case", FOLDS, ids=lambda case: case.name)
def test_fold_verifies_in_float32(case: Case) -> None:
    module = randomised(case.module())
    model = open_module(module, case.inputs())
    plan = make_plan(model.graph)
    edited = TORCH.edit(model, plan)
    proof = proved(edited, None)
    assert proof.passed, proof.to_json()
    assert proof.pieces or not plan.edits


def test_wrong_fold_fails_verification() -> None:
    """The proof can say no: a weight of the folded program is spoilt."""
    model = open_module(randomised(nn.Sequential(conv(), bn())), (torch.randn(2, 3, 9, 9),))
    edited = TORCH.edit(model, make_plan(model.graph))
    edited.program.state_dict["0.weight"].data[0, 0, 0, 0] *= 1.001
    proof = proved(edited, None)
    assert proof.congruence is not None and not proof.congruence.passed


def test_module_is_left_as_it_was() -> None:
    module = randomised(nn.Sequential(conv(), bn(), nn.Dropout())).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    model = open_module(module, (torch.randn(2, 3, 9, 9),))
    folded = TORCH.edit(model, make_plan(model.graph)).module()
    assert any("training mode" in note for note in model.notes)
    assert all(m.training for m in module.modules())
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())
    assert list(folded.state_dict()) == ["0.weight", "0.bias"]
    with torch.no_grad():
        module.eval()
        x = torch.randn(5, 3, 9, 9)
        torch.testing.assert_close(folded(x), module(x))


def test_tied_weights_become_two() -> None:
    module = Lambda(
        lambda m, x: m.p(m.c(x)) + m.q(m.d(x)),
        c=conv(bias=False), d=conv(bias=False), p=bn(), q=bn(),
    )  # fmt: skip
    module.get_submodule("d").weight = module.get_submodule("c").weight
    randomised(module).double()
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    model = open_module(module, (x,))
    plan = make_plan(model.graph)
    assert plan.foldable == 2
    edited = TORCH.edit(model, plan)
    with torch.no_grad():
        assert_same(module(x), edited.module()(x))
    read = {s.target for s in edited.program.graph_signature.input_specs if s.target}
    assert {"c.weight", "d.weight"} <= read
    state = edited.state_dict()
    assert not torch.equal(state["c.weight"], state["d.weight"])


def test_norm_that_eval_never_runs_is_said() -> None:
    model = open_module(randomised(_Auxiliary()), (torch.randn(2, 3, 9, 9),))
    assert [n.name for n in model.graph.norms] == ["b"]
    assert any("aux.1" in note and "no output depends" in note for note in model.notes)
    edited = TORCH.edit(model, make_plan(model.graph))
    assert "aux.1.running_mean" in edited.state_dict()


@pytest.mark.parametrize("reads", ["c", "b"])
def test_head_that_is_computed_and_not_returned_is_left_alone(reads: str) -> None:
    """As heads for training are. It keeps its values: what it reads is not changed either."""

    def forward(m: Any, x: Tensor) -> Any:
        before = m.c(x)
        y = m.b(before)
        torch.relu(m.k(m.n(m.a(before if reads == "c" else y)))).mean()
        return y

    module: Any = Lambda(forward, c=conv(), b=bn(), a=conv(8, 8), n=bn(), k=conv(8, 2))
    x = torch.randn(2, 3, 9, 9)
    for kept in (False, True):
        result: Any = bnfold.fold(randomised(module), (x,), keep_modules=kept)
        assert [d.name for d in result.plan.batch_norms] == ["b"]
        assert result.plan.foldable == (reads == "b")
        assert any("no output depends on them (n)" in note for note in result.notes)
        assert not any("BatchNorm stay" in note for note in result.notes)
        assert result.ok
        with torch.no_grad():
            torch.testing.assert_close(module(x), result.model(x), rtol=1e-4, atol=1e-4)


def test_norm_that_runs_under_another_name_is_no_unused_one() -> None:
    module = Lambda(lambda m, x: m.n(m.c(x)), c=conv(), n=bn())
    module.blocks = nn.ModuleList([module.get_submodule("n")])
    model = open_module(randomised(module), (torch.randn(2, 3, 9, 9),))
    assert make_plan(model.graph).foldable == 1 and model.notes == []


class _Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.b, self.aux = conv(), bn(), nn.Sequential(conv(8), bn())

    def forward(self, x: Tensor) -> Any:
        y = self.b(self.c(x))
        return (y, self.aux(y)) if self.training else y


@pytest.mark.parametrize("case", ["conv_called_twice", "all_called_twice"])
def test_shared_parameter_is_cloned_under_a_new_name(case: str) -> None:
    found = next(c for c in FOLDS if c.name == case)
    model = opened(found)[2]
    edited = TORCH.edit(model, make_plan(model.graph))
    assert "c.weight_folded" in edited.key_map["added"]


def test_statistics_that_make_no_map_stay() -> None:
    for buffer, value, code in [
        ("running_var", -1.0, "negative_variance"),
        ("running_mean", float("nan"), "non_finite_statistics"),
        ("running_var", float("inf"), "non_finite_statistics"),
    ]:
        module = randomised(nn.Sequential(conv(), bn()))
        with torch.no_grad():
            dict(module.named_buffers())[f"1.{buffer}"][3] = value
        model = open_module(module, (torch.randn(2, 3, 9, 9),))
        assert outcome(make_plan(model.graph)) == {"1": code}


def test_half_precision_overflow_stays() -> None:
    norm = bn(eps=1e-7)
    module = randomised(nn.Sequential(conv(bias=False), norm))
    with torch.no_grad():
        norm.get_buffer("running_var").fill_(1e-7)
        norm.weight.fill_(6e4)
    model = open_module(module.half(), (torch.randn(2, 3, 9, 9).half(),))
    assert outcome(make_plan(model.graph)) == {"1": "overflow"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_cast_once(dtype: torch.dtype) -> None:
    layer, norm = conv(), bn()
    module = randomised(nn.Sequential(layer, norm)).to(dtype)
    model = open_module(module, (torch.randn(2, 3, 9, 9).to(dtype),))
    edited = TORCH.edit(model, make_plan(model.graph))
    weight = edited.state_dict()["0.weight"]
    variance = norm.get_buffer("running_var").double()
    scale = norm.weight.double() / (variance + norm.eps).sqrt()
    exact = layer.weight.double() * scale.reshape(-1, 1, 1, 1)
    assert weight.dtype is dtype
    assert torch.equal(weight, exact.detach().to(dtype))


def _repvgg(m: Any, x: Tensor) -> Any:
    return m.d(torch.relu(m.p(m.c(x)) + m.q(m.e(x)) + m.r(x)))


@pytest.mark.parametrize(
    "make",
    [
        net(_repvgg, c=conv(4, 4), e=conv(4, 4, 1), p=bn(4), q=bn(4), r=bn(4), d=conv(4, 2)),
        net(
            _repvgg,
            c=conv(4, 4, groups=4, bias=False),
            e=nn.Conv2d(4, 4, 1, groups=4),
            p=bn(4),
            q=bn(4),
            r=bn(4),
            d=conv(4, 2),
        ),
    ],
    ids=["dense", "depthwise"],
)
def test_parallel_branches_become_one(make: Callable[[], nn.Module]) -> None:
    module = randomised(make()).double()
    x = torch.randn(2, 4, 9, 9, dtype=torch.float64)
    model = open_module(module, (x,))
    plan = make_plan(model.graph, reparameterize=True)
    edited = TORCH.edit(model, plan)
    assert edited.batch_norm_count == 0
    assert edited.node_count == 3  # convolution, activation, convolution
    with torch.no_grad():
        assert_same(module(x), edited.module()(x))


def test_lazy_norm_after_materialisation() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that lazy modules are new
        module = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d())
    module(torch.randn(2, 3, 9, 9))
    model = open_module(randomised(module), (torch.randn(2, 3, 9, 9),))
    assert outcome(make_plan(model.graph)) == {"1": "fold backward"}


def test_weight_norm_gives_one_new_weight() -> None:
    module = randomised(nn.Sequential(parametrizations.weight_norm(conv()), bn())).double()
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    model = open_module(module, (x,))
    edited = TORCH.edit(model, make_plan(model.graph))
    assert edited.key_map["added"] == ["0.weight"]
    assert list(edited.state_dict()) == ["0.bias", "0.weight"]
    with torch.no_grad():
        assert_same(module(x), edited.module()(x))


def test_layer_norm_is_no_taken_apart_norm() -> None:
    model = open_module(nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8)), (torch.randn(4, 5),))
    assert not any(isinstance(n.kind, Norm | Affine) for n in model.graph.nodes)


def test_in_scale_and_out_scale_meet_in_one_weight() -> None:
    module = randomised(chain(bn(3), conv(padding=0), bn())()).double()
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    model = open_module(module, (x,))
    plan = make_plan(model.graph)
    assert sum(isinstance(edit, Reweight) for edit in plan.edits) == 1
    with torch.no_grad():
        assert_same(module(x), TORCH.edit(model, plan).module()(x))


def test_samples_and_channels_on_one_axis_of_free_size() -> None:
    """Which channel an element of it belongs to depends on the size."""

    def flat(m: Any, x: Tensor) -> Any:
        return m.b((m.c(x).view(-1) * 2).view(x.shape[0], 8, 12, 12))

    module = randomised(Lambda(flat, c=conv(), b=bn())).eval()
    plan = make_plan(open_module(module, (torch.randn(2, 3, 12, 12),)).graph)
    assert outcome(plan) == {"b": "mixed_channels"}


def test_an_unbatched_branch_along_another_axis_is_not_merged() -> None:
    """Without a batch axis a norm works on the rows; they are as many as there are channels."""

    def branches(m: Any, x: Tensor) -> Any:
        rows = torch.nn.functional.batch_norm(x, m.b.running_mean, m.b.running_var, m.b.weight)
        return m.c(x) + rows

    module = randomised(Lambda(branches, c=conv(8, 8), b=bn())).eval()
    model = open_module(module, (torch.randn(8, 8, 5),))
    plan = make_plan(model.graph, reparameterize=True)
    assert plan.kept == 1
    x = torch.randn(8, 8, 5)
    with torch.no_grad():
        torch.testing.assert_close(TORCH.edit(model, plan).module()(x), module(x))


def test_taps_beside_the_middle_cannot_take_the_input_itself() -> None:
    """Taps at -1 and +1: one at 0 would lie between them."""
    c = nn.Conv2d(8, 8, 2, dilation=2, padding=1)
    module = randomised(Lambda(lambda m, x: m.c(x) + m.b(x), c=c, b=bn())).eval()
    model = open_module(module, (torch.randn(2, 8, 9, 9),))
    assert make_plan(model.graph, reparameterize=True).kept == 1


@pytest.mark.parametrize("kernel", [2, (2, 1), 3])
def test_two_branches_into_a_convolution_with_padding_by_name(kernel: Any) -> None:
    """An even kernel is padded on one side more, in an operator of its own: once."""
    c = nn.Conv2d(3, 3, kernel, padding="same")
    module = randomised(Lambda(lambda m, x: m.c(x) + m.b(x) + x, c=c, b=bn(3))).eval()
    x = torch.randn(2, 3, 7, 6)
    model = open_module(module, (x,))
    plan = make_plan(model.graph, reparameterize=True)
    assert plan.kept == 0
    with torch.no_grad():
        torch.testing.assert_close(TORCH.edit(model, plan).module()(x), module(x))
