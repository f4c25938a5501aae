"""The version of bnfold, where everything can read it."""

__version__ = "0.1.0"
