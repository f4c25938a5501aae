"""Pieces of an ONNX model in onnxruntime, with the statistics under measurement as inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from bnfold.algebra.moments import sample_moments
from bnfold.algebra.rounding import cast
from bnfold.errors import RuntimeUnavailableError
from bnfold.formats.onnx.edit.name_index import NameIndex
from bnfold.formats.onnx.file.save import save
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.quiet import quiet_options
from bnfold.formats.onnx.run.cutting import cut
from bnfold.formats.onnx.run.session import Session, check_runtime
from bnfold.graph import Graph, Node
from bnfold.kinds import Norm
from bnfold.recalibration.observer import RuntimeOptions

if TYPE_CHECKING:
    from bnfold.recalibration.observer import Arrays, Convention, Statistics

_MEAN, _VARIANCE = 3, 4
_FIRST_IR_WITH_CONSTANT_INITIALIZERS = 4


class OnnxObserver:
    """One model whose statistics are being measured.

    The convention is ONNX's own: what BatchNormalization in training mode stores is the biased
    (population) variance, https://onnx.ai/onnx/operators/onnx__BatchNormalization.html.
    """

    convention: Convention = "biased"
    always: tuple[str, ...] = ()
    measure = staticmethod(sample_moments)

    def __init__(
        self, model: OnnxModel, scratch: Path, options: RuntimeOptions | None = None
    ) -> None:
        """Prepares it.

        Args:
            model: an opened file; it is not changed.
            scratch: a folder for the pieces, which the caller removes.
            options: how to run.

        Raises:
            UsageError: where onnxruntime cannot run so.
        """
        import onnxruntime as ort

        self._model, self._scratch = model, scratch
        self._options = options or RuntimeOptions()
        check_runtime(self._options)
        self.runtime = f"onnxruntime {ort.__version__}, graph optimisations off"
        self._pieces = 0
        self._index = NameIndex(model.proto.graph)
        self._names: dict[tuple[Node, int], str] = {}
        self._places = {id(n): i for i, n in enumerate(self._index.scopes[0].graph.node)}

    @property
    def graph(self) -> Graph:
        return self._model.graph

    def same_layer(self, node: Node) -> object:
        """Calls of one layer read the same four tensors, by name.

        Equal means and variances are no sign of it: exporters store equal tensors once, and all
        layers whose statistics were reset have equal ones.
        """
        return (node.scope, *node.native.proto.input[1:5])

    def piece(
        self, inputs: Mapping[str, np.dtype[Any]], outputs: Sequence[str], nodes: Sequence[Node]
    ) -> OnnxPiece:
        """See `recalibration.observer.Observer`."""
        proto, statistics = self._with_statistics_as_inputs(nodes)
        # A statistic is found by its node; its type is the one that the file stores.
        types = {name: _dtype(node) for name, (node, _) in statistics.items()}
        cut_out = cut(proto, {**inputs, **types}, outputs)
        self._pieces += 1
        path = self._scratch / f"piece-{self._pieces}.onnx"
        files = save(cut_out, self._model.store, {}, path)
        try:
            session = _ObservingSession(path, self._options)
        finally:
            for file in files:  # the session holds what it needs
                file.unlink()
        return OnnxPiece(session, statistics)

    def _with_statistics_as_inputs(
        self, nodes: Iterable[Node]
    ) -> tuple[onnx.ModelProto, dict[str, tuple[Node, int]]]:
        """A copy of the structure in which the statistics of ``nodes`` go by names of their own."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self._model.proto)
        # Before, every initializer had to be listed as an input as well.
        proto.ir_version = max(proto.ir_version, _FIRST_IR_WITH_CONSTANT_INITIALIZERS)
        statistics: dict[str, tuple[Node, int]] = {}
        for node in nodes:
            copy = proto.graph.node[self._places[id(node.native.proto)]]
            for position in (_MEAN, _VARIANCE):
                name = self._names.setdefault(
                    (node, position), self._index.unique("bnfold_statistic")
                )
                copy.input[position] = name
                statistics[name] = node, position
        return proto, statistics


class OnnxPiece:
    """One session. Statistics are fed beside the activations."""

    def __init__(self, session: Session, statistics: Mapping[str, tuple[Node, int]]) -> None:
        self._session, self._statistics = session, statistics

    def run(self, feeds: Arrays, statistics: Mapping[str, Statistics]) -> Arrays:
        """See `recalibration.observer.Piece`."""
        known = {name: array for name, array in feeds.items() if name in self._session.inputs}
        for name, (node, position) in self._statistics.items():
            given = statistics[node.name]
            array = given.mean if position == _MEAN else given.variance
            known[name] = cast(array, _dtype(node))
        return self._session.run(known)


class _ObservingSession(Session):
    """A session with the provider and the threads that the user asked for."""

    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        import onnxruntime as ort

        settings = quiet_options()
        if _shared_arena():
            settings.add_session_config_entry("session.use_env_allocators", "1")
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        try:
            self._session = ort.InferenceSession(str(path), settings, providers=[options.provider])
        except Exception as error:  # onnxruntime's exceptions share no public base class
            text = str(error).strip().splitlines()
            raise RuntimeUnavailableError(text[0][:300] if text else repr(error)) from None
        self.outputs = [o.name for o in self._session.get_outputs()]
        self.inputs = [i.name for i in self._session.get_inputs()]


@cache
def _shared_arena() -> bool:
    """One arena for all pieces of the process.

    There are as many sessions as levels; with an arena each, every one of them would touch fresh
    memory for its activations, which costs more than the layers in between.
    """
    import onnxruntime as ort

    try:
        where = ort.OrtMemoryInfo(
            "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
        )
        ort.create_and_register_allocator(where, None)
    except Exception:  # an older runtime, or somebody else's arena: each piece has its own
        return False
    return True


def _dtype(node: Node) -> np.dtype[Any]:
    assert isinstance(node.kind, Norm)
    return node.kind.dtype
