"""The page in a browser, at the widths of a phone, a tablet and a desk, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnfold.formats.onnx import OnnxModel
from bnfold.jobs import FoldResult, Inspection, fold, verify
from bnfold.reports.html import page
from reports.browser import drive, picture
from reports.test_page import many, wide

pytest.importorskip("jinja2")

_INSPECT = """
  const table = $("#layers");
  const names = () => [...table.tBodies[0].rows].filter((r) => !r.hidden).map((r) => r.cells[1].textContent);
  told.order = names();
  told.sortedFirst = table.tHead.rows[0].cells[0].getAttribute("aria-sort");
  const shift = [...table.tHead.rows[0].cells].find((h) => h.textContent.startsWith("mean shift"));
  shift.querySelector("button").click();
  told.byShift = names();
  told.sorted = shift.getAttribute("aria-sort");
  shift.querySelector("button").click();
  told.sortedAgain = shift.getAttribute("aria-sort");
  const tools = $('[data-for="layers"]');
  const input = tools.querySelector("input");
  input.value = "HEAD bn4";
  input.dispatchEvent(new Event("input", { bubbles: true }));
  told.filtered = names();
  told.count = tools.querySelector("output").textContent;
  input.value = "";
  const select = tools.querySelector("select");
  select.value = "error";
  select.dispatchEvent(new Event("input", { bubbles: true }));
  told.errors = names();
  const bars = $$(".strip a");
  told.hidden = $("#panel").hidden;
  bars[0].focus();
  press(bars[0], "ArrowRight");
  told.focused = bars.indexOf(document.activeElement);
  told.tabStops = bars.filter((b) => b.tabIndex === 0).length;
  told.tip = $(".tip").textContent;
  bars[2].click();
  await wait();
  told.opened = $("#panel h3").textContent;
  told.current = bars[2].getAttribute("aria-current");
  told.charts = $$("#panel svg").map((svg) => svg.getAttribute("aria-label"));
  told.messages = $$("#panel .badge").map((badge) => badge.textContent);
  const chart = $("#panel svg");
  chart.focus();
  press(chart, "End");
  press(chart, "ArrowLeft");
  told.channel = $(".tip").textContent;
  told.cursors = $$("#panel .cursor").filter((cursor) => cursor.getAttribute("d")).length;
  press(chart, "Escape");
  told.tipGone = $(".tip").hidden;
  const box = chart.getBoundingClientRect();
  chart.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + 46, bubbles: true }));
  told.pointed = $(".tip").textContent;
  told.escapes = $("#panel").scrollWidth - $("#panel").clientWidth;
  const lists = $$("details.print:not([hidden])");
  dispatchEvent(new Event("beforeprint"));
  told.printed = lists.every((each) => each.open);
  dispatchEvent(new Event("afterprint"));
  told.printedAfter = lists.some((each) => each.open);
"""


@pytest.mark.parametrize("width", [400, 1400])
def test_inspect(inspection_with_data: Inspection, tmp_path: Path, width: int) -> None:
    told = drive(page(inspection_with_data), _INSPECT, tmp_path, width)
    assert told["order"] == ["stem|bn", "body<bn>", "head: bn"]
    assert told["sortedFirst"] == "ascending"
    assert told["byShift"][0] == "head: bn"
    assert (told["sorted"], told["sortedAgain"]) == ("descending", "ascending")
    assert told["filtered"] == ["head: bn"]
    assert told["count"] == "1 of 3"
    assert sorted(told["errors"]) == ["head: bn", "stem|bn"]
    assert (told["focused"], told["tabStops"]) == (1, 1)
    assert told["tip"].startswith("2: body<bn>, folds")
    assert told["hidden"] is True
    assert (told["opened"], told["current"]) == ("3 of 3: head: bn", "true")
    assert len(told["charts"]) == 5
    assert told["charts"][0].startswith("Running mean: 8 channels, stored ")
    assert "BN401" in told["messages"]
    assert told["cursors"] == 5
    assert told["channel"].startswith("channel ") and "observed" in told["channel"]
    assert told["pointed"].startswith("channel ") and told["pointed"] != told["channel"]
    assert told["tipGone"] is True
    assert told["escapes"] == 0
    assert (told["printed"], told["printedAfter"]) == (True, False)
    assert told["overflow"] <= 0


def test_broken_statistics_are_drawn(inspection_with_data: Inspection, tmp_path: Path) -> None:
    told = drive(
        page(inspection_with_data),
        "location.hash = '#bn-0'; await wait(); told.label = $('#panel svg').getAttribute('aria-label');"
        "told.bad = $$('#panel path').filter((p) => /NaN|Infinity/.test(p.getAttribute('d'))).length;",
        tmp_path,
    )
    assert told["label"].endswith("(1 not finite)")
    assert told["bad"] == 0


def test_many_layers(inspection_with_data: Inspection, tmp_path: Path) -> None:
    """As light as it is on disk: what is not looked at is not drawn."""
    told = drive(
        page(many(wide(inspection_with_data, 512), 500)),
        "told.elements = document.querySelectorAll('*').length;"
        "location.hash = '#bn-499'; await wait(); told.opened = $('#panel h3').textContent;"
        "told.says = $('#panel p').textContent; told.bars = $$('.strip a').length;",
        tmp_path,
        800,
    )
    assert told["elements"] < 20_000
    assert told["opened"].startswith("500 of 500: stage499.norm")
    assert "512 channels, of which" in told["says"]
    assert told["bars"] == 500
    assert told["overflow"] <= 0


@pytest.fixture(scope="module")
def folded(sample_models: Path, tmp_path_factory: pytest.TempPathFactory) -> FoldResult:
    target = tmp_path_factory.mktemp("folded") / "out.onnx"
    return fold(OnnxModel(sample_models / "preact.onnx"), target)


def test_fold(folded: FoldResult, tmp_path: Path) -> None:
    told = drive(
        page(folded),
        """
        const network = $(".network"), plot = $(".plot");
        network.focus();
        const cells = $$(".network i");
        const at = cells.findIndex((cell) => cell.dataset.into);
        for (let i = 0; i <= at; i += 1) press(network, "ArrowRight");
        told.cell = $(".tip").textContent;
        told.targets = cells.filter((cell) => cell.classList.contains("to")).map((cell) => cell.dataset.tip);
        plot.focus();
        press(plot, "Home");
        told.first = $(".tip").textContent;
        press(plot, "End");
        told.last = $(".tip").textContent;
        told.pieces = JSON.parse(plot.dataset.tips).length;
        """,
        tmp_path,
        400,
    )
    assert "/block1/bn1/BatchNormalization → /stem/Conv, /block1/conv1/Conv" in told["cell"]
    assert len(told["targets"]) == 2
    assert told["first"].startswith("1: ") and "floors" in told["first"]
    assert told["last"].startswith(f"{told['pieces']}: ")
    assert told["overflow"] <= 0


def test_recalibrate(sample_models: Path, tmp_path: Path) -> None:
    from bnfold.jobs.recalibrate import recalibrate

    model = OnnxModel(sample_models / "residual_stale_statistics.onnx")
    data = sample_models / "digits_calibration.npz"
    told = drive(
        page(recalibrate(model, tmp_path / "out.onnx", data)),
        """
        const plot = $(".plot");
        press(plot, "ArrowRight");
        told.tip = $(".tip").textContent;
        press(plot, "Enter");
        await wait();
        told.opened = $("#panel h3").textContent;
        told.charts = $$("#panel svg").map((svg) => svg.getAttribute("aria-label"));
        """,
        tmp_path,
        400,
    )
    assert told["tip"].startswith("1: /stem/bn/BatchNormalization: ")
    assert told["opened"] == "1 of 8: /stem/bn/BatchNormalization"
    assert len(told["charts"]) == 2
    assert ", new " in told["charts"][1]
    assert told["overflow"] <= 0


def test_verify(sample_models: Path, tmp_path: Path) -> None:
    """On a phone: where two models part, from the first value to the last."""
    stale = sample_models / "residual_stale_statistics.onnx"
    told = drive(
        page(verify(OnnxModel(sample_models / "residual.onnx"), OnnxModel(stale))),
        """
        const plot = $(".plot");
        press(plot, "Home");
        told.first = $(".tip").textContent;
        press(plot, "End");
        told.last = $(".tip").textContent;
        told.words = plot.getAttribute("aria-label");
        const verdict = $(".badge.error").getBoundingClientRect();
        told.verdictIsSeen = verdict.width > 0 && verdict.right <= innerWidth;
        """,
        tmp_path,
        400,
    )
    assert told["first"].startswith("1: /stem/conv/Conv_output_0, channel 0: error 0, ")
    assert told["last"].startswith("29: scores, channel ")
    assert "from number 2, /stem/bn/BatchNormalization_output_0, on they differ" in told["words"]
    assert told["verdictIsSeen"] is True
    assert told["overflow"] <= 0


@pytest.mark.parametrize(("scheme", "bright"), [("light", True), ("dark", False)])
def test_what_it_looks_like(
    inspection_with_data: Inspection, tmp_path: Path, scheme: str, bright: bool
) -> None:
    image = picture(page(inspection_with_data), tmp_path, 800, scheme)
    assert image.width == 800
    ground = image.getpixel((2, 2))
    assert (min(ground) > 200) if bright else (max(ground) < 60)
    colours = {colour for _, colour in image.getcolors(1 << 24)}
    # An error of the style sheet leaves black text on one ground.
    assert len(colours) > 100
    reddest = max(r - (g + b) / 2 for r, g, b in colours)
    assert reddest > 60  # the bar of the layer with NaN
