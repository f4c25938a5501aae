"""Folding situations, each once, however many tests look at the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

import bnfold
from bnfold.formats.onnx.edit.edited import OnnxEdited
from bnfold.jobs import FoldResult
from situations.build import Situation

ROOT = Path(__file__).parents[2]
Spoil = Callable[[onnx.ModelProto], None]


@dataclass(frozen=True)
class Folded:
    """A situation's model before and after, and what `fold` said."""

    source: Path
    target: Path
    before: onnx.ModelProto
    after: onnx.ModelProto
    result: FoldResult


class Folder:
    """Folds each situation once, however many tests ask for it."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._done: dict[str, Folded] = {}

    def __call__(
        self, name: str, build: Callable[[], onnx.ModelProto], *, freeze: bool = False,
        verify: bool = True,
    ) -> Folded:  # fmt: skip
        if name not in self._done:
            source, target = (self._place / f"{name}{end}.onnx" for end in ("", "_folded"))
            before = build()
            onnx.save(before, source)
            model = bnfold.load(source, freeze_initializers=freeze)
            result = bnfold.fold(model, target, verify=verify)
            assert result.ok, result.to_json()["verification"]
            self._done[name] = Folded(source, target, before, onnx.load(target), result.report)
        return self._done[name]

    def situation(self, situation: Situation) -> Folded:
        return self(situation.name, situation.build, freeze=situation.freeze, verify=situation.runs)


def save(model: onnx.ModelProto, path: Path, **options: Any) -> Path:
    """Writes a model and hands its path on."""
    onnx.save(model, path, **options)
    return path


def spoil_written(monkeypatch: pytest.MonkeyPatch, spoil: Spoil) -> None:
    """Plants a fault in every ONNX file that is written from now on."""
    write = OnnxEdited.write

    def wrongly(self: OnnxEdited, path: Path) -> list[Path]:
        files = write(self, path)
        model = onnx.load(files[-1])
        spoil(model)
        onnx.save(model, files[-1])
        return files

    monkeypatch.setattr(OnnxEdited, "write", wrongly)
