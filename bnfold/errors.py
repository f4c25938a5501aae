"""Everything that a user can put right, one class each under one root.

The message of each is one clear sentence that says what is wrong and what to try; the command line
prints it and exits with code 2.
"""


class BnfoldError(Exception):
    """The root: whatever bnfold raises on purpose is one of these."""


class UsageError(BnfoldError):
    """Options or arguments that do not go together."""


class ModelError(BnfoldError):
    """A model file that is missing, unreadable, damaged or of a kind that bnfold does not read."""


class TracingError(ModelError):
    """A network that torch.export cannot trace as a whole; parts of it may still be.

    ``what`` is the message without the advice.
    """

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.what = what


class DataError(BnfoldError):
    """A data sample that is missing, unreadable or does not fit the model's inputs."""


class OutputError(BnfoldError):
    """A destination that must not or cannot be written."""


class RuntimeUnavailableError(BnfoldError):
    """A model that is readable, yet that no runtime at hand can execute."""


class ModelNotLoadedError(RuntimeUnavailableError):
    """A model that the runtime does not even load: no inputs could help."""


class MissingExtraError(BnfoldError):
    """A feature whose optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional dependency; install it with: pip install 'bnfold[{extra}]'"
        )


class VerificationError(BnfoldError):
    """A folded network that does not compute what the original does."""
