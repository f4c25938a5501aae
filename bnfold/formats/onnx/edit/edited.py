"""An edited ONNX model, and how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from bnfold.formats.onnx.edit.working_copy import WorkingCopy
from bnfold.formats.onnx.file.save import save
from bnfold.formats.onnx.graph.counting import BATCH_NORMS, count_nodes
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.suffixes import check_suffix
from bnfold.planning import Plan


class OnnxEdited:
    """The outcome of a plan on an ONNX model, in memory as structure only."""

    key_map = None

    def __init__(
        self,
        model: OnnxModel,
        plan: Plan,
        draft: WorkingCopy,
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        """Takes a finished draft.

        Args:
            model: the original.
            plan: what was done to it.
            draft: the outcome.
            provenance: entries for its metadata.
        """
        self.model, self.plan, self.draft = model, plan, draft
        self.provenance = provenance or {}
        if self.provenance:
            _note(draft.proto, self.provenance)

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
        check_suffix(str(self.model.path), path, onnx=True)
        store, draft = self.model.store, self.draft
        external = bool(store.external_files(self.model.proto))
        return save(draft.proto, store, draft.computed, path, external=external)


def _note(proto: onnx.ModelProto, entries: Mapping[str, str]) -> None:
    """Puts ``entries`` into the metadata, in place of those of the same keys."""
    kept = [(p.key, p.value) for p in proto.metadata_props if p.key not in entries]
    del proto.metadata_props[:]
    for key, value in (*kept, *entries.items()):
        proto.metadata_props.add(key=key, value=value)
