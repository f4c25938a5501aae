"""bnfold in the hands of other tools: what each of them would run is run here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import onnx
import pytest

from situations.fold import ROOT

_BN = "BatchNormalization"


@pytest.fixture
def place(tmp_path: Path, sample_models: Path) -> Path:
    """A folder with two models, their calibration data, and nothing else."""
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(sample_models / "residual.onnx", folder / "model.onnx")
    shutil.copy(sample_models / "residual_training_mode.onnx", folder / "sick model.onnx")
    shutil.copy(sample_models / "digits_calibration.npz", folder)
    return folder


def shell(command: str, place: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as those tools do: in a shell, ``bnfold`` on the path."""
    tools = place.parent / "bin"
    tools.mkdir(exist_ok=True)
    program = tools / "bnfold"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bnfold "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **settings}
    line = ["bash", "-eo", "pipefail", "-c", command]
    return subprocess.run(
        line, cwd=place, env=environment, capture_output=True, text=True, check=False
    )


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def count_of_norms(path: Path) -> int:
    return sum(node.op_type == _BN for node in onnx.load(path).graph.node)


def test_the_hook_of_pre_commit(place: Path) -> None:
    """pre-commit calls the entry with the names of the files that changed."""
    (entry,) = re.findall(r"(?m)^  entry: (.*)$", text_of(".pre-commit-hooks.yaml"))
    (pattern,) = re.findall(r"(?m)^  files: (.*)$", text_of(".pre-commit-hooks.yaml"))
    assert re.search(pattern, "models/model.onnx") and not re.search(pattern, "model.onnx.data")
    assert shell(f"{entry} model.onnx", place).returncode == 0
    found = shell(f"{entry} 'sick model.onnx'", place)
    assert found.returncode == 1
    assert "BN201" in found.stdout


def _step(name: str) -> str:
    """The script of a step of action.yml."""
    block = text_of("action.yml").split(f"- name: {name}\n")[1]
    return dedent(block[block.index("run: |") :].split("\n", 1)[1])


@pytest.mark.parametrize(
    ("model", "fail_on", "code"),
    [
        ("model.onnx", "error", 0),
        ("sick model.onnx", "error", 1),
        ("sick *.onnx", "never", 0),
        ("**/sick *.onnx", "error", 1),
        ("$(touch owned)", "error", 2),
    ],
)
def test_the_action(place: Path, model: str, fail_on: str, code: int) -> None:
    given = {"MODEL": model, "ARGUMENTS": "--select BN2", "SARIF": "found.sarif"}
    done = shell(_step("Inspect"), place, **given, FAIL_ON=fail_on)
    assert done.returncode == code, done.stderr
    assert not (place / "owned").exists()
    assert (place / "found.sarif").exists() == (code != 2)
    if code != 2:
        results = json.loads((place / "found.sarif").read_text())["runs"][0]["results"]
        assert bool(results) == ("sick" in model)
        assert ("::error" in done.stdout) == ("sick" in model)


def test_the_action_looks_into_every_folder(place: Path) -> None:
    """The shell of a step takes ** for *: a model two folders down was never looked at."""
    deep = place / "models" / "v2" / "left"
    deep.mkdir(parents=True)
    shutil.copy(place / "sick model.onnx", deep)
    given = {"MODEL": "models/**/*.onnx\n", "ARGUMENTS": "", "SARIF": "found.sarif"}
    done = shell(_step("Inspect"), place, **given, FAIL_ON="error")
    assert done.returncode == 1 and "models/v2/left/sick model.onnx" in done.stdout


def test_no_input_of_the_action_becomes_code() -> None:
    scripts = re.findall(
        r"(?m)^      run: (?:\|\n)?((?:.+\n?)+?)(?=\n|    - |\Z)", text_of("action.yml")
    )
    assert len(scripts) == 2
    assert not any("${{" in script for script in scripts)


def test_the_stage_of_dvc(place: Path) -> None:
    (command,) = re.findall(r"(?m)^    cmd: (.*)$", text_of("integrations/dvc.yaml"))
    assert shell(command, place).returncode == 0
    assert count_of_norms(place / "folded.onnx") == 0
    assert json.loads((place / "fold.json").read_text())["verification"]["passed"] is True
    assert (place / "fold.html").exists()


def test_the_makefile(place: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make here")
    shutil.copy(ROOT / "integrations" / "Makefile", place)
    (place / "sick model.onnx").unlink()
    assert shell("make", place).returncode == 0
    assert count_of_norms(place / "model.folded.onnx") == 0
    assert (
        "up to date" in shell("make", place).stdout or shell("make", place).stdout.count("\n") <= 1
    )
    shutil.copy(ROOT / "sample_models" / "residual_training_mode.onnx", place / "sick.onnx")
    assert shell("make", place).returncode != 0
    assert not (place / "sick.folded.onnx").exists()


def test_before_static_quantisation(place: Path) -> None:
    pytest.importorskip("onnxruntime.quantization")
    script = ROOT / "integrations" / "quantize_static.py"
    command = f"'{sys.executable}' -W ignore '{script}' model.onnx digits_calibration.npz int8.onnx"
    done = shell(command, place)
    assert done.returncode == 0, done.stderr
    kinds = [node.op_type for node in onnx.load(place / "int8.onnx").graph.node]
    assert "QuantizeLinear" in kinds and _BN not in kinds


def test_before_pt2e() -> None:
    torch = pytest.importorskip("torch")
    space: dict[str, object] = {}
    exec(compile(text_of("integrations/pt2e.py"), "pt2e.py", "exec"), space)
    nn = torch.nn
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)
    )
    network[2].running_mean.normal_()
    network.eval()
    x = torch.randn(2, 3, 8, 8)
    found = space["folded_program"](network, (x,))  # type: ignore[operator]
    assert not any("batch_norm" in str(node.target) for node in found.graph.nodes)
    torch.testing.assert_close(found(x), network(x), rtol=1e-4, atol=1e-5)


def test_the_dockerfile_copies_what_is_there() -> None:
    """Docker itself is not at hand in tests."""
    copied = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", text_of("Dockerfile"))
    assert all((ROOT / name).exists() for line in copied for name in line.split())
    readme_and_license = {"README.md", "LICENSE"}
    assert readme_and_license <= set(copied[0].split())  # the build reads them


def test_olive_is_asked_for_where_it_is_needed_alone() -> None:
    if find_spec("olive") is not None:
        pytest.skip("Olive is here")
    code = "import bnfold.integrations, bnfold.integrations.olive"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install olive-ai" in done.stderr


def test_the_pass_of_olive(place: Path) -> None:
    if find_spec("olive") is None:
        pytest.skip("no Olive here (pip install olive-ai)")
    from olive.hardware import DEFAULT_CPU_ACCELERATOR
    from olive.model import ONNXModelHandler
    from olive.package_config import OlivePackageConfig

    from bnfold.errors import VerificationError
    from bnfold.integrations.olive import package_config

    listed = OlivePackageConfig.model_validate(json.loads(package_config().read_text()))
    found = listed.import_pass_module("BatchNormFold")
    config = found.generate_config(DEFAULT_CPU_ACCELERATOR, {}, disable_search=True)
    folding = found(DEFAULT_CPU_ACCELERATOR, config)
    done = folding.run(ONNXModelHandler(str(place / "model.onnx")), str(place / "folded"))
    assert count_of_norms(Path(done.model_path)) == 0
    strict = found.generate_config(DEFAULT_CPU_ACCELERATOR, {"strict": True}, disable_search=True)
    sick = ONNXModelHandler(str(place / "sick model.onnx"))
    with pytest.raises(VerificationError, match="stay"):
        found(DEFAULT_CPU_ACCELERATOR, strict).run(sick, str(place / "refused"))
