"""From words to a call: what a command takes is declared in its signature, and read off it here.

A library for this (typer) took as long to import as all else that `--help` needs, and every release of it
worded errors and help anew. What bnfold needs of it is little.
"""

from bnfold.cli.parsing.command import Command
from bnfold.cli.parsing.declare import Argument, Option

__all__ = ["Argument", "Command", "Option"]
