"""An edited ONNX model, and how it is written."""

from __future__ import annotations

from pathlib import Path

from bnfold.errors import OutputError
from bnfold.formats.onnx.edit.working_copy import WorkingCopy
from bnfold.formats.onnx.file.save import save
from bnfold.formats.onnx.graph.counting import BATCH_NORMS, count_nodes
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.planning import Plan

SUFFIX = ".onnx"


class OnnxEdited:
    """The outcome of a plan on an ONNX model, in memory as structure only."""

    key_map = None

    def __init__(self, model: OnnxModel, plan: Plan, draft: WorkingCopy) -> None:
        self.model, self.plan, self.draft = model, plan, draft

    @property
    def node_count(self) -> int:
        return count_nodes(self.draft.proto.graph)

    @property
    def batch_norm_count(self) -> int:
        return count_nodes(self.draft.proto.graph, BATCH_NORMS)

    def write(self, path: Path) -> list[Path]:
        """Writes the copy.

        Raises:
            OutputError: where the suffix of ``path`` promises another kind of file.
        """
        if path.suffix.lower() not in (SUFFIX, self.model.path.suffix.lower()):
            raise OutputError(
                f"{path.name}: an ONNX model is written as {SUFFIX}; name it so with -o"
            )
        store, draft = self.model.store, self.draft
        external = bool(store.external_files(self.model.proto))
        return save(draft.proto, store, draft.computed, path, external=external)
