"""Names asked for: globs, and what a person who mistyped one may have meant."""

import difflib
import re
from collections.abc import Iterable

import polars as pl

from genebench.errors import LakeError

_TOKEN = re.compile(r"\*+|\?|\[(?P<not>!?)(?P<set>\]?[^\]]*)\]|.", re.DOTALL)
_RANGE = re.compile(r"(.)(?:-(.))?", re.DOTALL)


def matches(column: str, glob: str) -> pl.Expr:
    """Whether a text column matches a glob (`*`, `?`, `[...]`); case counts."""
    # That of fnmatch.translate has groups that the regular expressions of polars do not know.
    pattern = "".join(_translate(token) for token in _TOKEN.finditer(glob))
    return pl.col(column).str.contains(f"(?s)^{pattern}$")


def _translate(token: re.Match[str]) -> str:
    """A part of a glob as a regular expression; a bracket that encloses nothing is itself."""
    if not token["set"]:
        return {"*": ".*", "?": "."}.get(token[0][0], pl.escape_regex(token[0]))
    ranges = [(low, high or low) for low, high in _RANGE.findall(token["set"])]
    within = "".join(f"\\x{{{ord(a):x}}}-\\x{{{ord(b):x}}}" for a, b in ranges if a <= b)
    if token["not"]:
        return f"[^{within}]" if within else "."
    return f"[{within}]" if within else r"[^\s\S]"


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
