"""Why a BatchNorm cannot be folded: one member a reason, its value the sentence that the user reads."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Reason(Enum):
    """The name in lower case is the code in JSON; ``{culprit}`` is the node or tensor to look at."""

    # The normalisation itself
    TRAINING_MODE = (
        "it is in training mode and normalises with the statistics of each batch; "
        "export the model for inference (model.eval() before the export)"
    )
    STATISTICS_IN_USE = (
        "its mean or variance outputs are in use ({culprit}); "
        "export the model for inference so that it has one output"
    )
    COMPUTED_STATISTICS = (
        "its parameters are computed while the model runs ({culprit}), so no constant map exists"
    )
    OVERRIDABLE_INITIALIZER = (
        "{culprit} is an initializer that is also a graph input, so a caller may override it; "
        "if no caller does, use --freeze-initializers"
    )
    NON_FINITE_STATISTICS = (
        "its {culprit} holds NaN or infinity; restore a healthy checkpoint or recalibrate"
    )
    NEGATIVE_VARIANCE = (
        "its running variance is negative ({culprit}); restore a healthy checkpoint or recalibrate"
    )
    ZERO_VARIANCE = (
        "its variance plus epsilon is zero ({culprit}), which divides by zero; "
        "recalibrate, or set epsilon"
    )
    SPATIAL_STATISTICS = (
        "it normalises each position by itself (spatial=0), which is no per-channel map"
    )
    UNKNOWN_SHAPE = (
        "the shape of {culprit} cannot be inferred; run shape inference on the model, "
        "or export it with fixed sizes"
    )
    NO_GRAPH = (
        "a checkpoint does not tell what stands around it; name the code of the network as "
        "package.module:factory and give the checkpoint with --weights"
    )
    UNCHANGED_CLASS = (
        "the unchanged class has no place for this fold into {culprit}; it is made without "
        "--keep-modules"
    )
    NOT_ASKED = "it is left out by --only or --skip"
    # Before it
    GRAPH_INPUT = "its input is the graph input {culprit}, so no weight stands before it"
    GRAPH_OUTPUT = "{culprit} is a graph output and must keep its values"
    SHARED_VALUE = "{culprit} also reads the values as they are before it"
    CAPTURED_VALUE = "{culprit} is read across the border of a control-flow body"
    NONLINEAR_PRODUCER = "{culprit} before it is not linear"
    OPAQUE_PRODUCER = "{culprit} before it is not an operator that an affine map can pass"
    # Behind it
    READER_IS_OUTPUT = "its output {culprit} is a graph output"
    NONLINEAR_READER = "{culprit} behind it is not linear"
    OPAQUE_READER = "{culprit} behind it is not an operator that an affine map can pass"
    PADDED_READER = (
        "{culprit} behind it pads with zeros, where a shift would be missing at the border"
    )
    SHIFT_AT_BORDERS = "{culprit} behind it does not see its whole kernel at every position"
    UNREAD = "nothing reads its output"
    # On the way
    COMPUTED_WEIGHT = "the weight of {culprit} is computed while the model runs"
    QUANTIZED_WEIGHT = (
        "the weight of {culprit} is quantised in a form that takes no factor for each channel (read "
        "by others as well, computed on, or in a torch program); fold the float model, then quantise that"
    )
    QUANTIZED_PER_TENSOR = (
        "the quantised weight of {culprit} has one scale for all channels, and an operator set before "
        "13 knows nothing else; convert the model to operator set 13, or fold the float model and "
        "quantise that"
    )
    QUANTIZED_INPUTS = (
        "the quantised weight of {culprit} would need a scale for each input channel, and runtimes take "
        "one for each output channel; fold the float model, then quantise that"
    )
    QUANTIZED_RANGE = (
        "{detail}, which the number type of the weight of {culprit} cannot hold negated; quantise to "
        "a symmetric range (-127 to 127), or fold the float model and quantise that"
    )
    QUANTIZED_VALUE = (
        "{culprit} rounds the values, and a map for each channel on its other side would have them "
        "rounded elsewhere; fold the float model, then quantise that"
    )
    AXIS_MISMATCH = "its channels do not line up with the channels of {culprit}"
    MIXED_CHANNELS = "{culprit} puts elements that need different maps into one"
    SHIFT_BLOCKED = "{culprit} mixes in constants (zero padding), where a shift may not pass"
    NEGATIVE_SCALE = "{detail}, and {culprit} passes only positive ones"
    UNEQUAL_BRANCHES = "{culprit} adds a branch that cannot take the same scale"
    BROADCAST = "{culprit} broadcasts a smaller value, which cannot take a per-channel map"
    ACROSS_REGIONS = "{culprit} is read twice in one sum"
    NARROW_TYPE = (
        "{culprit} changes the number type, and values that the wider type holds would not survive "
        "in the narrower one"
    )
    # Where maps on many values at once are asked for (`planning.gauges`)
    OTHER_SCALE = "{culprit} needs another scale of the same values, or none"
    OTHER_SHIFT = "{culprit} needs another shift of the same values, or none"
    CONSTANT_CHANNELS = (
        "{detail}: these hold a constant that {culprit} behind it would still have to be given"
    )
    FAR_OFFSET = "{detail}: moved along the trunk, shifts that large would cost the values there their digits"
    SCALE_RANGE = "the scales that {culprit} ties together lie too far apart for the number type"
    SHARED_CONSTANT = "the constant in {culprit} cannot take over this map"
    TOO_MANY_WAYS = "too many sums before {culprit} could take its shift to try them all"
    PROBE_FAILED = "{culprit} could not be tried out on a small tensor"
    # The cast
    OVERFLOW = "the folded weight of {culprit} would overflow its number type"
    UNDERFLOW = (
        "a channel of the folded weight of {culprit} would vanish in its number type; "
        "fold in float32 and convert afterwards"
    )

    @property
    def code(self) -> str:
        return self.name.lower()

    def sentence(self, culprit: str | None, detail: str = "") -> str:
        return self.value.format(culprit=culprit or "the graph", detail=detail)


class Refused(Exception):
    """Raised inside the planner where a walk meets something that it cannot pass."""

    def __init__(self, reason: Reason, culprit: str | None = None, detail: str = "") -> None:
        super().__init__(reason.sentence(culprit, detail))
        self.reason = reason
        self.culprit = culprit


_NAMED = 8


def channels(where: Sequence[int], count: int, what: str) -> str:
    """``3 of 64 scales are negative (channels 5, 17, 40)``; ``what`` is ``scales are negative`` there."""
    shown = ", ".join(map(str, where[:_NAMED])) + (", …" if len(where) > _NAMED else "")
    one = len(where) == 1
    word = "channel" if one else "channels"
    verb = what.replace("scales are", "scales is", 1) if one else what
    return f"{len(where)} of {count} {verb} ({word} {shown})"
