"""Names asked for: globs, and what a person who mistyped one may have meant."""

import difflib
import fnmatch
from collections.abc import Iterable

import polars as pl

from genebench.errors import LakeError


def matches(column: str, glob: str) -> pl.Expr:
    """Whether a text column matches a glob (`*`, `?`, `[...]`); case counts."""

    def find(names: pl.Series) -> pl.Series:
        # The regular expressions of fnmatch have groups that those of polars do not know.
        distinct = names.unique().drop_nulls()
        return names.is_in([name for name in distinct if fnmatch.fnmatchcase(name, glob)])

    return pl.col(column).map_batches(find, return_dtype=pl.Boolean, is_elementwise=True)


def hint(word: str, known: Iterable[str]) -> str:
    """A suggestion to add to a message: the nearest known name, or nothing.

    >>> hint("chromosom", ["chromosome", "hla_class"])
    "; did you mean 'chromosome'?"
    """
    names = sorted(set(known))
    if "*" in word or word in names:
        return ""
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def require_known(word: str, known: Iterable[str], noun: str) -> str:
    """Return a name that exists.

    Raises:
        LakeError: It does not; lists those that do and suggests the nearest.
    """
    names = sorted(set(known))
    if word not in names:
        listed = f" (there are {', '.join(names)})" if names else ""
        raise LakeError(f"there is no {noun} {word!r}{listed}{hint(word, names)}")
    return word
