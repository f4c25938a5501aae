"""Folding a module in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.fx import GraphModule

from bnfold.errors import UsageError, VerificationError
from bnfold.formats.torch.edit.edited import TorchEdited
from bnfold.formats.torch.graph.open import open_module
from bnfold.formats.torch.run.fold import TorchFold
from bnfold.formats.torch.run.generated import generated_inputs
from bnfold.planning import make_plan
from bnfold.proof.verification import prove


def fold_module(
    module: nn.Module,
    example_inputs: Sequence[Any],
    *,
    verified: bool = True,
    reparameterize: bool = False,
) -> GraphModule:
    """The folded network of ``module``, which stays as it is.

    The network returned is in eval mode for good. To keep it, fold into a file, or give it to
    torch.export; it cannot be pickled.

    Args:
        module: traced with torch.export, a copy of it in eval mode.
        example_inputs: positional inputs to trace it with.
        verified: compare both before anything is returned.
        reparameterize: merge parallel linear branches into one.

    Raises:
        UsageError: where the example inputs are no tuple.
        ModelError: where torch.export cannot trace the module.
        VerificationError: where the folded network computes something else.
    """
    if not isinstance(example_inputs, tuple | list):
        raise UsageError("give the example inputs as a tuple, one tensor as (x,)")
    model = open_module(module, tuple(example_inputs))
    plan = make_plan(model.graph, reparameterize=reparameterize)
    edited = TorchEdited(model, plan)
    if verified:
        feeds = generated_inputs(model)
        outcome = prove(TorchFold(edited, None), model.graph, plan, feeds, "generated")
        if not outcome.passed:
            raise VerificationError(
                f"the folded network differs from the original; first at {outcome.first_wrong}"
            )
    return edited.module()
