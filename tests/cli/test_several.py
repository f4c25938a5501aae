"""Several models in one call, globs, streams, and how quiet it can be."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from situations.build import operators
from situations.command import Command, files_in, is_one_sentence
from situations.fold import ROOT

_STALE = ROOT / "sample_models" / "residual_training_mode.onnx"


def test_a_quoted_glob_is_expanded(command: Command, tmp_path: Path) -> None:
    found = command("inspect", "*.onnx", "-f", "json").json
    assert [m["model"]["path"] for m in found["models"]] == sorted(files_in(tmp_path))
    one = command("inspect", "mod*.onnx", "-f", "json").json
    assert [m["model"]["path"] for m in one["models"]] == ["model.onnx"]


def test_a_file_with_brackets_is_a_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a[1].onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    assert command("inspect", "a[1].onnx", "-f", "json").json["model"]["path"] == "a[1].onnx"


def test_each_is_reported_once_and_in_order(command: Command) -> None:
    outcome = command("inspect", "model.onnx", "kept.onnx", "model.onnx")
    lines = outcome.out.splitlines()
    assert [line for line in lines if "BatchNorm:" in line] == [
        "model.onnx: 1 BatchNorm: 1 fold, 0 stay",
        "kept.onnx: 1 BatchNorm: 0 fold, 1 stay",
        "2 models: 2 BatchNorm: 1 fold, 1 stay",
    ]


def test_the_worst_exit_code_counts_and_nothing_ends_the_others(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "text.onnx").write_text("this is no model\n")
    assert command("inspect", "model.onnx", "kept.onnx").code == 0
    assert command("inspect", "model.onnx", _STALE, "kept.onnx").code == 1
    outcome = command("inspect", _STALE, "text.onnx", "kept.onnx", "gone.onnx")
    assert outcome.code == 2 and "kept.onnx: 1 BatchNorm" in outcome.out
    errors = outcome.err.splitlines()
    assert len(errors) == 2 and "text.onnx" in errors[0] and "gone.onnx" in errors[1]
    assert outcome.out.splitlines()[-1] == (
        "4 models: 9 BatchNorm: 0 fold, 9 stay; 8 errors; 2 of them failed"
    )
    failed = command("inspect", "text.onnx", "model.onnx", "-f", "json").json
    assert failed["summary"]["failed"] == 1
    assert [m["model"]["path"] for m in failed["models"] if "error" in m] == ["text.onnx"]


@pytest.mark.parametrize("format", ["sarif", "github", "markdown"])
def test_other_formats_hold_all_models(format: str, command: Command) -> None:
    out = command("inspect", _STALE, "kept.onnx", "-f", format).out
    assert _STALE.name in out and "kept.onnx" in out
    if format == "sarif":
        assert len(json.loads(out)["runs"]) == 2


def test_fold_into_a_folder(command: Command, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    outcome = command("fold", "model.onnx", "half.onnx", "--output-dir", "out")
    assert outcome.code == 0 and files_in(tmp_path / "out") == {"model.onnx", "half.onnx"}
    assert operators(onnx.load(tmp_path / "out" / "model.onnx").graph) == {"Conv": 1, "Relu": 1}
    for line in ("wrote out/model.onnx", "wrote out/half.onnx"):
        assert line in outcome.out


def test_recalibrate_into_a_folder(command: Command, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    _some_data(tmp_path)
    (tmp_path / "other.onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    line = "recalibrate model.onnx other.onnx --data x.npy --output-dir out"
    outcome = command(*line.split())
    assert outcome.code == 0 and files_in(tmp_path / "out") == {"model.onnx", "other.onnx"}
    for words in ("wrote out/model.onnx", "wrote out/other.onnx"):
        assert words in outcome.out
    last = outcome.out.splitlines()[-1]
    assert last == "2 models: 2 BatchNorm: 2 recalibrated, 0 left as they were"
    alone = command("recalibrate", "model.onnx", "--data", "x.npy", "-o", "alone.onnx", "-q")
    assert (alone.code, alone.out) == (0, "")
    same = [(tmp_path / name).read_bytes() for name in ("alone.onnx", "out/model.onnx")]
    assert same[0] == same[1]


def test_one_that_cannot_be_recalibrated_does_not_end_the_others(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    _some_data(tmp_path)
    line = "recalibrate none.onnx model.onnx --data x.npy --output-dir out"
    outcome = command(*line.split(), "-f", "json")
    assert outcome.code == 2 and files_in(tmp_path / "out") == {"model.onnx"}
    assert outcome.json["summary"] == {
        "models": 2, "failed": 1, "batch_norms": 1, "recalibrated": 1, "untouched": 0
    }  # fmt: skip


def _some_data(place: Path) -> None:
    values = np.random.default_rng(0).normal(size=(32, 4, 9, 9)).astype(np.float32)
    np.save(place / "x.npy", values)


_REFUSED = {
    "recalibrate model.onnx --data x.npy": "name the file to write with -o\n",
    "recalibrate model.onnx kept.onnx --data x.npy -o out.onnx": "-o names one file",
    "recalibrate model.onnx --data x.npy --output-dir .": "model.onnx is the input itself",
    "recalibrate model.onnx kept.onnx --data x.npy --output-dir out --report p.html": "name one",
    "verify model.onnx kept.onnx half.onnx": "half.onnx is one too many",
    "verify *.onnx model.onnx": "verify compares two models",
    "fold model.onnx kept.onnx -o out.onnx": "-o names one file, and there are 2 models",
    "fold model.onnx -o out.onnx --output-dir out": "give one",
    "fold model.onnx --output-dir nowhere": "the folder nowhere does not exist",
    "fold model.onnx --output-dir .": "model.onnx is the input itself",
    "fold model.onnx a/model.onnx --output-dir out": "would both become out/model.onnx",
    "fold net:make --output-dir out --input 1x3": "net:make has no file name of its own",
    "fold model.onnx --dry-run --output-dir out": "or leave out --output-dir",
    "inspect model.onnx kept.onnx --report page.html": "--report writes the page of one model",
    "verify - -": "- reads one model from stdin",
}


@pytest.mark.parametrize("line", _REFUSED)
def test_what_cannot_be_written_is_refused_first(
    line: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 9, 9), np.float32))
    before, content = files_in(tmp_path), (tmp_path / "model.onnx").read_bytes()
    outcome = command(*line.split())
    assert outcome.code == 2 and _REFUSED[line] in outcome.err
    is_one_sentence(outcome.err)
    assert files_in(tmp_path) == before and not files_in(tmp_path / "out")
    assert (tmp_path / "model.onnx").read_bytes() == content


def test_quiet_is_silent_where_all_is_well(command: Command) -> None:
    for line in ("inspect model.onnx -q", "fold model.onnx -o out.onnx -q",
                 "verify model.onnx out.onnx --quiet"):  # fmt: skip
        outcome = command(*line.split())
        assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    outcome = command("inspect", "model.onnx", _STALE, "-q")
    assert outcome.code == 1 and "model.onnx:" not in outcome.out.replace(str(_STALE), "")
    assert "BN201" in outcome.out
    outcome = command("fold", "kept.onnx", "-o", "out.onnx", "--strict", "-q")
    assert outcome.code == 1 and "nothing written" in outcome.out
    assert command("inspect", "model.onnx", "-q", "-f", "json").json["command"] == "inspect"


class _Bytes(io.TextIOWrapper):
    """A stream of this process that bytes can be read from, or written to."""

    def __init__(self, content: bytes = b"") -> None:
        self.raw_bytes = io.BytesIO(content)
        super().__init__(self.raw_bytes, encoding="utf-8", write_through=True)


def test_a_model_from_stdin(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (tmp_path / "model.onnx").read_bytes()
    monkeypatch.setattr(sys, "stdin", _Bytes(content))
    found = command("inspect", "-", "-f", "json").json
    assert found["model"]["path"] == "-" and found["summary"]["foldable"] == 1
    monkeypatch.setattr(sys, "stdin", _Bytes(content))
    outcome = command("fold", "-", "-o", "out.onnx")
    assert outcome.code == 0 and "\n-: 1 BatchNorm: 1 fold" in outcome.out
    for line in ("verify - out.onnx", "verify out.onnx -"):
        monkeypatch.setattr(sys, "stdin", _Bytes(content))
        outcome = command(*line.split())
        assert (
            outcome.code == 0 and "- and out.onnx" in outcome.out
        ) or "out.onnx and -" in outcome.out
    monkeypatch.setattr(sys, "stdin", _Bytes(b"no model"))
    outcome = command("inspect", "-")
    assert outcome.code == 2 and outcome.err.startswith("bnfold: - is no intact ONNX model")


def test_a_model_to_stdout(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes and nothing else; the report goes to stderr."""
    assert command("fold", "model.onnx", "-o", "out.onnx").code == 0
    stdout = _Bytes()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        outcome = command("fold", "model.onnx", "-o", "-")
    assert outcome.code == 0 and "wrote -, 3 nodes before, 2 after" in outcome.err
    assert stdout.raw_bytes.getvalue() == (tmp_path / "out.onnx").read_bytes()


def test_recalibrated_to_stdout(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _some_data(tmp_path)
    line = "recalibrate - --data x.npy -o"
    monkeypatch.setattr(sys, "stdin", _Bytes((tmp_path / "model.onnx").read_bytes()))
    assert command(*line.split(), "out.onnx").code == 0
    monkeypatch.setattr(sys, "stdin", _Bytes((tmp_path / "model.onnx").read_bytes()))
    stdout = _Bytes()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        outcome = command(*line.split(), "-")
    assert outcome.code == 0 and "-: 1 BatchNorm, 32 samples" in outcome.err
    assert outcome.err.splitlines()[-1] == "wrote -"
    assert stdout.raw_bytes.getvalue() == (tmp_path / "out.onnx").read_bytes()


def test_nothing_goes_to_stdout_where_nothing_is_written(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = _Bytes()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        outcome = command("fold", "kept.onnx", "-o", "-", "--strict")
    assert outcome.code == 1 and stdout.raw_bytes.getvalue() == b""
    assert "nothing written" in outcome.err


def test_external_data_does_not_fit_into_a_stream(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(tmp_path / "model.onnx")
    onnx.save(model, tmp_path / "large.onnx", save_as_external_data=True, size_threshold=0)
    stdout = _Bytes()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stdout)
        outcome = command("fold", "large.onnx", "-o", "-")
    assert outcome.code == 2 and "several files" in outcome.err
    assert stdout.raw_bytes.getvalue() == b""
