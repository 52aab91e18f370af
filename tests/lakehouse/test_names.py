"""Globs on columns match the same names as `fnmatch`."""

import fnmatch

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.tables.names import matches_glob

NAMES = st.text("ab-_.[]!^&~\\|( 0Zµ\n", max_size=6)
GLOBS = st.lists(st.one_of(NAMES, st.sampled_from("*?[]!-a")), max_size=6).map("".join)


@given(GLOBS, st.lists(NAMES, min_size=1, max_size=8))
@example("*hla*", ["hla", "an_hla_class", "hl"])
@example("a*b*", ["ab", "aab", "ba"])
@example("[a[b]", ["a", "[", "b"])
@example("[!b-a]", ["a", "["])
@example("[b-a]", ["a", "-"])
@example("[]-a]", ["]", "a", "b"])
def test_a_glob_matches_what_fnmatch_says(glob, names):
    found = pl.DataFrame({"name": names}).select(matches_glob("name", glob)).to_series()
    assert found.to_list() == [fnmatch.fnmatchcase(name, glob) for name in names]
