"""Writing new statistics into a copy of an exported program, or into its state dict."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch.fx import Node as Call

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import cast
from bnfold.errors import OutputError
from bnfold.formats.torch.arguments import arguments_of, set_argument
from bnfold.formats.torch.edited import ONNX, PROGRAM, TorchEdited
from bnfold.formats.torch.model import TorchModel
from bnfold.formats.torch.observe import STATISTICS
from bnfold.formats.torch.state import read_tensors
from bnfold.formats.torch.tensors import to_torch
from bnfold.formats.torch.write import Editor
from bnfold.graph import Norm
from bnfold.planning import Plan
from bnfold.recalibration.edit import Restatistic


class TorchRestated(TorchEdited):
    """A copy of a model with new statistics."""

    def __init__(self, model: TorchModel, edits: Iterable[Restatistic]) -> None:
        self._model, self._plan = model, Plan(())
        self._editor = Editor(model)
        for edit in edits:
            restate(self._editor, edit)
        self.program = self._editor.apply(self._plan)
        self.keep_modules = False  # the modules are the unchanged ones anyway

    def write(self, path: Path) -> list[Path]:
        """Writes ``.pt2`` or a state dict.

        Raises:
            OutputError: where the suffix of ``path`` is another one.
        """
        if path.suffix.lower() == ONNX:
            raise OutputError(
                f"{path.name}: recalibrate keeps the format; write .pt2 or a state dict, "
                "and export that to ONNX"
            )
        return super().write(path)

    def reopened(self, written: Path) -> TorchModel:
        """What `write` wrote, read back."""
        if written.suffix.lower() == PROGRAM:
            from bnfold.formats.torch.open import open_torch

            opened = open_torch(written)
            assert isinstance(opened, TorchModel)
            return opened
        tensors = read_tensors(written)
        for name in self.program.state_dict:
            self.program.state_dict[name] = tensors[name]
        return TorchModel(self.program, written)


def restate(editor: Editor, edit: Restatistic) -> None:
    """Carries out one edit: the old buffers get new elements where no other layer reads them."""
    calls = [editor.draft.copies[n.native.call] for n in (edit.node, *edit.shared_with)]
    for argument, array in zip(STATISTICS, (edit.mean, edit.variance), strict=True):
        _give(editor, calls, argument, edit, array)


def _give(
    editor: Editor, calls: list[Call], argument: str, edit: Restatistic, array: Array
) -> None:
    draft, kind = editor.draft, edit.node.kind
    assert isinstance(kind, Norm)
    old = arguments_of(calls[0])[argument]
    spec = draft.specs.get(old.name)
    tensor = to_torch(cast(array, kind.dtype))
    alone = set(old.users) <= set(calls)
    if spec is not None and spec.target is not None and alone:
        home = draft.constants if spec.target in draft.constants else draft.tensors
        home[spec.target] = tensor.to(home[spec.target].device)
        draft.changed.add(spec.target)
        return
    new = draft.parameter(tensor, f"{edit.node.name}.{argument}", calls[0])
    for call in calls:
        set_argument(call, argument, new)
