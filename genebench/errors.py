"""Error and warning classes; each message says what happened, where, and how to fix it."""

from typing import ClassVar, Self


class GenebenchError(Exception):
    """Base class of all expected failures; the command line prints the message.

    Attributes:
        exit_code: The exit code of a command that fails with it: 1, or 2 where data are refused or
            part of the work is done.
    """

    exit_code: ClassVar[int] = 1


class RegistryError(GenebenchError):
    """Declarations are invalid. The error lists all mistakes, not only the first.

    Args:
        mistakes: One line each: file, entry, what is wrong, and a suggestion for a misspelt name.
    """

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        super().__init__(f"{count} in the declarations:\n" + "\n".join(f"  {m}" for m in mistakes))

    def __reduce__(self) -> tuple[type[Self], tuple[list[str]]]:
        return type(self), (self.mistakes,)


class InvalidSettings(GenebenchError):
    """A setting in the environment or in `genebench.toml` is unknown or has an invalid value."""


class SourceError(GenebenchError):
    """A source file is missing, moved, unreadable, or differs from its declaration."""


class ChecksumMismatch(SourceError):
    """The bytes of a source file differ from its pinned hash."""

    exit_code = 2


class SnapshotDrift(UserWarning):
    """A source file changed without a new version; both snapshots are kept."""


class ExpectationFailed(GenebenchError):
    """A critical expectation failed: the frame is quarantined and the table stays unchanged."""

    exit_code = 2


class UnresolvedEntities(GenebenchError):
    """Too many identifiers of a source match no entity of the catalogue."""

    exit_code = 2


class CoverageError(GenebenchError):
    """An encoder covers too few of the entities that a release compares."""


class DegenerateTask(GenebenchError):
    """A task cannot be scored: its label is constant, or a fold lacks a class."""


class EncoderError(GenebenchError):
    """An encoder cannot be loaded, or its vectors have the wrong shape or invalid values."""


class EncoderUnavailable(EncoderError):
    """An encoder lacks something it needs: weights, a package, a file, an input or a base encoder.

    A run that did not name this encoder skips it and continues.
    """


class LakeError(GenebenchError):
    """The lake cannot be opened, read or written."""
