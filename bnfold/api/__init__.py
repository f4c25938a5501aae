"""The Python interface: the jobs of the commands, for models and data of any form."""

from bnfold.api.calls import inspect, load, verify
from bnfold.api.folding import fold
from bnfold.api.recalibrating import recalibrate

__all__ = ["fold", "inspect", "load", "recalibrate", "verify"]
