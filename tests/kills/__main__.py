"""The long run, by hand: ``python -m tests.kills --kills 200``.

In half of them a change on the disk, from the last backward, is the last thing before a SIGKILL or SIGTERM;
the others come at random times by SIGKILL, SIGTERM and SIGINT.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from .scenes import SCENES, Stage, zygote

_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    each = -(-options.kills // len(SCENES))
    rng, faults = random.Random(options.seed), []
    for torch in (False, True):
        with zygote(torch=torch) as player, tempfile.TemporaryDirectory() as place:
            for number, scene in enumerate(s for s in SCENES if s.torch is torch):
                stage = Stage(scene, Path(place) / str(number), player)
                found: Counter[str] = Counter()
                for turn, how in enumerate(_plan(stage, each, rng)):
                    try:
                        found[stage.kill(str(turn), **how)] += 1
                    except AssertionError as error:
                        faults.append(f"{scene.name}: {error}")
                print(f"{scene.name}: {each} kills, {dict(found)}", flush=True)
    print("\n".join([*faults, f"{len(faults)} faults"]))
    raise SystemExit(bool(faults))


def _plan(stage: Stage, count: int, rng: random.Random) -> list[dict[str, Any]]:
    """Half of the kills before a change on the disk, the last ones first; half at any time."""
    points = range(stage.changes, max(stage.changes - count // 2, 0), -1)
    plan: list[dict[str, Any]] = [
        {"change": n, "signal": int(signal.SIGKILL if n % 3 else signal.SIGTERM)} for n in points
    ]
    begin = time.monotonic()
    stage.play("timed")
    whole = time.monotonic() - begin
    while len(plan) < count:
        number = int(rng.choice(_SIGNALS))
        plan.append({"seconds": rng.uniform(0, whole), "signal": number})
    return plan


main()
