"""Names that a terminal, a log or a page would obey: harmless in every format and every sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx
import pytest

from bnfold.showable import showable
from situations.build import Net
from situations.command import Command

_NASTY = (
    "\x1b[31m\x1b]0;owned\x07",
    "\n::error file=x::pwned",
    "\r::add-mask::secret",
    "a\u202egnp.exe\u2066",
    "##[add-matcher]x",
    "<script>alert(1)</script>",
    "![x](http://evil.example/t.png)",
    "\u2028\u200b\x00\x9b31m",
    "[bold red]not markup[/]",
    "|`| cell",
)
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069]")
_COMMAND = re.compile(r"(?m)^\s*::[\w-]+(\s[^:]*)?::|##\[")
_OUR_COMMANDS = re.compile(r"(?m)^::(error|warning|notice) file=[^:\n]*,title=BN\d+ [\w-]+::")


def model(path: Path, nasty: str) -> Path:
    """Everything that has a name has this one, and there is something to report of each layer."""
    net = Net()
    x = net.input("N", 3, "H", "W")
    y = net.bn(net.relu(net.bn(net.conv(x, 3, 4), 4)), 4, name="second")
    found = net.model(net.relu(y))
    norms = [n for n in found.graph.node if n.op_type == "BatchNormalization"]
    for number, node in enumerate(found.graph.node):
        node.name = f"{nasty}{number}"
    for tensor in found.graph.initializer:
        if tensor.name in {n.input[4] for n in norms[:1]}:
            tensor.raw_data = onnx.numpy_helper.from_array(
                -onnx.numpy_helper.to_array(tensor), ""
            ).raw_data  # a negative variance
    output = found.graph.output[0]
    found.graph.node[-1].output[0] = output.name = f"{nasty}out"
    onnx.save(found, path)
    return path


def _harmless(text: str) -> None:
    assert not _FORBIDDEN.search(text), repr(_FORBIDDEN.search(text))
    assert not _COMMAND.search(_OUR_COMMANDS.sub("", text)), text


@pytest.mark.parametrize("nasty", _NASTY, ids=ascii)
def test_every_text_format(nasty: str, command: Command, tmp_path: Path) -> None:
    model(tmp_path / "nasty.onnx", nasty)
    for format in ("text", "markdown", "github", "sarif"):
        outcome = command("inspect", "nasty.onnx", "--format", format, "--fail-on", "never")
        assert outcome.code == 0 and outcome.out, outcome.err
        _harmless(outcome.out)
    _harmless(command("inspect", "nasty.onnx", "-v", "--fail-on", "never").out)
    outcome = command("fold", "nasty.onnx", "-o", "out.onnx", "--report", "page.html")
    assert outcome.code == 0, outcome
    _harmless(outcome.out)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    _harmless(page)
    assert "<script>alert" not in page


@pytest.mark.parametrize("nasty", _NASTY, ids=ascii)
def test_json_tells_the_name_as_it_is(nasty: str, command: Command, tmp_path: Path) -> None:
    model(tmp_path / "nasty.onnx", nasty)
    text = command("inspect", "nasty.onnx", "--format", "json", "--fail-on", "never").out
    assert text.isascii()
    names = [layer["name"] for layer in json.loads(text)["batch_norms"]]
    assert all(nasty in name for name in names)


def test_markdown_loads_nothing(command: Command, tmp_path: Path) -> None:
    model(tmp_path / "nasty.onnx", "![x](http://evil.example/t.png)")
    text = command("inspect", "nasty.onnx", "--format", "markdown", "--fail-on", "never").out
    outside_code = re.sub(r"`[^`]*`", "", text)
    assert "![x]" not in outside_code and "<script" not in outside_code


@pytest.mark.parametrize("nasty", [n for n in _NASTY if "\x00" not in n], ids=ascii)
def test_names_in_sentences(nasty: str, command: Command, tmp_path: Path) -> None:
    name = nasty.replace("/", "_")
    (tmp_path / f"{name}.onnx").write_bytes(b"no model")
    for arguments in (["inspect", f"{name}.onnx"], ["inspect", f"{name}-absent.onnx"]):
        outcome = command(*arguments)
        assert outcome.code == 2
        _harmless(outcome.err)
        assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("nasty", [n for n in _NASTY if "\x00" not in n], ids=ascii)
def test_locations_of_external_data(nasty: str, command: Command, tmp_path: Path) -> None:
    found = onnx.load(tmp_path / "model.onnx")
    tensor = found.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=nasty)
    (tmp_path / "evil.onnx").write_bytes(found.SerializeToString())
    outcome = command("inspect", "evil.onnx")
    assert outcome.code == 2
    _harmless(outcome.err)
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/block1/bn", "/block1/bn"),
        ("größe/模型", "größe/模型"),
        ("a\x1bb\nc", "a\\x1bb\\nc"),
        ("::error::x", ":\\x3aerror::x"),
        ("x ::group file=a::", "x :\\x3agroup file=a::"),
        ("aten::relu", "aten::relu"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_showable(text: str, shown: str) -> None:
    assert showable(text) == shown


_MARKUP = '"\'><img src=x onerror="window.owned=1"></script><script>window.owned=1</script>{{7*7}}'


@pytest.mark.parametrize("job", ["inspect", "fold"])
def test_names_are_text_in_a_browser(job: str, tmp_path: Path) -> None:
    """Whatever the page's own script does with them: tooltips, the panel, the chosen layer."""
    from bnfold.formats.onnx import OnnxModel
    from bnfold.jobs import fold, inspect
    from bnfold.reports.html import Origin, page
    from reports.browser import drive

    opened = OnnxModel(model(tmp_path / "nasty.onnx", _MARKUP))
    result = inspect(opened) if job == "inspect" else fold(opened, tmp_path / "out.onnx")
    told = drive(
        page(result, Origin(_MARKUP, _MARKUP)),
        """
        for (const each of $$(".strip a, .plot, .network")) {
          each.focus();
          press(each, "ArrowRight");
        }
        location.hash = "#bn-1";
        await wait();
        told.named = $("main").textContent.split("<img src=x").length;
        told.images = $$("img").length;
        told.scripts = $$("script:not([type])").length;
        told.owned = window.owned === undefined;
        told.computed = $("main").textContent.includes("script>49");
        """,
        tmp_path,
    )
    assert told["named"] > 3
    assert (told["images"], told["owned"], told["computed"]) == (0, True, False)
    assert told["scripts"] == 2  # the page's own, and the one of this test
