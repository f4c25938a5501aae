"""Small modules, each with what must become of its BatchNorm: what folds beside what must not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnfold.formats.torch.edit.edited import TorchEdited
from bnfold.formats.torch.format import FORMAT as TORCH
from bnfold.formats.torch.run.fold import TorchFold
from bnfold.proof.verification import Verification, prove

Decisions = Mapping[str, str]
IMAGE = (2, 3, 12, 12)


def randomised(module: nn.Module) -> nn.Module:
    """The module in eval mode with statistics and affine parameters far from their defaults."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        with torch.no_grad():
            values = torch.rand(tensor.shape, generator=generator)
            positive = name.endswith("running_var") or (
                name.endswith("weight") and tensor.ndim == 1
            )
            tensor.copy_(values + 0.5 if positive else values - 0.5)
    return module.eval()


class Lambda(nn.Module):
    """Submodules by name and the function that calls them."""

    def __init__(self, forward: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self._forward = forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._forward(self, *args, **kwargs)


class FrozenBatchNorm2d(nn.Module):
    """Buffers only, and arithmetic: what detection libraries use."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1, 1, 1)
        scale = self.weight.reshape(shape) * (self.running_var.reshape(shape) + 1e-5).rsqrt()
        return x * scale + (self.bias.reshape(shape) - self.running_mean.reshape(shape) * scale)


class BatchNormAct2d(nn.BatchNorm2d):
    """Normalisation and activation in one module."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps
        )
        result: Tensor = self.act(y)
        return result


class StandardisedConv(nn.Conv2d):
    """A weight that is computed from the parameter alone."""

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, training=True
        ).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, padding=1)


class Matrix(nn.Module):
    """A parameter that forward functions use by themselves."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(shape))


@dataclass
class Case:
    """A module, its inputs, and the decision of each of its BatchNorm: ``fold backward`` and the
    like, or the code of the reason why it stays."""

    name: str
    module: Callable[[], nn.Module]
    expected: Decisions
    shapes: tuple[tuple[int, ...], ...] = (IMAGE,)
    kwargs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    affines: int = 0

    def inputs(self) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(2)
        return tuple(torch.randn(shape, generator=generator) for shape in self.shapes)


BACK, AHEAD = "fold backward", "fold forward"


def conv(i: int = 3, o: int = 8, k: int = 3, **settings: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, **{"padding": k // 2, **settings})


def bn(channels: int = 8, **settings: Any) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, **settings)


def chain(*modules: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*copy.deepcopy(modules))


def net(forward: Callable[..., Any], **modules: nn.Module) -> Callable[[], nn.Module]:
    return lambda: Lambda(forward, **copy.deepcopy(modules))


def _fake(x: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, 0.05, 0, -128, 127)


def _alias(m: Any, x: Tensor) -> Tensor:
    """A write through a view of what the norm reads."""
    y = m.c(x)
    y.view(y.shape[0], -1).mul_(2.0)
    result: Tensor = m.b(y)
    return result


def _in_place_sum(m: Any, x: Tensor) -> Tensor:
    y = m.b(m.c(x))
    y += x.mean(1, keepdim=True)
    return F.relu_(y)


def _read_before_written(m: Any, x: Tensor) -> Tensor:
    """The norm's output is kept, then its input is overwritten."""
    y = m.c(x)
    z = m.b(y)
    y.add_(1.0)
    result: Tensor = z + y.sum((2, 3), keepdim=True)
    return result


def _doubled_statistics(m: Any, x: Tensor, variance: Tensor) -> Any:
    return F.batch_norm(m.c(x), m.b.running_mean, variance), m.l(variance)


def _shuffled(m: Any, x: Tensor) -> Any:
    y = m.c(x)
    n, c, h, w = y.shape
    return m.b(y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


def _reshaped_as(m: Any, x: Tensor) -> Any:
    y = m.c(x)
    return m.b(y.flatten(1).reshape_as(y)).relu()


def _shape_read(m: Any, x: Tensor) -> Any:
    y = m.c(x)
    return m.b(y), x.new_zeros(y.shape[0], y.shape[2])


def _split(m: Any, x: Tensor) -> Any:
    a, b = m.c(x).chunk(2, 1)
    return m.a(a), m.b(b)


def _half_read(m: Any, x: Tensor) -> Any:
    """One half of the convolution is read as it is, the other is normalised."""
    a, b = m.c(x).split([4, 4], 1)
    return a, m.b(b)


FOLDS = [
    Case("conv", chain(conv(bias=False), bn()), {"1": BACK}),
    Case("conv_bias_groups", chain(conv(4, 8, groups=2), bn()), {"1": BACK}, ((2, 4, 9, 9),)),
    Case("conv_same", chain(nn.Conv2d(3, 8, 3, padding="same"), bn()), {"1": BACK}),
    Case("conv1d", chain(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)), {"1": BACK}, ((2, 3, 16),)),
    Case("conv3d", chain(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4)), {"1": BACK}, ((2, 3, 5, 6, 7),)),
    Case(
        "transposed_groups",
        chain(nn.ConvTranspose2d(4, 8, 3, 2, 1, 1, groups=2), bn()),
        {"1": BACK},
        ((2, 4, 6, 6),),
    ),
    Case("linear", chain(nn.Linear(5, 8), nn.BatchNorm1d(8)), {"1": BACK}, ((4, 5),)),
    Case(
        "linear_turned",
        net(lambda m, x: m.b(m.l(x).transpose(1, 2)), l=nn.Linear(5, 8), b=nn.BatchNorm1d(8)),
        {"b": BACK},
        ((2, 7, 5),),
    ),
    Case(
        "linear_flattened",
        net(
            lambda m, x: m.b(m.l(x).flatten(0, 1)).view(x.shape[0], 7, 8),
            l=nn.Linear(5, 8, bias=False),
            b=nn.BatchNorm1d(8),
        ),
        {"b": BACK},
        ((2, 7, 5),),
    ),
    Case(
        "addmm",
        net(
            lambda m, x: m.b(torch.addmm(m.v.value, x, m.w.value, beta=0.5, alpha=2.0)),
            v=Matrix(8),
            w=Matrix(5, 8),
            b=nn.BatchNorm1d(8),
        ),
        {"b": BACK},
        ((4, 5),),
    ),
    Case(
        "matmul",
        net(lambda m, x: m.b(x @ m.w.value), w=Matrix(5, 8), b=nn.BatchNorm1d(8)),
        {"b": BACK},
        ((4, 5),),
    ),
    Case(
        "matmul_plus_vector",
        net(
            lambda m, x: m.b(x @ m.w.value + m.v.value),
            w=Matrix(5, 8),
            v=Matrix(8),
            b=nn.BatchNorm1d(8),
        ),
        {"b": BACK},
        ((4, 5),),
    ),
    Case(
        "weight_times_x",
        net(lambda m, x: m.b(m.w.value @ x), w=Matrix(8, 5), b=nn.BatchNorm1d(8)),
        {"b": BACK},
        ((2, 5, 7),),
    ),
    Case(
        "weight_times_x_plus_vector",
        net(
            lambda m, x: m.b(m.w.value @ x + m.v.value),
            w=Matrix(8, 5),
            v=Matrix(8, 1),
            b=nn.BatchNorm1d(8),
        ),
        {"b": BACK},
        ((2, 5, 7),),
    ),
    Case("no_affine", chain(conv(), bn(affine=False)), {"1": BACK}),
    Case("sync", chain(conv(), nn.SyncBatchNorm(8)), {"1": BACK}),
    Case("norm_and_activation", chain(conv(), BatchNormAct2d(8), conv(8, 4)), {"1": BACK}),
    Case("frozen", chain(conv(), FrozenBatchNorm2d(8), nn.ReLU()), {"1": BACK}),
    Case("standardised", chain(StandardisedConv(3, 8, 3), bn()), {"1": BACK}),
    Case("in_place", chain(conv(), bn(), nn.ReLU(inplace=True)), {"1": BACK}),
    Case("in_place_sum", net(_in_place_sum, c=conv(3, 1), b=bn(1)), {"b": BACK}),
    Case("written_alias", net(_alias, c=conv(), b=bn()), {"b": BACK}, affines=1),
    Case(
        "conv_called_twice",
        net(lambda m, x: m.d(m.b(m.c(x))) + m.e(m.c(x * 2)), c=conv(), b=bn(), d=conv(8), e=bn()),
        {"b": BACK, "e": BACK},
        affines=1,
    ),
    Case(
        "all_called_twice",
        net(lambda m, x: m.b(m.c(m.b(m.c(x)).relu())), c=conv(3, 3), b=bn(3)),
        {"b": BACK, "b#2": BACK},
    ),
    Case("reshape_as", net(_reshaped_as, c=conv(), b=bn()), {"b": BACK}),
    Case("shape_read", net(_shape_read, c=conv(), b=bn()), {"b": BACK}),
    Case("shuffle", net(_shuffled, c=conv(), b=bn()), {"b": BACK}),
    Case("pixel_shuffle", chain(conv(), nn.PixelShuffle(2), bn(2)), {"2": BACK}),
    Case("split", net(_split, c=conv(), a=bn(4), b=bn(4)), {"a": BACK, "b": BACK}),
    Case("half_read", net(_half_read, c=conv(), b=bn(4)), {"b": BACK}),
    Case(
        "concat",
        net(lambda m, x: m.b(torch.cat([m.c(x), m.d(x)], 1)), c=conv(o=3), d=conv(o=5), b=bn()),
        {"b": BACK},
    ),
    Case(
        "stack",
        net(
            lambda m, x: m.b(torch.stack([m.c(x), m.d(x)], 2).flatten(1, 2)),
            c=conv(o=4),
            d=conv(o=4),
            b=bn(),
        ),
        {"b": BACK},
    ),
    Case(
        "sum_of_convs",
        net(lambda m, x: m.b(m.c(x) - m.d(x)), c=conv(bias=False), d=conv(bias=False), b=bn()),
        {"b": BACK},
    ),
    Case(
        "index_select",
        net(
            lambda m, x: m.b(m.c(x).index_select(1, torch.tensor([3, 1, 0, 2]))),
            c=conv(o=4),
            b=bn(4),
        ),
        {"b": BACK},
    ),
    Case("upsample", chain(conv(), nn.Upsample(scale_factor=2), bn()), {"2": BACK}),
    Case(
        "bilinear",
        net(
            lambda m, x: m.b(F.interpolate(m.c(x), scale_factor=2.0, mode="bilinear")),
            c=conv(),
            b=bn(),
        ),
        {"b": BACK},
    ),
    Case("max_pool", chain(conv(), nn.MaxPool2d(3, 2, 1), bn()), {"2": BACK}),
    Case("average_pool", chain(conv(), nn.AvgPool2d(2), bn()), {"2": BACK}),
    Case(
        "pooled_head",
        net(lambda m, x: m.l(m.b(m.c(x).relu()).mean((2, 3))), c=conv(), b=bn(), l=nn.Linear(8, 2)),
        {"b": AHEAD},
    ),
    Case("before_conv", chain(bn(3), conv(padding=0)), {"0": AHEAD}),
    Case("dropout", chain(conv(), nn.Dropout2d(), bn(), nn.Dropout()), {"2": BACK}),
    Case("add_zero", net(lambda m, x: m.b(m.c(x) + 0), c=conv(), b=bn()), {"b": BACK}, affines=1),
    Case(
        "weighted_sum",
        net(
            lambda m, x: m.b(torch.add(m.c(x), m.d(x), alpha=0.25)),
            c=conv(bias=False),
            d=conv(bias=False),
            b=bn(),
        ),
        {"b": BACK},
    ),
    Case(
        "einsum",
        net(lambda m, x: m.b(torch.einsum("nchw,oc->nohw", x, m.w.value)), w=Matrix(8, 3), b=bn()),
        {"b": BACK},
    ),
    Case(
        "einsum_behind",
        net(
            lambda m, x: torch.einsum("oc,nchw->nohw", m.w.value, m.b(x)).relu(),
            w=Matrix(8, 3),
            b=bn(3),
        ),
        {"b": AHEAD},
    ),
    Case("two_norms", chain(conv(), bn(), bn()), {"1": BACK, "2": BACK}),
]

STAYS = [
    Case(
        "read_twice",
        net(lambda m, x: (lambda y: m.b(y) + y.relu())(m.c(x)), c=conv(), b=bn()),
        {"b": "shared_value"},
    ),
    Case("is_output", net(lambda m, x: (lambda y: (y, m.b(y)))(m.c(x)), c=conv(), b=bn()),
         {"b": "graph_output"}),
    # One channel goes into four, which would have to be scaled differently.
    Case(
        "pixel_unshuffle",
        chain(conv(o=2), nn.PixelUnshuffle(2), bn(8)),
        {"2": "axis_mismatch"},
    ),
    Case("padded", chain(bn(3), conv()), {"0": "padded_reader"}),
    # What training for quantisation leaves: folded as floats, the layer would be quantised no more.
    Case(
        "fake_quantised_weight",
        net(
            lambda m, x: m.b(F.conv2d(x, _fake(m.w.value))).relu(), w=Matrix(8, 3, 3, 3), b=bn()
        ),
        {"b": "quantized_weight"},
    ),
    Case(
        "fake_quantised_values",
        net(lambda m, x: m.b(_fake(m.c(x))).relu(), c=conv(), b=bn()),
        {"b": "quantized_value"},
    ),
    Case(
        "einsum_over_two_axes",
        net(
            lambda m, x: m.b(torch.einsum("nchw,och->now", x, m.w.value)).relu(),
            w=Matrix(8, 3, 12),
            b=nn.BatchNorm1d(8),
        ),
        {"b": "opaque_producer"},
    ),
    Case("between_activations", chain(conv(), nn.ReLU(), bn(), nn.ReLU()), {"2": "nonlinear_reader"}),
    Case(
        "linear_wrong_axis",
        net(lambda m, x: m.b(m.l(x)), l=nn.Linear(5, 7), b=nn.BatchNorm1d(7)),
        {"b": "axis_mismatch"},
        ((2, 7, 5),),
    ),
    Case("counted_padding", chain(conv(), nn.AvgPool2d(3, 2, 1), bn()), {"2": "shift_blocked"}),
    Case("zero_pad", chain(conv(), nn.ZeroPad2d(1), bn()), {"2": "shift_blocked"}),
    Case(
        "negative_scale",
        net(lambda m, x: m.b(F.max_pool2d(m.c(x), 2)), c=conv(), b=bn()),
        {"b": "negative_scale"},
    ),
    Case(
        "no_statistics", chain(conv(), bn(track_running_stats=False)), {"1": "training_mode"}
    ),
    Case(
        "functional_training",
        net(
            lambda m, x: F.batch_norm(m.c(x), m.b.running_mean, m.b.running_var, training=True),
            c=conv(),
            b=bn(),
        ),
        {"b": "training_mode"},
    ),
    Case("instance_norm", chain(conv(), nn.InstanceNorm2d(8, affine=True)), {}),
    Case(
        "computed_weight",
        net(
            lambda m, x, w: m.b(F.conv2d(x, w)),
            b=bn(4),
        ),
        {"b": "computed_weight"},
        ((2, 3, 9, 9), (4, 3, 3, 3)),
    ),
    Case("computed_statistics",
         net(lambda m, x, v: F.batch_norm(m.c(x), m.b.running_mean, v.abs()), c=conv(), b=bn()),
         {"b": "computed_statistics"}, (IMAGE, (8,))),
    # The doubled vector is a statistic of one norm and goes into a layer: both read it.
    Case("statistics_elsewhere",
         net(lambda m, x, v: _doubled_statistics(m, x, v.abs() * 2.0),
             c=conv(), b=bn(), l=nn.Linear(8, 2)),
         {"b": "computed_statistics"}, (IMAGE, (8,))),
    Case("widened_behind_rounding",
         net(lambda m, x: m.l(m.b(m.r(x).flatten(1)).half().to(x.dtype)),
             r=nn.ReLU(), b=nn.BatchNorm1d(8), l=nn.Linear(8, 2)),
         {"b": "narrow_type"}, ((4, 8),)),
    # The first norm takes the second, and gets a weight of its own: the tensor is its variance too.
    Case("one_tensor_twice",
         net(lambda m, x: m.e(F.batch_norm(x.relu(), m.b.running_mean, m.b.running_var,
                                           m.b.running_var, m.b.bias)).relu(), b=bn(3), e=bn(3)),
         {"b": "nonlinear_reader", "e": "merge backward"}),
    Case("overwritten", net(_read_before_written, c=conv(), b=bn()), {"b": "shared_value"}),
]  # fmt: skip


def proved(edited: TorchEdited, written: Path | None) -> Verification:
    """What the proof says of a fold, read back from its file or as it is in memory."""
    model = edited.model
    feeds = TORCH.generated_inputs(model)
    return prove(TorchFold(edited, written), model.graph, edited.plan, feeds, "generated")
