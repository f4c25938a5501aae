"""One self-contained page: nothing in it is loaded from anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import MissingExtraError, UsageError
from bnfold.files import publish_text
from bnfold.showable import showable

if TYPE_CHECKING:
    from jinja2 import Environment

_PAGES: Mapping[str, str] = {
    "inspect": "inspect.html.j2",
    "fold": "fold.html.j2",
    "recalibrate": "recalibrate.html.j2",
    "verify": "verify.html.j2",
}


def write_page(result: Any, path: Path) -> None:
    """Writes the page of a job's result, whole or not at all.

    Raises:
        MissingExtraError: where Jinja2 is not installed.
        OutputError: where ``path`` cannot be written.
        UsageError: where there is no page for such a result.
    """
    publish_text(page(result), path)


def page(result: Any) -> str:
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
    return environment


def _shown(value: Any) -> Any:
    """Every value that a template inserts, but markup of our own."""
    return showable(value) if type(value) is str else value


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _number(value: float | None, digits: int = 3) -> str:
    return "∞" if value is None else f"{value:.{digits}g}"


def _code(text: str) -> Any:
    """What stands between backticks becomes code."""
    from markupsafe import Markup, escape

    pieces = showable(str(text)).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if i % 2 else escape(piece)
        for i, piece in enumerate(pieces)
    )


def _breaks(name: str) -> Any:
    """A name that may go over to the next line behind its slashes, dots and underscores."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([/._])(?=.)", r"\1<wbr>", str(escape(showable(name)))))


def _inspection(result: Any) -> dict[str, Any]:
    from bnfold.audit import in_words, tally
    from bnfold.reports.html.view import decision_rows, group_views, layer_views

    layers = layer_views(result)
    heads = dict.fromkeys(head for layer in layers for head in layer.cells)
    groups = group_views(result.findings)
    # The layer with the worst finding (or the first) is open from the start: the charts explain
    # themselves.
    worst = next((g["findings"][0][0] for g in groups if g["findings"][0][0]), None)
    if worst is None and layers:
        worst = layers[0].name
    return {
        "layers": layers,
        "worst": worst,
        "layers_heads": [(head, True) for head in heads],
        "groups": groups,
        "words": in_words(result.findings),
        "tally": {severity.value: n for severity, n in tally(result.findings).items()},
        "affines": result.plan.affines,
        "fates": sorted({layer.fate for layer in layers}),
        "plan_rows": decision_rows(result.plan.decisions),
        "has_data": any(layer.drift for layer in layers),
        "some_unseen": any(not layer.drift for layer in layers),
    }


def _fold(result: Any) -> dict[str, Any]:
    from bnfold.reports.html.view import decision_rows
    from bnfold.reports.proof import proof_in_words

    plan, proof = result.plan, result.verification
    return {
        "proof_lines": [] if proof is None else list(proof_in_words(proof)),
        "decisions": decision_rows(plan.batch_norms),
        "affines": decision_rows(plan.affines),
        "merged": sum(d.action.value == "merge" for d in plan.batch_norms),
        "result": result,
    }


def _recalibration(result: Any) -> dict[str, Any]:
    return {"result": result}


def _verification(result: Any) -> dict[str, Any]:
    from bnfold.reports.proof import proof_in_words

    lines = (*result.warnings, *proof_in_words(result.verification))
    return {"result": result, "proof_lines": list(lines)}


_CONTEXTS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "inspect": _inspection,
    "fold": _fold,
    "recalibrate": _recalibration,
    "verify": _verification,
}
