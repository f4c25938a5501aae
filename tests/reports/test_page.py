"""The page: self-contained, complete, and working in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from audit.samples import SAMPLES
from bnfold.algebra.affine import Array
from bnfold.audit import Observed
from bnfold.errors import OutputError, UsageError
from bnfold.formats.onnx import OnnxModel
from bnfold.jobs import Inspection, fold, inspect
from bnfold.reports.html import charts, page, write_page

pytest.importorskip("jinja2")


class Elements(HTMLParser):
    """All elements with their attributes, and whether every tag is closed."""

    _VOID = frozenset(("meta", "link", "input", "wbr", "br"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.found if found == tag]


def many(result: Inspection, count: int) -> Inspection:
    """The same with ``count`` layers."""
    reports = tuple(replace(result.batch_norms[i % 3], name=f"stage{i}.norm") for i in range(count))
    return replace(result, batch_norms=reports)


@pytest.mark.parametrize("count", [1, 3, 500])
def test_nothing_is_loaded_from_anywhere(inspection_with_data: Inspection, count: int) -> None:
    text = page(many(inspection_with_data, count))
    elements = Elements(text)
    assert not elements.open
    links = [a.get("href") or "" for a in elements.all("a") + elements.all("link")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not [a for _, a in elements.found if "src" in a]
    assert not re.search(r"https?://|@import|url\(", text)
    assert len(text) < 20_000 * count + 100_000


def test_all_that_was_found_is_there(inspection_with_data: Inspection) -> None:
    text = page(inspection_with_data)
    assert all(f.code in text for f in inspection_with_data.findings)
    assert "Why it matters" in text
    assert "gate &amp; door.onnx" in text
    assert "body&lt;bn&gt;" in text
    assert "<bn>" not in text


def test_every_layer_can_be_reached(inspection_with_data: Inspection) -> None:
    elements = Elements(page(inspection_with_data))
    ids = [a.get("id") for _, a in elements.found if a.get("id")]
    assert len(ids) == len(set(ids))
    bars = [a for a in elements.all("a") if (a.get("href") or "").startswith("#bn-")]
    assert {str(a["href"])[1:] for a in bars} == {"bn-0", "bn-1", "bn-2"} <= set(ids)


def test_charts_speak(inspection_with_data: Inspection) -> None:
    spoken = [a.get("aria-label") or "" for a in Elements(page(inspection_with_data)).all("svg")]
    assert len(spoken) == 4 * 3 + 2
    assert all("channels" in words or "percentile" in words for words in spoken)
    assert any("(1 not finite)" in words for words in spoken)


@pytest.mark.parametrize(
    "values", [[1.0], [1.0, 1.0], [np.nan, np.nan], [0.0, 1e-45, 1e9], [np.inf, 1]]
)
def test_charts_of_strange_values(values: list[float]) -> None:
    array = np.array(values)
    for variance in (False, True):
        drawn = charts.profile("Variance", array, array * 2, variance=variance)
        assert "nan" not in drawn
        assert "inf" not in drawn.replace("not finite", "")
    assert "nan" not in charts.percentile_band(np.stack([array] * 3), array, np.abs(array))


def test_a_network_without_batch_norm(inspection: Inspection) -> None:
    empty = replace(
        inspection, batch_norms=(), findings=(), plan=replace(inspection.plan, decisions=())
    )
    assert "No findings" in page(empty)


def test_the_plan_of_a_network_without_batch_norm(tmp_path: Path) -> None:
    onnx.save(SAMPLES["BN212"].sick(), tmp_path / "m.onnx")
    text = page(inspect(OnnxModel(tmp_path / "m.onnx")))
    assert not Elements(text).open
    assert "The plan for 2 affine operations" in text


def test_the_page_of_a_checkpoint(undecided: Inspection) -> None:
    text = page(undecided)
    assert not Elements(text).open
    assert "What becomes of it is unknown without the code of the network." in text
    assert text.count('data-fate="unknown"') == 3
    assert "<option>unknown</option>" in text
    assert "What a fold would do" not in text
    assert ">stay<" not in text


def test_the_page_of_a_fold(sample_models: Path, tmp_path: Path) -> None:
    model = OnnxModel(sample_models / "preact.onnx")
    text = page(fold(model, tmp_path / "out.onnx"))
    assert not Elements(text).open
    assert "Folded and verified" in text
    assert "both ways into" in text
    assert "Dry run" in page(fold(model, None))


def test_the_page_of_a_recalibration(sample_models: Path, tmp_path: Path) -> None:
    from bnfold.jobs.recalibrate import recalibrate

    model = OnnxModel(sample_models / "residual_stale_statistics.onnx")
    data = sample_models / "digits_calibration.npz"
    text = page(recalibrate(model, tmp_path / "out.onnx", data))
    assert not Elements(text).open
    assert "Statistics before and after" in text
    assert "stored and observed statistics agree" in text


def _luminance(colour: Array) -> float:
    """Relative luminance of sRGB in [0, 1]; WCAG 2.2."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _contrast(one: Array, other: Array) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_from_their_ground(scheme: int) -> None:
    """WCAG 2.2, level AA: 4.5 for text, on the tint of a badge as well, and 3 for what is drawn."""
    style = (Path(charts.__file__).parent / "page.css").read_text(encoding="utf-8")
    block = re.findall(r":root\{(--bg[^}]*)\}", style)[scheme]
    entries = dict(re.findall(r"--(\w+):([^;}]*)", block))
    colours = {
        name: np.array([int(value[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        for name, value in entries.items()
        if re.fullmatch("#[0-9a-f]{6}", value)
    } | ({"card": np.ones(3)} if entries["card"] == "#fff" else {})
    tint = (int(entries["tint"].rstrip("%")) + 4) / 100
    for ground in (colours["bg"], colours["card"]):
        for name in ("error", "warning", "note", "fine"):
            badge = tint * colours[name] + (1 - tint) * ground
            assert _contrast(colours[name], badge) >= 4.5, name
        assert _contrast(colours["soft"], ground) >= 4.5
        assert all(_contrast(colours[n], ground) >= 3 for n in ("calm", "stored", "observed"))


def test_refusals(inspection: Inspection, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing"):
        write_page(inspection, tmp_path / "missing" / "page.html")

    class Other:
        def to_json(self) -> dict[str, Any]:
            return {"command": "dance"}

    with pytest.raises(UsageError, match="no page for dance"):
        page(Other())


_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# What a user does, as a script that writes down what came of it.
_DRIVER = """
<script>
addEventListener("load", () => {
  const told = {};
  const table = document.querySelector("#layers");
  const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const names = () => shown().map((row) => row.cells[1].innerText.trim());
  const press = (target, key) => target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  told.order = names();
  const heads = [...table.tHead.rows[0].cells];
  const shift = heads.find((h) => h.innerText.startsWith("mean shift"));
  shift.querySelector("button").click();
  told.byShift = names();
  told.sorted = shift.getAttribute("aria-sort");
  shift.querySelector("button").click();
  told.sortedAgain = shift.getAttribute("aria-sort");
  const tools = document.querySelector('[data-for="layers"]');
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
  const bars = [...document.querySelectorAll(".strip a")];
  bars[0].focus();
  press(bars[0], "ArrowRight");
  told.focused = bars.indexOf(document.activeElement);
  told.tabStops = bars.filter((b) => b.tabIndex === 0).length;
  bars[2].click();
  const plan = document.querySelector("#plan-table").closest("details");
  dispatchEvent(new Event("beforeprint"));
  told.printed = plan.open;
  dispatchEvent(new Event("afterprint"));
  told.printedAfter = plan.open;
  told.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  setTimeout(() => {
    told.opened = document.querySelector("#bn-2").open;
    told.current = bars[2].getAttribute("aria-current");
    const pre = document.createElement("pre");
    pre.id = "told";
    pre.textContent = JSON.stringify(told);
    document.body.append(pre);
  }, 100);
});
</script>
"""


@pytest.mark.parametrize("width", [400, 1400])
def test_in_a_browser(inspection_with_data: Inspection, tmp_path: Path, width: int) -> None:
    chromium = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if chromium is None:
        pytest.skip("no Chromium here, so the page was not opened in a browser")
    file = tmp_path / "page.html"
    file.write_text(
        page(inspection_with_data).replace("</body>", f"{_DRIVER}</body>"), encoding="utf-8"
    )
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900",
            "--virtual-time-budget=4000", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    match = re.search(r'<pre id="told">(.*?)</pre>', done.stdout)
    assert match is not None, done.stdout[-2000:]
    told = json.loads(match[1])
    assert told["order"] == ["stem|bn", "body&lt;bn&gt;", "head: bn"]
    assert told["byShift"][0] == "head: bn"
    assert (told["sorted"], told["sortedAgain"]) == ("descending", "ascending")
    assert told["filtered"] == ["head: bn"]
    assert told["count"] == "1 of 3"
    assert sorted(told["errors"]) == ["head: bn", "stem|bn"]
    assert (told["focused"], told["tabStops"]) == (1, 1)
    assert (told["opened"], told["current"]) == (True, "true")
    assert (told["printed"], told["printedAfter"]) == (True, False)
    assert told["overflow"] <= 0


def test_observations_of_another_size_are_left_out(inspection: Inspection) -> None:
    odd = Observed(np.zeros(3), np.ones(3), 10, np.zeros((3, 3)))
    report = replace(inspection.batch_norms[0], observed=odd)
    assert report.drift is None
    assert page(replace(inspection, batch_norms=(report,)))


def test_inspect_has_the_arrays_of_the_charts(sample_models: Path) -> None:
    result = inspect(OnnxModel(sample_models / "residual.onnx"))
    assert result.batch_norms[0].norm.mean.shape == (16,)


@pytest.mark.parametrize("other", ["residual.onnx", "residual_stale_statistics.onnx"])
def test_a_comparison_has_a_page(other: str, sample_models: Path) -> None:
    from bnfold.jobs import verify

    result = verify(OnnxModel(sample_models / "residual.onnx"), OnnxModel(sample_models / other))
    text = page(result)
    elements = Elements(text)
    assert not elements.open
    assert other in text and "scores" in text
    assert ("Both compute the same" in text) == result.ok == (other == "residual.onnx")
