"""The commands on submodules of a network, each by itself: the network as a whole is only called.

What reaches a submodule is what the network itself gives it: it runs on the data, eagerly, and the
inputs of the submodule are taken down.
"""

from bnfold.jobs.parts.fold import fold_parts
from bnfold.jobs.parts.inspect import inspect_parts
from bnfold.jobs.parts.recalibrate import recalibrate_parts
from bnfold.jobs.parts.verify import verify_parts

__all__ = ["fold_parts", "inspect_parts", "recalibrate_parts", "verify_parts"]
