"""PyTorch: torch.export is the front door; the exported program stays the truth.

The only package of bnfold that imports torch. Rooms: `open` (file or factory -> model), `read`
(exported program -> neutral graph), `write` (edits -> exported program, module, files), `run`
(activations), `checkpoint` (state dicts alone).
"""

from bnfold.formats.torch.edit.edited import TorchEdited
from bnfold.formats.torch.graph.checkpoint import TorchCheckpoint
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.graph.open import open_module, open_torch
from bnfold.formats.torch.modules import fold_module

__all__ = [
    "TorchCheckpoint",
    "TorchEdited",
    "TorchModel",
    "fold_module",
    "open_module",
    "open_torch",
]
