"""What is written can be read back, computes the same, and keeps what users rely on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from bnfold.errors import ModelError, OutputError, RuntimeUnavailableError
from bnfold.formats.torch import TorchModel, open_module, open_torch
from bnfold.formats.torch.format import FORMAT as TORCH
from bnfold.jobs import fold
from bnfold.jobs.fold_options import FoldOptions
from bnfold.planning import Plan, make_plan
from bnfold.proof.verification import verify
from torch_cases import FOLDS, Lambda, bn, conv, proved, randomised


class Small(nn.Module):
    """Two layers that fold and one that stays, behind a dict output."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.b = conv(bias=False), bn()
        self.d, self.e = conv(8), bn()
        self.stays = bn()

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = self.b(self.c(x)).relu()
        z = self.e(self.d(y))
        return {"low": y, "high": [self.stays(z.relu()).relu(), z.mean((2, 3))]}


@pytest.fixture
def small() -> tuple[nn.Module, TorchModel, Plan]:
    module = randomised(Small())
    model = open_module(module, (torch.randn(1, 3, 10, 10),))
    return module, model, make_plan(model.graph)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".safetensors", ".pth"])
def test_written_file_verifies(
    suffix: str, small: tuple[nn.Module, TorchModel, Plan], tmp_path: Path
) -> None:
    _, model, plan = small
    edited = TORCH.edit(model, plan)
    files = edited.write(tmp_path / f"folded{suffix}")
    assert files[-1].name == f"folded{suffix}"
    proof = proved(edited, files[-1])
    assert proof.passed, proof.to_json()
    assert [o.name for o in proof.outputs] == ["low", "high.0", "high.1"]
    assert proof.pieces is not None
    assert {p.name for p in proof.pieces} == {"b", "e"}


@pytest.mark.parametrize("suffix", [".pt2", ".safetensors", ".onnx"])
def test_spoilt_file_does_not_verify(
    suffix: str, small: tuple[nn.Module, TorchModel, Plan], tmp_path: Path
) -> None:
    _, model, plan = small
    edited = TORCH.edit(model, plan)
    edited.program.state_dict["d.weight"].data[1] *= 1.01
    files = edited.write(tmp_path / f"folded{suffix}")
    proof = proved(edited, files[-1])
    assert not proof.passed
    assert proof.congruence is not None
    assert "d.weight" in str(proof.congruence.differences)


def test_program_keeps_its_dynamic_batch_and_names(
    small: tuple[nn.Module, TorchModel, Plan], tmp_path: Path
) -> None:
    module, model, plan = small
    file = TORCH.edit(model, plan).write(tmp_path / "folded.pt2")[-1]
    again = open_torch(file)
    assert isinstance(again, TorchModel)
    assert [d.name for d in make_plan(again.graph).batch_norms] == ["stays"]
    assert again.inputs == model.inputs and again.inputs[0].shape == (None, 3, 10, 10)
    loaded = torch.export.load(file).module()
    assert {"c.weight", "c.bias", "d.weight", "d.bias", "stays.weight"} <= set(loaded.state_dict())
    with torch.no_grad():
        for batch in (1, 2, 7):
            x = torch.randn(batch, 3, 10, 10)
            torch.testing.assert_close(loaded(x), module(x))


def test_all_dynamic_axes_survive(tmp_path: Path) -> None:
    module = randomised(
        nn.Sequential(
            conv(), bn(), nn.MaxPool2d(2), nn.ReLU(), conv(8), bn(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(8, 3), nn.BatchNorm1d(3),
        )
    )  # fmt: skip
    axes = {0: Dim("batch"), 2: Dim("height", min=8, max=512), 3: Dim("width", min=8, max=512)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module, (torch.randn(2, 3, 32, 48),), dynamic_shapes={"input": axes}
        )
        torch.export.save(program, tmp_path / "program.pt2")
    model = open_torch(tmp_path / "program.pt2")
    plan = make_plan(model.graph)
    assert plan.foldable == 3
    file = TORCH.edit(model, plan).write(tmp_path / "folded.pt2")[-1]
    folded = torch.export.load(file).module()
    with torch.no_grad():
        for shape in ((1, 3, 8, 9), (3, 3, 100, 64)):
            x = torch.randn(shape)
            torch.testing.assert_close(folded(x), module(x))


def test_onnx_keeps_its_dynamic_batch(
    small: tuple[nn.Module, TorchModel, Plan], tmp_path: Path
) -> None:
    _, model, plan = small
    files = TORCH.edit(model, plan).write(tmp_path / "folded.onnx")
    graph = onnx.load(files[-1]).graph
    assert [i.name for i in graph.input] == ["x"]
    assert [o.name for o in graph.output] == ["low", "high.0", "high.1"]
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert sum(node.op_type == "BatchNormalization" for node in graph.node) == 1


def test_key_map_says_what_happened(small: tuple[nn.Module, TorchModel, Plan]) -> None:
    _, model, plan = small
    edited = TORCH.edit(model, plan)
    old, new = set(model.program.state_dict), set(edited.state_dict())
    assert edited.key_map["changed"] == ["c.weight", "d.bias", "d.weight"]
    assert edited.key_map["added"] == sorted(new - old) == ["c.bias"]
    assert edited.key_map["removed"] == sorted(old - new)
    assert "b.num_batches_tracked" in edited.key_map["removed"]
    assert "stays.running_mean" in new


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_keep_modules_loads_strictly_into_the_unchanged_class(
    suffix: str, small: tuple[nn.Module, TorchModel, Plan], tmp_path: Path
) -> None:
    module, model, plan = small
    edited = TORCH.edit(model, plan, keep_modules=True)
    file = edited.write(tmp_path / f"kept{suffix}")[-1]
    assert edited.plan.decisions == plan.decisions
    assert proved(edited, file).passed
    fresh = Small().eval()
    fresh.load_state_dict(edited.state_dict(), strict=True)
    x = torch.randn(3, 3, 10, 10)
    with torch.no_grad():
        torch.testing.assert_close(fresh(x), module(x))
    norm: Any = fresh.get_submodule("b")
    assert not norm.running_mean.any() and (norm.weight == 1).all() and norm.bias.any()
    second: Any = fresh.get_submodule("e")
    assert not second.bias.any()  # this shift went into the bias of the convolution
    assert edited.key_map["added"] == edited.key_map["removed"] == []


def test_keep_modules_names_what_has_no_such_form() -> None:
    module = randomised(
        Lambda(
            lambda m, x: m.e(m.d(m.b(m.c(x)))) + m.f(m.c(x)),
            c=conv(), b=bn(), f=bn(), d=conv(8), e=bn(),
        )
    )  # fmt: skip
    model = open_module(module, (torch.randn(2, 3, 9, 9),))
    edited = TORCH.edit(model, make_plan(model.graph))
    stays = {d.name for d in edited.kept.plan.batch_norms if d.reason is not None}
    assert stays == {"b", "f"}
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = module(x)
        module.load_state_dict(edited.kept.tensors)
        torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("case", FOLDS, ids=lambda case: case.name)
def test_keep_modules_computes_the_same(case: Any) -> None:
    module = randomised(case.module()).double()
    inputs = tuple(x.double() for x in case.inputs())
    model = open_module(module, inputs)
    kept = TORCH.edit(model, make_plan(model.graph)).kept
    with torch.no_grad():
        expected = module(*inputs)
        module.load_state_dict(kept.tensors, strict=True)
        torch.testing.assert_close(module(*inputs), expected, rtol=1e-9, atol=1e-11)


def test_unknown_suffix_is_refused(
    small: tuple[nn.Module, TorchModel, Plan], tmp_path: Path
) -> None:
    _, model, plan = small
    with pytest.raises(OutputError, match=r"no suffix of a PyTorch file.*\.pt2"):
        TORCH.edit(model, plan).write(tmp_path / "folded.bn")
    with pytest.raises(OutputError, match="state dict"):
        TORCH.edit(model, plan, keep_modules=True).write(tmp_path / "folded.pt2")


def test_comparison_of_two_models(
    small: tuple[nn.Module, TorchModel, Plan], tmp_path: Path
) -> None:
    _, model, plan = small
    edited = TORCH.edit(model, plan)
    program = open_torch(edited.write(tmp_path / "folded.pt2")[-1])
    both = TORCH.runs(model), TORCH.runs(program)
    assert verify(*both, TORCH.generated_inputs(model), "").passed


def test_generated_inputs_fit_the_signature() -> None:
    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.l, self.b = nn.Embedding(5, 4), nn.Linear(4, 3), nn.BatchNorm1d(3)

        def forward(self, ids: Tensor, *, mask: Tensor) -> Tensor:
            result: Tensor = self.b(self.l(self.e(ids).mean(1))) * mask.float().mean(
                1, keepdim=True
            )
            return result

    ids, mask = torch.zeros(2, 6, dtype=torch.int64), torch.ones(2, 6, dtype=torch.bool)
    model = open_module(randomised(Embedding()), (ids,), {"mask": mask})
    assert [(s.name, s.dtype, s.shape) for s in model.inputs] == [
        ("ids", np.dtype(np.int64), (None, 6)),
        ("mask", np.dtype(np.bool_), (None, 6)),
    ]
    feeds = TORCH.generated_inputs(model)
    assert len(feeds) == 2 and set(feeds[0]) == {"ids", "mask"}
    plan = make_plan(model.graph)
    assert plan.foldable == 1


class Written(nn.Module):
    """A convolution and its norm, and what a test makes of them."""

    def __init__(self, forward: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        self.c, self.b = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self._forward = forward

    def forward(self, x: torch.Tensor) -> Any:
        return self._forward(self, x)


def written(forward: Callable[[Any, torch.Tensor], Any]) -> Any:
    return randomised(Written(forward)).eval()


def test_a_view_behind_a_folded_norm_finds_the_layout_it_needs(tmp_path: Path) -> None:
    """A norm gives contiguous memory whatever it reads, and ``view`` relies on that."""
    module = written(lambda m, x: m.b(m.c(x)[:, :, ::2, 1:]).view(x.shape[0], -1))
    model = open_module(module, (torch.randn(2, 3, 9, 9),))
    result = fold(model, tmp_path / "folded.pt2")
    assert result.ok and result.plan.kept == 0
    x = torch.randn(5, 3, 9, 9)
    program: Any = torch.export.load(tmp_path / "folded.pt2")
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), module(x))


def test_keep_modules_does_not_carry_out_half_a_merge(tmp_path: Path) -> None:
    """Branches that become one have no form in the unchanged class: none of them may change."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.an = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.b, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> Any:
            return self.an(self.a(x)) + self.bn(self.b(x))

    module: Any = randomised(Branches()).eval()
    model = open_module(module, (torch.randn(2, 3, 9, 9),))
    plan = make_plan(model.graph, reparameterize=True)
    edited = TORCH.edit(model, plan, keep_modules=True)
    kept = {d.name: d.reason.reason.code if d.reason else None for d in edited.plan.batch_norms}
    assert kept == {"an": "unchanged_class", "bn": "unchanged_class"}
    assert edited.plan.edits == ()
    assert edited.key_map["changed"] == []
    result = fold(
        model,
        tmp_path / "kept.pth",
        options=FoldOptions(reparameterize=True, keep_modules=True),
    )
    assert result.ok


def test_a_kept_state_dict_is_proved_by_its_own_tensors(tmp_path: Path) -> None:
    """Piece by piece as well: a wrong tensor among them is found."""
    module = written(lambda m, x: m.b(m.c(x)))
    model = open_module(module, (torch.randn(2, 3, 9, 9),))
    edited = TORCH.edit(model, make_plan(model.graph), keep_modules=True)
    for factor, passed in ((1.0, True), (1.001, False)):
        edited.kept.tensors["c.weight"] *= factor
        proof = proved(edited, edited.write(tmp_path / "kept.pth")[-1])
        assert proof.congruence is not None and proof.congruence.passed
        assert proof.pieces and all(p.passed is passed for p in proof.pieces)
        assert proof.passed is passed


@pytest.mark.parametrize(
    ("forward", "suffix", "words"),
    [
        (lambda m, x: m.b(m.c(x)).mean((2, 3)).topk(2), ".pt2", "torch.export.save cannot write"),
        (lambda m, x: {"y": m.b(m.c(x)), "n": 3}, ".onnx", "torch.onnx.export cannot write"),
    ],
)
def test_what_cannot_be_written_is_a_sentence(
    forward: Any, suffix: str, words: str, tmp_path: Path
) -> None:
    model = open_module(written(forward), (torch.randn(2, 3, 9, 9),))
    with pytest.raises(ModelError, match=words) as caught:
        fold(model, tmp_path / f"folded{suffix}")
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_input_that_is_returned_keeps_its_name_in_onnx(tmp_path: Path) -> None:
    model = open_module(written(lambda m, x: (x, m.b(m.c(x)))), (torch.randn(2, 3, 9, 9),))
    assert fold(model, tmp_path / "folded.onnx").ok


def test_onnxruntime_without_the_kernel_says_what_to_write(tmp_path: Path) -> None:
    module = written(lambda m, x: m.b(m.c(x))).double()
    model = open_module(module, (torch.randn(2, 3, 9, 9).double(),))
    with pytest.raises(RuntimeUnavailableError, match=r"write \.pt2"):
        fold(model, tmp_path / "folded.onnx")


@pytest.mark.parametrize("suffix", [".pt2", ".pth"])
def test_buffers_that_numpy_has_no_type_for(suffix: str, tmp_path: Path) -> None:
    module = written(lambda m, x: m.b(m.c(x)))
    module.register_buffer("table", torch.zeros(3).to(torch.float8_e4m3fn))
    model = open_module(module, (torch.randn(2, 3, 9, 9),))
    assert len(model.sha256) == 64
    assert fold(model, tmp_path / f"folded{suffix}").ok


def test_non_persistent_buffers_never_were_in_a_state_dict() -> None:
    module = written(lambda m, x: m.b(m.c(x)) * m.factor)
    module.register_buffer("factor", torch.ones(4, 1, 1), persistent=False)
    model = open_module(module, (torch.randn(2, 3, 9, 9),))
    key_map = TORCH.edit(model, make_plan(model.graph)).key_map
    assert not any("factor" in name for names in key_map.values() for name in names)


def test_the_same_bits_as_other_numbers_are_no_movement() -> None:
    module = written(lambda m, x: m.b(m.c(x).view(torch.int32).view(torch.float32)))
    plan = make_plan(open_module(module, (torch.randn(2, 3, 9, 9),)).graph)
    assert plan.kept == 1


def test_a_state_dict_holds_all_that_changed(tmp_path: Path) -> None:
    """A constant that was in no state dict takes a shift, so the folded one has to hold it."""

    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.b = nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4)
            self.token = torch.randn(1, 4, 1)

        def forward(self, x: torch.Tensor) -> Any:
            token = self.token.expand(x.shape[0], -1, -1)
            return self.b(torch.cat([token, self.c(x)], dim=2))

    model = open_module(randomised(Token()).eval(), (torch.randn(2, 3, 5),))
    result = fold(model, tmp_path / "folded.pth")
    assert result.ok and result.plan.kept == 0
    assert result.output is not None and result.output.key_map is not None
    assert result.output.key_map["added"] == ["token"]
    assert "token" in torch.load(tmp_path / "folded.pth")
    assert any("loads what --keep-modules writes" in note for note in result.notes)
    assert not any("--keep-modules" in n for n in fold(model, tmp_path / "folded.pt2").notes)


def test_the_suffixes_are_those_of_the_writers() -> None:
    """They are known beforehand, without torch."""
    from bnfold.formats import suffixes
    from bnfold.formats.torch.edit import edited

    written = (edited.PROGRAM, edited.ONNX, *suffixes.STATE_DICTS)
    assert written == suffixes.TORCH
