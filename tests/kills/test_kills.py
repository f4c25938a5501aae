"""A few of the kills of `tests.kills`, around the moment of publishing, where they could do harm."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from .scenes import SCENES, Stage, Zygote, zygote

_BY_NAME = {scene.name: scene for scene in SCENES}
# How many changes on the disk before the end; the last three clean up.
_CASES = [
    ("fold with external data", -6, signal.SIGKILL, "old"),
    ("fold with external data", -5, signal.SIGKILL, "old"),
    ("fold with external data", -4, signal.SIGKILL, "old"),
    ("fold with external data", -3, signal.SIGKILL, "new"),
    ("fold with external data", -4, signal.SIGTERM, "new"),
    ("recalibrate with external data", -8, signal.SIGKILL, "old"),
    ("recalibrate with external data", -12, signal.SIGTERM, "old"),
    ("fold over itself", -4, signal.SIGKILL, "old"),
]


@pytest.fixture(scope="module")
def player() -> Iterator[Zygote]:
    with zygote(torch=False) as found:
        yield found


@pytest.fixture(scope="module")
def stages(player: Zygote, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    names = {name for name, *_ in _CASES}
    return {
        n: Stage(_BY_NAME[n], tmp_path_factory.mktemp("kills") / "stage", player) for n in names
    }


@pytest.mark.parametrize(("scene", "change", "number", "between"), _CASES)
def test_killed(
    scene: str, change: int, number: int, between: str, stages: dict[str, Stage]
) -> None:
    """Old or new, never a mixture, and nothing left behind after the next run."""
    stage = stages[scene]
    number_of_change = stage.changes + change + 1
    name = f"{change}-{number}"
    assert stage.kill(name, change=number_of_change, signal=int(number)) == between


def test_a_fault_between_two_renames_would_be_seen(
    stages: dict[str, Stage], tmp_path: Path
) -> None:
    """The judge itself: a model whose data file is another's is neither old nor new."""
    from .scenes import state

    stage = stages["fold with external data"]
    stage.scene.build(tmp_path)
    data = tmp_path / "out.onnx.0123456789ab.data"
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)
    assert state(tmp_path, "out.onnx") not in (stage.old, stage.new)
