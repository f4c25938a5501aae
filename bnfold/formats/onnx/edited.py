"""An edited ONNX model: written, and compared with its original."""

from __future__ import annotations

from pathlib import Path

from bnfold.errors import OutputError
from bnfold.formats.onnx import check
from bnfold.formats.onnx.counting import BATCH_NORMS, count_nodes
from bnfold.formats.onnx.model import OnnxModel
from bnfold.formats.onnx.save import save
from bnfold.formats.onnx.write import Editor
from bnfold.planning import Plan
from bnfold.verification import Arrays

SUFFIX = ".onnx"


class OnnxEdited:
    """The outcome of a plan on an ONNX model, in memory as structure only."""

    key_map = None

    def __init__(self, model: OnnxModel, plan: Plan) -> None:
        self._model, self._plan = model, plan
        self._draft = Editor(model).apply(plan)

    @property
    def node_count(self) -> int:
        return count_nodes(self._draft.proto.graph)

    @property
    def batch_norm_count(self) -> int:
        return count_nodes(self._draft.proto.graph, BATCH_NORMS)

    def write(self, path: Path) -> list[Path]:
        """Writes the copy.

        Raises:
            OutputError: where the suffix of ``path`` promises another kind of file.
        """
        if path.suffix.lower() not in (SUFFIX, self._model.path.suffix.lower()):
            raise OutputError(
                f"{path.name}: an ONNX model is written as {SUFFIX}; name it so with -o"
            )
        return save(self._draft.proto, self._model.store, self._draft.computed, path)

    def bench(self, written: Path, scratch: Path) -> check.OnnxBench:
        return check.fold_bench(self._model, self._plan, written, scratch)

    def local_bench(self, feeds: Arrays, scratch: Path) -> check.OnnxLocalBench | None:
        return check.local_bench(self._model, self._plan, self._draft, feeds, scratch)
