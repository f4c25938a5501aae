"""Attention and messages: sums along one axis with weights, or by indices, that are computed."""

from __future__ import annotations

from collections.abc import Callable

from torch.fx import Node as Call

from bnfold.formats.torch.graph.arguments import arguments_of, base_name, value_of
from bnfold.formats.torch.graph.operators.view import CallView, Reading
from bnfold.kinds import Mixture, Product

_SOFTMAX = ("softmax", "_softmax")  # not _safe_softmax, which makes zeros of a row without a key
# What hands rows on as they are, where the last axis keeps its size.
_HANDED_ON = (
    "clone contiguous detach alias dropout view _unsafe_view reshape expand unsqueeze".split()
)
_ZEROS = ("zeros", "new_zeros", "zeros_like")


def attention(view: CallView, weights: str, mixed: str) -> Reading | None:
    """``softmax(...) @ values``, None where the rows are not known to sum to one."""
    if not _rows_sum_to_one(view.tensor(weights)):
        return None
    return Reading(Mixture(-2, sums_to_one=True), (view.flow(mixed), view.flow(weights)))


def _rows_sum_to_one(call: Call | None) -> bool:
    while call is not None and base_name(call) in _HANDED_ON:
        arguments = arguments_of(call)
        source = arguments.get("self", arguments.get("input"))
        if arguments.get("train") or not isinstance(source, Call):
            return False
        if value_of(source).shape[-1] != value_of(call).shape[-1]:
            return False
        call = source
    if call is None or base_name(call) not in _SOFTMAX:
        return False
    axis, rank = arguments_of(call).get("dim"), value_of(call).ndim
    return isinstance(axis, int) and axis % rank == rank - 1


def read_attention(view: CallView) -> Reading | None:
    """A mask may leave a row without a key: torch makes zeros of it then."""
    if view.get("dropout_p", 0.0) != 0.0 or view.get("enable_gqa", False):
        return None
    names = [n for n in ("query", "key", "attn_mask") if view.tensor(n) is not None]
    flows = (view.flow("value"), *(view.flow(name) for name in names))
    return Reading(Mixture(-2, sums_to_one="attn_mask" not in names), flows)


def read_picked(view: CallView) -> Reading | None:
    """Entries along one axis, by a list of indices that is computed."""
    index, axis = view.flow("index"), view.get("dim")
    rank = view.fake("self").ndim
    if not isinstance(axis, int) or value_of(index).ndim != 1 or not rank:
        return None
    return Reading(Mixture(axis % rank - rank, sums_to_one=True), (view.flow("self"), index))


def read_added(source: str) -> Callable[[CallView], Reading | None]:
    """index_add and scatter_add onto zeros: how many entries come together is not known."""

    def read(view: CallView) -> Reading | None:
        base, axis, rank = view.flow("self"), view.get("dim"), view.fake(source).ndim
        plain = view.get("alpha", 1) == 1 and isinstance(axis, int)
        if not plain or not rank or view.fake("self").ndim != rank or not _is_zero(base, view):
            return None
        result = view.result
        if result is None or result.dtype != view.fake(source).dtype:
            return None
        flows = [view.flow(source), view.flow("index")]
        flows += [] if view.constants.find(base) is not None else [base]
        return Reading(Mixture(axis % rank - rank, sums_to_one=False), tuple(flows))

    return read


def _is_zero(call: Call, view: CallView) -> bool:
    if base_name(call) in _ZEROS:
        return True
    if base_name(call) in ("full", "new_full", "full_like"):
        return bool(arguments_of(call).get("fill_value") == 0)
    known = view.constants.find(call)
    return known is not None and not known.float64().any()


def read_masked(view: CallView) -> Reading | None:
    """Zero where a mask says so."""
    value, mask = view.get("value"), view.tensor("mask")
    number = value if isinstance(value, int | float) else None
    if number != 0 or mask is None or view.constants.find(mask) is not None:
        return None
    return Reading(Product(), (view.flow("self"), mask))


READERS = {
    "scaled_dot_product_attention": read_attention,
    "index_add": read_added("source"),
    "scatter_add": read_added("src"),
    "masked_fill": read_masked,
}
