"""The errors a user can meet. Each message says what happened, where, and what to do next."""

from typing import Self


class GenebenchError(Exception):
    """Any failure that genebench foresees; the command line prints it and exits with 1."""


class RegistryError(GenebenchError):
    """A declaration is wrong. Carries every mistake found, not the first one.

    Args:
        mistakes: One line each: file, entry, what is wrong and, where one is near, a suggestion.
    """

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{count} in the declarations:\n" + "\n".join(f"  {m}" for m in mistakes))

    def __reduce__(self) -> tuple[type[Self], tuple[list[str]]]:
        return type(self), (self.mistakes,)


class WrongSettings(GenebenchError):
    """A setting of the environment or of `genebench.toml` is unknown or cannot be read."""


class SourceError(GenebenchError):
    """A source file is missing, moved, unreadable or not what its declaration says."""


class ChecksumMismatch(SourceError):
    """The bytes of a pinned source file differ from the lock."""


class SnapshotDrift(UserWarning):
    """The same version of a source file has new bytes; both snapshots are kept."""


class ExpectationFailed(GenebenchError):
    """A critical expectation is not met; the frame is quarantined, the table untouched."""


class UnresolvedEntities(GenebenchError):
    """Too large a share of a source's identifiers names no entity of the catalogue."""


class CoverageError(GenebenchError):
    """An encoder covers too few of the entities that a release compares on."""


class DegenerateTask(GenebenchError):
    """A task cannot be scored as it stands: a constant label, or a fold without a class."""


class EncoderError(GenebenchError):
    """An encoder cannot be loaded or gave vectors of the wrong shape or value."""


class EncoderUnavailable(EncoderError):
    """What an encoder needs is not here: weights, a package, a file, an input, another encoder.

    Nothing is wrong with the encoder; a run that did not ask for it by name goes on without it.
    """


class LakeError(GenebenchError):
    """The lake cannot be opened, read or written as asked."""
