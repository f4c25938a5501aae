"""An edited PyTorch model: as a module, and as files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from bnfold.errors import ModelError, OutputError
from bnfold.files import content_name, file_sha256
from bnfold.formats.torch.edit.as_module import as_module
from bnfold.formats.torch.edit.axis_names import name_axes
from bnfold.formats.torch.edit.editor import Editor
from bnfold.formats.torch.edit.keep_modules import Kept, keep_modules
from bnfold.formats.torch.file.quiet import first_line, quietly
from bnfold.formats.torch.file.saving import STATE_DICTS, write_tensors
from bnfold.formats.torch.graph.model import TorchModel, count_calls
from bnfold.formats.torch.graph.outputs import output_names
from bnfold.planning import Plan

PROGRAM, ONNX = ".pt2", ".onnx"


class TorchEdited:
    """The outcome of a plan on a PyTorch model.

    With ``keep_modules`` it is written as a state dict that fits the unchanged class. ``provenance``
    is for the file to say: what torch.save writes has no place for it, as every entry of a state dict
    is a tensor of the network.
    """

    def __init__(
        self,
        model: TorchModel,
        plan: Plan,
        *,
        keep_modules: bool = False,
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        self.model, self.plan = model, plan
        self.provenance = dict(provenance or {})
        self.editor = Editor(model)
        self.program: ExportedProgram = self.editor.apply(plan)
        self.keep_modules = keep_modules
        if keep_modules:
            self.plan = self.kept.plan

    @property
    def node_count(self) -> int:
        return count_calls(self.model.program if self.keep_modules else self.program)

    @cached_property
    def batch_norm_count(self) -> int:
        if self.keep_modules:  # they stay as identities
            return self.model.batch_norm_count
        return TorchModel(self.program, self.model.path).batch_norm_count

    def module(self) -> GraphModule:
        """The folded network as a module, parameters under their original names."""
        return as_module(self.program)

    @cached_property
    def kept(self) -> Kept:
        """The state dict for the unchanged class."""
        return keep_modules(self.model, self.plan)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The tensors of the folded network by name, or of the unchanged class."""
        if self.keep_modules:
            return dict(self.kept.tensors)
        tensors = {name: self.program.constants[name] for name in self._changed_constants()}
        tensors |= self.program.state_dict
        return {name: tensor.detach() for name, tensor in tensors.items()}

    def _changed_constants(self) -> list[str]:
        """Tensors that were in no state dict, and are needed now to build the folded network."""
        return sorted(self.editor.draft.changed & set(self.program.constants))

    @property
    def key_map(self) -> dict[str, list[str]]:
        """Which names of the state dict were changed, added and removed."""
        if self.keep_modules:
            return {"changed": sorted(self.kept.changed), "added": [], "removed": []}
        draft = self.editor.draft
        known = self.model.program.state_dict  # non-persistent buffers never were in one
        return {
            "changed": sorted(draft.changed & set(known)),
            "added": sorted({*draft.added, *self._changed_constants()}),
            "removed": sorted(name for name in draft.removed if name in known),
        }

    def write(self, path: Path) -> list[Path]:
        """Writes the kind of file that the suffix of ``path`` names.

        Raises:
            OutputError: where the suffix is none of them.
            ModelError: where torch cannot write the program in that form.
        """
        writers: dict[str, Callable[[Path], None]] = {
            PROGRAM: self._write_program,
            ONNX: self._write_onnx,
            **dict.fromkeys(STATE_DICTS, self._write_tensors),
        }
        suffix = path.suffix.lower()
        if suffix not in writers:
            raise OutputError(
                f"{path.name} has no suffix of a PyTorch file; use {', '.join(writers)}"
            )
        if self.keep_modules and suffix in (PROGRAM, ONNX):
            raise OutputError(f"--keep-modules writes a state dict, not {suffix}; use .safetensors")
        before = set(path.parent.iterdir())
        writers[suffix](path)
        beside = sorted(set(path.parent.iterdir()) - before - {path})
        return [*beside, path]

    def _write_program(self, path: Path) -> None:
        try:
            with path.open("wb") as file:
                quietly(lambda: torch.export.save(self.program, file, extra_files=self.provenance))
        except NotImplementedError as error:  # outputs of a type that torch cannot write down
            raise ModelError(
                f"torch.export.save cannot write the folded program ({first_line(error)}); write a "
                "state dict (.safetensors) or .onnx, or let the network return plain tuples"
            ) from None

    def _write_onnx(self, path: Path) -> None:
        try:
            quietly(lambda: self._exported().save(str(path)))
            name_data_by_content(path)
        except Exception as error:  # the exporter raises whatever its converters raise
            raise ModelError(
                f"torch.onnx.export cannot write the folded program ({_cause(error)}); "
                "write .pt2 instead"
            ) from None

    def _exported(self) -> Any:
        """The folded program in ONNX. The exporter's optimiser as a whole stays off, because it
        would fold on its own what the plan has refused; only its constant folding runs, which
        turns sequences back into plain splits."""
        from onnxscript import optimizer

        exported: Any = torch.onnx.export(
            self.program,
            dynamo=True,
            optimize=False,
            verbose=False,
            input_names=[spec.name for spec in self.model.inputs],
            output_names=None if self._returns_an_input() else output_names(self.model.program),
        )
        optimizer.fold_constants(exported.model)
        optimizer.remove_unused_nodes(exported.model)
        name_axes(exported.model, self.program)
        exported.model.metadata_props.update(self.provenance)
        return exported

    def _returns_an_input(self) -> bool:
        """Whether an output is an input as it is: it has a name then, and can have no other."""
        return any(
            node.op == "placeholder" for node in self.program.graph.output_node().all_input_nodes
        )

    def _write_tensors(self, path: Path) -> None:
        write_tensors(self.state_dict(), path, {**self.key_map, **self.provenance})


def name_data_by_content(path: Path) -> None:
    """Renames the data file that the exporter put beside a large model.

    By its own name, ``<name>.data``, it could come to lie over that of another model.
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    found = [p for p in path.parent.iterdir() if p.name == f"{path.name}.data"]
    for data in found:
        new = content_name(path.name, file_sha256(data))
        model = onnx.load(path, load_external_data=False)
        outside = [t for t in model.graph.initializer if uses_external_data(t)]
        for entry in (e for t in outside for e in t.external_data if e.key == "location"):
            assert entry.value == data.name
            entry.value = new
        path.write_bytes(model.SerializeToString())
        data.rename(data.with_name(new))


def _cause(error: BaseException) -> str:
    """What went wrong at the bottom of it, without the colours of a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    return re.sub(r"\x1b\[[0-9;]*m", "", first_line(error))
