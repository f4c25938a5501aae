"""Pages that are made while the site is built: what commands print, what rules say, what was measured.

MkDocs calls `on_files` (its hook); whatever a command prints on the site, it has just printed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = Path(__file__).resolve().parent / "pages"
_WIDTH = 100

# What each command is shown with: a sentence, and the arguments.
EXAMPLES: dict[str, list[tuple[str, str]]] = {
    "inspect": [
        ("What is there, and what can go:", "inspect residual.onnx"),
        (
            "Against data: statistics that no longer fit are found, with the layer where it begins.",
            "inspect residual_stale_statistics.onnx --data digits_calibration.npz "
            "--report inspect.html",
        ),
        (
            "A release beside the last one:",
            "inspect residual_stale_statistics.onnx --against residual.onnx --select BN1",
        ),
        ("For a pull request:", "inspect residual_training_mode.onnx --format markdown"),
    ],
    "fold": [
        ("Fold, prove, write:", "fold residual.onnx -o folded.onnx --report fold.html"),
        (
            "A pre-activation network, where scales go forward and offsets along the trunk:",
            "fold preact.onnx -o preact_folded.onnx",
        ),
        ("What would happen, without writing:", "fold residual_training_mode.onnx --dry-run"),
        (
            "Parallel branches become one convolution:",
            "fold repvgg.onnx --reparameterize -o repvgg_folded.onnx",
        ),
    ],
    "recalibrate": [
        (
            "Measure the statistics again, and see what that does to the outputs:",
            "recalibrate residual_stale_statistics.onnx --data digits_calibration.npz -o new.onnx "
            "--report recalibrate.html",
        ),
    ],
    "verify": [
        ("Two models that compute the same:", "verify residual.onnx folded.onnx"),
        (
            "Two that do not, and where they part:",
            "verify residual.onnx residual_stale_statistics.onnx",
        ),
    ],
    "rule": [("One rule:", "rule BN204"), ("All of them:", "rule")],
}
REPORTS = ("inspect", "fold", "recalibrate")


def on_config(config: Any) -> Any:
    """MkDocs's hook: the rules stand in the navigation, before what comes last."""
    from bnfold.audit import RULES

    pages = ["rules/index.md", *(f"rules/{rule.code}.md" for rule in RULES)]
    config.nav.insert(len(config.nav) - 1, {"Rules": pages})
    return config


def on_files(files: Any, config: Any) -> Any:
    """MkDocs's hook: adds the pages that are made."""
    from mkdocs.structure.files import File

    for path, content in made_pages():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs's hook: what stands behind ``$ bnfold`` in a block of its own is run, in order."""
    with tempfile.TemporaryDirectory() as folder:
        _samples_into(Path(folder))
        return re.sub(
            r"(?m)^```console\n\$ bnfold (.*)\n```$",
            lambda found: _shown(found[1], Path(folder)),
            markdown,
        )


def made_pages() -> Iterator[tuple[str, str | bytes]]:
    """Every page that is made, by its place."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _samples_into(place)
        for command in EXAMPLES:
            yield f"commands/{command}.md", _command_page(command, place)
        for name in REPORTS:
            yield f"reports/{name}.html", (place / f"{name}.html").read_text(encoding="utf-8")
    yield from _rule_pages()
    yield "still-there.md", _reasons_page()
    yield "benchmarks.md", _benchmarks_page()


def _samples_into(place: Path) -> None:
    for sample in (ROOT / "sample_models").glob("*.[on]*"):
        shutil.copy(sample, place)


def _shown(arguments: str, place: Path) -> str:
    """A command and what it prints, as a block."""
    return f"```console\n$ bnfold {arguments}\n{_run(arguments, place)}\n```"


def _run(arguments: str, place: Path) -> str:
    """What a command prints on stdout.

    Raises:
        RuntimeError: where it ends as no example should.
    """
    settings = {"COLUMNS": str(_WIDTH), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bnfold", *arguments.split()],
        cwd=place,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1) or not done.stdout:
        raise RuntimeError(f"bnfold {arguments} ended with {done.returncode}: {done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def _command_page(command: str, place: Path) -> str:
    parts = [f"# bnfold {command}"]
    for sentence, arguments in EXAMPLES[command]:
        parts.append(f"{sentence}\n\n{_shown(arguments, place)}")
        report = re.search(r"--report (\S+)", arguments)
        if report:
            parts.append(f"The page that it wrote: [{report[1]}](../reports/{report[1]}).")
    parts.append(f"## Options\n\n{_shown(f'{command} --help', place)}")
    return "\n\n".join(parts) + "\n"


def _rule_pages() -> Iterator[tuple[str, str]]:
    from bnfold.audit import FAMILIES, RULES

    index = ["# Rules", "One rule, one file, one code; what is below is its docstring."]
    for prefix, family in FAMILIES.items():
        rows = [
            f"| [{r.code}]({r.code}.md) | {r.severity.value} | {r.title} |"
            for r in RULES
            if r.code.startswith(prefix)
        ]
        index.append(
            f"## {prefix}xx {family}\n\n| code | severity | |\n|---|---|---|\n" + "\n".join(rows)
        )
    yield "rules/index.md", "\n\n".join(index) + "\n"
    for rule in RULES:
        yield f"rules/{rule.code}.md", _rule_page(rule)


def _rule_page(rule: Any) -> str:
    from bnfold.audit.thresholds import meaning_of

    parts = [f"# {rule.code} {rule.name}", f"**{rule.title}.** Severity: {rule.severity.value}."]
    parts += [f"## {heading}\n\n{_safe(text)}" for heading, text in rule.parts.items()]
    if rule.thresholds:
        rows = "".join(
            f"| `{name}` | {meaning_of(name)[0]:g} | {_safe(meaning_of(name)[1])} |\n"
            for name in rule.thresholds
        )
        parts.append(
            f"## Settings\n\nIn `[tool.bnfold.thresholds]`:\n\n| name | default | |\n|---|--:|---|\n{rows}"
        )
    return "\n\n".join(parts) + "\n"


def _safe(text: str) -> str:
    """Docstrings are no Markdown: what is not code is shown as it stands."""
    pieces = text.split("`")
    return "`".join(p if i % 2 else re.sub(r"([*_<\[])", r"\\\1", p) for i, p in enumerate(pieces))


def _reasons_page() -> str:
    from bnfold.planning import Reason

    sentences = {r.code: r.sentence("THE NODE", "SOME CHANNELS") for r in Reason}
    rows = [f"| `{code}` | {_safe(sentence)} |" for code, sentence in sentences.items()]
    table = "| code | sentence |\n|---|---|\n" + "\n".join(rows)
    return _filled("still-there.md.in", table=table)


def _benchmarks_page() -> str:
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    header = re.search(r"(?m)^\| file \| BN \|(.*?)\| error", measured)
    totals = re.search(r"(?m)^\| \*\*left in all\*\* \|(.*)$", measured)
    assert header and totals
    names = ["as exported", *(name.strip() for name in header[1].split("|"))]
    counts = [int(cell) for cell in totals[1].split("|") if cell.strip()]
    plot = bars(
        list(zip(names, counts, strict=True)), "BatchNorm left in the files of the table below"
    )
    body = re.sub(r"!\[.*?\]\((charts/[\w-]+\.svg)\)", _chart, measured.split("\n", 1)[1])
    return f"# Benchmarks\n\n{plot}\n\n{dots(_adaptation(measured))}\n\n{body}"


def _chart(link: re.Match[str]) -> str:
    """The picture itself in place of the link to it."""
    return (ROOT / "benchmarks" / link[1]).read_text(encoding="utf-8").strip()


def _adaptation(measured: str) -> list[tuple[str, list[float]]]:
    """Accuracy before, with `update_bn`, and recalibrated, of the network with dropout."""
    rows = re.findall(r"(?m)^\| dropout \| (.*?) \|(.*)$", measured)
    found = []
    for situation, cells in rows:
        numbers = [float(cell.split()[0]) for cell in cells.split("|") if cell.strip()]
        if len(numbers) == 8:  # the tables behind it have other columns
            found.append((situation, [numbers[0], numbers[4], numbers[1]]))
    return found


def dots(rows: list[tuple[str, list[float]]]) -> str:
    """For each situation the accuracy before (grey), with update_bn (orange) and of bnfold (green)."""
    colours = ("#8a97a0", "#d2601a", "#2e7d52")
    parts = []
    for i, (name, values) in enumerate(rows):
        y = 26 * i + 16
        parts.append(
            f'<text x="150" y="{y + 5}" text-anchor="end" font-size="13">{escape(name)}</text>'
        )
        ends = [170 + 4.6 * v for v in (min(values), max(values))]
        parts.append(
            f'<path d="M{ends[0]:.0f} {y}H{ends[1]:.0f}" stroke="currentColor" stroke-opacity=".3"/>'
        )
        parts += [
            f'<circle cx="{170 + 4.6 * v:.0f}" cy="{y}" r="5" fill="{colour}"><title>{v:g} %</title></circle>'
            for v, colour in zip(values, colours, strict=True)
        ]
    size = f'viewBox="0 0 700 {26 * len(rows) + 8}" style="width:100%;max-width:44rem"'
    words = "Accuracy in per cent (left 0, right 100): grey before, orange update_bn, green bnfold"
    return (
        f'<figure style="width:100%"><svg {size} role="img" aria-label="{words}" fill="currentColor">'
        f"{''.join(parts)}</svg><figcaption>{words}; a CNN with dropout</figcaption></figure>"
    )


def bars(rows: list[tuple[str, int]], title: str) -> str:
    """A bar chart that takes the colours of the page."""
    most = max(count for _, count in rows)
    height = 26 * len(rows) + 8
    parts = [
        f'<text x="150" y="{26 * i + 20}" text-anchor="end" font-size="13">{escape(name)}</text>'
        f'<rect x="160" y="{26 * i + 6}" width="{470 * count / most:.1f}" height="18" rx="2" '
        f'fill="{"#2e7d52" if name == "bnfold" else "#8a97a0"}"/>'
        f'<text x="{168 + 470 * count / most:.1f}" y="{26 * i + 20}" font-size="13">{count}</text>'
        for i, (name, count) in enumerate(rows)
    ]
    size = f'viewBox="0 0 700 {height}" style="width:100%;max-width:44rem"'
    words = f'role="img" aria-label="{escape(title)}"'
    return (
        f'<figure style="width:100%"><svg {size} {words} fill="currentColor">{"".join(parts)}</svg>'
        f"<figcaption>{escape(title)}</figcaption></figure>"
    )


def _filled(template: str, **parts: str) -> str:
    text = (PAGES.parent / template).read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"{{{{ {name} }}}}", part)
    return text
