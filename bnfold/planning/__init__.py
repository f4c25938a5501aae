"""From a graph to one decision per BatchNorm and the edits that carry the decisions out."""

from bnfold.planning.decision import Action, Decision, Direction, Plan, Refusal
from bnfold.planning.plan import make_plan
from bnfold.planning.reasons import Reason

__all__ = ["Action", "Decision", "Direction", "Plan", "Reason", "Refusal", "make_plan"]
