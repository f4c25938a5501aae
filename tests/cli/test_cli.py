"""The command line: exit codes, one sentence for each mistake, reports on stdout and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.algebra.rounding import cast
from situations import BY_NAME
from situations.build import Net, operators
from situations.command import Command, files_in, is_one_sentence
from situations.fold import save

# What goes wrong, and which words must be in the one sentence about it


def _damage(place: Path) -> None:
    whole = (place / "model.onnx").read_bytes()
    (place / "text.onnx").write_text("this is no model\n")
    (place / "empty.onnx").touch()
    (place / "json.onnx").write_text('{"not": "a model"}')
    (place / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(3000))
    (place / "short.onnx").write_bytes(whole[: len(whole) // 2])
    (place / "shorter.onnx").write_bytes(whole[:-1])
    (place / "folder").mkdir()


_BROKEN_MODELS = {
    "missing.onnx": "does not exist",
    "text.onnx": "no intact ONNX model",
    "json.onnx": "no intact ONNX model",
    "noise.onnx": "no intact ONNX model",
    "empty.onnx": "is empty",
    "short.onnx": "no intact ONNX model",
    "shorter.onnx": "no intact ONNX model",
    "folder": "is a folder",
}


@pytest.mark.parametrize("name", _BROKEN_MODELS)
@pytest.mark.parametrize("verb", ["inspect", "fold", "verify"])
def test_a_broken_model_is_one_sentence(
    verb: str, name: str, command: Command, tmp_path: Path
) -> None:
    _damage(tmp_path)
    before = files_in(tmp_path)
    more = {"inspect": [], "fold": ["-o", "out.onnx"], "verify": ["model.onnx"]}[verb]
    outcome = command(verb, name, *more)
    assert outcome.code == 2
    assert outcome.out == ""
    assert _BROKEN_MODELS[name] in outcome.err
    assert name in outcome.err
    is_one_sentence(outcome.err)
    assert files_in(tmp_path) == before


def test_a_model_cut_off_anywhere_is_no_traceback(command: Command, tmp_path: Path) -> None:
    whole = (tmp_path / "model.onnx").read_bytes()
    for length in range(1, len(whole), 41):
        (tmp_path / "cut.onnx").write_bytes(whole[:length])
        outcome = command("inspect", "cut.onnx")
        assert outcome.code == 2, length
        is_one_sentence(outcome.err)


_BAD_TARGETS = {
    "model.onnx": "--force",
    "./model.onnx": "--force",
    "link.onnx": "--force",
    "folder": "is a folder",
    "nowhere/out.onnx": "does not exist",
    "model.onnx/out.onnx": "does not exist",
}


@pytest.mark.parametrize("target", _BAD_TARGETS)
def test_a_bad_target_is_one_sentence(target: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.onnx").symlink_to("model.onnx")
    before, content = files_in(tmp_path), (tmp_path / "model.onnx").read_bytes()
    outcome = command("fold", "model.onnx", "-o", target)
    assert outcome.code == 2
    assert _BAD_TARGETS[target] in outcome.err
    is_one_sentence(outcome.err)
    assert files_in(tmp_path) == before
    assert (tmp_path / "model.onnx").read_bytes() == content


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folderis_one_sentence(command: Command, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    outcome = command("fold", "model.onnx", "-o", "locked/out.onnx")
    assert outcome.code == 2
    assert "not writable" in outcome.err
    is_one_sentence(outcome.err)


def test_a_full_disk_leaves_nothing(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnfold.formats.onnx.edit import edited

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(edited, "save", full)
    before = files_in(tmp_path)
    outcome = command("fold", "model.onnx", "-o", "out.onnx")
    assert outcome.code == 2
    assert "No space left" in outcome.err
    is_one_sentence(outcome.err)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["fold", "model.onnx"],
        ["fold", "model.onnx", "-o", "out.onnx", "--dry-run"],
        ["fold"],
        ["fold", "model.onnx", "-o", "out.onnx", "--format", "xml"],
        ["nonsense"],
        ["inspect", "--nonsense", "model.onnx"],
        ["verify", "model.onnx"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(arguments: list[str], command: Command, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    outcome = command(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err
    assert "Traceback" not in outcome.err
    assert files_in(tmp_path) == before


_BAD_DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.npz": (lambda p: None, "does not exist"),
    "channels.npz": (lambda p: np.savez(p, x=np.zeros((2, 3, 9, 9), np.float32)), "wants x float32"),
    "rank.npy": (lambda p: np.save(p, np.zeros((2, 4), np.float32)), "wants x float32"),
    "names.npz": (lambda p: np.savez(p, y=np.zeros(3), z=np.zeros(3)), "wants x float32"),
    "none.npy": (lambda p: np.save(p, np.zeros((0, 4, 9, 9), np.float32)), "no samples"),
    "text.npz": (lambda p: p.write_text("hello"), "text.npz"),
    "words.npy": (lambda p: np.save(p, np.array([["a"]])), "words.npy"),
}  # fmt: skip


@pytest.mark.parametrize("name", _BAD_DATA)
@pytest.mark.parametrize("verb", ["fold", "verify"])
def test_data_that_does_not_fit(verb: str, name: str, command: Command, tmp_path: Path) -> None:
    make, words = _BAD_DATA[name]
    make(tmp_path / name)
    before = files_in(tmp_path)
    more = ["-o", "out.onnx"] if verb == "fold" else ["model.onnx"]
    outcome = command(verb, "model.onnx", *more, "--data", name)
    assert outcome.code == 2
    assert words in outcome.err
    is_one_sentence(outcome.err)
    assert files_in(tmp_path) == before


def test_data_is_used(command: Command, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((5, 4, 9, 9)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=values, labels=np.arange(5))
    outcome = command("fold", "model.onnx", "-o", "out.onnx", "--data", "data.npz", "-f", "json")
    assert outcome.code == 0
    assert "data.npz" in outcome.json["verification"]["inputs"]


@pytest.mark.parametrize(
    ("candidate", "words"), [("kept.onnx", "x"), ("other_output.onnx", "end_out")]
)
def test_models_of_other_signatures_are_not_compared(
    candidate: str, words: str, command: Command, tmp_path: Path
) -> None:
    net = Net()
    y = net.relu(net.bn(net.conv(net.input("N", 4, "S0", "S1"), 4, 6), 6), "end")
    save(net.model(y), tmp_path / "other_output.onnx")
    outcome = command("verify", "model.onnx", candidate)
    assert outcome.code == 2
    assert words in outcome.err
    is_one_sentence(outcome.err)


# What goes right


def test_fold_writes_and_says_so(command: Command, tmp_path: Path) -> None:
    outcome = command("fold", "model.onnx", "-o", "out.onnx")
    assert outcome.code == 0
    assert outcome.err == ""
    assert "bn folds ↑ conv" in outcome.out
    assert "verified with onnxruntime" in outcome.out
    assert "model.onnx: 1 BatchNorm: 1 fold, 0 stay" in outcome.out
    assert "wrote out.onnx, 3 nodes before, 2 after" in outcome.out
    assert operators(onnx.load(tmp_path / "out.onnx").graph) == {"Conv": 1, "Relu": 1}


def test_dry_run_writes_nothing(command: Command, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    outcome = command("fold", "model.onnx", "--dry-run")
    assert outcome.code == 0
    assert outcome.out == (
        "  bn folds ↑ conv\n"
        "model.onnx: 1 BatchNorm: 1 fold, 0 stay\n"
        "nothing written (dry run): 3 nodes before, 2 after\n"
    )
    assert files_in(tmp_path) == before


def test_what_stays_is_explained(command: Command) -> None:
    outcome = command("fold", "kept.onnx", "--dry-run")
    text = " ".join(outcome.out.split())
    assert "1 stay (nonlinear_reader)" in text
    assert "no exact fold exists" in text
    assert "Relu 'second' behind it is not linear" in text


def test_strict_writes_nothing_where_one_stays(command: Command, tmp_path: Path) -> None:
    before = files_in(tmp_path)
    assert command("fold", "kept.onnx", "-o", "out.onnx", "--strict").code == 1
    assert command("fold", "kept.onnx", "--dry-run", "--strict").code == 1
    assert files_in(tmp_path) == before
    assert command("fold", "model.onnx", "-o", "out.onnx", "--strict").code == 0
    assert command("fold", "kept.onnx", "-o", "kept_out.onnx").code == 0


def test_a_failed_verification_exits_1_and_leaves_no_file(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bnfold.planning.decision.cast", lambda values, dtype: cast(values * 1.01, dtype)
    )
    before = files_in(tmp_path)
    outcome = command("fold", "model.onnx", "-o", "out.onnx")
    assert outcome.code == 1
    assert "verification failed" in outcome.out
    assert "nothing written" in outcome.out
    assert files_in(tmp_path) == before
    outcome = command("fold", "model.onnx", "-o", "out.onnx", "--format", "json")
    assert outcome.code == 1
    assert outcome.json["verification"]["passed"] is False
    assert outcome.json["output"] is None


def test_force_overwrites_the_input(command: Command, tmp_path: Path) -> None:
    assert command("fold", "model.onnx", "-o", "model.onnx", "--force").code == 0
    assert operators(onnx.load(tmp_path / "model.onnx").graph) == {"Conv": 1, "Relu": 1}


def test_an_older_target_is_replaced(command: Command, tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_bytes(b"older")
    assert command("fold", "model.onnx", "-o", "out.onnx").code == 0
    onnx.checker.check_model(tmp_path / "out.onnx")


def test_no_batch_norm_is_a_copy_and_a_hint(command: Command, tmp_path: Path) -> None:
    outcome = command("fold", "none.onnx", "-o", "out.onnx")
    text = " ".join(outcome.out.split())
    assert outcome.code == 0
    assert "holds no BatchNorm" in text
    assert "exporter folded it" in text
    assert "optimize=False" in text
    assert onnx.load(tmp_path / "out.onnx") == onnx.load(tmp_path / "none.onnx")
    assert "exporter folded it" in " ".join(command("inspect", "none.onnx").out.split())


def test_freezing_is_offered_and_works(command: Command, tmp_path: Path) -> None:
    outcome = command("fold", "frozen.onnx", "-o", "out.onnx")
    assert outcome.code == 0
    assert "--freeze-initializers" in outcome.out
    assert "0 fold, 1 stay" in outcome.out
    outcome = command("fold", "frozen.onnx", "-o", "out.onnx", "--freeze-initializers")
    assert outcome.code == 0
    assert "1 fold, 0 stay" in outcome.out
    assert [i.name for i in onnx.load(tmp_path / "out.onnx").graph.input] == ["x"]


def test_a_model_that_does_not_run_is_inspected_and_written_unproven(
    command: Command, tmp_path: Path
) -> None:
    save(BY_NAME["opset_6_is_test"].build(), tmp_path / "old.onnx")
    assert command("inspect", "old.onnx").code == 0
    outcome = command("fold", "old.onnx", "-o", "out.onnx")
    assert outcome.code == 2
    assert "cannot be verified" in outcome.err
    assert "--no-verify" in outcome.err
    assert not (tmp_path / "out.onnx").exists()
    outcome = command("fold", "old.onnx", "-o", "out.onnx", "--no-verify")
    assert outcome.code == 0
    assert "not verified" in outcome.out
    assert operators(onnx.load(tmp_path / "out.onnx").graph) == {"Conv": 1, "Relu": 1}


def test_a_copy_of_a_model_that_does_not_run_needs_no_proof(
    command: Command, tmp_path: Path
) -> None:
    net = Net()
    y = net.op("Nowhere", net.input("N", 3, 4, 4), name="odd", domain="com.nobody")
    save(net.model(y), tmp_path / "odd.onnx")
    outcome = command("fold", "odd.onnx", "-o", "out.onnx")
    assert outcome.code == 0, outcome
    assert "no BatchNorm" in outcome.out
    assert onnx.load(tmp_path / "out.onnx") == onnx.load(tmp_path / "odd.onnx")


def test_verify_exit_codes(command: Command) -> None:
    assert command("fold", "model.onnx", "-o", "out.onnx").code == 0
    outcome = command("verify", "model.onnx", "out.onnx")
    assert outcome.code == 0
    assert "compute the same" in outcome.out
    assert command("verify", "model.onnx", "model.onnx").code == 0


def test_unequal_models_exit_1(command: Command, tmp_path: Path) -> None:
    model = onnx.load(tmp_path / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "bn.shift":
            array = onnx.numpy_helper.to_array(tensor) + np.float32(1e-3)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    save(model, tmp_path / "moved.onnx")
    outcome = command("verify", "model.onnx", "moved.onnx")
    assert outcome.code == 1
    assert "do not compute the same" in outcome.out


def test_debug_shows_where(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNFOLD_DEBUG", "1")
    with pytest.raises(bnfold.errors.ModelError):
        command("inspect", "missing.onnx")


# JSON

_DECISION = {"action", "direction", "into", "reason"}
_RANGE = {"min", "max"}


def test_inspect_json(command: Command) -> None:
    document = command("inspect", "kept.onnx", "--format", "json").json
    assert {
        "format_version", "command", "model", "batch_norms", "findings", "summary"
    } <= document.keys()  # fmt: skip
    assert document["format_version"] == "2.2"
    assert document["command"] == "inspect"
    assert document["model"].keys() >= {"path", "format", "sha256"}
    (norm,) = document["batch_norms"]
    assert norm.keys() >= {
        "name", "channels", "epsilon", "momentum", "mean", "variance", "scale", "shift", "decision"
    }  # fmt: skip
    for field in ("mean", "variance", "scale", "shift"):
        assert norm[field].keys() == _RANGE
    assert norm["decision"].keys() == _DECISION
    assert norm["decision"]["reason"].keys() == {"code", "message", "culprit"}
    assert norm["decision"]["action"] == "keep"
    assert norm["decision"]["direction"] is None
    assert norm["channels"] == 3
    counts = {k: document["summary"][k] for k in ("batch_norms", "foldable", "kept")}
    assert counts == {"batch_norms": 1, "foldable": 0, "kept": 1}


def test_fold_json(command: Command) -> None:
    from bnfold.files import file_sha256

    outcome = command("fold", "model.onnx", "-o", "out.onnx", "--format", "json")
    document = outcome.json
    assert outcome.err == ""
    assert {
        "format_version", "command", "model", "decisions", "verification", "output"
    } <= document.keys()  # fmt: skip
    assert document["decisions"] == [
        {"name": "bn", "action": "fold", "direction": "backward", "into": ["conv"], "reason": None}
    ]
    verification = document["verification"]
    assert verification.keys() >= {"passed", "runtime", "outputs"}
    assert verification["passed"] is True
    (output,) = verification["outputs"]
    assert output.keys() >= {
        "name", "max_abs_error", "max_abs_reference", "rounding_floor", "ratio"
    }  # fmt: skip
    assert document["output"] == {
        "path": "out.onnx", "sha256": file_sha256(Path("out.onnx")),
        "batch_norms_left": 0, "nodes_before": 3, "nodes_after": 2,
    }  # fmt: skip


def test_json_without_verification_or_output(command: Command) -> None:
    document = command("fold", "model.onnx", "--dry-run", "--format", "json").json
    assert document["verification"] is None
    assert document["output"] is None
    document = command("fold", "model.onnx", "-o", "o.onnx", "--no-verify", "-f", "json").json
    assert document["verification"] is None
    assert document["output"]["nodes_after"] == 2


def test_verify_json(command: Command) -> None:
    document = command("verify", "model.onnx", "model.onnx", "--format", "json").json
    assert document.keys() >= {"format_version", "command", "passed", "outputs"}
    assert document["passed"] is True


def test_affines_stand_beside_the_norms(command: Command) -> None:
    document = command("fold", "affine.onnx", "--dry-run", "--format", "json").json
    assert document["decisions"] == []
    assert [a["name"] for a in document["affines"]] == ["a0", "a1"]


def test_a_frozen_norm_is_counted_as_one(command: Command) -> None:
    """Its product and its sum are no two affine operations, and its file is not without BatchNorm."""
    for words in (("inspect", "written_out.onnx"), ("fold", "written_out.onnx", "-o", "o.onnx")):
        text = command(*words)
        assert "1 frozen BatchNorm fold" in text.out
        assert "affine operations" not in text.out and "no BatchNorm" not in text.out + text.err
    assert "is the frozen BatchNorm 'norm'; it folds" in command("inspect", "written_out.onnx").out
    document = command("fold", "written_out.onnx", "--dry-run", "--format", "json").json
    assert (document["summary"]["frozen"], document["summary"]["affines"]) == (1, 2)
    assert [a["part_of"] for a in document["affines"]] == ["norm", "norm"]
    others = command("inspect", "affine.onnx", "--format", "json").json
    assert others["summary"]["frozen"] == 0


@pytest.mark.parametrize("name", ["mean_holds_nan", "variance_holds_inf", "negative_variance"])
def test_json_of_broken_statistics_is_json(name: str, command: Command, tmp_path: Path) -> None:
    save(BY_NAME[name].build(), tmp_path / "broken.onnx")
    outcome = command("inspect", "broken.onnx", "--format", "json")
    document = json.loads(outcome.out, parse_constant=pytest.fail)  # NaN is no JSON
    assert document["batch_norms"][0]["decision"]["action"] == "keep"


# The process as a whole


def _process(*arguments: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bnfold", *arguments], cwd=place, text=True, capture_output=True,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip


def test_the_module_runs_and_prints_one_document(tmp_path: Path) -> None:
    save(BY_NAME["conv_2d"].build(), tmp_path / "model.onnx")
    done = _process("fold", "model.onnx", "-o", "out.onnx", "-f", "json", place=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["output"]["path"] == "out.onnx"


def test_colour_is_asked_for_and_refused(tmp_path: Path) -> None:
    save(BY_NAME["conv_2d"].build(), tmp_path / "model.onnx")
    plain = _process("fold", "model.onnx", "--dry-run", place=tmp_path, NO_COLOR="1")
    colour = _process("fold", "model.onnx", "--dry-run", place=tmp_path, FORCE_COLOR="1")
    assert "\x1b[" not in plain.stdout
    assert "\x1b[" in colour.stdout


def test_help_is_quick_to_import() -> None:
    """--help needs no runtime: these take most of a second each."""
    heavy = (
        "import sys, bnfold.cli as cli\n"
        "from bnfold.cli.parsing.help import page_of\n"
        "pages = [page_of(cli.command_of(name)) for name in cli.COMMANDS]\n"
        "print([m for m in ('numpy', 'onnx', 'onnxruntime', 'rich', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", heavy], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("words", [["BN108"], ["BN2"], ["unheard-of"]])
def test_a_rule_is_explained_without_what_checks_it(words: list[str]) -> None:
    """Its page, a list of pages, and the error that looks for close names."""
    code = (
        f"import sys, bnfold.cli as cli; sys.argv = ['bnfold', 'rule', *{words!r}]\n"
        "try: cli.main()\nexcept SystemExit as done: code = done.code\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'torch', 'bnfold.graph', 'bnfold.kinds', 'bnfold.jobs'}\n"
        "print(code, heavy & set(sys.modules), len([m for m in sys.modules if '.rules.bn' in m]))"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert done.stdout.splitlines()[-1] == f"{2 if words == ['unheard-of'] else 0} set() 32"


def test_a_page_that_cannot_be_written_stops_everything(
    command: Command, sample_models: Path, tmp_path: Path
) -> None:
    target, page = tmp_path / "folded.onnx", tmp_path / "missing" / "page.html"
    done = command("fold", sample_models / "residual.onnx", "-o", target, "--report", page)
    assert done.code == 2
    is_one_sentence(done.err)
    assert not target.exists()
