"""In-place operators go without a second trace where nobody else holds the memory they write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnfold
from bnfold.errors import ModelError, TracingError
from bnfold.formats.torch.graph import in_place
from bnfold.formats.torch.graph.arguments import mutates
from bnfold.formats.torch.graph.trace import trace
from torch_cases import Lambda, bn, conv, randomised


def _rectified(m: Any, x: Tensor) -> Any:
    return F.relu_(m.b(m.c(x)))


def _read_before_and_behind(m: Any, x: Tensor) -> Any:
    y = m.c(x)
    before = y * 2
    y.relu_()
    return before + y + m.b(y)


def _branches(m: Any, x: Tensor) -> Any:
    y = m.b(m.c(x))
    y += m.c(x)
    return F.dropout(F.silu(y, inplace=True), 0.5, m.training, inplace=True)


def _viewed_before(m: Any, x: Tensor) -> Any:
    y = m.c(x)
    seen = y.flatten(1)
    y.relu_()
    return seen


def _dropped_before(m: Any, x: Tensor) -> Any:
    y = m.c(x)
    same = F.dropout(y, 0.5, m.training)  # off, it hands on what it was given
    y.relu_()
    return same * 1.5


def _input(m: Any, x: Tensor) -> Any:
    return m.c(F.relu_(x))


def _returned(m: Any, x: Tensor) -> Any:
    y: Tensor = m.c(x)
    y.relu_()
    return y


def _view_written(m: Any, x: Tensor) -> Any:
    y: Tensor = m.c(x)
    y[:, 0] = 1.0
    return m.b(y)


def _narrow(m: Any, x: Tensor) -> Any:
    y: Tensor = m.c(x).half()
    return (y * 1).add_(m.c(x)).float()


def _with_itself(m: Any, x: Tensor) -> Any:
    y: Tensor = m.c(x)
    return y.mul_(y)


def program(forward: Callable[..., Any]) -> tuple[nn.Module, Any]:
    module = randomised(Lambda(forward, c=conv(), b=bn()))
    with torch.no_grad():
        return module, torch.export.export(module, (torch.randn(2, 3, 8, 8),))


def same(module: nn.Module, found: Any) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, own = module(x.clone()), found.module()(x.clone())
    torch.testing.assert_close(own, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("forward", [_rectified, _read_before_and_behind, _branches, _returned])
def test_plain_writes_go(forward: Callable[..., Any]) -> None:
    module, found = program(forward)
    assert any(map(mutates, found.graph.nodes))
    in_place.without_plain_writes(found)
    assert not any(map(mutates, found.graph.nodes))
    assert in_place.functional(found) is found
    same(module, found)


OTHERS = [_viewed_before, _dropped_before, _input, _view_written, _narrow, _with_itself]


@pytest.mark.parametrize("forward", OTHERS)
def test_others_are_left_to_torch(forward: Callable[..., Any]) -> None:
    module, found = program(forward)
    in_place.without_plain_writes(found)
    assert any(map(mutates, found.graph.nodes))
    same(module, found)


def test_what_torch_takes_out_wrongly_is_refused() -> None:
    """Dropout that is off becomes a copy there, which does not see what is written later."""
    module, found = program(_dropped_before)
    with pytest.raises(AssertionError, match="not equal"):
        same(module, in_place.functional(found))
    with pytest.raises(TracingError, match="something else then"):
        trace(module, (torch.randn(2, 3, 8, 8),))


def test_nor_is_such_a_file_taken_for_right(tmp_path: Path) -> None:
    torch.export.save(program(_dropped_before)[1], tmp_path / "wrong.pt2")
    with pytest.raises(ModelError, match="another value shares"):
        bnfold.inspect(tmp_path / "wrong.pt2")
    module, found = program(_viewed_before)
    torch.export.save(found, tmp_path / "right.pt2")
    model: Any = bnfold.load(tmp_path / "right.pt2")
    same(module, model.program)


@pytest.mark.parametrize("forward", [_viewed_before, _view_written, _narrow, _with_itself])
def test_what_torch_takes_out_is_right(forward: Callable[..., Any]) -> None:
    module, _ = program(forward)
    same(module, trace(module, (torch.randn(2, 3, 8, 8),))[0])


@pytest.mark.parametrize("forward", [_viewed_before, _dropped_before])
def test_without_the_check_they_would_be_wrong(
    forward: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, found = program(forward)
    monkeypatch.setattr(in_place, "_is_alone", lambda node, order: True)
    in_place.without_plain_writes(found)
    with pytest.raises(AssertionError, match="not equal"):
        same(module, found)
