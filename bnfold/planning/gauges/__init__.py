"""Folding many BatchNorm at once: gauges are per-channel scales and shifts in which values are stored.

Every value may be stored as ``true = σ * stored + δ``, per channel. Each kind of node says which
gauges it allows (`demands`); a BatchNorm computes nothing where the gauges on its two sides make it
the identity, ``σ_out = s σ_in`` and ``δ_out = s δ_in + t``. Scales are found by union-find with ratios
(`scales`), shifts by elimination (`shifts`), both on blocks of channels (`blocks`); norms are
accepted one after the other while a solution is left (`solution`), and layers absorb it (`carry_out`).

So ``relu(s x + t) = s relu(x + t/s)`` for ``s > 0`` frees the BatchNorm of a pre-activation block: its
scale goes into the next layer, its offset along the trunk into the biases of what is added there.

The walks of `planning.walk` run before. They move one map at a time, which is all that most networks
need; they merge norms and affine operations, and their refusals name the neighbour in the way.
"""

from __future__ import annotations

from bnfold.planning.gauges.stage import GaugeFold, fold_with_gauges

__all__ = ["GaugeFold", "fold_with_gauges"]
