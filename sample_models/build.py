"""Train the sample networks on scikit-learn's digits and write them as ONNX files.

Run ``python sample_models/build.py``; it takes well under a minute and needs no download. Two runs
on the same machine with the same package versions write the same bytes.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from networks import PreactNet, RepVggNet, ResidualNet, SigmoidMlp, TransposedNet
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.onnx import TrainingMode

SEED = 2015
THREADS = 2
OPSET = 17
TEST_IMAGES = 450
CALIBRATION_IMAGES = 512
BATCH = 64
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)

Row = tuple[str, int, float]
"""Name of a model, its number of BN and its test accuracy."""


@dataclass(frozen=True)
class Split:
    """Images of shape (N, 1, 8, 8) with values in [0, 1], and their digits."""

    image: NDArray[np.float32]
    label: NDArray[np.int64]

    def take(self, index: slice) -> Split:
        """The part of the split at the index."""
        return Split(self.image[index], self.label[index])

    def save(self, path: Path) -> None:
        """Write the arrays under the keys ``image`` and ``label``."""
        np.savez_compressed(path, image=self.image, label=self.label)


@dataclass(frozen=True)
class Recipe:
    """How one network is built and trained."""

    name: str
    build: Callable[[], nn.Module]
    epochs: int
    rate: float


RECIPES = (
    Recipe("residual", ResidualNet, 20, 3e-3),
    Recipe("mlp_bn_before", lambda: SigmoidMlp(bn_first=True), 40, 3e-3),
    Recipe("mlp_bn_after", lambda: SigmoidMlp(bn_first=False), 40, 3e-3),
    Recipe("preact", PreactNet, 20, 3e-3),
    Recipe("repvgg", RepVggNet, 20, 3e-3),
    Recipe("transposed", TransposedNet, 30, 3e-3),
)


def load_splits() -> tuple[Split, Split]:
    """Training and test split of the digits, shuffled with the fixed seed."""
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    image = (digits.images[order, None] / 16.0).astype(np.float32)
    whole = Split(image, digits.target[order].astype(np.int64))
    return whole.take(slice(TEST_IMAGES, None)), whole.take(slice(TEST_IMAGES))


def train(recipe: Recipe, data: Split) -> nn.Module:
    """Train the network of the recipe; the seed is set anew, so the order of recipes is free."""
    torch.manual_seed(SEED)
    model = recipe.build()
    image, label = torch.from_numpy(data.image), torch.from_numpy(data.label)
    # The last, smaller batch is dropped: BN statistics of a few images would only be noise.
    batches = len(label) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=recipe.epochs * batches
    )
    model.train()
    for _ in range(recipe.epochs):
        for index in torch.randperm(len(label))[: batches * BATCH].reshape(batches, BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(image[index]), label[index])
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return model.eval()


def with_statistics_of(model: nn.Module, image: Tensor) -> nn.Module:
    """A copy of the model whose running statistics are exactly those of the images."""
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, NORMS):
            # No momentum means a plain average: one pass over one batch is the whole estimate.
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        model(image)
    return model.eval()


def low_contrast(image: Tensor) -> Tensor:
    """The images as a badly exposed camera would give them: flat, on a grey ground."""
    return 0.35 * image + 0.4


def export(model: nn.Module, image: Tensor, training: bool = False) -> onnx.ModelProto:
    """Export the model with its BatchNormalization nodes left standing.

    In its evaluation mode the exporter itself folds BN into convolutions, hence PRESERVE.
    """
    traced = copy.deepcopy(model).train(training)
    for module in traced.modules():
        if isinstance(module, NORMS):
            # ONNX has no place for this counter; the exporter would warn of every update.
            module.num_batches_tracked = None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The newer exporter folds BN too, or, unoptimised, surrounds every node with helper nodes.
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            traced,
            (image,),
            path,
            dynamo=False,
            training=TrainingMode.TRAINING if training else TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
        )
        proto = onnx.load(path)
    restore_parameters(proto, model)
    strip_volatile(proto)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def restore_parameters(proto: onnx.ModelProto, model: nn.Module) -> None:
    """Give the initializers the values of the model.

    Tracing in training mode has moved the running statistics by one batch.
    """
    values = model.state_dict()
    for item in proto.graph.initializer:
        item.CopyFrom(onnx.numpy_helper.from_array(values[item.name].numpy(), item.name))


def strip_volatile(proto: onnx.ModelProto) -> None:
    """Remove doc strings and metadata, where exporters note source paths of the machine."""
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    text = proto.SerializeToString()
    for folder in (sys.prefix, str(Path(__file__).resolve().parent)):
        if folder.encode() in text:
            raise ValueError(f"the exported model mentions the folder {folder}")


def norm_count(proto: onnx.ModelProto) -> int:
    """Number of BatchNormalization nodes."""
    return sum(node.op_type == "BatchNormalization" for node in proto.graph.node)


def accuracy(proto: onnx.ModelProto, data: Split, batch: int = TEST_IMAGES) -> float:
    """Share of the images that onnxruntime classifies correctly, given to it in batches."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    correct = 0
    for start in range(0, len(data.label), batch):
        part = data.take(slice(start, start + batch))
        scores = np.asarray(session.run(["scores"], {"image": part.image})[0])
        correct += int((scores.argmax(axis=1) == part.label).sum())
    return correct / len(data.label)


def export_all(
    data: Split, calibration: Split
) -> tuple[dict[str, onnx.ModelProto], onnx.ModelProto]:
    """Train and export all models; the last one is the stale model after recalibration."""
    image = torch.from_numpy(data.image)
    models = {recipe.name: train(recipe, data) for recipe in RECIPES}
    files = {name: export(model, image) for name, model in models.items()}
    residual = models["residual"]
    files["residual_training_mode"] = export(residual, image, training=True)
    stale = with_statistics_of(residual, low_contrast(image))
    files["residual_stale_statistics"] = export(stale, image)
    mended = with_statistics_of(stale, torch.from_numpy(calibration.image))
    return files, export(mended, image)


def build(out: Path) -> list[Row]:
    """Write all files to the folder and measure the models on the test split."""
    train_split, test_split = load_splits()
    calibration = train_split.take(slice(CALIBRATION_IMAGES))
    calibration.save(out / "digits_calibration.npz")
    test_split.save(out / "digits_test.npz")
    files, mended = export_all(train_split, calibration)
    for name, proto in files.items():
        (out / f"{name}.onnx").write_bytes(proto.SerializeToString(deterministic=True))
    rows = [(name, norm_count(proto), accuracy(proto, test_split)) for name, proto in files.items()]
    batch_bound = files["residual_training_mode"]
    single = accuracy(batch_bound, test_split, batch=1)
    rows.append(("(training mode, image by image)", norm_count(batch_bound), single))
    rows.append(("(stale, then recalibrated)", norm_count(mended), accuracy(mended, test_split)))
    return rows


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, metavar="DIR")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    print(f"{'model':34}{'BN':>4}{'test accuracy':>16}")
    for name, norms, share in build(out):
        print(f"{name:34}{norms:>4}{share:>15.1%}")


if __name__ == "__main__":
    main()
