"""PyTorch: torch.export is the front door; the exported program stays the truth.

The only package of bnfold that imports torch. Rooms: `open` (file or factory -> model), `read`
(exported program -> neutral graph), `write` (edits -> exported program, module, files), `run`
(activations), `checkpoint` (state dicts alone).
"""

from bnfold.formats.torch.checkpoint import TorchCheckpoint
from bnfold.formats.torch.edited import TorchEdited
from bnfold.formats.torch.model import TorchModel
from bnfold.formats.torch.modules import fold_module
from bnfold.formats.torch.open import open_module, open_torch

__all__ = [
    "TorchCheckpoint",
    "TorchEdited",
    "TorchModel",
    "fold_module",
    "open_module",
    "open_torch",
]
