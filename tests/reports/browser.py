"""A page in Chromium: opened for real, driven by a script that writes down what came of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@cache
def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


def needs_chromium() -> None:
    if _chromium() is None:
        pytest.skip("no Chromium here, so the page was not opened in a browser")


def _run(file: Path, *options: str, width: int, scheme: str = "light") -> tuple[str, str]:
    program = _chromium()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                program, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                f"--user-data-dir={profile}", f"--window-size={width},900",
                f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
                "--virtual-time-budget=4000", *options, file.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    return done.stdout, done.stderr


def drive(text: str, script: str, folder: Path, width: int = 1400) -> dict[str, Any]:
    """Opens a page and runs ``script`` in it, an async function body that fills in ``told``.

    Nothing may be said on the console, where errors go.
    """
    needs_chromium()
    driver = (
        '<script>addEventListener("load", async () => { const told = {};'
        "const $ = (s) => document.querySelector(s), $$ = (s) => [...document.querySelectorAll(s)];"
        "const press = (e, key) => e.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));"
        "const wait = (ms = 60) => new Promise((done) => setTimeout(done, ms));"
        f"{script}"
        "told.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;"
        'const pre = document.createElement("pre"); pre.id = "told";'
        "pre.textContent = JSON.stringify(told); document.body.append(pre); });</script>"
    )
    file = folder / "page.html"
    file.write_text(text.replace("</body>", f"{driver}</body>"), encoding="utf-8")
    page, log = _run(file, "--dump-dom", width=width)
    assert "CONSOLE" not in log, log
    match = re.search(r'<pre id="told">(.*?)</pre>', page)
    assert match is not None, page[-2000:]
    found: dict[str, Any] = json.loads(unescape(match[1]))
    return found


def picture(text: str, folder: Path, width: int, scheme: str) -> Any:
    """What the page looks like, as an image of Pillow's."""
    needs_chromium()
    image = pytest.importorskip("PIL.Image")
    file, shot = folder / "page.html", folder / "page.png"
    file.write_text(text, encoding="utf-8")
    _run(file, f"--screenshot={shot}", "--hide-scrollbars", width=width, scheme=scheme)
    return image.open(shot).convert("RGB")
