"""The planner: which BatchNorm can be folded, why the others stay, and the edits that fold them."""

from typing import TYPE_CHECKING

from bnfold.later import later

if TYPE_CHECKING:
    from bnfold.planning.decision import Action, Decision, Direction, Plan, Refusal
    from bnfold.planning.lowering import Rest
    from bnfold.planning.plan import make_plan
    from bnfold.planning.reasons import Reason
else:
    __getattr__ = later(
        __name__,
        {
            "bnfold.planning.decision": ("Action", "Decision", "Direction", "Plan", "Refusal"),
            "bnfold.planning.lowering": ("Rest",),
            "bnfold.planning.plan": ("make_plan",),
            "bnfold.planning.reasons": ("Reason",),
        },
    )

__all__ = ["Action", "Decision", "Direction", "Plan", "Reason", "Refusal", "Rest", "make_plan"]
