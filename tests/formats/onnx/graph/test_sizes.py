"""Which sizes the dynamic axes are given: such that the model takes, and that differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from bnfold.data import InputSpec
from bnfold.formats.onnx.graph.inputs import bearable
from bnfold.formats.onnx.graph.sizes import INPUT_SIZES, SIZES, Sizes, choose


@dataclass
class Assigned:
    sizes: Sizes
    contradicts: bool
    complete: bool


def _chosen(
    takes: Callable[[int, int], bool], complete: Callable[[int, int], bool] = lambda *_: True
) -> list[Sizes]:
    found = choose(lambda s: Assigned(s, not takes(*s), complete(*s)), static=False)
    return [assigned.sizes for assigned in found]


def test_two_that_differ_in_both() -> None:
    assert _chosen(lambda *_: True) == [(2, 64), (3, 80)]


def test_static_axes_need_one() -> None:
    assert len(choose(lambda s: Assigned(s, False, True), static=True)) == 1


def test_complete_ones_come_first() -> None:
    assert _chosen(lambda *_: True, lambda _, other: other % 32 == 0) == [(2, 64), (4, 96)]


def test_sizes_that_the_model_does_not_take_are_none() -> None:
    assert _chosen(lambda _, other: other % 7 == 0) == [(2, 224), (3, 448)]


def test_of_one_size_the_batch_still_differs() -> None:
    assert _chosen(lambda _, other: other == 16) == [(1, 16), (2, 16)]


def test_of_one_batch_the_size_still_differs() -> None:
    assert _chosen(lambda batch, _: batch == 1) == [(1, 16), (1, 32)]


def test_one_assignment_where_there_is_no_other() -> None:
    assert _chosen(lambda *sizes: sizes == (2, 8)) == [(2, 8)]


@pytest.mark.parametrize("complete", [True, False])
def test_what_no_size_fits_is_not_lost(complete: bool) -> None:
    """Inference may be wrong about a model, and an unknown shape is only a reason to keep."""
    assert _chosen(lambda *_: False, lambda *_: complete) == list(SIZES[:2])


def test_sizes_that_make_inputs_huge_come_last_and_are_few() -> None:
    """An axis of a million elements beside a dynamic one: each try would take seconds."""
    image = InputSpec("x", np.dtype(np.float32), (None, 3, None, None))
    assert bearable([image], INPUT_SIZES) == list(INPUT_SIZES)
    long = InputSpec("x", np.dtype(np.float32), (None, 1, 1 << 20, None))
    assert bearable([long], INPUT_SIZES) == [(1, 16), (2, 8), (3, 32), (2, 64)]
    volume = InputSpec("x", np.dtype(np.float32), (None, 4, None, None, None))
    assert (2, 224) not in bearable([volume], INPUT_SIZES)[:-2]
