"""Foreign text in rich's markup: the one way in."""

from __future__ import annotations

from rich import markup

from bnfold.showable import showable


def escape(text: str) -> str:
    """``text`` so that it is shown as it is, and does nothing."""
    return markup.escape(showable(text))
