"""Entities and terms that came, went or were renamed are listed by kind, with their successors."""

import polars as pl
from blanks import filled

from genebench.registry.loading import load_registry
from lakehouse.curate.entity_changes import (
    ENTITY_CHANGES_SCHEMA,
    TERM_CHANGES_SCHEMA,
    TermFile,
    changed_entities,
    changed_terms,
    term_files,
)

TERMS = TermFile("go.terms", "id", "name")


def catalogue(entities, xrefs=(), samples=()):
    """Silver tables of genes: id to symbol and name, (identifier, entity), (task, entity)."""
    listed = [
        {"entity_type": "gene", "entity_id": name, "symbol": symbol, "name": title,
         "locus_group": "not in the catalogue" if symbol == "?" else "protein-coding"}
        for name, (symbol, title) in entities.items()
    ]  # fmt: skip
    known = [
        {"entity_type": "gene", "namespace": "ensembl", "identifier": identifier,
         "entity_id": name, "status": status, "is_ambiguous": False}
        for identifier, name, status in xrefs
    ]  # fmt: skip
    sampled = [
        {"task_id": task, "sample_id": name, "entity_type": "gene", "entity_id": name}
        for task, name in samples
    ]
    names = ("silver.entities", "silver.xrefs", "silver.samples")
    return {
        name: filled(name, rows) for name, rows in zip(names, (listed, known, sampled), strict=True)
    }


def test_each_kind_of_change_is_listed_and_the_same_entity_is_not():
    before = catalogue(
        {"g1": ("A", "a"), "g2": ("B", "b"), "g3": ("C", "c"), "g4": ("D", "d")},
        samples=[("t", "g4"), ("u", "g4"), ("t", "g2")],
    )
    now = catalogue(
        {"g1": ("A", "a"), "g2": ("B2", "new"), "g3": ("C", "other"), "g5": ("E", "e")},
        samples=[("t", "g2")],
    )
    found = changed_entities(before, now)
    assert found.schema == ENTITY_CHANGES_SCHEMA
    columns = ("change", "entity_id", "before", "now", "n_tasks")
    assert found.select(columns).rows() == [
        ("withdrawn", "g4", "D", None, 2),
        ("renamed", "g2", "B", "B2", 1),
        ("added", "g5", None, "E", 0),
        ("new name", "g3", "c", "other", 0),
    ]
    assert changed_entities(now, now).is_empty()


def test_the_successor_has_most_of_the_approved_identifiers_of_a_withdrawn_entity():
    before = catalogue(
        {"g1": ("A", "a")},
        [("E1", "g1", "approved"), ("E2", "g1", "approved"), ("E3", "g1", "alias")],
    )
    now = catalogue(
        {"g2": ("B", "b"), "g3": ("C", "c")},
        [("E1", "g3", "alias"), ("E2", "g3", "approved"), ("E2", "g2", "approved"),
         ("E3", "g2", "approved")],
    )  # fmt: skip
    found = changed_entities(before, now).filter(change="withdrawn")
    assert found["successor"].to_list() == ["g3"]


def test_entities_that_no_catalogue_lists_are_left_out():
    before = catalogue({"g1": ("A", "a"), "x1": ("?", "")})
    now = catalogue({"g1": ("A", "a"), "x2": ("?", "")})
    assert changed_entities(before, now).is_empty()


def test_terms_are_added_gone_renamed_and_obsolete():
    before = pl.DataFrame(
        {"id": ["t1", "t2", "t3", "t4", "t5"], "name": ["one", "two", "three", "four", "five"]}
    )
    now = pl.DataFrame(
        {
            "id": ["t1", "t2", "t3", "t6"],
            "name": ["one", "two or more", "obsolete three", "four"],
        }
    )
    found = changed_terms(before, now, TERMS)
    assert found.schema == TERM_CHANGES_SCHEMA
    assert set(found["file"]) == {"go.terms"}
    assert found.drop("file").rows() == [
        ("added", "t6", None, "four", None),
        ("gone", "t4", "four", None, "t6"),
        ("gone", "t5", "five", None, None),
        ("obsolete", "t3", "three", "obsolete three", None),
        ("renamed", "t2", "two", "two or more", None),
    ]


def test_a_term_that_was_merged_names_the_term_that_it_was_merged_into():
    before = pl.DataFrame({"id": ["t1", "t2", "t3"], "name": ["one", "two", "three"]})
    now = pl.DataFrame({"id": ["t1"], "name": ["one"], "merged": ["t0|t2"]})
    terms = TermFile("go.terms", "id", "name", "merged")
    found = changed_terms(before, now, terms).select("change", "term_id", "successor")
    assert found.rows() == [("gone", "t3", None), ("merged", "t2", "t1")]
    without = changed_terms(before, now.drop("merged"), terms)
    assert without["change"].to_list() == ["gone", "gone"]


def test_the_files_of_terms_are_those_that_tasks_name_their_labels_by():
    files = {profile: term_files(load_registry(profile).tasks.values())
             for profile in ("embedded", "paper")}  # fmt: skip
    assert files["embedded"] == [
        TermFile("bioconductor.go_terms", "go_id", "term", "secondary_ids")
    ]
    assert [file.file_id for file in files["paper"]] == ["reactome.pathways_gmt"]
