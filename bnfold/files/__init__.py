"""Safe reading and writing of files: which may be touched, and how.

`source` reads a file once and notices where it changes meanwhile, `guard` says which paths may be
written, `scratch` holds what is not finished, `publishing` makes it the user's in one step.
"""

from bnfold.files.bombs import check_ratio
from bnfold.files.guard import Use, check_destination, same_file
from bnfold.files.missing import meant, meant_in, missing
from bnfold.files.publishing import publish, publish_text
from bnfold.files.scratch import content_name, older_data, scratch_folder
from bnfold.files.source import SourceFile, check_regular, file_sha256

__all__ = [
    "SourceFile",
    "Use",
    "check_destination",
    "check_ratio",
    "check_regular",
    "content_name",
    "file_sha256",
    "meant",
    "meant_in",
    "missing",
    "older_data",
    "publish",
    "publish_text",
    "same_file",
    "scratch_folder",
]
