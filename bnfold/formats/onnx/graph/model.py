"""An ONNX file as bnfold holds it: its structure, its tensors where they lie, its neutral graph."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import onnx
from onnx import inliner

from bnfold.constants import Constant
from bnfold.data import InputSpec
from bnfold.errors import ModelError
from bnfold.files import SourceFile
from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.file.wire import read_skeleton
from bnfold.formats.onnx.graph.constants import Constants
from bnfold.formats.onnx.graph.counting import BATCH_NORMS, count_nodes
from bnfold.formats.onnx.graph.inputs import signature
from bnfold.formats.onnx.graph.read import read_graph
from bnfold.formats.onnx.graph.scopes import Scope, inner_tensors
from bnfold.formats.onnx.graph.validation import (
    validate_functions,
    validate_graph,
    validate_opsets,
)
from bnfold.graph import Graph

_FIRST_IR_WITH_OVERRIDES = 4


class OnnxModel:
    """A model file and what was read from it. Nothing here changes the file."""

    format = "onnx"

    def __init__(self, path: Path, *, freeze_initializers: bool = False) -> None:
        """Reads the structure; tensors stay in the file until they are needed.

        Args:
            path: an ONNX file.
            freeze_initializers: treat initializers that are also graph inputs as constants.

        Raises:
            ModelError: where the file is no intact ONNX model.
        """
        self.path = path
        self.freeze_initializers = freeze_initializers
        try:
            source = SourceFile(path)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from None
        self.store = TensorStore(source)
        self.proto = read_skeleton(source)
        self._validate()
        # The standard domain's other name; the writer gives it back.
        self.spelled_out = any(o.domain == "ai.onnx" for o in self.proto.opset_import)
        for opset in self.proto.opset_import:
            opset.domain = "" if opset.domain == "ai.onnx" else opset.domain
        self.store.bring_in(inner_tensors(self.proto))
        self.notes: list[str] = []
        self._inline_functions()
        self.overridable = set() if freeze_initializers else overridable_names(self.proto)

    @cached_property
    def _read(self) -> tuple[Graph, list[Scope], Constants]:
        graph, scopes, constants = read_graph(self.proto, self.store, self.overridable)
        graph.notes += self.notes
        return graph, scopes, constants

    @property
    def graph(self) -> Graph:
        return self._read[0]

    @property
    def scopes(self) -> list[Scope]:
        return self._read[1]

    @property
    def opset(self) -> int:
        """The version of the standard operator set."""
        return max((o.version for o in self.proto.opset_import if not o.domain), default=1)

    def constant(self, scope: Scope, name: str) -> Constant:
        """The constant that ``name`` means in ``scope``; it must be one."""
        found = self._read[2].find(scope, name)
        assert found is not None
        return found

    def has_constant(self, scope: Scope, name: str) -> bool:
        return self._read[2].find(scope, name) is not None

    @cached_property
    def sha256(self) -> str:
        return self.store.source.sha256()

    @property
    def node_count(self) -> int:
        return count_nodes(self.proto.graph)

    @property
    def batch_norm_count(self) -> int:
        return count_nodes(self.proto.graph, BATCH_NORMS)

    @cached_property
    def inputs(self) -> list[InputSpec]:
        return signature(self.proto)

    @property
    def file(self) -> Path:
        return self.path

    @property
    def files(self) -> list[Path]:
        return self.store.files

    def check_unchanged(self) -> None:
        self.store.check_unchanged()

    def _validate(self) -> None:
        """Everything that can be wrong with the file by itself; behind this, it is trusted."""
        try:
            validate_opsets(self.proto)
            validate_functions(self.proto)
            validate_graph(self.proto)
        except ModelError as error:
            raise ModelError(f"{self.path} is no valid ONNX model: {error}") from None
        for tensor in (*self.proto.graph.initializer, *inner_tensors(self.proto)):
            self.store.check(tensor)

    def _inline_functions(self) -> None:
        """Local functions that hold a BatchNorm, or feed one, become nodes like others."""
        if not self.proto.functions:
            return
        wanted = _functions_to_inline(self.proto)
        if wanted:
            try:
                self.proto = inliner.inline_selected_functions(self.proto, sorted(wanted))
            except RuntimeError as error:
                self.notes.append(f"model-local functions stay as they are ({error})")
                return
            validate_graph(self.proto)
            self.notes.append(
                f"{len(wanted)} model-local functions were inlined to reach their nodes"
            )


def _functions_to_inline(model: onnx.ModelProto) -> set[tuple[str, str]]:
    """Functions with a BatchNorm or a linear operator in them, directly or through others."""
    ops = BATCH_NORMS | {"Conv", "ConvTranspose", "Gemm", "MatMul"}
    bodies = {(f.domain, f.name): f for f in model.functions}
    wanted: set[tuple[str, str]] = set()
    grown = True
    while grown:
        grown = False
        for key, function in bodies.items():
            used = {(n.domain, n.op_type) for n in function.node}
            plain = {op for domain, op in used if domain in ("", "ai.onnx")}
            if key not in wanted and (plain & ops or used & wanted):
                wanted.add(key)
                grown = True
    return wanted


def overridable_names(model: onnx.ModelProto) -> set[str]:
    """Initializers that are graph inputs as well: from IR 4 on, callers may replace them."""
    if model.ir_version < _FIRST_IR_WITH_OVERRIDES:
        return set()
    return {i.name for i in model.graph.input} & {t.name for t in model.graph.initializer}
