"""Statistics that are true: measured again on a data sample, in the network that is deployed."""

from bnfold.recalibration.changes import NormChange
from bnfold.recalibration.edit import NewStatistics
from bnfold.recalibration.observer import Observer, Piece, Population, Statistics
from bnfold.recalibration.proof import OutputChange, SelfCheck
from bnfold.recalibration.run import Progress

__all__ = [
    "NewStatistics",
    "NormChange",
    "Observer",
    "OutputChange",
    "Piece",
    "Population",
    "Progress",
    "SelfCheck",
    "Statistics",
]
