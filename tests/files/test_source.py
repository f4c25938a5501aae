"""A file is read as it was when it was opened, part by part as well; a change on the way is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bnfold.errors import ModelError
from bnfold.files import SourceFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(250)) * 4000)
    return file


def test_parts_are_what_stands_there(path: Path) -> None:
    parts = [bytes(part) for part in SourceFile(path).parts(5, [3, 0, 70_000, 1])]
    content = path.read_bytes()
    assert parts == [content[5:8], b"", content[8:70_008], content[70_008:70_009]]


def test_pieces_are_all_of_it(path: Path) -> None:
    source = SourceFile(path)
    assert b"".join(bytes(p) for p in source.pieces(0, source.size)) == path.read_bytes()
    assert list(source.pieces(7, 0)) == []


@pytest.mark.parametrize("change", ["cut", "written"])
def test_a_change_between_two_parts(change: str, path: Path) -> None:
    parts = SourceFile(path).parts(0, [100, 100, 100])
    next(parts)
    if change == "cut":
        os.truncate(path, 150)
    else:
        path.write_bytes(bytes(1_000_000))
        os.utime(path, ns=(1, 1))
    with pytest.raises(ModelError, match="changed"):
        list(parts)


def test_another_file_in_its_place_between_two_parts(path: Path) -> None:
    """What is being read is the old one, whole; the next look says so."""
    source = SourceFile(path)
    parts = source.parts(0, [100, 100])
    next(parts)
    path.with_name("other").write_bytes(bytes(1_000_000))
    os.replace(path.with_name("other"), path)
    assert bytes(next(parts)) == (bytes(range(250)) * 4)[100:200]
    with pytest.raises(ModelError, match="changed"):
        source.check()


def test_more_than_there_is(path: Path) -> None:
    with pytest.raises(ModelError, match="changed"):
        list(SourceFile(path).parts(999_990, [5, 6]))
