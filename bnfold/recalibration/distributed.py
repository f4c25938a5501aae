"""Recalibration in several processes by torch.distributed, as ``torchrun`` starts them."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.errors import MissingExtraError

try:
    import torch
    import torch.distributed as dist
except ImportError:
    raise MissingExtraError("recalibration in several processes", "torch") from None


class TorchProcesses:
    """The gloo backend, wherever the model itself runs.

    What is exchanged are a few float64 vectors per layer, which lie on the host already; nccl would
    first have to bring them to a GPU, and wants one for every process.
    """

    def __init__(self) -> None:
        dist.init_process_group("gloo")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def sum(self, array: Array) -> Array:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        dist.all_reduce(tensor)
        return np.asarray(tensor.numpy())

    def first(self, message: str | None) -> str | None:
        messages: list[str | None] = [None] * self.size
        dist.all_gather_object(messages, message)
        return next((m for m in messages if m is not None), None)

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()
