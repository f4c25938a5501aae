"""Who reads the values that a plan changes: a reader that the plan does not know of would be given
another meaning, outside of every region."""

from __future__ import annotations

import operator
from collections.abc import Iterator

from torch.fx import Node as Call

from bnfold.formats.torch.graph.arguments import base_name
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.graph import Value
from bnfold.planning import Plan

# What these ask for, a size or a type, no plan changes.
_NO_ELEMENTS = frozenset(
    "sym_size sym_numel sym_stride sym_storage_offset sym_is_contiguous _assert_tensor_metadata".split()
)


def unseen_readers(model: TorchModel, plan: Plan) -> Iterator[str]:
    """A sentence for each call of the program that reads a changed value unknown to the plan, and
    for each changed value that the program or a body returns."""
    for value in (value for region in plan.regions for value in region):
        known = _known(value)
        for reader in _readers(model, value):
            if reader.op == "output":
                if not value.is_output:
                    yield f"'{value.name}' is returned, and the plan does not know of it"
            elif reader not in known and base_name(reader) not in _NO_ELEMENTS:
                yield f"{reader.name} reads '{value.name}', and the plan does not know of it"


def _readers(model: TorchModel, value: Value) -> Iterator[Call]:
    """The calls that the program itself hands a value to."""
    made = model.oracle.calls[value]
    several = isinstance(made.meta.get("val"), tuple | list)
    for user in made.users:
        if several and user.target is operator.getitem:
            continue  # it picks another result: this one is picked by nobody
        yield user


def _known(value: Value) -> set[Call]:
    """The calls that the plan knows as readers of a value."""
    found: set[Call] = set()
    for node in (*value.readers, *value.shape_readers):
        native = node.native
        frozen = () if native.frozen is None else native.frozen.computing
        found |= {*native.calls, *frozen}
    return found
