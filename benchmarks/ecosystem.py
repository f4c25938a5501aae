"""Networks of many PyTorch libraries, random weights from their configuration: traced, folded, compared.

    python -m benchmarks.ecosystem [NAME ...] [--results FILE] > table.md

In an environment of its own: torch as bnfold is tested with, the libraries from PyPI with
``pip install --no-deps`` and whatever they then miss. A network whose library is not installed is
named and left out. Nothing is downloaded. Statistics and scales are random, so that a wrong fold shows.

Each network runs in a process of its own. ``--results`` keeps a line of JSON for each and goes on
from there. The table has one row for each library:

- *traced*: networks that torch.export traces as a whole, and those folded by their submodules.
- *BN*: how many run, and how many bnfold leaves, by default and with ``--reparameterize``.
- *floors*: the worst error in float32, in rounding floors of the network, as bnfold measures it.
- *float32*, *float64*: the worst difference of any output over its largest value; in float64 the
  network is made double before it is folded, so that only exactness counts.
- the peers of torch_peers.py: how many they leave of those in networks that they run on. *wrong*: off by
  more than 1e-3, and by ten times as much as a fold that float64 shows to be right.
- *s*: seconds of the CPU for one fold with its proof, the median.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import statistics
import sys
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

TIMEOUT = 900
_FORK = multiprocessing.get_context("fork")
_IMPORTED = (
    "benchmarks.ecosystem_measuring", "torch._dynamo", "torchao.quantization.pt2e.utils", "timm",
    "transformers", "torchvision.models.detection", "monai.networks.nets", "braindecode.models",
)  # fmt: skip
WRONG = 1e-3
NAMES = ("fx.fuse", "jit.freeze", "torchao")
HEADS = ("library", "networks", "traced", "BN", "left", "with `--reparameterize`", "floors",
         "float32", "float64", *NAMES, "s")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="parts of names; all by default")
    parser.add_argument("--results", type=Path, help="JSON lines, read and added to")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    _prepare()
    kept = _known(options.results)
    for name in _chosen(options.names):
        if name not in kept:
            kept[name] = _in_process(name)
            print(json.dumps(kept[name]), file=sys.stderr, flush=True)
            if options.results:
                with options.results.open("a") as file:
                    print(json.dumps(kept[name]), file=file)
    show(list(kept.values()))


def _prepare() -> None:
    """Imports once what every process needs."""
    from benchmarks.ecosystem_torchvision import usable

    usable()
    for name in _IMPORTED:
        with suppress(Exception):  # a library that is not there, or lacks another
            importlib.import_module(name)


def _chosen(parts: list[str]) -> list[str]:
    from benchmarks.ecosystem_signals import SIGNALS
    from benchmarks.ecosystem_vision import VISION

    names = [*SIGNALS, *reversed(VISION)]
    return [name for name in names if not parts or any(part in name for part in parts)]


def _known(results: Path | None) -> dict[str, dict[str, Any]]:
    if results is None or not results.exists():
        return {}
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    return {line["name"]: line for line in lines}


def _in_process(name: str) -> dict[str, Any]:
    """One network in a process of its own, which starts with what is imported here."""
    receive, send = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_child, args=(name, send))
    process.start()
    send.close()
    try:
        if receive.poll(TIMEOUT):
            found: dict[str, Any] = receive.recv()
            return found
        return {"name": name, "failed": f"not done after {TIMEOUT} s"}
    except EOFError:
        return {"name": name, "failed": "the process died"}
    finally:
        process.kill()
        process.join()


def _child(name: str, send: Any) -> None:
    from benchmarks.ecosystem_measuring import measured

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - of a process that ends here
    try:
        found = measured(name)
    except Exception as error:  # nothing may be lost: a traceback is what is looked for here
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        found = {"name": name, "failed": f"traceback: {what[:300]}"}
    send.send(found)


def show(results: list[dict[str, Any]]) -> None:
    """The table, then what stays and why, and what failed."""
    print(_line(HEADS))
    print("|---|" + "--:|" * (len(HEADS) - 1))
    libraries: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        libraries.setdefault(result["name"].split()[0], []).append(result)
    for library, rows in libraries.items():
        print(_line(_row(library, rows)))
    print(_line(_row("**all**", results)))
    for result in results:
        if result.get("left"):
            why = ", ".join(f"{count} {code}" for code, count in result["reasons"].items())
            print(
                f"\n- {result['name']}: {result['left']} of {result['before']} stay: {why}", end=""
            )
    for result in results:
        if "failed" in result:
            print(f"\n- {result['name']}: {result['failed']}", end="")
    print()


def _row(library: str, rows: list[dict[str, Any]]) -> list[str]:
    done = [row for row in rows if "failed" not in row]
    how = Counter(row["how"] for row in done)
    traced = f"{how['whole']}" + (f" + {how['parts']} by parts" if how["parts"] else "")

    def total(key: str) -> str:
        return str(sum(row[key] for row in done))

    def worst(key: str) -> str:
        known = [row[key] for row in done if row.get(key) is not None]
        return f"{max(known):.1f}" if key == "floors" and known else (
            f"{max(known):.0e}" if known else ""
        )  # fmt: skip

    seconds = f"{statistics.median(row['seconds'] for row in done):.0f}" if done else ""
    return [
        library, str(len(rows)), traced, total("before"), total("left"), total("merged"),
        worst("floors"), worst("float32"), worst("float64"), *(_peer(name, done) for name in NAMES),
        seconds,
    ]  # fmt: skip


def _peer(name: str, rows: list[dict[str, Any]]) -> str:
    """What a peer leaves of the BatchNorm in the networks that it runs on."""
    found = [(row, row["peers"][name]) for row in rows if name in row["peers"]]
    ran = [(row, peer) for row, peer in found if "left" in peer]
    wrong = sum(not peer["error"] <= max(WRONG, 10 * row["float32"]) for row, peer in ran)
    cell = f"{sum(peer['left'] for _, peer in ran)} of {sum(row['before'] for row, _ in ran)}"
    cell += f", fails on {len(found) - len(ran)}" if len(found) > len(ran) else ""
    return cell + (f", wrong on {wrong}" if wrong else "")


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
