"""Recalibration: BatchNorm statistics measured again on a data sample, in the network that is deployed."""

from bnfold.recalibration.new_statistics import NewStatistics
from bnfold.recalibration.observer import Observer, Piece, Population, Statistics
from bnfold.recalibration.output_change import OutputChange
from bnfold.recalibration.self_check import SelfCheck
from bnfold.recalibration.statistics_change import NormChange

__all__ = [
    "NewStatistics",
    "NormChange",
    "Observer",
    "OutputChange",
    "Piece",
    "Population",
    "SelfCheck",
    "Statistics",
]
