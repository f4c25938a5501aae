"""JSON is laid out on short lines, and says the same as the standard library's."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bnfold.reports import json_text

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.lists(inner, max_size=8).map(tuple)
        | st.dictionaries(st.text(max_size=8), inner, max_size=8)
    ),
    max_leaves=60,
)


def _without_what_is_no_number(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_constant=lambda name: None)


@given(_VALUES)
def test_it_says_the_same(value: Any) -> None:
    text = json_text(value)
    assert text.endswith("\n")
    assert json.loads(text, parse_constant=_no_constant) == _without_what_is_no_number(value)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_its_lines() -> None:
    short, long = {"a": [1, 2]}, {"name": "n" * 60, "values": list(range(12))}
    lines = json_text({"short": short, "long": long, "none": []}).splitlines()
    assert lines[:4] == [
        "{",
        '  "short": {"a": [1, 2]},',
        '  "long": {',
        f'    "name": "{"n" * 60}",',
    ]
    assert lines[-2:] == ['  "none": []', "}"]


def test_what_is_no_number_is_null() -> None:
    assert json_text([float("nan"), float("inf"), 1.5]) == "[null, null, 1.5]\n"
