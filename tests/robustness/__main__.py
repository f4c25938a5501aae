"""The long run by hand: ``python -m tests.robustness --cases 10000``."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from robustness.cases import run_onnx_case
from robustness.judge import runs
from robustness.other import run_other_case
from robustness.worker import Worker


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=("onnx", "other"), default="onnx")
    parser.add_argument("--keep", type=Path, help="a folder for the files of failed cases")
    parser.add_argument(
        "--refusals", action="store_true", help="print what is refused although onnxruntime runs it"
    )
    given = parser.parse_args()
    run_case = run_onnx_case if given.kind == "onnx" else run_other_case
    worker, codes, failed = Worker(), Counter[str](), 0
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(given.first, given.first + given.cases):
            place = Path(scratch) / "case"
            verdict = run_case(number, given.seed, place, worker)
            codes[str(verdict.code)] += 1
            if given.refusals and verdict.code == 2 and runs(place / "model.onnx"):
                print(number, *verdict.arguments, "| refused:", verdict.err.strip(), flush=True)
            if verdict.faults:
                failed += 1
                print(number, *verdict.arguments, "|", *verdict.faults, flush=True)
                if given.keep:
                    shutil.copytree(place, given.keep / str(number), dirs_exist_ok=True)
    worker.close()
    print(f"{given.cases} cases, {failed} failed; exit codes {dict(codes)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
