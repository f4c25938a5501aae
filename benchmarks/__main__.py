"""All measurements: `python -m benchmarks SUBJECT …`.

Each subject prints its tables below the machine and the versions, with peers and limits measured in
the same run. `python -m benchmarks SUBJECT --help` says what it takes. Subjects that give their
tables as data take `--json FILE` and `--svg FOLDER`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

from benchmarks.plots import bars
from benchmarks.tables import Table, circumstances

# The module of each subject, and which column of its tables is drawn (None: it prints by itself).
SUBJECTS: dict[str, tuple[str, int | None]] = {
    "cost": ("cost", 1),
    "memory": ("cost", 3),
    "start-up": ("start_up", 1),
    "recalibrate": ("recalibrate", 2),
    "statistics": ("true_statistics", 3),
    "latency": ("latency", 3),
    "charts": ("charts", None),
    "scaling": ("scaling", None),
    "coverage": ("coverage", None),
    "coverage-torch": ("coverage_torch", None),
    "detection": ("detection", None),
    "detection-torch": ("detection_torch", None),
    "quantisation": ("quantisation", None),
    "trained": ("trained", None),
    "ecosystem": ("ecosystem", None),
    "adaptation": ("adaptation", None),
}


def main() -> None:
    subject = sys.argv[1] if len(sys.argv) > 1 else ""
    if subject not in SUBJECTS:
        print(f"{__doc__}\nSubjects: {', '.join(SUBJECTS)}.")
        raise SystemExit(0 if subject in ("", "-h", "--help") else 2)
    name, column = SUBJECTS[subject]
    module = importlib.import_module(f"benchmarks.{name}")
    arguments = sys.argv[2:]
    if not {"-h", "--help", "--child"} & set(arguments):
        print(_headline(), flush=True)
    if column is None:
        sys.argv = [f"{sys.argv[0]} {subject}", *arguments]
        module.main()
        return
    _tables(subject, module, column, arguments)


def _headline() -> str:
    where = circumstances()
    versions = ", ".join(f"{k} {v}" for k, v in where["versions"].items())
    return f"{where['processor']}, {where['cores']} cores, {where['system']}; {versions}\n"


def _tables(subject: str, module: ModuleType, column: int, arguments: list[str]) -> None:
    first = (module.__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {subject}", description=first)
    module.add_arguments(parser)
    parser.add_argument("--json", type=Path, help="write the tables to this file as well")
    parser.add_argument("--svg", type=Path, help="draw them into this folder as well")
    options = parser.parse_args(arguments)
    found: list[Table] = module.run(options)
    for table in found:
        print(table.markdown(), flush=True)
        drawing = bars(table, column) if options.svg else None
        if drawing is not None:
            options.svg.mkdir(parents=True, exist_ok=True)
            file = options.svg / f"{subject}-{table.title.split(': ')[-1].split(',')[0]}.svg"
            file.with_name(file.name.replace(" ", "_")).write_text(drawing, encoding="utf-8")
    if options.json:
        document = {
            "subject": subject,
            **circumstances(),
            "tables": [table.to_json() for table in found],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
