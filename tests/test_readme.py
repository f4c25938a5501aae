"""Every Python block of the README runs, one after the other, as a reader would type them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)


def test_the_blocks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(BLOCKS) >= 2
    (tmp_path / "sample_models").symlink_to(ROOT / "sample_models")
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    for block in BLOCKS:
        if "import torch" in block:
            pytest.importorskip("torch")
        exec(compile(block, "README.md", "exec"), space)
    for expected in re.findall(r"print\(\w+\)  # (.*)", "\n".join(BLOCKS)):
        assert expected in capsys.readouterr().out
