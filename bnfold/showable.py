"""Text from files and command lines, made fit to be shown.

Names of layers, files and tensors come from strangers. A terminal obeys escape sequences in them,
GitHub's log obeys lines that begin with ``::error::``, and a reader believes a line that a line
break in a name begins, or letters that a bidirectional override puts in another order.
"""

from __future__ import annotations

import re
import unicodedata

# What moves the cursor, hides, or turns round: control, format, surrogate, private, unassigned
# characters, and the separators of lines and paragraphs.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_WORKFLOW_COMMAND = re.compile(r"::(?=[\w-]+(?:\s[^:]*)?::)")
_OLD_WORKFLOW_COMMAND = re.compile(r"##(?=\[)")


def showable(text: str) -> str:
    """``text`` in one line, with everything that is no visible character written as an escape."""
    if text.isascii() and text.isprintable():
        seen = text
    else:
        seen = "".join(_escaped(c) if unicodedata.category(c) in _UNSEEN else c for c in text)
    return _OLD_WORKFLOW_COMMAND.sub(r"#\\x23", _WORKFLOW_COMMAND.sub(r":\\x3a", seen))


def _escaped(character: str) -> str:
    code = ord(character)
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
