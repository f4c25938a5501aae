"""Statistics beside an independent network in float64, and `update_bn` beside the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.optim.swa_utils import update_bn  # noqa: E402

import bnfold  # noqa: E402

from . import images, speech  # noqa: E402
from .truth import distance, doubled, every_value, running, true_statistics  # noqa: E402

MEAN, VARIANCE = 1e-5, 1e-5  # what is promised, in deviations and relative


def by_name(module: nn.Module, batch: Any) -> Any:
    return module(**batch)


def by_position(module: nn.Module, batch: Any) -> Any:
    return module(batch)


def updated(module: nn.Module, batches: Any, call: Any) -> Any:
    """What ``update_bn`` makes of a module; a wrapper hands the batch on, which it cannot itself."""

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = copy.deepcopy(module)

        def forward(self, batch: Any) -> Any:
            return call(self.inner, batch)

    wrapped = Wrapped()
    torch.manual_seed(0)  # dropout is on in it
    with torch.no_grad():
        update_bn(batches, wrapped)
    return running(wrapped.inner)


def assert_true(found: Any, wanted: Any) -> None:
    means, variances = distance(found, wanted)
    assert means < MEAN and variances < VARIANCE, (means, variances)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_dict_batches_of_a_residual_network(batch_size: int) -> None:
    net, data = images.ResNet(), images.dict_batches([6, 5, 1])
    wanted = true_statistics(net, data, by_name)
    result = bnfold.recalibrate(net, data, batch_size=batch_size)
    assert_true(running(result.model), wanted)
    assert isinstance(by_name(result.model, data[0]), images.Output)
    means, variances = distance(updated(net, data, by_name), wanted)
    assert means > 0.1 and variances > 0.2  # equal weights for batches, and dropout


@pytest.mark.parametrize("head", [False, True])
def test_synchronised_layers_and_a_last_batch_of_one(head: bool) -> None:
    net, data = images.Synchronised(head), images.pictures([6, 6, 1])
    wanted = true_statistics(net, data, by_position)
    result = bnfold.recalibrate(net, data, batch_size=6)
    assert isinstance(result.model.layers[1], nn.SyncBatchNorm)
    assert_true(running(result.model), wanted)
    if head:  # one value for each channel has no variance of its own
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            updated(net, data, by_position)
    else:
        means, variances = distance(updated(net, data, by_position), wanted)
        assert means > 0.1 and variances > 0.1


def test_update_bn_counts_padded_frames() -> None:
    net, data = speech.Conformer(), speech.batches(ragged=False, extra=False)
    wanted = true_statistics(net, data, speech.call, speech.frames_that_count)
    result = bnfold.recalibrate(net, data, mask="attention_mask")
    assert_true(running(result.model), wanted)
    means, variances = distance(updated(net, data, by_name), wanted)
    assert means > 0.3 and variances > 0.3


def test_the_reference_sees_faults() -> None:
    net, data = images.ResNet(), images.dict_batches([6, 5, 1])
    wanted = true_statistics(net, data, by_name)
    without_the_last = true_statistics(net, data[:2], by_name)
    assert min(distance(without_the_last, wanted)) > 0.01
    whole = {"pixel_values": torch.cat([b["pixel_values"] for b in data])}
    at_once = behind_old_statistics(net, whole)
    assert min(distance(at_once, wanted)) > 0.01


def behind_old_statistics(module: nn.Module, batch: Any) -> Any:
    """All layers measured in one pass: behind layers that have their old statistics."""
    network, found = copy.deepcopy(module).double().eval(), {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.BatchNorm2d):

            def note(_: Any, arguments: Any, name: str = name) -> None:
                values = every_value(batch, arguments[0])
                found[f"{name}.running_mean"] = values.mean(0)
                found[f"{name}.running_var"] = values.var(0)

            layer.register_forward_pre_hook(note)
    with torch.no_grad():
        by_name(network, doubled(batch))
    return found


def test_a_network_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    net = transformers.ResNetForImageClassification(config)
    data = [{"pixel_values": x} for x in images.pictures([4, 3, 1], 32)]
    result = bnfold.recalibrate(net, data, batch_size=3)
    assert_true(running(result.model), true_statistics(net, data, by_name))
