"""Damaged files: one sentence that says what is wrong; what onnxruntime runs is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.errors import ModelError
from bnfold.formats.onnx import OnnxModel
from bnfold.planning.decision import Action
from situations.build import Net, body
from situations.command import Command, files_in, is_one_sentence

DAMAGED = Path(__file__).parent / "damaged"

# Each file is a Conv, a BatchNormalization and a Relu with one thing wrong.
SENTENCES = {
    "dims_vs_raw": "tensor 'bn_g' of dimensions [5] holds 16 bytes where 20 are due",
    "raw_cut": "tensor 'bn_g' of dimensions [4] holds 15 bytes where 16 are due",
    "dtype99": "tensor 'bn_g' has the unknown data type 99",
    "huge_dim": "holds 0 numbers where 1099511627776 are due",
    "neg_dim": "tensor 'bn_g' has negative dimensions, [-5]",
    "bn_no_inputs": "'BatchNormalization' 'bn' has 0 inputs where 5 are due",
    "pads_int": "'Conv' 'conv' has the attribute 'pads' of type INT, not INTS",
    "eps_list": "has the attribute 'epsilon' of type INTS, not FLOAT",
    "eps_str": "has the attribute 'epsilon' of type STRING, not FLOAT",
    "group0": "'Conv' 'conv' has the attribute 'group' = 0",
    "group3": "'Conv' 'conv' has a weight of shape (4, 3, 3, 3) for 3 groups",
    "group-1": "'Conv' 'conv' has the attribute 'group' = -1",
    "ref_attr": "'Conv' 'conv' takes 'pads' from a function, and stands in none",
    "func_self": "function 'F' calls itself",
    "func_dup": "function 'CB' is defined twice",
    "cycle": "'Mul' 'c1' waits for its own result",
    "bn_no_outputs": "'Relu' 'y' reads 'z', which nothing defines",
    "offset_abc": "the external data of tensor 'w' lies at 'abc', which is no number",
    "loc_nul": "external data at 'a\\x00b'",
    "loc_dot": "the external data file '.' is no file",
    "perm_short": "perm size: 2 does not match input rank: 4",
    "nonutf8_name": "b'co\\xffv', is no UTF-8 text",
    "conv_weight_rank1": "'Conv' 'conv' has a weight of shape (108,), without spatial axes",
    "var_len3": "'BatchNormalization' 'bn' has a variance of shape [3] beside others of [4]",
}
LEGAL = {"json_nan", "affine_perm"}


def test_table_names_every_file() -> None:
    assert {p.stem for p in DAMAGED.glob("*.onnx")} == SENTENCES.keys() | LEGAL


@pytest.mark.parametrize("name", SENTENCES)
def test_damaged_file_is_refused_in_one_sentence(
    name: str, command: Command, tmp_path: Path
) -> None:
    before = files_in(tmp_path)
    outcome = command("fold", DAMAGED / f"{name}.onnx", "-o", tmp_path / "out.onnx")
    assert outcome.code == 2, outcome
    assert SENTENCES[name] in outcome.err
    if name != "perm_short":  # which only the runtime sees; the sentence quotes it
        is_one_sentence(outcome.err)
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("name", sorted(LEGAL))
def test_legal_file_works(name: str, command: Command, tmp_path: Path) -> None:
    outcome = command("fold", DAMAGED / f"{name}.onnx", "-o", tmp_path / "out.onnx")
    assert outcome.code == 0, outcome


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_json_has_no_word_for_what_is_no_number(form: str, command: Command) -> None:
    outcome = command("inspect", DAMAGED / "json_nan.onnx", "--format", form)
    assert outcome.code in (0, 1)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(outcome.out, parse_constant=refuse)
    if form == "json":
        assert document["batch_norms"][0]["momentum"] is None


def model() -> onnx.ModelProto:
    net = Net()
    return net.model(net.relu(net.bn(net.conv(net.input(1, 4, 8, 8), 4, 4), 4)))


def initializer(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(t for t in proto.graph.initializer if t.name == name)
    return found


def opened(proto: onnx.ModelProto, place: Path) -> OnnxModel:
    path = place / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return OnnxModel(path)


Change = Callable[[onnx.ModelProto], object]


def _twice(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].attribute.append(helper.make_attribute("epsilon", 0.5))
    proto.graph.node[1].attribute.append(helper.make_attribute("epsilon", 0.25))


def _renamed(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].output[0] = proto.graph.node[0].output[0]


def _numbers(proto: onnx.ModelProto) -> None:
    tensor = initializer(proto, "conv.bias")
    tensor.ClearField("raw_data")
    tensor.float_data.extend([1.0] * 3)


def _untyped(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].attribute.append(helper.make_attribute("epsilon", 0.5))
    proto.graph.node[1].attribute[-1].ClearField("type")


def _concat_without_axis(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Concat", ["x", "x"], ["twice"], "concat"))


def _external(**entries: str) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        tensor = initializer(proto, "conv.bias")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key.rstrip("_"), value=value)

    return change


def _two_places(proto: onnx.ModelProto) -> None:
    _external(location="m.data")(proto)
    initializer(proto, "conv.bias").external_data.add(key="location", value="n.data")


REFUSED: dict[str, tuple[Change, str]] = {
    "two attributes of one name": (_twice, "has two attributes of one name"),
    "attribute without a type": (_untyped, "of type UNDEFINED, not FLOAT"),
    "required attribute": (_concat_without_axis, "'Concat' 'concat' lacks the attribute 'axis'"),
    "required input": (
        lambda m: m.graph.node[1].input.__setitem__(1, ""),
        "lacks the input 'scale'",
    ),
    "too many inputs": (lambda m: m.graph.node[1].input.append("x"), "has 6 inputs where 5 are"),
    "two producers": (_renamed, "'conv_out', which is defined already"),
    "initializer produced": (
        lambda m: m.graph.initializer.append(numpy_helper.from_array(np.ones(1), "conv_out")),
        "gives 'conv_out', which is defined already",
    ),
    "two inputs": (lambda m: m.graph.input.append(m.graph.input[0]), "input 'x' is defined twice"),
    "two initializers": (
        lambda m: m.graph.initializer.append(m.graph.initializer[0]),
        "is defined twice",
    ),
    "unknown output": (
        lambda m: setattr(m.graph.output[0], "name", "nowhere"),
        "output 'nowhere' is defined by nothing",
    ),
    "numbers": (_numbers, "holds 3 numbers where 4 are due"),
    "opset 0": (lambda m: setattr(m.opset_import[0], "version", 0), "version 0, which does not"),
    "opset huge": (lambda m: setattr(m.opset_import[0], "version", 1 << 40), "does not exist"),
    "IR huge": (lambda m: setattr(m, "ir_version", 1 << 40), "its format is of version"),
    "IR below zero": (
        lambda m: setattr(m, "ir_version", -(1 << 48)),
        "its format is of version",
    ),
    "own opset huge": (
        lambda m: m.opset_import.append(helper.make_opsetid("own", 1 << 40)),
        "does not exist",
    ),
    "two opsets": (
        lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 9)),
        "is imported at versions 17 and 9",
    ),
    "no standard opset": (
        lambda m: setattr(m.opset_import[0], "domain", "custom"),
        "no version of the standard operator set",
    ),
    "type of a value": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99),
        "value 'x' has the unknown data type 99",
    ),
    "sizes of an input": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 1 << 50),
        "value 'x' has more elements than there can be",
    ),
    "strides": (
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("strides", [1])),
        "has 1 strides where 2 are due",
    ),
    "negative stride": (
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("strides", [1, -1])),
        "'strides' = [1, -1], which means nothing",
    ),
    "external negative": (_external(location="m.data", offset="-4"), "'-4', which is no number"),
    "external beyond": (_external(location="m.data", offset="8"), "is too short for tensor"),
    "external length": (
        _external(location="m.data", length="4"),
        "holds 4 bytes where 16 are due",
    ),
    "external missing": (_external(location="n.data"), "'n.data' is missing"),
    "external with a name that no file can have": (
        _external(location="n" * 300),
        "is missing",
    ),
    "external nowhere": (_external(), "outside the model's folder"),
    "external twice": (_two_places, "says twice where its data lies"),
    "inside the model itself": (_external(location="*embedded*"), "is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_culprit(name: str, tmp_path: Path) -> None:
    change, sentence = REFUSED[name]
    (tmp_path / "m.data").write_bytes(bytes(16))
    proto = model()
    opened(proto, tmp_path)
    change(proto)
    with pytest.raises(ModelError) as caught:
        opened(proto, tmp_path).graph  # noqa: B018
    assert sentence in str(caught.value)


def _in_float_data(proto: onnx.ModelProto) -> None:
    tensor = initializer(proto, "conv.bias")
    values = numpy_helper.to_array(tensor).tolist()
    tensor.ClearField("raw_data")
    tensor.float_data.extend(values)


def _reversed(proto: onnx.ModelProto) -> None:
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))


def _unnamed(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.ClearField("name")


LEGAL_CHANGES: dict[str, Change] = {
    "unsorted nodes": _reversed,
    "numbers in float_data": _in_float_data,
    "nodes without names": _unnamed,
    "two names of the standard domain": lambda m: m.opset_import.append(
        helper.make_opsetid("ai.onnx", m.opset_import[0].version)
    ),
    "an output twice": lambda m: m.graph.output.append(m.graph.output[0]),
    "IR version 1": lambda m: setattr(m, "ir_version", 1),
    "external data without offset or length": _external(location="m.data"),
    "a name with control characters": lambda m: setattr(m.graph.node[1], "name", "a\x1b[31m\nb"),
}


@pytest.mark.parametrize("name", LEGAL_CHANGES)
def test_what_onnxruntime_runs_is_folded(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.data").write_bytes(np.ones(4, np.float32).tobytes())
    proto = model()
    LEGAL_CHANGES[name](proto)
    result = bnfold.fold(opened(proto, tmp_path), tmp_path / "out.onnx")
    assert result.ok and result.plan.foldable == 1
    x = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)
    before, after = (
        ort.InferenceSession(str(tmp_path / n)).run(None, {"x": x})[0]
        for n in ("model.onnx", "out.onnx")
    )
    np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("code", [TensorProto.INT4, TensorProto.UINT4, TensorProto.BOOL])
def test_packed_elements_are_counted_in_bits(code: int, tmp_path: Path) -> None:
    """An odd number of them, large enough to stay in the file."""
    net = Net(opset=21, ir=10)
    x = net.input(1, 4, 8, 8)
    proto = net.model(net.relu(net.bn(net.conv(x, 4, 4), 4)))
    values = np.arange(9999) % 2
    proto.graph.initializer.append(helper.make_tensor("packed", code, [9999], values))
    loaded = opened(proto, tmp_path)
    tensor = initializer(loaded.proto, "packed")
    array = loaded.store.load(tensor)
    assert array.shape == (9999,)
    np.testing.assert_array_equal(array.astype(np.int64), values)


def test_a_value_of_rank_1_is_one_channel(tmp_path: Path) -> None:
    net = Net()
    proto = net.model(net.bn(net.input(5), 1))
    onnx.save(proto, tmp_path / "model.onnx")
    assert bnfold.fold(tmp_path / "model.onnx", tmp_path / "out.onnx").plan.kept == 1
    wide = Net()
    onnx.save(wide.model(wide.bn(wide.input(4), 4)), tmp_path / "wide.onnx")
    with pytest.raises(ModelError, match="has 4 channels, and 1 reach it"):
        bnfold.load(tmp_path / "wide.onnx").graph  # noqa: B018


def test_an_input_without_an_element_type(tmp_path: Path) -> None:
    """onnxruntime refuses it; inference of a shape behind it has to say nothing."""
    net, inner = Net(), [Net(seed=i) for i in (1, 2)]
    y = net.bn(net.input("N", 3, 4, 4), 3)
    flag = net.input(name="flag", dtype=TensorProto.BOOL)
    then, other = (body(each, each.op("Relu", y, name=f"relu{i}")) for i, each in enumerate(inner))
    proto = net.model(net.op("If", flag, name="if", then_branch=then, else_branch=other))
    proto.graph.input[1].type.tensor_type.ClearField("elem_type")
    assert bnfold.inspect(opened(proto, tmp_path)).plan.kept == 1


def test_a_constant_that_does_not_line_up_with_what_it_is_joined_to(tmp_path: Path) -> None:
    """A vector beside images, joined along the batch: no runtime takes it, and no plan breaks off."""
    net = Net()
    y = net.conv(net.input("N", 3, 4, 4), 3, 4, (1, 1))
    joined = net.op("Concat", net.weight(4, name="vector"), y, name="joined", axis=0)
    proto = net.model(net.relu(net.bn(joined, 4)), unknown=(TensorProto.FLOAT, 4))
    (decision,) = bnfold.inspect(opened(proto, tmp_path)).plan.decisions
    assert decision.action is Action.KEEP


def test_a_size_that_no_machine_holds(tmp_path: Path) -> None:
    """Repeats of a constant: legal, and nothing can be asked of such a value."""
    net = Net()
    y = net.op(
        "Tile", net.conv(net.input("N", 3, 4, 4), 3, 4), net.ints(1, 1 << 45, 1, 1 << 10), name="t"
    )
    y = net.op("Slice", y, net.ints(0), net.ints(4), net.ints(1), name="slice")
    proto = net.model(net.relu(net.bn(y, 4)), unknown=(TensorProto.FLOAT, 4))
    (decision,) = bnfold.inspect(opened(proto, tmp_path)).plan.batch_norms
    assert decision.action is Action.KEEP


def test_a_kernel_larger_than_its_image(tmp_path: Path) -> None:
    """Inference of shapes makes sizes below zero of it."""
    net = Net()
    y = net.conv(net.input("N", 3, 8, 8), 3, 4, name="wide", dilations=[1 << 20, 1])
    y = net.op("GlobalAveragePool", net.relu(y), name="pool")
    proto = net.model(net.conv(net.bn(y, 4), 4, 4, (1, 1), "last"), unknown=(TensorProto.FLOAT, 4))
    bnfold.inspect(opened(proto, tmp_path), reparameterize=True)
