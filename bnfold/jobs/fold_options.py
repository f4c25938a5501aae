"""What a fold is asked for, and whether the plan has enough of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bnfold.errors import UsageError
from bnfold.planning import Plan, Reason, Rest

# What would fold more of a network of which nothing folds, by the reason that most layers stay for.
_FLAGS = {
    Reason.OVERRIDABLE_INITIALIZER: "--freeze-initializers",
    Reason.UNCHANGED_CLASS: "leaving out --keep-modules",
}
_BRANCHES = "--reparameterize"


@dataclass(frozen=True)
class Minimum:
    """How many BatchNorm have to fold: a number, or a share of them."""

    number: float
    is_share: bool = False

    @classmethod
    def parse(cls, text: str) -> Minimum:
        """``30`` or ``90%``.

        Raises:
            UsageError: where it is neither.
        """
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text.strip())
        minimum = None if found is None else cls(float(found[1]), bool(found[2]))
        if minimum is None or (minimum.is_share and minimum.number > 100):
            raise UsageError(f"--min-folded is a number or a share, such as 30 or 90%, not {text}")
        return minimum

    def allows(self, plan: Plan) -> bool:
        """Whether so many fold. None of none is all of them."""
        total = len(plan.batch_norms)
        least = self.number / 100 * total if self.is_share else self.number
        return plan.foldable >= least

    def __str__(self) -> str:
        return f"{self.number:g}{'%' if self.is_share else ''}"


@dataclass(frozen=True)
class FoldOptions:
    """What is folded, and how.

    ``verified``: compare outputs before anything is written. ``strict``: write nothing where a
    BatchNorm has to stay; ``minimum``: where too few fold. ``only`` and ``skip``: globs on the
    names of BatchNorm. ``force``: the target may be the input. ``reparameterize``: merge parallel
    linear branches. ``keep_modules``: write a state dict for the unchanged class (PyTorch).
    ``provenance``: say in the file where it comes from. ``rest``: in which form a BatchNorm is
    written that has to stay.
    """

    verified: bool = True
    strict: bool = False
    minimum: Minimum | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    force: bool = False
    reparameterize: bool = False
    keep_modules: bool = False
    provenance: bool = True
    rest: Rest = Rest.KEEP

    def refusal(self, plan: Plan) -> str | None:
        """Why ``plan`` is not carried out, None where it is."""
        if self.strict and plan.kept:
            verb = "has" if plan.kept == 1 else "have"
            return f"--strict, and {plan.kept} BatchNorm {verb} to stay"
        if self.minimum is not None and not self.minimum.allows(plan):
            counts = f"{plan.foldable} of {len(plan.batch_norms)} BatchNorm fold"
            return f"{counts}, and --min-folded asks for {self.minimum}"
        return None


def none_folds(plan: Plan) -> str | None:
    """The warning where there are BatchNorm and none folds, with the flag that helps."""
    reasons = [d.reason for d in plan.batch_norms if d.reason is not None]
    if not reasons or plan.foldable:
        return None
    found = f"0 of {len(reasons)} BatchNorm fold"
    for reason, flag in _FLAGS.items():
        helped = sum(each.reason is reason for each in reasons)
        if helped:
            return f"{found}; {helped} would be tried with {flag}"
    if any(_BRANCHES in each.message for each in reasons):
        return f"{found}; some do with {_BRANCHES}"
    return (
        f"{found}; the reasons are above" if len(reasons) > 1 else f"{found}; the reason is above"
    )
