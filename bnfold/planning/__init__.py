"""The planner: which BatchNorm can be folded, why the others stay, and the edits that fold them."""

from bnfold.planning.decision import Action, Decision, Direction, Plan, Refusal
from bnfold.planning.lowering import Rest
from bnfold.planning.plan import make_plan
from bnfold.planning.reasons import Reason

__all__ = ["Action", "Decision", "Direction", "Plan", "Reason", "Refusal", "Rest", "make_plan"]
