"""Told apart by content; what cannot be opened says so in one sentence."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bnfold.data import Given, InputSpec, Sample, first_rows
from bnfold.errors import BnfoldError, ModelError, UsageError
from bnfold.formats.torch import TorchCheckpoint, TorchModel, open_module, open_torch
from bnfold.formats.torch.file.source import Source, source_of
from bnfold.formats.torch.format import FORMAT as TORCH
from bnfold.formats.torch.graph.inputs import parse_inputs
from bnfold.jobs import inspect
from bnfold.planning import make_plan
from torch_cases import Lambda, bn, conv, randomised

FACTORY = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

class TakesDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()
    def forward(self, batch):
        return self.net(batch["image"]) * batch["gain"]

class Two(nn.Module):
    def forward(self, x, y):
        return x + y

class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

def fails():
    raise RuntimeError("no such thing")

def wrong():
    return 3
"""


@pytest.fixture
def factory(tmp_path: Path) -> str:
    (tmp_path / "my_nets.py").write_text(FACTORY)
    return str(tmp_path / "my_nets.py")


def weights() -> dict[str, torch.Tensor]:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    return randomised(module).state_dict()


def names(model: Any) -> list[str]:
    return [node.name for node in model.graph.norms]


@pytest.mark.parametrize("home", ["", "state_dict", "model", "model_state_dict", "ema", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_checkpoints_nested_and_prefixed(
    home: str, prefix: str, factory: str, tmp_path: Path
) -> None:
    tensors = {f"{prefix}{name}": tensor for name, tensor in weights().items()}
    saved: Any = {home: tensors, "epoch": 3, "optimizer": {"state": {}}} if home else tensors
    path = tmp_path / "weights.tar"
    torch.save(saved, path)
    alone = open_torch(path)
    assert isinstance(alone, TorchCheckpoint)
    assert names(alone) == ["1"]
    model = open_torch(f"{factory}:net", weights=path, inputs=["1x3x9x9"])
    assert isinstance(model, TorchModel)
    assert make_plan(model.graph).foldable == 1
    loaded = model.program.state_dict["0.weight"]
    assert torch.equal(loaded.detach(), weights()["0.weight"])


@pytest.mark.parametrize("legacy", [False, True])
def test_zip_and_legacy_checkpoints(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.th"
    torch.save({"state_dict": weights()}, path, _use_new_zipfile_serialization=not legacy)
    assert source_of(path) is Source.CHECKPOINT
    model = open_torch(path)
    assert names(model) == ["1"]
    plan = make_plan(model.graph)
    assert plan.kept == 1
    norm: Any = model.graph.norms[0].kind
    assert norm.momentum is None and norm.epsilon is None
    assert np.array_equal(norm.mean, weights()["1.running_mean"].double().numpy())
    assert any("epsilon" in note for note in model.notes)
    with pytest.raises(UsageError, match=r"package\.module:factory"):
        TORCH.edit(model, plan)


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "weights.bin"
    save_file(weights(), path)
    assert source_of(path) is Source.SAFETENSORS
    assert names(open_torch(path)) == ["1"]


def test_cuda_storages_are_mapped_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}
    load = torch.load

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs)
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", spy)
    torch.save(weights(), tmp_path / "weights.pt")
    open_torch(tmp_path / "weights.pt")
    assert seen == {"map_location": "cpu", "weights_only": True}


def test_pickled_module_is_refused_unless_allowed(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save(nn.Sequential(conv(), bn()), path)
    with pytest.raises(ModelError, match=r"runs code.*--allow-pickle"):
        open_torch(path)
    model = open_torch(path, inputs=["1x3x9x9"], allow_pickle=True)
    assert isinstance(model, TorchModel) and names(model) == ["1"]
    assert isinstance(open_torch(path, allow_pickle=True), TorchCheckpoint)


def test_evil_pickle_does_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "owned",)

    for path, save in ((tmp_path / "a.pt", torch.save), (tmp_path / "b.pt", _pickled)):
        save({"state_dict": Evil()}, path)
        with pytest.raises(ModelError):
            open_torch(path)
    assert not (tmp_path / "owned").exists()


def _pickled(found: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(found))


def test_exported_program(tmp_path: Path) -> None:
    module = randomised(nn.Sequential(conv(), bn(), nn.ReLU(inplace=True)))
    path = tmp_path / "program.bin"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (torch.randn(2, 3, 9, 9),))
        torch.export.save(program, path.with_suffix(".pt2"))
    path.with_suffix(".pt2").rename(path)
    assert source_of(path) is Source.PROGRAM
    model = open_torch(path)
    assert names(model) == ["1"] and make_plan(model.graph).foldable == 1


def test_torchscript(tmp_path: Path) -> None:
    module = randomised(nn.Sequential(conv(), bn(), nn.ReLU()))
    path = tmp_path / "script.pt"
    x = torch.randn(1, 3, 9, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        script: Any = torch.jit.trace
        script(module, x).save(str(path))
    assert source_of(path) is Source.TORCHSCRIPT
    with pytest.raises(ModelError, match="--allow-pickle"):
        open_torch(path, inputs=["1x3x9x9"])
    with pytest.raises(UsageError, match="--input"):
        open_torch(path, allow_pickle=True)
    model = open_torch(path, inputs=["1x3x9x9"], allow_pickle=True)
    assert isinstance(model, TorchModel)
    plan = make_plan(model.graph)
    assert plan.foldable == 1
    with torch.no_grad():
        torch.testing.assert_close(TORCH.edit(model, plan).module()(x), module(x))


def test_factory_with_named_inputs(factory: str) -> None:
    model = open_torch(f"{factory}:TakesDict", inputs=["image=1x3x9x9", "gain=1x1x1x1:float32"])
    assert names(model) == ["net.1"]
    assert make_plan(model.graph).foldable == 1


def test_factory_from_a_sample(factory: str) -> None:
    def examples(wanted: Sequence[InputSpec]) -> Sample:
        assert [spec.name for spec in wanted] == ["input"]  # as nn.Sequential.forward has it
        return first_rows(Given(np.zeros((4, 3, 9, 9))), wanted)

    model = open_torch(f"{factory}:net", examples=examples)
    assert model.inputs[0].shape == (None, 3, 9, 9)
    assert model.inputs[0].dtype == np.float32  # the module's own


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        ("absent.pt", {}, "absent.pt does not exist"),
        ("torch.nn:Nothing", {"inputs": ["1x3"]}, "no 'Nothing'"),
        ("no_such_package:net", {"inputs": ["1x3"]}, "cannot be imported"),
        ("{f}:fails", {"inputs": ["1x3"]}, "no such thing"),
        ("{f}:wrong", {"inputs": ["1x3"]}, "must return an nn.Module"),
        ("{f}:net", {}, "--input"),
        ("{f}:net", {"inputs": ["3by3"]}, "is no input"),
        ("{f}:net", {"inputs": ["1x3x9x9:complexish"]}, "element type"),
        ("{f}:net", {"inputs": ["1x5x9x9"]}, "does not run on the example inputs"),
        ("{f}:Two", {"inputs": ["x=1x3", "b=1x3"]}, "takes no input named"),
        ("{f}:Branches", {"inputs": ["2x3"]}, "torch.export cannot trace Branches"),
        ("no_file.py:net", {"inputs": ["1x3"]}, "no_file.py does not exist"),
    ],
)
def test_one_sentence(source: str, options: dict[str, Any], sentence: str, factory: str) -> None:
    with pytest.raises(BnfoldError, match=sentence) as caught:
        open_torch(source.replace("{f}", factory), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"PK\x03\x04 cut short",
        b"\x80\x02 no pickle",
        b"\x10\0\0\0\0\0\0\0{broken json",
    ],
)
def test_damaged_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        open_torch(path)
    assert "\n" not in str(caught.value)


def test_truncated_files(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    whole = tmp_path / "whole.pt"
    torch.save(weights(), whole)
    save_file(weights(), tmp_path / "whole.safetensors")
    for path in (whole, tmp_path / "whole.safetensors"):
        data = path.read_bytes()
        for share in (0.2, 0.7, 0.99):
            path.write_bytes(data[: int(len(data) * share)])
            with pytest.raises(ModelError):
                open_torch(path)


def test_weights_that_do_not_fit_are_named(factory: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"0.weight": torch.zeros(4, 3, 3, 3), "extra": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"missing 0\.bias.*unknown extra"):
        open_torch(f"{factory}:net", weights=path, inputs=["1x3x9x9"])
    changed = {**weights(), "0.weight": torch.zeros(4, 2, 3, 3)}
    torch.save(changed, path)
    with pytest.raises(ModelError, match=r"size mismatch for 0\.weight"):
        open_torch(f"{factory}:net", weights=path, inputs=["1x3x9x9"])
    with pytest.raises(UsageError, match="--weights goes with a factory"):
        open_torch(path, weights=path)


def test_batch_that_cannot_be_dynamic_is_static_and_said() -> None:
    module = randomised(Lambda(lambda m, x: m.b(m.c(x)).reshape(1, -1), c=conv(), b=bn()))
    fixed = Lambda(lambda m, x: m.n(x.reshape(1, 3, 9, 9)), n=module)
    model = open_module(fixed, (torch.randn(1, 3, 9, 9),))
    assert model.inputs[0].shape == (1, 3, 9, 9)
    assert any("static" in note for note in model.notes)


def test_input_specs() -> None:
    found = parse_inputs(["1x3x8x8", "ids=2x5:int64", "x=scalar"])
    positional, named = found.positional, found.named
    assert positional[0].shape == (1, 3, 8, 8) and positional[0].any()
    assert named["ids"].dtype is torch.int64 and named["ids"].shape == (2, 5)
    assert named["x"].shape == ()
    again = parse_inputs(["1x3x8x8"]).positional[0]
    assert torch.equal(positional[0], again)
    with pytest.raises(UsageError, match="behind named ones"):
        parse_inputs(["a=1x2", "1x2"])


class Alone(nn.Module):
    """Computes something else for a single sample than for several."""

    def __init__(self) -> None:
        super().__init__()
        self.net = randomised(Lambda(lambda m, x: m.b(m.c(x)), c=conv(), b=bn()))

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x) * 2 if x.shape[0] == 1 else self.net(x)


class Counting(nn.Module):
    """Notes in a buffer what it has seen."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net = randomised(Lambda(lambda m, x: m.b(m.c(x)), c=conv(), b=bn()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> Any:
        self.seen += 1
        return self.net(x) + self.seen


@pytest.mark.parametrize("batch", [1, 3])
def test_code_that_depends_on_the_batch_size_is_traced_as_it_is(batch: int) -> None:
    x = torch.randn(batch, 3, 9, 9)
    module = Alone()
    model = open_module(module, (x,))
    assert model.inputs[0].shape is not None and model.inputs[0].shape[0] == batch
    assert any("depends on the batch size" in note for note in model.notes)
    with torch.no_grad():
        torch.testing.assert_close(TORCH.edit(model, make_plan(model.graph)).module()(x), module(x))


def test_tracing_leaves_what_a_module_noted() -> None:
    x = torch.randn(2, 3, 9, 9)
    module = Counting().eval()
    model = open_module(module, (x,))
    assert module.seen == 0 and model.program.state_dict["seen"] == 0
    with torch.no_grad():
        found = TORCH.edit(model, make_plan(model.graph)).module()(x)
        torch.testing.assert_close(found, module(x))


class Remembering(nn.Module):
    """Keeps what it computed for its first input."""

    kept: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.net = randomised(Lambda(lambda m, x: m.b(m.c(x)), c=conv(), b=bn()))

    def forward(self, x: torch.Tensor) -> Any:
        if self.kept is None:
            self.kept = self.net(x)
        return self.kept + x.mean()


def test_an_activation_kept_in_an_attribute_is_no_constant() -> None:
    module = Remembering().eval()
    model = open_module(module, (torch.randn(2, 3, 9, 9),))
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(TORCH.edit(model, make_plan(model.graph)).module()(x), module(x))


def test_inputs_of_the_same_first_size_are_not_tied() -> None:
    """Two anchors beside a batch of two are not a batch; two pictures that are added are."""

    def scores(m: Any, x: torch.Tensor, anchors: torch.Tensor) -> Any:
        return m.b(m.c(x)).mean((2, 3)) @ anchors.T

    module = randomised(Lambda(scores, c=conv(), b=bn())).eval()
    x, anchors = torch.randn(2, 3, 9, 9), torch.randn(2, 8)
    model = open_module(module, (x, anchors))
    folded = TORCH.edit(model, make_plan(model.graph)).module()
    for batch, count in ((5, 2), (2, 7), (1, 3)):
        inputs = torch.randn(batch, 3, 9, 9), torch.randn(count, 8)
        with torch.no_grad():
            torch.testing.assert_close(folded(*inputs), module(*inputs))


@pytest.mark.parametrize("form", ["any number", "parallel", "compiled"])
def test_the_batch_is_free_however_inputs_are_given(form: str) -> None:
    plain = randomised(Lambda(lambda m, x: m.b(m.c(x)), c=conv(), b=bn())).eval()
    net = plain
    if form == "any number":
        net = Lambda(lambda m, *xs: m.n(xs[0]) + xs[1].mean(), n=plain).eval()
    elif form == "parallel":
        net = nn.DataParallel(plain)
    elif form == "compiled":
        net = torch.compile(plain, backend="eager")  # type: ignore[assignment]
    x = torch.randn(2, 3, 9, 9)
    model = open_module(net, (x, x) if form == "any number" else (x,))
    assert model.inputs[0].shape is not None and model.inputs[0].shape[0] is None
    assert make_plan(model.graph).kept == 0
    wrapped = form in ("parallel", "compiled")
    assert any("without its prefix" in note for note in model.notes) is wrapped


def test_scripted_modules_have_another_way_in() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(conv(), torch.randn(1, 3, 9, 9))  # type: ignore[no-untyped-call]
    with pytest.raises(ModelError, match=r"torch\.jit\.save"):
        open_module(script, (torch.randn(1, 3, 9, 9),))


def test_writes_that_cannot_be_taken_out_are_a_sentence() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain = torch.zeros(3)

        def forward(self, x: torch.Tensor) -> Any:
            self.plain.add_(1)
            return x + self.plain.sum()

    with pytest.raises(ModelError) as caught:
        open_module(Writes(), (torch.randn(2, 3),))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_copied_says_what_to_remove() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = nn.Sequential(torch.nn.utils.weight_norm(conv()), bn())
    module(torch.randn(2, 3, 9, 9))
    with pytest.raises(ModelError, match="remove_weight_norm"):
        open_module(module, (torch.randn(2, 3, 9, 9),))


def _stored(dtype: str) -> dict[str, torch.Tensor]:
    state = {name.replace("1.", "bn.", 1): t for name, t in weights().items()}
    state["bn.running_var"] = torch.tensor([0.5, 1.0, 2.0, 4.0])
    change: dict[str, Any] = {
        "float8": lambda t: t.to(torch.float8_e5m2),
        "sparse": lambda t: t.to_sparse(),
        "quantised": lambda t: torch.quantize_per_tensor(t, 0.5, 0, torch.qint8),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return state | {"bn.running_var": change[dtype](state["bn.running_var"])}


@pytest.mark.parametrize("dtype", ["float8", "sparse", "quantised"])
def test_statistics_are_read_however_they_are_stored(dtype: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(_stored(dtype), tmp_path / "c.pth")
        model = open_torch(tmp_path / "c.pth")
        (node,) = model.graph.norms
    assert node.name == "bn"
    np.testing.assert_array_equal(node.kind.variance, [0.5, 1.0, 2.0, 4.0])  # type: ignore[union-attr]


def test_what_holds_no_numbers_is_said(tmp_path: Path) -> None:
    state = {"bn.running_mean": torch.zeros(3, dtype=torch.complex64)}
    state["bn.running_var"] = torch.ones(3)
    state["xrunning_mean"] = state["xrunning_var"] = torch.zeros(3)  # no statistics of a norm
    torch.save(state, tmp_path / "c.pth")
    model = open_torch(tmp_path / "c.pth")
    assert model.graph.norms == []
    assert any("no numbers that can be read (bn)" in note for note in model.notes)


def test_further_networks_in_a_checkpoint_are_named(tmp_path: Path) -> None:
    both = {"generator": weights(), "discriminator": weights(), "optimizer": {"state": {}}}
    torch.save(both, tmp_path / "c.pth")
    model = open_torch(tmp_path / "c.pth")
    assert len(model.graph.norms) == 1
    assert any("further networks" in n and "discriminator" in n for n in model.notes)


def test_a_checkpoint_of_a_diverged_training_is_an_error(tmp_path: Path) -> None:
    """All channels NaN: there they are in the file, not computed elsewhere."""
    torch.save({**weights(), "1.running_mean": torch.full((4,), torch.nan)}, tmp_path / "c.pth")
    assert "BN101" in [finding.code for finding in inspect(open_torch(tmp_path / "c.pth")).findings]


def test_one_tensor_given_twice_is_two_inputs() -> None:
    def pair(m: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
        return m.b(m.c(x)) - m.b(m.c(y))

    module = randomised(Lambda(pair, c=conv(), b=bn())).eval()
    x, y = torch.randn(2, 3, 9, 9), torch.randn(2, 3, 9, 9)
    model = open_module(module, (x, x))
    with torch.no_grad():
        folded = TORCH.edit(model, make_plan(model.graph)).module().eval()
        torch.testing.assert_close(folded(x, y), module(x, y))


def test_the_callers_example_stays_as_it_is() -> None:
    module = randomised(Lambda(lambda m, x: m.b(m.c(x.mul_(2))), c=conv(), b=bn())).eval()
    x = torch.randn(2, 3, 9, 9)
    before = x.clone()
    open_module(module, (x,))
    assert torch.equal(x, before)


def test_kept_call_signatures_of_inner_modules(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(conv(), bn())

        def forward(self, x: torch.Tensor) -> Any:
            return self.inner(x) + 1

    module, x = randomised(Outer()).eval(), torch.randn(2, 3, 9, 9)
    program = torch.export.export(module, (x,), preserve_module_call_signature=("inner",))
    torch.export.save(program, tmp_path / "kept.pt2")
    model = open_torch(tmp_path / "kept.pt2")
    with torch.no_grad():
        folded = TORCH.edit(model, make_plan(model.graph)).module()
        torch.testing.assert_close(folded(x), module(x))


def test_statistics_that_are_one_number_for_all_channels() -> None:
    module = randomised(Lambda(lambda m, x: m.b(m.c(x)), c=conv(), b=bn())).eval()
    module.get_submodule("b").running_mean = torch.tensor([0.5]).expand(8)
    x = torch.randn(2, 3, 9, 9)
    model = open_module(module, (x,))
    with torch.no_grad():
        torch.testing.assert_close(TORCH.edit(model, make_plan(model.graph)).module()(x), module(x))


def two_networks(path: Path, **others: Any) -> Path:
    """A checkpoint as training scripts with an average of the weights write it."""
    own, average = weights(), {f"module.{n}": t + 1 for n, t in weights().items()}
    average["n_averaged"] = torch.tensor(7)
    torch.save({"model": own, "model_ema": average, "epoch": 3, **others}, path)
    return path


def test_several_networks_are_asked_about(factory: str, tmp_path: Path) -> None:
    path = two_networks(tmp_path / "both.pth")
    with pytest.raises(UsageError, match=r"several networks \(model, model_ema\).*--weights-key"):
        open_torch(f"{factory}:net", weights=path, inputs=["1x3x9x9"])
    for key, more in (("model", 0), ("model_ema", 1)):
        model = open_torch(f"{factory}:net", weights=path, weights_key=key, inputs=["1x3x9x9"])
        assert isinstance(model, TorchModel)
        loaded = model.program.state_dict["0.weight"].detach()
        assert torch.equal(loaded, weights()["0.weight"] + more)
        alone: Any = open_torch(path, weights_key=key)
        mean = alone.graph.norms[0].kind.mean
        assert np.array_equal(mean, (weights()["1.running_mean"] + more).double().numpy())
    assert any("model_ema" in note and "--weights-key" in note for note in open_torch(path).notes)
    with pytest.raises(UsageError, match="no network nothing"):
        open_torch(f"{factory}:net", weights=path, weights_key="nothing", inputs=["1x3x9x9"])


def test_of_several_networks_the_only_one_that_fits_is_taken(factory: str, tmp_path: Path) -> None:
    path = tmp_path / "gan.pth"
    torch.save({"generator": randomised(bn(3)).state_dict(), "discriminator": weights()}, path)
    model = open_torch(f"{factory}:net", weights=path, inputs=["1x3x9x9"])
    assert isinstance(model, TorchModel)
    assert torch.equal(model.program.state_dict["0.weight"].detach(), weights()["0.weight"])


def test_the_file_of_an_averaged_model_fits(factory: str, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    module.load_state_dict(weights())
    averaged = torch.optim.swa_utils.AveragedModel(module, use_buffers=True)
    averaged.update_parameters(module)
    path = tmp_path / "averaged.pth"
    torch.save(averaged.state_dict(), path)
    model = open_torch(f"{factory}:net", weights=path, inputs=["1x3x9x9"])
    assert isinstance(model, TorchModel) and make_plan(model.graph).foldable == 1
    assert torch.equal(model.program.state_dict["0.weight"].detach(), weights()["0.weight"])


OUTPUTS = """
from collections import OrderedDict
import torch.utils._pytree as pytree
class Out(OrderedDict): pass
pytree.register_pytree_node(
    Out, lambda d: (list(d.values()), list(d.keys())), lambda v, c: Out(zip(c, v)),
    serialized_type_name="output_types_of_a_test.Out",
)
"""
SAVE = """
import torch, output_types_of_a_test
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.b = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
    def forward(self, x):
        return output_types_of_a_test.Out(y=self.b(self.c(x)))
torch.export.save(torch.export.export(Net().eval(), (torch.randn(2, 3, 8, 8),)), "p.pt2")
"""


def test_types_of_outputs_are_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an installed package they are imported; a file beside the model is not."""
    import subprocess
    import sys

    home = tmp_path / "installed"
    home.mkdir()
    (home / "output_types_of_a_test.py").write_text(OUTPUTS)
    environment = {"PYTHONPATH": str(home), "PATH": ""}
    command = [sys.executable, "-W", "ignore", "-c", SAVE]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    monkeypatch.syspath_prepend(str(home))
    with pytest.raises(ModelError, match="install the package output_types_of_a_test"):
        open_torch(tmp_path / "p.pt2")
    assert "output_types_of_a_test" not in sys.modules
    info = home / "output_types_of_a_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: output-types-of-a-test\n")
    (info / "top_level.txt").write_text("output_types_of_a_test\n")
    assert names(open_torch(tmp_path / "p.pt2")) == ["b"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nett", "did you mean net?"),
        ("TakesDcit", "did you mean TakesDict?"),
        ("TakesDict.forwad", "did you mean forward?"),
        ("zzz", "name a callable that returns the module"),
        ("torhc", "name a callable that returns the module"),  # a module is no factory
    ],
)
def test_a_factory_that_is_not_there(name: str, hint: str, factory: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_torch(f"{factory}:{name}", inputs=("1x3x8x8",))
    assert str(caught.value).endswith(f"has no {name!r}; {hint}")
