"""From words to a call: what a command takes is declared in its signature, and read off it here.

`argparse` reads the words: it is quick to import and always there. Declarations, sentences and the help page
are bnfold's own, because argparse words errors and lays out help otherwise in each release of Python, and
its help breaks lines inside the names of options.
"""

from bnfold.cli.parsing.command import Command
from bnfold.cli.parsing.declare import Argument, Option

__all__ = ["Argument", "Command", "Option"]
