"""What a BatchNorm costs in PyTorch's own static quantisation (PT2E), and what folding first brings.

    pip install torchao scikit-learn
    python -m benchmarks.quantisation_torch

The residual and the pre-activation network of `sample_models`, trained anew, are quantised with
torchao's X86InductorQuantizer as they are and after `bnfold.fold`: what is left of BatchNorm behind
`convert_pt2e`, and the accuracy on 450 held-out digits.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import bnfold

sys.path.insert(0, str(Path(__file__).parents[1] / "sample_models"))

HEAD = ("network", "how", "nodes", "quantise nodes", "BN left", "accuracy")


def main() -> None:
    import torchao

    import build

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    training, test = build.load_splits()
    print(f"torch {torch.__version__}, torchao {torchao.__version__}\n\n| {' | '.join(HEAD)} |")
    print(f"|---|---|{'--:|' * (len(HEAD) - 2)}")
    for recipe in build.RECIPES:
        if recipe.name in ("residual", "preact"):
            net = build.train(recipe, training).eval()
            for row in rows(net, training, test):
                print("| " + " | ".join(map(str, (recipe.name, *row))) + " |", flush=True)


def rows(net: torch.nn.Module, training: Any, test: Any) -> Iterator[tuple[Any, ...]]:
    images = torch.from_numpy(training.image[:256])
    result = bnfold.fold(net, (images[:2],))
    assert result.ok
    for how, module in (("as it is", net), ("folded first", result.model)):
        quantised = static(module, images)
        with torch.no_grad():
            scores = quantised(torch.from_numpy(test.image)).numpy()
        share = float((scores.argmax(1) == test.label).mean())
        ops = Counter(str(n.target) for n in quantised.graph.nodes if n.op == "call_function")
        yield (
            how,
            sum(ops.values()),
            sum(count for op, count in ops.items() if ".quantize" in op),
            sum(count for op, count in ops.items() if "batch_norm" in op),
            f"{100 * share:.1f} %",
        )


def static(module: Any, images: torch.Tensor) -> Any:
    """The module quantised with the ranges that the images give."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (images,), dynamic_shapes=[{0: batch}]).module()
    quantizer = X86InductorQuantizer()
    quantizer.set_global(get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(program, quantizer)
    prepared(images)
    return convert_pt2e(prepared)


if __name__ == "__main__":
    main()
