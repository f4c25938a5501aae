"""Axes that the tracer was told to leave free, and what it found them to be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import bnfold
from bnfold.formats.torch import open_module
from bnfold.formats.torch.graph.axes import with_other_sizes
from torch_cases import Lambda, bn, conv, randomised


def _turned(m: Any, x: Tensor) -> Tensor:
    """The last axis of a table of frames becomes the channels of a norm."""
    y: Tensor = m.n(x.unsqueeze(1).transpose(1, 3)).transpose(1, 3)
    z: Tensor = m.c(y)
    return z


def test_norm_over_an_axis_that_only_turned_out_to_be_fixed_is_seen() -> None:
    module = randomised(Lambda(_turned, n=bn(6), c=conv(1, 3)))
    x = torch.randn(2, 9, 6)
    program = open_module(module, (x,), dynamic="auto")
    given = [n for n in program.program.graph.nodes if n.name == program.inputs[0].name]
    assert isinstance(given[0].meta["val"].shape[2], torch.SymInt)  # a symbol that stands for six
    assert [norm.name for norm in program.graph.norms] == ["n"]
    assert [spec.shape for spec in program.inputs] == [(None, None, 6)]
    result: Any = bnfold.fold(module, (x,))
    assert result.ok and [d.name for d in result.plan.batch_norms] == ["n"]
    assert result.batch_norms_left == result.plan.kept == 1


def test_norm_over_an_axis_that_is_computed_from_a_free_one_is_seen() -> None:
    """The sizes of a picture decide how many numbers a vector has; the norm takes one size alone."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y: Tensor = m.d(m.n(m.c(x).flatten(1)))
        return y

    module = randomised(Lambda(forward, c=conv(3, 4), n=nn.BatchNorm1d(256), d=nn.Linear(256, 5)))
    result: Any = bnfold.fold(module, (torch.randn(2, 3, 8, 8),))
    assert result.ok and [d.name for d in result.plan.batch_norms] == ["n"]
    assert not any("BatchNorm stay" in note for note in result.notes)


def test_other_sizes_are_tried_beside_an_axis_that_turned_out_to_be_fixed() -> None:
    module = randomised(Lambda(_turned, n=bn(6), c=conv(1, 3)))
    program = open_module(module, (torch.randn(2, 9, 6),), dynamic="auto").program
    other = with_other_sizes(program)
    assert other is not None and other[0][0].shape == (2, 41, 6)


def test_norm_whose_channels_are_free_is_said_to_stay() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, None, None, training=True)

    shapes = {"args": ({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},)}
    model = open_module(Lambda(forward).eval(), (torch.randn(4, 6),), dynamic=shapes)
    assert model.graph.norms == []
    assert any("1 BatchNorm stay" in note for note in model.graph.notes)
