"""The Python interface: the same jobs, the same results as the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from bnfold import cli, errors
from situations import BY_NAME
from situations.build import operators
from situations.fold import save


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(BY_NAME["split_with_a_norm_on_each"].build(), tmp_path / "model.onnx")


def _command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> object:
    monkeypatch.setattr(sys, "argv", ["bnfold", *map(str, arguments), "--format", "json"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    found = json.loads(capsys.readouterr().out)
    of_the_run = ("tool", "created", "command_line", "configuration")
    return {key: value for key, value in found.items() if key not in of_the_run}


def test_results_equal_the_commands(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    target = tmp_path / "folded.onnx"
    said = _command(monkeypatch, capsys, "inspect", model)
    assert said == bnfold.inspect(model).to_json()
    said = _command(monkeypatch, capsys, "fold", model, "-o", target)
    content = target.read_bytes()
    assert said == bnfold.fold(model, target).to_json()
    assert target.read_bytes() == content
    said = _command(monkeypatch, capsys, "verify", model, target)
    assert said == bnfold.verify(model, target).to_json()


def test_a_model_is_opened_once_and_used_again(model: Path, tmp_path: Path) -> None:
    opened = bnfold.load(model)
    first = bnfold.inspect(opened).to_json()
    assert bnfold.fold(opened, tmp_path / "a.onnx").ok
    assert bnfold.fold(opened, str(tmp_path / "b.onnx")).ok
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert bnfold.inspect(opened).to_json() == first
    assert bnfold.verify(opened, tmp_path / "a.onnx").ok


def test_planning_alone_writes_nothing(model: Path, tmp_path: Path) -> None:
    result = bnfold.fold(model, None)
    assert result.ok
    assert result.output is None
    assert result.verification is None
    assert result.batch_norms_left == 0
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_the_source_is_never_changed(model: Path, tmp_path: Path) -> None:
    content = model.read_bytes()
    bnfold.fold(model, tmp_path / "folded.onnx")
    assert model.read_bytes() == content
    with pytest.raises(errors.OutputError, match="--force"):
        bnfold.fold(model, model)
    assert model.read_bytes() == content
    assert bnfold.fold(model, model, force=True).ok
    assert "BatchNormalization" not in operators(onnx.load(model).graph)


def test_strict_is_a_result_and_no_exception(tmp_path: Path) -> None:
    source = save(BY_NAME["pre_activation"].build(), tmp_path / "model.onnx")
    result = bnfold.fold(source, tmp_path / "folded.onnx", strict=True)
    assert not result.ok
    assert result.refusal is not None and "--strict" in result.refusal
    assert not (tmp_path / "folded.onnx").exists()


def test_freezing(tmp_path: Path) -> None:
    name = "initializers_as_inputs_ir_8_bn.scale_of_6"
    source = save(BY_NAME[name].build(), tmp_path / "model.onnx")
    assert bnfold.inspect(source).plan.kept == 1
    assert bnfold.inspect(bnfold.load(source, freeze_initializers=True)).plan.kept == 0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda p: bnfold.load(p / "missing.onnx"), errors.ModelError),
        (lambda p: bnfold.load(p), errors.ModelError),
        (lambda p: bnfold.inspect(p / "text.onnx"), errors.ModelError),
        (lambda p: bnfold.fold(p / "model.onnx", p), errors.OutputError),
        (lambda p: bnfold.fold(p / "model.onnx", p / "no" / "out.onnx"), errors.OutputError),
        (
            lambda p: bnfold.fold(p / "model.onnx", p / "out.onnx", data=p / "missing.npz"),
            errors.DataError,
        ),
        (lambda p: bnfold.fold(p / "old.onnx", p / "out.onnx"), errors.UsageError),
    ],
)
def test_errors_have_one_root(call: object, error: type[Exception], tmp_path: Path) -> None:
    save(BY_NAME["conv_2d"].build(), tmp_path / "model.onnx")
    save(BY_NAME["opset_6_is_test"].build(), tmp_path / "old.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    assert callable(call)
    with pytest.raises(error) as caught:
        call(tmp_path)
    assert isinstance(caught.value, errors.BnfoldError)


def test_statistics_are_reported(tmp_path: Path) -> None:
    source = save(BY_NAME["dead_channels"].build(), tmp_path / "model.onnx")
    (report,) = bnfold.inspect(source).batch_norms
    assert report.channels == 4
    assert report.epsilon == pytest.approx(1e-5)
    assert report.variance.max == pytest.approx(2e10)
    assert report.scale.min == pytest.approx(-0.5)


def test_data_given_in_python(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 3, 6, 6), np.float32))
    assert bnfold.fold(model, tmp_path / "folded.onnx", data=tmp_path / "x.npy").ok


_untyped: Any = bnfold  # as callers without a type checker see it


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, _: _untyped.inspect(object()), "a model is a path"),
        (lambda m, _: _untyped.verify(m, np.zeros(3)), "a model is a path"),
        (lambda m, _: _untyped.inspect(m, data=3), "data is a path"),
        (lambda m, _: _untyped.fold(m, np.zeros(3)), "the file to write"),
        (lambda m, t: _untyped.fold(m, t / "a.onnx", output=t / "b.onnx"), "given twice"),
        (lambda m, _: _untyped.fold(m, example_inputs=(np.zeros(3),)), "ONNX model"),
        (lambda m, _: _untyped.fold(m).model, "a plan alone"),
        (lambda m, _: _untyped.recalibrate(m, np.zeros((4, 3, 6, 6), np.float32)), "output="),
        (lambda m, _: _untyped.load(onnx.load(m)), "load takes a path"),
    ],
)
def test_what_does_not_go_is_one_sentence(
    call: Callable[[Path, Path], object], words: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(errors.BnfoldError, match=words) as caught:
        call(model, tmp_path)
    assert len(str(caught.value)) < 250 and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["inspect", "fold", "verify", "recalibrate", "load"])
def test_unknown_options_are_type_errors(name: str, model: Path) -> None:
    others = {"verify": (model,), "recalibrate": ("data.npz", "out.onnx")}.get(name, ())
    with pytest.raises(TypeError, match="nonsense"):
        getattr(_untyped, name)(model, *others, nonsense=1)


@pytest.mark.parametrize("form", [onnx.load, Path.read_bytes])
def test_a_model_in_memory_comes_back_as_one(
    form: Callable[[Path], Any], model: Path, tmp_path: Path
) -> None:
    given = form(model)
    result = bnfold.fold(given)
    assert result.ok and type(result.model) is type(given)
    assert result.output is None and result.verification is not None
    bnfold.fold(model, tmp_path / "folded.onnx")
    written = onnx.load(tmp_path / "folded.onnx")
    got = onnx.load_from_string(result.model) if isinstance(given, bytes) else result.model
    assert got == written
    assert given == form(model)
    assert bnfold.verify(given, result.model).ok
    assert bnfold.inspect(given).plan.decisions == result.plan.decisions
    data = np.random.default_rng(0).normal(size=(8, 3, 6, 6)).astype(np.float32)
    again = bnfold.recalibrate(given, data)
    assert again.ok and type(again.model) is type(given) and again.model != given
    kept = bnfold.recalibrate(given, data, tmp_path / "new.onnx", evaluate=_Falling())
    assert not kept.ok and not (tmp_path / "new.onnx").exists()
    with pytest.raises(errors.VerificationError, match="evaluation fell"):
        _ = kept.model


class _Falling:
    """A measure that finds each model worse than the one before."""

    def __init__(self) -> None:
        self.score = 1.0

    def __call__(self, model: object) -> float:
        self.score -= 0.25
        return self.score


def test_a_path_comes_back_as_a_path(model: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "folded.onnx")
    assert bnfold.fold(str(model), target).model == target


@pytest.mark.parametrize("form", ["array", "dict", "list", "generator", "one by one"])
def test_data_in_memory(form: str, model: Path) -> None:
    values = np.random.default_rng(0).normal(size=(12, 3, 6, 6)).astype(np.float32)
    proto = onnx.load(model)
    name = proto.graph.input[0].name
    batches = [{name: values[i : i + 5], "label": np.zeros(5)} for i in (0, 5, 10)]
    data: Any = {
        "array": values,
        "dict": {name: values},
        "list": batches,
        "generator": iter(batches),
        "one by one": [{name: row} for row in values],
    }[form]
    result = bnfold.recalibrate(proto, data)
    assert result.report is not None and result.report.samples == 12
    assert result.model == bnfold.recalibrate(proto, values).model
    assert any("label" in note for note in result.notes) == (form in ("list", "generator"))


def test_short_forms(model: Path) -> None:
    found = bnfold.inspect(model)
    for each in (found, found.report, found.plan, bnfold.fold(onnx.load(model))):
        assert len(repr(each)) < 20_000
    assert len(repr(found)) < 200
    page = found._repr_html_()
    assert page.startswith("<pre>") and "BatchNorm" in page and "\x1b" not in page


def test_progress_and_log(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    stages: list[str] = []
    values = np.random.default_rng(0).normal(size=(4, 3, 6, 6)).astype(np.float32)
    with caplog.at_level("INFO", logger="bnfold"):
        bnfold.recalibrate(
            onnx.load(model), values, progress=lambda stage, *_: stages.append(stage)
        )
    assert {"opening", "measuring", "writing", "checking"} <= set(stages)
    assert any("Recalibrated" in record.getMessage() for record in caplog.records)
