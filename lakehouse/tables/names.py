"""Matches names against globs and suggests the nearest name for a mistyped one."""

import difflib
import fnmatch
from collections.abc import Iterable

import polars as pl

from genebench.errors import LakeError


def matches_glob(column: str, glob: str) -> pl.Expr:
    """An expression: whether a string column matches a glob (`*`, `?`, `[...]`), case-sensitive."""

    def find(names: pl.Series) -> pl.Series:
        # polars does not support all regular expressions that fnmatch.translate returns.
        distinct = names.unique().drop_nulls()
        return names.is_in([name for name in distinct if fnmatch.fnmatchcase(name, glob)])

    return pl.col(column).map_batches(find, return_dtype=pl.Boolean, is_elementwise=True)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion to append to an error message: the nearest known name, or an empty string.

    >>> did_you_mean("chromosom", ["chromosome", "hla_class"])
    "; did you mean 'chromosome'?"
    """
    names = sorted(set(known))
    if "*" in name or name in names:
        return ""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def require_known(name: str, known: Iterable[str], noun: str) -> str:
    """Return a name after checking that it is known.

    Raises:
        LakeError: The name is unknown; the message lists the known ones and suggests the nearest.
    """
    names = sorted(set(known))
    if name not in names:
        listed = f" (there are {', '.join(names)})" if names else ""
        raise LakeError(f"there is no {noun} {name!r}{listed}{did_you_mean(name, names)}")
    return name
