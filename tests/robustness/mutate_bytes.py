"""Files of other kinds damaged: their bytes, and the members of archives beneath the checksums."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile

_NUMBERS = ("0", "-1", "1", "3", "99999999999", "1e9", "null", '""', "[]", "NaN")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """``data`` damaged in a way that gets far into its reader."""
    if data.startswith(b"PK") and rng.random() < 0.75:
        return _archive(data, rng)
    if data[8:9] == b"{" and rng.random() < 0.6:
        return _safetensors(data, rng)
    return plain(data, rng)


def plain(data: bytes, rng: random.Random) -> bytes:
    """Cut, flipped bits, a piece gone or repeated, a number in the text changed."""
    if not data:
        return b"\0"
    how, at = rng.randrange(5), rng.randrange(len(data))
    if how == 0:
        return data[:at]
    if how == 1:
        return data[:at] + data[at + rng.randrange(1, 64) :]
    if how == 2:
        return data[:at] + data[max(0, at - 16) :]
    if how == 3:
        return _other_number(data, rng)
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 64))):
        # The beginning says how the rest is read.
        end = len(found) if rng.random() < 0.5 else min(len(found), 256)
        found[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(found)


def _other_number(data: bytes, rng: random.Random) -> bytes:
    digits = [i for i in range(min(len(data), 20000)) if chr(data[i]).isdigit()]
    if not digits:
        return data[::-1]
    at = rng.choice(digits)
    return data[:at] + rng.choice(_NUMBERS).encode() + data[at + 1 :]


def _archive(data: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    how = rng.randrange(6)
    if how == 0:
        del members[at]
    elif how == 1:
        members[at] = rng.choice(("", "x", name + "0", "../" + name)) or "y", content
    elif how == 2:
        members[at] = name, b""
    else:
        members[at] = name, plain(content, rng)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return target.getvalue()


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = rng.choice(sorted(header))
    entry = header[name]
    change = rng.randrange(6)
    if change == 0:
        entry["shape"] = rng.choice(([], [-1], [1 << 40], [0], ["a"], None, [3, 3]))
    elif change == 1:
        entry["dtype"] = rng.choice(("F16", "BF16", "I64", "BOOL", "F8_E4M3", "X", None, 3))
    elif change == 2:
        entry["data_offsets"] = rng.choice(([0, 0], [8, 4], [0, 1 << 60], [-1, 3], [], "a"))
    elif change == 3:
        header[rng.choice(("\x1b[31m", "", "a" * 999, "__metadata__"))] = header.pop(name)
    elif change == 4:
        del header[name]
    else:
        header["__metadata__"] = rng.choice((3, [], {"a": 1}, {"format": "x"}))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]
