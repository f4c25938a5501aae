"""Writing new statistics into a copy of an exported program, or into its state dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch.fx import Node as Call

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import cast
from bnfold.errors import OutputError
from bnfold.formats.suffixes import STATE_DICTS
from bnfold.formats.torch.edit.edited import ONNX, TorchEdited
from bnfold.formats.torch.edit.editor import Editor
from bnfold.formats.torch.file.tensors import to_torch
from bnfold.formats.torch.graph.arguments import set_argument
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.kinds import Norm
from bnfold.planning import Plan
from bnfold.recalibration.new_statistics import NewStatistics

STATISTICS = ("running_mean", "running_var")


class TorchRecalibrated(TorchEdited):
    """A copy of a model with new statistics."""

    def __init__(
        self,
        model: TorchModel,
        edits: Iterable[NewStatistics],
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        self.model, self.plan = model, Plan(())
        self.provenance = dict(provenance or {})
        self.editor = Editor(model)
        # Layers whose statistics are no longer those of another call or layer that they were tied to.
        self._untied = [e.node.name for e in edits if not replace_statistics(self.editor, e)]
        self.program = self.editor.apply(self.plan)
        self.keep_modules = False  # the modules are the unchanged ones anyway

    def write(self, path: Path) -> list[Path]:
        """Writes ``.pt2`` or a state dict.

        Raises:
            OutputError: where the suffix of ``path`` is another one, or the state dict would not
                fit the class.
        """
        suffix = path.suffix.lower()
        if suffix in STATE_DICTS and self._untied:
            raise OutputError(
                f"{path.name}: {self._untied[0]} shares a tensor with another call or layer that got "
                "other statistics, for which a state dict of the class has no place; write .pt2, or "
                "leave it out with --skip"
            )
        if suffix == ONNX:
            raise OutputError(
                f"{path.name}: recalibrate keeps the format; write .pt2 or a state dict, "
                "and export that to ONNX"
            )
        return super().write(path)


def replace_statistics(editor: Editor, edit: NewStatistics) -> bool:
    """Carries out one edit; whether the old buffers could take it, as no other layer reads them."""
    calls = [editor.draft.copies[n.native.call] for n in (edit.node, *edit.shared_with)]
    pairs = zip(STATISTICS, (edit.mean, edit.variance), strict=True)
    own = [_give(editor, calls, argument, edit, array) for argument, array in pairs]
    return all(own)


def _give(
    editor: Editor, calls: list[Call], argument: str, edit: NewStatistics, array: Array
) -> bool:
    draft, kind = editor.draft, edit.node.kind
    assert isinstance(kind, Norm)
    old = draft.copies[edit.node.native.parameter(argument)]
    spec = draft.specs.get(old.name)
    tensor = to_torch(cast(array, kind.dtype))
    frozen = edit.node.native.frozen
    alone = set(old.users) <= set(calls) if frozen is None else frozen.calls == len(calls)
    if spec is not None and spec.target is not None and alone and not draft.is_tied(spec):
        draft.store_everywhere(spec, tensor)
        return True
    if frozen is not None:
        raise OutputError(
            f"{edit.node.name} is frozen and shares its buffers with another call, which got other "
            "statistics; leave it out with --skip"
        )
    new = draft.parameter(tensor, f"{edit.node.name}.{argument}", calls[0])
    for call in calls:
        set_argument(call, argument, new)
    return False
