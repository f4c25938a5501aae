"""Measurements by subject: `python -m benchmarks SUBJECT [--json FILE] [--svg FOLDER] …`.

Each subject prints its tables with the machine and the versions, peers and limits measured in the
same run. `python -m benchmarks SUBJECT --help` says what it takes.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from benchmarks.tables import Table, circumstances

SUBJECTS = ("cost",)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or ""))
    commands = parser.add_subparsers(dest="subject", required=True)
    for subject in SUBJECTS:
        module = importlib.import_module(f"benchmarks.{subject}")
        lines = (module.__doc__ or "").splitlines()
        command = commands.add_parser(subject, help=lines[0], description=lines[0])
        module.add_arguments(command)
        command.add_argument("--json", type=Path, help="write the tables to this file as well")
    options = parser.parse_args()
    where = circumstances()
    versions = ", ".join(f"{k} {v}" for k, v in where["versions"].items())
    print(f"{where['processor']}, {where['cores']} cores, {where['system']}; {versions}\n")
    found: list[Table] = importlib.import_module(f"benchmarks.{options.subject}").run(options)
    for table in found:
        print(table.markdown(), flush=True)
    if options.json:
        document = {"subject": options.subject, **where, "tables": [t.to_json() for t in found]}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
