"""One plain forward pass of the network as it is, measuring what reaches each BatchNorm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.moments import Moments
from bnfold.audit.drift import PERCENTILES, Observed
from bnfold.data import Sample
from bnfold.graph import Node
from bnfold.kinds import Norm
from bnfold.progress import Progress
from bnfold.recalibration.batches import Batch, Batches
from bnfold.recalibration.observer import Observer, Piece

# Values whose percentiles are taken, in all layers together: 128 MiB of float32.
_KEPT_VALUES, _MOST_KEPT, _LEAST_KEPT = 1 << 25, 2048, 64
_ACTIVATION_BYTES, _BATCH = 1 << 28, 32
# Where a BatchNorm works on the batch at hand, or on what it computes, there is nothing stored.
_NOTHING_STORED = (
    "TRAINING_MODE",
    "STATISTICS_IN_USE",
    "COMPUTED_STATISTICS",
    "SPATIAL_STATISTICS",
)


def observe(
    observer: Observer, sample: Sample, progress: Progress | None = None
) -> dict[str, Observed]:
    """What reaches each BatchNorm on ``sample``, by node name, the network as it is stored.

    Layers that cannot be observed (in the body of a loop, in training mode) are left out.

    Args:
        observer: runs pieces of the model.
        sample: the data.
        progress: called with what is done, and how many of how many samples.

    Raises:
        DataError: where the data does not fit or cannot be read.
        RuntimeUnavailableError: where no runtime executes the model.
    """
    nodes = [node for node in observer.graph.norms if _is_observable(node)]
    if not nodes:
        return {}
    watch = _Watch(observer, sample, nodes)
    done = 0
    for batch in watch.batches():
        watch.look(batch)
        done += batch.valid
        if progress is not None:
            progress("observing", done, sample.count)
    return {node.name: watch.seen(node) for node in nodes}


def _is_observable(node: Node) -> bool:
    assert isinstance(node.kind, Norm)
    obstacle = node.kind.obstacle
    stored = obstacle is None or obstacle.code not in _NOTHING_STORED
    return stored and not node.scope and node.inputs[0].constant is None


class _Watch:
    """The state of the pass: moments and kept values of each layer."""

    def __init__(self, observer: Observer, sample: Sample, nodes: Sequence[Node]) -> None:
        self._sample, self._nodes = sample, nodes
        names = dict.fromkeys(node.inputs[0].name for node in nodes)
        fed = {spec.name for spec in sample.inputs}
        self._computed = [name for name in names if name not in fed]
        self._observer = observer
        self._piece: Piece | None = None
        self._moments = {n.name: Moments.empty(_kind(n).channels) for n in nodes}
        self._kept: dict[str, list[NDArray[np.float32]]] = {n.name: [] for n in nodes}
        channels = sum(_kind(n).channels for n in nodes)
        self._keep = int(np.clip(_KEPT_VALUES // max(channels, 1), _LEAST_KEPT, _MOST_KEPT))

    def batches(self) -> Iterator[Batch]:
        """The sample in batches whose activations stay within bounds."""
        first = Batches(self._sample, 1, self._observer.measure)
        values = self._run(first[0])
        each = sum(values[node.inputs[0].name].nbytes for node in self._nodes) / first[0].size
        size = max(1, min(_BATCH, int(_ACTIVATION_BYTES / max(each, 1.0))))
        batches = Batches(self._sample, size, self._observer.measure)
        self._per_batch = -(-self._keep // len(batches))
        return (batches[index] for index in range(len(batches)))

    def look(self, batch: Batch) -> None:
        values = self._run(batch)
        for node in self._nodes:
            array, norm = values[node.inputs[0].name], _kind(node)
            found, axis = batch.moments(array, norm, node.name).pooled(), norm.axis
            self._moments[node.name] = self._moments[node.name].merge(found)
            counted = batch.counted(array.shape, axis, node.name)
            self._kept[node.name].append(_spread(array, axis, batch, self._per_batch, counted))

    def seen(self, node: Node) -> Observed:
        moments, kept = self._moments[node.name], np.concatenate(self._kept[node.name], axis=1)
        variance = moments.variance() if moments.count else np.full(len(kept), np.nan)
        percentiles = np.percentile(kept.astype(np.float64), PERCENTILES, axis=1)
        return Observed(moments.mean, variance, moments.count, percentiles, self._sample.count)

    def _run(self, batch: Batch) -> dict[str, NDArray[Any]]:
        if not self._computed:
            return batch.feeds
        if self._piece is None:
            types = {name: array.dtype for name, array in batch.feeds.items()}
            self._piece = self._observer.piece(types, self._computed, ())
        return {**batch.feeds, **self._piece.run(batch.feeds, {})}


def _kind(node: Node) -> Norm:
    assert isinstance(node.kind, Norm)
    return node.kind


def _spread(
    array: NDArray[Any], axis: int, batch: Batch, most: int, counted: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """Up to ``most`` values of each channel, spread evenly: shape ``(channels, values)``."""
    if batch.valid < batch.size and len(array) == batch.size and axis % array.ndim:
        array = array[: batch.valid]
    lines = np.moveaxis(array, axis % array.ndim, 0).reshape(array.shape[axis], -1)
    if counted is not None:
        lines = lines[:, counted[: len(array)].reshape(-1)]
    # A prime step could still fall in with the width of the image; positions that are no multiples
    # of each other do not.
    picked = np.linspace(0, lines.shape[1] - 1, min(most, lines.shape[1])).astype(np.int64)
    return lines[:, picked].astype(np.float32)
