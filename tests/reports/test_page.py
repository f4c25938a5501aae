"""The page as text: self-contained, complete, escaped, and light."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
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
from bnfold.jobs import Inspection, fold, inspect, verify
from bnfold.proof.bounds import Measured
from bnfold.reports import html
from bnfold.reports.html import Origin, page, write_page

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


def without_script(text: str) -> str:
    """What there is to read where no script runs."""
    text = re.sub(r"(?s)<(script|style)\b.*?</\1>|<title>.*?</title>", "", text)
    return unescape(re.sub(r"<[^>]*>", "", text.replace("<wbr>", "")))


def many(result: Inspection, count: int) -> Inspection:
    """The same with ``count`` layers, findings included."""
    reports = tuple(replace(result.batch_norms[i % 3], name=f"stage{i}.norm") for i in range(count))
    names = {r.name: i for i, r in enumerate(result.batch_norms)}
    findings = tuple(
        replace(found, layer=f"stage{names[found.layer] + at}.norm")
        for found in result.findings
        if found.layer in names
        for at in range(0, count - 2, 3)
    )
    return replace(result, batch_norms=reports, findings=findings)


def wide(result: Inspection, channels: int) -> Inspection:
    """The same, each layer with so many channels."""

    def grown(report: Any) -> Any:
        norm = replace(
            report.norm,
            channels=channels,
            **{
                key: np.resize(getattr(report.norm, key), channels)
                for key in ("mean", "variance", "scale", "shift")
            },
        )
        mean = norm.mean + 0.1
        seen = Observed(mean, norm.variance, 10_000, np.stack([mean - 1, mean, mean + 1]))
        return replace(report, norm=norm, channels=channels, observed=seen)

    return replace(result, batch_norms=tuple(map(grown, result.batch_norms)))


@pytest.mark.parametrize("count", [1, 3, 500])
def test_nothing_is_loaded_from_anywhere(inspection_with_data: Inspection, count: int) -> None:
    text = page(many(inspection_with_data, count))
    elements = Elements(text)
    assert not elements.open
    links = [a.get("href") or "" for a in elements.all("a") + elements.all("link")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not [a for _, a in elements.found if "src" in a]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", text)


def test_a_large_network_has_a_light_page(inspection_with_data: Inspection) -> None:
    text = page(many(wide(inspection_with_data, 2048), 500))
    assert len(text.encode()) < 1_500_000
    assert len(Elements(text).found) < 20_000


def test_all_that_was_found_is_there_without_a_script(inspection_with_data: Inspection) -> None:
    text = page(inspection_with_data)
    read = without_script(text)
    assert all(f.code in read and f.message in read for f in inspection_with_data.findings)
    assert "Of 3 BatchNorm 1 can go and 2 stay" in read
    assert "from number 3 on" in read
    assert "Why it matters" in read
    assert all(word in read for word in ("stem|bn", "body<bn>", "head: bn", "is not linear"))
    assert "gate &amp; door.onnx" in text
    assert "<bn>" not in text


def test_a_rule_has_one_card(inspection_with_data: Inspection) -> None:
    text = page(many(inspection_with_data, 30))
    codes = {f.code for f in inspection_with_data.findings if f.layer is not None}
    assert len(Elements(text).all("article")) == len(codes)


def test_every_layer_can_be_reached(inspection_with_data: Inspection) -> None:
    elements = Elements(page(inspection_with_data))
    ids = [a.get("id") for _, a in elements.found if a.get("id")]
    assert len(ids) == len(set(ids))
    bars = [a for a in elements.all("a") if (a.get("href") or "").startswith("#bn-")]
    assert {str(a["href"])[1:] for a in bars} == {"bn-0", "bn-1", "bn-2"} <= set(ids)


def test_the_strip_shows_thresholds_of_the_settings(inspection_with_data: Inspection) -> None:
    limits = replace(inspection_with_data.thresholds, mean_warning=0.3, variance_error=7.0)
    assert "0.5σ or ×2" in page(inspection_with_data)
    text = page(replace(inspection_with_data, thresholds=limits))
    assert "0.3σ or ×2" in text
    assert "1σ or ×7" in text


def test_the_page_says_where_it_comes_from(inspection: Inspection) -> None:
    text = page(inspection, Origin("bnfold inspect '<b>.onnx'", "2026-01-02 03:04 UTC"))
    assert "bnfold inspect &#39;&lt;b&gt;.onnx&#39;" in text
    assert "2026-01-02 03:04 UTC" in text
    assert inspection.model.sha256 in text


def test_data_between_the_tags_of_a_script(inspection_with_data: Inspection) -> None:
    report = replace(inspection_with_data.batch_norms[0], name="</script><script>alert(1)</script>")
    text = page(replace(inspection_with_data, batch_norms=(report,)))
    assert "<script>alert" not in text
    assert text.count("<script") == 2
    found = re.search(r'id="channels"[^>]*>(.*?)</script>', text)
    assert found is not None
    assert len(json.loads(found[1])) == 1


def test_a_network_without_batch_norm(inspection: Inspection) -> None:
    empty = replace(
        inspection, batch_norms=(), findings=(), plan=replace(inspection.plan, decisions=())
    )
    text = page(empty)
    assert "No findings" in text
    assert "There is no BatchNorm in this model" in text


def test_the_plan_of_a_network_without_batch_norm(tmp_path: Path) -> None:
    onnx.save(SAMPLES["BN212"].sick(), tmp_path / "m.onnx")
    text = page(inspect(OnnxModel(tmp_path / "m.onnx")))
    assert not Elements(text).open
    assert "The plan for 2 affine operations" in text


def test_the_page_of_a_checkpoint(undecided: Inspection) -> None:
    text = page(undecided)
    assert not Elements(text).open
    assert "nobody can tell what becomes of them without the code" in text
    assert text.count('data-fate="unknown"') == 3
    assert "<option>unknown</option>" in text
    assert ">stays<" not in text


def test_the_page_of_a_fold(sample_models: Path, tmp_path: Path) -> None:
    model = OnnxModel(sample_models / "preact.onnx")
    text = page(fold(model, tmp_path / "out.onnx"))
    assert not Elements(text).open
    assert "Folded and verified" in text
    assert "All 7 BatchNorm went" in text
    assert "both ways" in text
    assert text.count('data-glyph="↔"') == 4
    read = without_script(text)
    assert all(size in read for size in ("38,554", "38,026", "3,335,444", "3,325,204"))
    assert f"{(tmp_path / 'out.onnx').stat().st_size:,}" in read
    assert "Dry run" in page(fold(model, None))


def test_the_page_of_a_fold_that_was_not_the_same(sample_models: Path, tmp_path: Path) -> None:
    done = fold(OnnxModel(sample_models / "residual.onnx"), tmp_path / "out.onnx")
    assert done.verification is not None and done.verification.pieces is not None
    wrong = replace(done.verification.pieces[3], error=np.inf, ratio=np.inf, passed=False)
    pieces = (*done.verification.pieces[:3], wrong, *done.verification.pieces[4:])
    failed = replace(done, verification=replace(done.verification, pieces=pieces), output=None)
    text = page(failed)
    assert "Nothing written: the verification failed" in text
    assert f"the first wrong value is {wrong.name}" in text.replace("<wbr>", "")
    beyond = re.search(r'<path class="beyond dots"[^>]* d="([^"]*)"', text)
    assert beyond is not None and beyond[1].endswith(" 0.0h0")


def test_the_page_of_a_recalibration(sample_models: Path, tmp_path: Path) -> None:
    from bnfold.jobs.recalibrate import recalibrate

    model = OnnxModel(sample_models / "residual_stale_statistics.onnx")
    data = sample_models / "digits_calibration.npz"
    text = page(recalibrate(model, tmp_path / "out.onnx", data))
    assert not Elements(text).open
    read = without_script(text)
    assert "8 BatchNorm measured anew on 512 samples" in read
    assert "27.1% of the predictions changed on 192 of them" in read
    assert "stored and observed statistics agree" in read
    assert len([a for a in Elements(text).all("div") if a.get("class") == "plot"]) == 2


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/a/b.c", "/a/|b.|c"),
        ("layer1.0.conv_1", "layer1.0.|conv_|1"),
        ("24.0% of x", "24.0% of x"),
        ("<b>/x", "&lt;b&gt;/x"),
        ("", ""),
    ],
)
def test_where_names_break(name: str, shown: str) -> None:
    assert str(html._breaks(name)) == shown.replace("|", "<wbr>")


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
    style = (Path(html.__file__).parent / "page.css").read_text(encoding="utf-8")
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
    result = verify(OnnxModel(sample_models / "residual.onnx"), OnnxModel(sample_models / other))
    text = page(result)
    elements = Elements(text)
    assert not elements.open
    assert other in text and "scores" in text
    assert ("Both compute the same" in text) == result.ok == (other == "residual.onnx")
    hashes = {result.reference.sha256, result.candidate.sha256}
    assert all(each in text for each in hashes)
    # Where they part is a chart; of one output that is the same, a number says as much.
    plots = [each for each in elements.all("div") if each.get("class") == "plot"]
    assert len(plots) == (not result.ok)
    if not result.ok:
        assert "the first of 29 compared values that differs is number 2" in text


def test_a_comparison_of_several_outputs_is_drawn(sample_models: Path) -> None:
    """Each output against its own floor; none where bounds of the user's judge."""
    same = verify(*[OnnxModel(sample_models / "residual.onnx")] * 2)
    output = same.verification.outputs[0]
    outputs = (output, replace(output, name="second", max_abs_error=1e-6, ratio=0.5))
    text = page(replace(same, verification=replace(same.verification, outputs=outputs)))
    assert "Error of 2 outputs against their rounding floors" in text and "2: second: error" in text
    bounded = replace(output, bounds=(Measured("max", 0.0, 1.0, True),))
    several = replace(same.verification, outputs=(bounded, bounded))
    text = page(replace(same, verification=several))
    plots = [each for each in Elements(text).all("div") if each.get("class") == "plot"]
    assert not plots and "keep to the bounds asked for" in text


def test_nothing_that_tells_is_no_agreement(sample_models: Path) -> None:
    same = verify(*[OnnxModel(sample_models / "residual.onnx")] * 2)
    blind = replace(same.verification.outputs[0], informs=False)
    text = page(replace(same, verification=replace(same.verification, outputs=(blind,))))
    assert "Nothing that was compared could have shown a difference" in text
    assert "Both compute the same" not in text
