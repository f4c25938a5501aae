"""What the tests share: folded situations, and real networks where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import onnx
import pytest

import bnfold
from bnfold.jobs import FoldResult
from situations_build import Situation

ROOT = Path(__file__).parent.parent

hypothesis.settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=4000)
hypothesis.settings.load_profile(os.environ.get("BNFOLD_HYPOTHESIS", "default"))


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
            self._done[name] = Folded(source, target, before, onnx.load(target), result)
        return self._done[name]

    def situation(self, situation: Situation) -> Folded:
        return self(
            situation.name, situation.build, freeze=situation.freeze, verify=situation.runs
        )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("situations"))


@pytest.fixture(scope="session")
def sample_models() -> Path:
    return ROOT / "sample_models"


@pytest.fixture(scope="session")
def real_models() -> Path:
    """Trained networks from public repositories: too large and too foreign to be part of this one."""
    place = Path(os.environ.get("BNFOLD_REAL_MODELS", ROOT.parent / "shared" / "models"))
    if not place.is_dir():
        pytest.skip(f"no real models at {place}; BNFOLD_REAL_MODELS names their folder")
    return place


def save(model: onnx.ModelProto, path: Path, **options: Any) -> Path:
    """Writes a model and hands its path on."""
    onnx.save(model, path, **options)
    return path
