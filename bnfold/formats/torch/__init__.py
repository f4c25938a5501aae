"""PyTorch: torch.export is the front door; the exported program stays the truth.

The only package of bnfold that imports torch. Rooms: `open` (file or factory -> model), `read`
(exported program -> neutral graph), `write` (edits -> exported program, module, files), `run`
(activations), `checkpoint` (state dicts alone).
"""

from bnfold.formats.torch.edit.edited import TorchEdited
from bnfold.formats.torch.graph.axes import parse_dynamic
from bnfold.formats.torch.graph.checkpoint import TorchCheckpoint
from bnfold.formats.torch.graph.model import TorchModel, digest_of
from bnfold.formats.torch.graph.open import (
    example_inputs_for,
    open_module,
    open_network,
    open_torch,
)
from bnfold.formats.torch.modules import FoldInMemory, copied, with_statistics_of
from bnfold.formats.torch.submodules import Parts

__all__ = [
    "FoldInMemory",
    "Parts",
    "TorchCheckpoint",
    "TorchEdited",
    "TorchModel",
    "copied",
    "digest_of",
    "example_inputs_for",
    "open_module",
    "open_network",
    "open_torch",
    "parse_dynamic",
    "with_statistics_of",
]
