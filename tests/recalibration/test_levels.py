"""The plan of levels: each node runs once, and what crosses a frontier is kept."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from bnfold.errors import UsageError
from bnfold.formats.onnx import OnnxModel
from bnfold.formats.onnx.run.observer import OnnxObserver
from bnfold.recalibration.levels import LevelPlan, plan_levels
from bnfold.recalibration.selection import Selection, select

from .networks import SAMPLES, Builder


def selection_of(path: Path, scratch: Path) -> tuple[OnnxObserver, Selection]:
    observer = OnnxObserver(OnnxModel(path), scratch)
    return observer, select(observer, str(path))


def plan_of(path: Path, scratch: Path) -> LevelPlan:
    observer, selection = selection_of(path, scratch)
    return plan_levels(observer.graph, selection.populations)


@pytest.mark.parametrize(("name", "levels"), [("residual", 7), ("repvgg", 4), ("preact", 7)])
def test_independent_layers_share_a_level(name: str, levels: int, tmp_path: Path) -> None:
    plan = plan_of(SAMPLES / f"{name}.onnx", tmp_path)
    assert len(plan.levels) == levels
    assert not plan.levels[-1].kept


def test_every_level_can_be_computed_from_what_is_kept(tmp_path: Path) -> None:
    for name in ("residual", "repvgg", "preact", "transposed", "mlp_bn_after"):
        plan = plan_of(SAMPLES / f"{name}.onnx", tmp_path)
        kept: tuple[str, ...] = ("image",)
        for level in plan.levels:
            assert set(level.inputs) <= set(kept)
            assert set(level.computed) | set(level.inputs) >= set(level.targets) | set(level.kept)
            kept = level.kept


def test_a_skip_connection_is_kept_only_while_it_is_needed(tmp_path: Path) -> None:
    builder = Builder()
    builder.conv("x", "stem")
    builder.norm(builder.conv("stem", "a"), "one")
    builder.norm(builder.conv("one", "b"), "two")
    builder.op("Add", ["two", "stem"], "sum")
    builder.norm(builder.conv("sum", "c"), "three")
    plan = plan_of(builder.save(tmp_path / "m.onnx", "three"), tmp_path)
    assert [set(level.kept) for level in plan.levels] == [{"a", "stem"}, {"b", "stem"}, set()]


def test_what_no_layer_depends_on_is_not_run(tmp_path: Path) -> None:
    builder = Builder()
    builder.norm(builder.conv("x", "a"), "one")
    builder.conv("one", "head")
    plan = plan_of(builder.save(tmp_path / "m.onnx", "head"), tmp_path)
    (level,) = plan.levels
    assert level.computed == ("a",) and not level.kept


def test_no_batch_norm_says_how_to_export(tmp_path: Path) -> None:
    builder = Builder()
    builder.conv("x", "a")
    with pytest.raises(UsageError, match=r"nothing to recalibrate.*PRESERVE"):
        selection_of(builder.save(tmp_path / "m.onnx", "a"), tmp_path)


def test_training_mode_is_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="training mode"):
        selection_of(SAMPLES / "residual_training_mode.onnx", tmp_path)


def test_a_layer_in_a_body_is_out_of_reach(tmp_path: Path) -> None:
    builder = Builder()
    builder.norm(builder.conv("x", "a"), "outer")
    then = Builder()
    then.norm("outer", "inner")
    path = builder.save(tmp_path / "m.onnx", "outer")
    model = onnx.load(path)
    result = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    body = helper.make_graph(then.nodes, "then", [], [result], then.tensors)
    plain = helper.make_node("Identity", ["outer"], ["same"])
    other = helper.make_graph(
        [plain], "else", [], [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)]
    )
    choice = helper.make_node("If", ["yes"], ["y"], name="if", then_branch=body, else_branch=other)
    model.graph.node.append(choice)
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.output[0].name = "y"
    onnx.save(model, path)
    _, selection = selection_of(path, tmp_path)
    assert [p.name for p in selection.populations] == ["outer"]
    (untouched,) = selection.untouched
    assert untouched.name == "inner" and "control-flow" in untouched.reason
