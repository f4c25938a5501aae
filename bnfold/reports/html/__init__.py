"""One self-contained page: nothing in it is loaded from anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import MissingExtraError, UsageError
from bnfold.files import publish_text
from bnfold.showable import showable

if TYPE_CHECKING:
    from jinja2 import Environment

# Behind a separator inside of a name, but not inside of a number.
_BREAKS = re.compile(r"(?<=[^\W\d][/._:])(?=.)|(?<=\d[/._:])(?=\D)")

# Code up to this many characters stays on one line.
_SHORT = 20

_PAGES: Mapping[str, str] = {
    "inspect": "inspect.html.j2",
    "fold": "fold.html.j2",
    "recalibrate": "recalibrate.html.j2",
    "verify": "verify.html.j2",
}


@dataclass(frozen=True)
class Origin:
    """Where a page comes from: the command line, and when. Unknown where Python code asked for it."""

    command_line: str | None = None
    created: str | None = None


def write_page(result: Any, path: Path, origin: Origin | None = None) -> None:
    """Writes the page of a job's result, whole or not at all.

    Raises:
        MissingExtraError: where Jinja2 is not installed.
        OutputError: where ``path`` cannot be written.
        UsageError: where there is no page for such a result.
    """
    publish_text(page(result, origin), path)


def page(result: Any, origin: Origin | None = None) -> str:
    """The page as text.

    Raises:
        MissingExtraError: where Jinja2 is not installed.
        UsageError: where there is no page for such a result.
    """
    data = result.to_json()
    # A comparison has two models, and no notes.
    data = {"model": data.get("reference"), "notes": [], **data}
    template = _PAGES.get(data["command"])
    if template is None:
        raise UsageError(f"there is no page for {data['command']}; use --format json")
    environment = _environment()
    context = _CONTEXTS[data["command"]](result)
    from bnfold.version import __version__

    return environment.get_template(template).render(
        **context,
        data=data,
        result=result,
        origin=origin or Origin(),
        title=Path(data["model"]["path"]).name,
        version=__version__,
        style=_resource("page.css"),
        script=_resource("page.js"),
    )


def _environment() -> Environment:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise MissingExtraError("--report", "html") from None
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["code"] = _code
    environment.filters["breaks"] = _breaks
    environment.filters["bytes"] = _bytes
    environment.filters["count"] = _count
    return environment


def _shown(value: Any) -> Any:
    """Every value that a template inserts, but markup of our own."""
    return showable(value) if type(value) is str else value


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _number(value: float | None, digits: int = 3) -> str:
    return "∞" if value is None else f"{value:.{digits}g}"


def _bytes(count: int | None) -> str:
    return "?" if count is None else f"{count:,} bytes"


def _count(number: int) -> str:
    """Every digit of what fits in a narrow column, millions of what does not."""
    return f"{number:,}" if number < 10**9 else f"{number / 1e6:,.0f} million"


def _code(text: str) -> Any:
    """What stands between backticks becomes code."""
    from markupsafe import Markup, escape

    kept = Markup(' class="short"')  # an option breaks at its hyphens otherwise
    pieces = showable(str(text)).split("`")
    return Markup("").join(
        Markup("<code{}>{}</code>").format(kept if len(piece) <= _SHORT else "", piece)
        if i % 2
        else escape(piece)
        for i, piece in enumerate(pieces)
    )


def _breaks(name: str) -> Any:
    """A name that may go over to the next line behind its separators."""
    from markupsafe import Markup, escape

    parts = _BREAKS.split(showable(name))
    return Markup("<wbr>").join(escape(part) for part in parts)


def _inspection(result: Any) -> dict[str, Any]:
    from bnfold.audit import tally
    from bnfold.reports.html import answers, view
    from bnfold.reports.html.channels import as_script
    from bnfold.reports.html.strip import strip_of

    layers = view.layer_views(result)
    places = {layer.name: layer.index for layer in layers}
    return {
        "answer": answers.of_inspection(result),
        "layers": layers,
        "strip": strip_of(result, [layer.worst for layer in layers]),
        "channels": as_script(view.channels_of(result, layers)),
        "heads": list(dict.fromkeys(head for layer in layers for head in layer.cells)),
        "rules": view.rule_views(result.findings, places),
        "tally": {severity.value: n for severity, n in tally(result.findings).items()},
        "affines": view.decision_rows(result.plan.affines),
        "fates": sorted({layer.fate for layer in layers}),
        "has_data": any(layer.drift for layer in layers),
    }


def _fold(result: Any) -> dict[str, Any]:
    from bnfold.reports.html import answers
    from bnfold.reports.html.blocks import blocks_of
    from bnfold.reports.html.proof_chart import proof_chart
    from bnfold.reports.html.view import decision_rows
    from bnfold.reports.proof import proof_in_words

    plan, proof, change = result.plan, result.verification, result.change
    badge, answer = answers.of_fold(result)
    return {
        "badge": badge,
        "answer": answer,
        "blocks": [] if change is None else blocks_of(change),
        "sizes": None if change is None else change.sizes(),
        "input_shape": None if change is None else change.input_shape,
        "proof_lines": [] if proof is None else list(proof_in_words(proof)),
        "chart": proof_chart(proof.pieces) if proof and proof.pieces else None,
        "decisions": decision_rows(plan.batch_norms),
        "affines": decision_rows(plan.affines),
    }


def _recalibration(result: Any) -> dict[str, Any]:
    from bnfold.reports.html import answers, recalibration_charts
    from bnfold.reports.html.channels import as_script

    changes = result.batch_norms
    return {
        "answer": answers.of_recalibration(result),
        "means": recalibration_charts.mean_chart(changes),
        "variances": recalibration_charts.variance_chart(changes),
        "channels": as_script(recalibration_charts.channels_of(changes)),
    }


def _verification(result: Any) -> dict[str, Any]:
    from bnfold.reports.html import answers
    from bnfold.reports.html.proof_chart import parting_chart
    from bnfold.reports.proof import proof_in_words

    badge, answer = answers.of_verification(result)
    lines = [*result.warnings]
    if not result.verification.parting:  # the chart shows it
        lines += proof_in_words(result.verification)
    chart = parting_chart(result.verification)
    return {"badge": badge, "answer": answer, "chart": chart, "proof_lines": lines}


_CONTEXTS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "inspect": _inspection,
    "fold": _fold,
    "recalibrate": _recalibration,
    "verify": _verification,
}
