"""Networks in memory: what comes in comes out, unharmed, and behaves as such networks do."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

import bnfold
from bnfold.errors import ModelError, UsageError, VerificationError
from torch_cases import FrozenBatchNorm2d, Lambda, bn, conv, randomised

EXACT = 1e-5
# What torch says of its own code when a GraphModule is copied.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


class Small(nn.Module):
    """Two norms that fold into what stands before them, and a mask that is optional."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.an = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.b, self.bn = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, gate: torch.Tensor | None = None) -> Any:
        y = self.bn(self.b(self.an(self.a(x)).relu())).relu()
        if gate is not None:
            y = y * gate[:, None, None, None]
        return {"scores": self.head(self.dropout(y.mean((2, 3))))}


@pytest.fixture
def net() -> Any:
    return randomised(Small())


def scores(module: Any, *inputs: Any, **named: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = copy.deepcopy(module).eval()(*inputs, **named)["scores"]
    return found


def assert_same(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= EXACT * b.abs().max()


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def through_torch_save(module: Any) -> Any:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def in_a_parent(module: Any) -> Any:
    return nn.Sequential(module).train().eval()[0]


COPIES: list[Callable[[Any], Any]] = [
    copy.deepcopy,
    lambda m: pickle.loads(pickle.dumps(m)),
    through_torch_save,
    in_a_parent,
    lambda m: m.train().train(False),
]


@pytest.mark.parametrize("way", range(len(COPIES)))
def test_a_folded_module_behaves_like_others(way: int, net: Any) -> None:
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    result = bnfold.fold(net, (images(2, 3, 16, 16),))
    assert result.ok and result.plan.foldable == 2 and isinstance(result.model, GraphModule)
    copied: Callable[[Any], Any] = COPIES[way]
    folded = copied(result.model)
    # Other batches, heights and widths than it was traced with.
    for shape in ((1, 3, 16, 16), (5, 3, 33, 20)):
        assert_same(scores(folded, images(*shape)), scores(net, images(*shape)))
    with pytest.raises(Exception, match="not traced for"):  # of torch._assert
        folded(images(2, 4, 16, 16))
    assert net.training and all(torch.equal(net.state_dict()[n], t) for n, t in before.items())


def test_a_folded_module_can_be_folded_and_exported_again(net: Any) -> None:
    x = images(2, 3, 16, 16)
    folded: Any = bnfold.fold(net, (x,)).model
    assert bnfold.fold(folded, (x,)).plan.decisions == ()
    assert bnfold.verify(net, folded, (x,)).ok
    again = torch.export.export(folded, (x,)).module()
    assert_same(again(x)["scores"], scores(net, x))


def test_what_python_code_asks_of_a_size_stays_true() -> None:
    """An even height was traced: an odd one is another way through the code."""

    def forward(m: Any, x: torch.Tensor) -> Any:
        y = m.b(m.c(x))
        return y * 2 if x.shape[2] % 2 == 0 else y

    module = randomised(Lambda(forward, c=conv(), b=bn()))
    folded: Any = bnfold.fold(module, (images(2, 3, 16, 16),)).model
    for size in (18, 17):
        x = images(2, 3, size, 16)
        try:
            got = folded(x)
        except Exception:  # refused, which is right as well
            continue
        with torch.no_grad():
            torch.testing.assert_close(got, module.eval()(x), rtol=1e-4, atol=1e-4)


def test_keep_modules_gives_the_class(net: Any) -> None:
    net.train().to(memory_format=torch.channels_last)
    net.b.requires_grad_(False)
    result = bnfold.fold(net, (images(2, 3, 16, 16),), keep_modules=True)
    kept: Any = result.model
    assert type(kept) is Small and kept.training and kept.dropout is not net.dropout
    for shape in ((1, 3, 16, 16), (3, 3, 29, 41)):
        assert_same(scores(kept, images(*shape)), scores(net, images(*shape)))
        gate = torch.rand(shape[0])
        got = scores(kept, images(*shape), gate=gate)
        assert_same(got, scores(net, images(*shape), gate=gate))
    assert kept.a.weight.is_contiguous(memory_format=torch.channels_last)
    assert kept.a.weight.requires_grad and not kept.b.weight.requires_grad
    Small().load_state_dict(kept.state_dict(), strict=True)
    assert_same(scores(pickle.loads(pickle.dumps(kept)), images(1, 3, 9, 9)),
                scores(net, images(1, 3, 9, 9)))  # fmt: skip
    kept(images(2, 3, 16, 16))["scores"].sum().backward()
    assert kept.a.weight.grad is not None


def test_the_memory_format_of_weights_stays(net: Any) -> None:
    net.to(memory_format=torch.channels_last)
    folded: Any = bnfold.fold(net, (images(2, 3, 16, 16),)).model
    weight = folded.get_parameter("a.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_what_the_class_has_no_place_for_is_said() -> None:
    """A weight that two layers read: without the class it is cloned, in it it cannot be."""
    module = randomised(
        Lambda(lambda m, x: m.b(m.c(x)) + m.d(m.c(x + 1)), c=conv(), b=bn(), d=bn())
    )
    x = images(2, 3, 9, 9)
    assert bnfold.fold(module, (x,)).plan.kept == 0
    result = bnfold.fold(module, (x,), keep_modules=True)
    assert {d.reason.reason.code for d in result.plan.batch_norms if d.reason} == {
        "unchanged_class"
    }
    assert result.plan.kept == 2 and any("nothing folds" in note for note in result.notes)
    refused = bnfold.fold(module, (x,), keep_modules=True, strict=True)
    assert not refused.ok
    with pytest.raises(UsageError, match="2 BatchNorm have to stay"):
        _ = refused.model


@pytest.mark.parametrize("times", [1, 2])
def test_frozen_norms_are_norms(times: int, tmp_path: Path) -> None:
    """Also where one is called twice; then its buffers have no place for two folds."""

    def forward(m: Any, x: torch.Tensor) -> Any:
        return m.f(m.c(x)) if times == 1 else m.f(m.c(x)) + m.f(m.d(x))

    module: Any = Lambda(forward, c=conv(), d=conv(), f=FrozenBatchNorm2d(8))
    with torch.no_grad():
        for tensor in module.f.state_dict().values():
            tensor.uniform_(0.5, 2.0)
    x = images(2, 3, 9, 9)
    found = bnfold.inspect(module, (x,))
    assert [report.name for report in found.batch_norms] == ["f", "f#2"][:times]
    mean = found.batch_norms[0].norm.mean
    assert np.array_equal(mean, module.f.running_mean.double().numpy())
    result = bnfold.fold(module, (x,))
    assert result.plan.kept == 0 and result.plan.affines == () and result.batch_norms_left == 0
    with torch.no_grad():
        torch.testing.assert_close(result.model(x), module(x), rtol=1e-4, atol=1e-4)
    kept = bnfold.fold(module, (x,), keep_modules=True)
    assert kept.plan.kept == (0 if times == 1 else 2)
    if times == 1:
        changed = [
            n for n, t in kept.model.state_dict().items() if not t.equal(module.state_dict()[n])
        ]
        assert changed == [
            "c.weight",
            "c.bias",
            "f.weight",
            "f.bias",
            "f.running_mean",
            "f.running_var",
        ]
    with torch.no_grad():
        torch.testing.assert_close(kept.model(x), module(x), rtol=1e-4, atol=1e-4)


def test_what_only_looks_frozen_is_no_norm() -> None:
    class Other(FrozenBatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = super().forward(x) + self.bias.reshape(1, -1, 1, 1)
            return found

    class Wrong(nn.Module):
        weight: torch.Tensor
        bias: torch.Tensor
        running_mean: torch.Tensor
        running_var: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            for name in ("weight", "bias", "running_mean", "running_var"):
                self.register_buffer(name, torch.rand(8) + 0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scale = (self.weight * (self.running_var + 1e-5).rsqrt()).reshape(1, -1, 1, 1)
            return x * scale + (self.bias + self.running_mean).reshape(1, -1, 1, 1)

    x = images(2, 3, 9, 9)
    for norm, count in ((Other(8), 1), (Wrong(), 0)):
        module = nn.Sequential(conv(), norm)
        assert len(bnfold.inspect(module, (x,)).batch_norms) == count
        with torch.no_grad():
            folded = bnfold.fold(module, (x,)).model
            torch.testing.assert_close(folded(x), module(x), rtol=1e-4, atol=1e-4)


def test_frozen_norms_are_recalibrated(tmp_path: Path) -> None:
    module = nn.Sequential(conv(), FrozenBatchNorm2d(8), nn.ReLU())
    data = images(40, 3, 9, 9)
    result = bnfold.recalibrate(module, data)
    with torch.no_grad():
        seen = module[0](data).transpose(0, 1).flatten(1)
    new = result.model[1]
    torch.testing.assert_close(new.running_mean, seen.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(new.running_var, seen.var(1), rtol=1e-4, atol=1e-5)


def test_a_program_comes_back_as_one(net: Any) -> None:
    x = images(2, 3, 16, 16)
    program = torch.export.export(net.eval(), (x,))
    result = bnfold.fold(program)
    assert isinstance(result.model, ExportedProgram) and result.plan.kept == 0
    assert_same(result.model.module()(x)["scores"], scores(net, x))
    new = bnfold.recalibrate(program, images(8, 3, 16, 16)).model
    assert isinstance(new, ExportedProgram) and new.state_dict.keys() == program.state_dict.keys()
    for wrong in ({"example_inputs": (x,)}, {"dynamic_shapes": "auto"}):
        with pytest.raises(UsageError, match="traced already"):
            bnfold.inspect(program, **wrong)
    with pytest.raises(UsageError, match="keep_modules"):
        bnfold.fold(program, keep_modules=True)


def test_a_recalibrated_module_is_a_copy(net: Any, tmp_path: Path) -> None:
    net.train()
    before = copy.deepcopy(net.state_dict())
    seen: list[Any] = []

    def measure(module: Any) -> float:
        seen.append(module)
        assert isinstance(module, Small) and not module.training
        return float(len(seen))

    target = tmp_path / "new.pth"
    batches = [(images(4, 3, 16, 16), torch.zeros(4)) for _ in range(3)]
    result: Any = bnfold.recalibrate(net, batches, target, evaluate=measure)
    assert result.evaluation is not None and result.evaluation.after == 2.0
    assert type(result.model) is Small and result.model.training
    assert all(torch.equal(net.state_dict()[n], t) for n, t in before.items())
    model: Any = result.model
    assert not model.an.running_mean.equal(before["an.running_mean"])
    assert torch.equal(result.model.a.weight, before["a.weight"])
    written = torch.load(target, weights_only=True)
    assert model.an.running_mean.equal(written["an.running_mean"])
    assert any("yield dicts by name" in note for note in result.notes)


def test_a_wrapper_comes_back_as_one(net: Any) -> None:
    wrapped = nn.DataParallel(net)
    new: Any = bnfold.recalibrate(wrapped, images(8, 3, 16, 16)).model
    assert isinstance(new, nn.DataParallel) and new.module is not net
    assert not new.module.an.running_mean.equal(net.an.running_mean)


def test_a_fold_that_differs_has_no_model(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault planted where the module is made."""
    from bnfold.formats.torch.edit.edited import TorchEdited

    module = TorchEdited.module

    def wrong(self: TorchEdited) -> GraphModule:
        found = module(self)
        with torch.no_grad():
            found.get_parameter("a.weight").mul_(1.01)
        return found

    monkeypatch.setattr(TorchEdited, "module", wrong)
    result = bnfold.fold(net, (images(2, 3, 16, 16),))
    assert not result.ok
    with pytest.raises(VerificationError, match="differs from the original"):
        _ = result.model


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda n: bnfold.fold(n), "example_inputs="),
        (lambda n: bnfold.fold(n, images(1, 3, 9, 9)), r"\(x,\)"),
        (lambda n: bnfold.fold(n, (images(1, 5, 9, 9),)), "does not run on the example inputs"),
        (lambda n: bnfold.fold(n, (images(1, 3, 9, 9),), dynamic_shapes={"y": {0: 1}}), "no input y"),
        (lambda n: bnfold.inspect(n, data=[{"z": images(1, 3, 9, 9), "w": images(1, 2)}]), "holds z, w"),
        (lambda n: bnfold.inspect(n, data=[{"x": images(2, 3, 9, 9), "gate": "no"}]), "for gate"),
    ],
)  # fmt: skip
def test_one_sentence(call: Callable[[Any], Any], words: str, net: Any) -> None:
    with pytest.raises(bnfold.errors.BnfoldError, match=words) as caught:
        call(net)
    assert "\n" not in str(caught.value)


def test_the_free_axes_of_a_file_have_names(net: Any, tmp_path: Path) -> None:
    import onnx

    x = images(2, 3, 16, 16)
    bnfold.fold(net, (x,), output=tmp_path / "o.onnx", dynamic_shapes="auto")
    graph = onnx.load(tmp_path / "o.onnx").graph
    dims = [d.dim_param or d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 3, "x_2", "x_3"]
    dims = [d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 4]


def test_sync_batch_norm_with_a_last_batch_of_one() -> None:
    module = nn.Sequential(conv(), nn.SyncBatchNorm(8), nn.ReLU(), conv(8), nn.SyncBatchNorm(8))
    data = images(9, 3, 12, 12)
    parts = [data[:4], data[4:8], data[8:]]
    new: Any = bnfold.recalibrate(module, parts, batch_size=4).model
    wide = copy.deepcopy(module).double().eval()
    for layer in (1, 4):
        with torch.no_grad():
            seen = wide[:layer](data.double()).transpose(0, 1).flatten(1)
        wide[layer].running_mean, wide[layer].running_var = seen.mean(1), seen.var(1)
        torch.testing.assert_close(new[layer].running_mean.double(), wide[layer].running_mean)
        torch.testing.assert_close(new[layer].running_var.double(), wide[layer].running_var)


def test_a_frozen_norm_that_stays_takes_what_is_before_it() -> None:
    """Merged with a norm before it, whose convolution somebody else reads."""

    def forward(m: Any, x: torch.Tensor) -> Any:
        y = m.c(x)
        return m.f(m.b(y)), y

    module: Any = randomised(Lambda(forward, c=conv(), b=bn(), f=FrozenBatchNorm2d(8)))
    with torch.no_grad():
        for tensor in module.f.state_dict().values():
            tensor.uniform_(0.5, 2.0)
    x = images(2, 3, 9, 9)
    result: Any = bnfold.fold(module, (x,))
    assert result.ok and result.plan.foldable == 1 and result.batch_norms_left == 1
    with torch.no_grad():
        torch.testing.assert_close(result.model(x), module.eval()(x), rtol=1e-4, atol=1e-4)
    kept: Any = bnfold.fold(module, (x,), keep_modules=True)
    with torch.no_grad():
        torch.testing.assert_close(kept.model(x), module.eval()(x), rtol=1e-4, atol=1e-4)


def test_axes_are_free_as_asked(net: Any) -> None:
    from torch.export import Dim

    x = images(2, 3, 16, 16)
    shapes = {"x": {0: Dim.AUTO, 3: Dim.AUTO}}
    folded: Any = bnfold.fold(net, (x,), dynamic_shapes=shapes).model
    assert_same(scores(folded, images(3, 3, 16, 40)), scores(net, images(3, 3, 16, 40)))
    with pytest.raises(Exception, match="not traced for"):
        folded(images(3, 3, 18, 16))
    with pytest.raises(ModelError, match="free fewer"):
        bnfold.fold(net, (x,), dynamic_shapes={"x": {1: Dim("channels")}})


def test_a_product_with_one_goes() -> None:
    """What enters its piece is then what leaves it, as in graph networks with (1 + eps) * x."""

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.d, self.b = nn.Linear(3, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)
            self.register_buffer("eps", torch.zeros(1))

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.c(x))
            return self.b(self.d((1 + self.get_buffer("eps")) * y + torch.tanh(y)))

    result = bnfold.fold(Product().eval(), (torch.randn(4, 3),))
    assert result.ok and result.plan.kept == 0


def test_every_stage_is_told_and_counted(net: Any) -> None:
    told: list[tuple[str, int, int]] = []

    def note(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))

    x = images(2, 3, 16, 16)
    folded = bnfold.fold(net, (x,), progress=note).model
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages[:3] == ["opening", "planning", "making inputs"]
    pieces = [(done, total) for stage, done, total in told if stage == "proving piece by piece"]
    assert pieces and pieces == [(i, pieces[0][1]) for i in range(pieces[0][1] + 1)]
    assert all(0 <= done <= total for _, done, total in told) and told[-1] == ("done", 1, 1)
    told.clear()
    assert bnfold.verify(net, folded, (x,), progress=note).ok
    assert told[0][0] == "opening" and told[-1][0] == "comparing"
    assert told[-1][1] == told[-1][2]
