"""Fold, prove, then quantise with PyTorch's PT2E: its own fusion folds Conv→BatchNorm alone, and is wrong
where the convolution's output is read twice.
"""

import torch
from torch import nn

import bnfold


def folded_program(network: nn.Module, example: tuple[torch.Tensor, ...]) -> torch.fx.GraphModule:
    """What `prepare_pt2e` takes, without BatchNorm."""
    done = bnfold.fold(network.eval(), example)
    if not done.ok or done.model is None:
        raise RuntimeError(f"not folded: {done}")
    return torch.export.export(done.model, example).module()


# from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
# prepared = prepare_pt2e(folded_program(network, example), quantizer)
# prepared(*calibration)
# quantised = convert_pt2e(prepared)
