"""Operators that move elements about. What exactly they do is asked of the operator itself."""

from __future__ import annotations

from collections.abc import Callable

from bnfold.formats.torch.file.tensors import has_numpy_dtype, numpy_dtype
from bnfold.formats.torch.graph.arguments import nodes_in
from bnfold.formats.torch.graph.operators.mixtures import read_picked
from bnfold.formats.torch.graph.operators.view import CallView, Reading
from bnfold.kinds import Movement

Reader = Callable[[CallView], Reading | None]


def _first(view: CallView) -> str:
    return "self" if "self" in view.arguments else "input"


def read_identity(view: CallView) -> Reading:
    return Reading(Movement(()), (view.flow(_first(view)),))


def read_whole(view: CallView) -> Reading | None:
    """Any axis may be touched; ``view`` to another type reads the same bits as other numbers."""
    result = view.result
    if result is not None and result.dtype != view.fake(_first(view)).dtype:
        return None
    return Reading(Movement(None, row_major=view.op in _RESHAPES), (view.flow(_first(view)),))


def read_dropout(view: CallView) -> Reading | None:
    """Identity in inference; a mask in use makes it something else."""
    if view.get("train", view.get("training")) is not False:
        return None
    if view.op == "native_dropout" and not view.only_first_result_read():
        return None
    return read_identity(view)


def read_cast(view: CallView) -> Reading | None:
    """Between floating-point types only: integers would be rounded elsewhere after a fold."""
    if view.result is None:
        return None
    before, after = view.fake(_first(view)).dtype, view.result.dtype
    if before == after:
        return read_identity(view)
    if not all(t.is_floating_point and has_numpy_dtype(t) for t in (before, after)):
        return None
    types = numpy_dtype(before), numpy_dtype(after)
    return Reading(Movement((), cast=types), (view.flow(_first(view)),))


def read_several(view: CallView) -> Reading | None:
    """cat, stack: tensors of one type, joined along an axis (stack makes a new one)."""
    flows = tuple(nodes_in(view.get("tensors")))
    result = view.result
    types = {node.meta["val"].dtype for node in flows}
    ranks = {node.meta["val"].ndim for node in flows}
    if result is None or types != {result.dtype} or len(ranks) != 1:
        return None
    joined = view.op in ("cat", "concat", "concatenate")
    return Reading(Movement((int(view.get("dim")),) if joined else None), flows)


def along(name: str) -> Reader:
    """An operator that works on the one axis in argument ``name``."""

    def read(view: CallView) -> Reading | None:
        axis = view.get(name)
        return Reading(Movement((axis,)), (view.flow("self"),)) if isinstance(axis, int) else None

    return read


def last(count: int) -> Reader:
    """An operator that works on the last ``count`` axes."""

    def read(view: CallView) -> Reading:
        return Reading(Movement(tuple(range(-count, 0))), (view.flow("self"),))

    return read


def read_index(view: CallView) -> Reading | None:
    """Picks entries by indices, which have to be known."""
    indices = list(nodes_in((view.get("indices"), view.get("index"))))
    if view.op == "index_select" and view.constants.find(view.flow("index")) is None:
        return read_picked(view)
    if not indices or any(view.constants.find(node) is None for node in indices):
        return None
    if view.op == "index_select":
        return along("dim")(view)
    return read_whole(view)


def read_channel_shuffle(view: CallView) -> Reading:
    return Reading(Movement((1,)), (view.flow("self"),))


def read_pad(view: CallView) -> Reading:
    """Pairs of paddings from the last axis on; what is written there, the probe finds out."""
    pads = view.ints("pad") or view.ints("padding")
    if pads is None:  # they follow from sizes, so that some sizes may be padded and some not
        return Reading(Movement(None, fill=_fill(view)), (view.flow("self"),))
    padded = [i for i in range(len(pads) // 2) if pads[2 * i] or pads[2 * i + 1]]
    return Reading(Movement(tuple(-1 - i for i in padded)), (view.flow("self"),))


def _fill(view: CallView) -> float | None:
    """What is written into the padding, None where it repeats elements of the input."""
    constant = view.op == "constant_pad_nd" or view.get("mode") == "constant"
    value = view.get("value") or 0.0
    if not constant:
        return None
    return float(value) if isinstance(value, int | float) else float("nan")


def read_roll(view: CallView) -> Reading | None:
    dims = view.ints("dims")
    return Reading(Movement(tuple(dims)), (view.flow("self"),)) if dims else read_whole(view)


_IDENTITIES = "clone contiguous detach alias lift_fresh lift_fresh_copy lift data".split()
_CASTS = "to _to_copy type_as float double half bfloat16".split()
_RESHAPES = (
    "view _unsafe_view reshape reshape_as view_as flatten ravel unflatten squeeze unsqueeze view_copy "
    "_reshape_alias"
).split()
_WHOLE = (
    "permute transpose t swapaxes swapdims movedim moveaxis numpy_T mT adjoint expand expand_as "
    "repeat tile repeat_interleave broadcast_to flip fliplr flipud rot90 diagonal select unbind unfold "
    "im2col as_strided_copy permute_copy atleast_1d atleast_2d atleast_3d"
).split()
_DROPOUTS = "dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout".split()
_SPLITS = (
    "split split_with_sizes chunk unsafe_split unsafe_split_with_sizes unsafe_chunk tensor_split "
    "slice narrow"
).split()

READERS: dict[str, Reader] = {
    **dict.fromkeys(_IDENTITIES, read_identity),
    **dict.fromkeys(_CASTS, read_cast),
    **dict.fromkeys((*_RESHAPES, *_WHOLE), read_whole),
    **dict.fromkeys(_DROPOUTS, read_dropout),
    **dict.fromkeys(_SPLITS, along("dim")),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), read_several),
    **dict.fromkeys(("index", "index_select"), read_index),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), last(3)),
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), read_channel_shuffle),
    **dict.fromkeys(
        (
            "pad",
            "constant_pad_nd",
            *(f"{kind}_pad{n}d" for kind in ("reflection", "replication") for n in (1, 2, 3)),
        ),
        read_pad,
    ),
    "roll": read_roll,
}
