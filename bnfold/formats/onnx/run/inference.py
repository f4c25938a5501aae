"""An ONNX file in onnxruntime, for comparisons: its outputs, its inner values, its parameters moved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from onnx import helper

from bnfold.errors import RuntimeUnavailableError
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.run.parameters import FedModel, fed_model
from bnfold.formats.onnx.run.session import Session, check_runtime, runtime_name
from bnfold.formats.onnx.run.steps import stepped_model
from bnfold.graph import Node
from bnfold.proof.regions import layers
from bnfold.proof.subject import Arrays
from bnfold.recalibration.observer import RuntimeOptions


class OnnxRuns:
    """A file in onnxruntime, exactly as it is; and its structure with tensors fed, for inner values
    and, where they belong to ``nodes``, to be moved by rounding."""

    def __init__(
        self,
        model: OnnxModel,
        nodes: Sequence[Node] = (),
        rounded: Sequence[Node] = (),
        options: RuntimeOptions | None = None,
    ) -> None:
        """
        Args:
            model: the file.
            nodes: the layers whose parameters can be moved.
            rounded: those of them whose quantised bias a plan rounds to whole steps.
            options: how it runs.
        """
        self.model, self._options = model, options
        self.runtime = runtime_name(options)
        self._session: Session | None = None
        self._nodes, self._rounded = nodes, rounded

    def outputs(self, feeds: Arrays) -> Arrays:
        if self._session is None:
            self._session = Session(self.model.path, self._options)
        return self._session.run(taken_by(self._session, feeds))

    def release(self) -> None:
        self._session = None

    @cached_property
    def fed(self) -> FedModel:
        """The structure with the tensors of the layers in question as inputs."""
        return fed_model(self.model, self._nodes, self._rounded)

    def perturbed(self, feeds: Arrays, draw: int) -> Arrays:
        session = self._moving
        return session.run({**taken_by(session, feeds), **self.fed.feeds(session.inputs, draw)})

    @cached_property
    def _moving(self) -> Session:
        return Session(self.fed.proto, self._options)

    def stepped(self, feeds: Arrays, draw: int) -> Arrays | None:
        """See `bnfold.proof.steps.Stepped`."""
        proto = stepped_model(self.model, self.fed.proto, draw)
        if proto is None:
            return None
        try:
            session = Session(proto, self._options)
            return session.run({**taken_by(session, feeds), **self.fed.feeds(session.inputs)})
        except RuntimeUnavailableError:  # no noise of that type, say
            return None

    def inner_names(self) -> list[str]:
        """See `bnfold.proof.divergence.Named`."""
        main = self.model.scopes[0]
        made = (name for node in main.graph.node for name in node.output if name)
        return [name for name in made if not self.model.has_constant(main, name)]

    def values(self, feeds: Arrays, names: Sequence[str], draw: int | None = None) -> Arrays:
        """Inner values of the main graph, for inputs of the whole."""
        proto = type(self.fed.proto)()
        proto.CopyFrom(self.fed.proto)
        present = {o.name for o in proto.graph.output}
        wanted = [name for name in names if name not in present]
        proto.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in wanted)
        session = Session(proto, self._options)
        given = {i.name: feeds[i.name] for i in proto.graph.input if i.name in feeds}
        inner = [name for name in names if name not in given]
        fed = {**taken_by(session, feeds), **self.fed.feeds(session.inputs, draw)}
        run = session.run(fed, inner) if inner else {}
        return {**run, **{name: given[name] for name in names if name in given}}


def runs_of(model: OnnxModel, options: RuntimeOptions | None = None) -> OnnxRuns:
    """A model whose layers may all move, for comparing it with any other.

    Raises:
        UsageError: where onnxruntime cannot run so.
    """
    if options is not None:
        check_runtime(options)
    return OnnxRuns(model, layers(model.graph), options=options)


def taken_by(session: Session, feeds: Arrays) -> dict[str, Any]:
    """Those of ``feeds`` that a session takes."""
    return {name: array for name, array in feeds.items() if name in session.inputs}
