"""Tests each recipe on small tables, and the properties that all recipes share."""

import re

import polars as pl
import pytest
from built_tasks import CATALOGUE, GENES, PAIRED, by_symbol, declare, outcomes, run
from hypothesis import given
from hypothesis import strategies as st

from genebench.entities.identifiers import Resolver
from genebench.entities.unresolved import NOT_IN_CATALOGUE, list_unresolved_entities, unresolved_ids
from genebench.errors import DegenerateTask, UnresolvedEntities
from genebench.tasks.declaration import LABELS_SCHEMA, SAMPLES_SCHEMA
from genebench.tasks.recipes.recipe import RECIPES, check_arguments


def test_column_reads_classes_and_leaves_out_what_is_missing():
    task = declare("column", "multiclass", by_symbol(column="class", drop=["NA"]))
    genes = ["ONE", "TWO", "NA", "FOUR", "FIVE"]
    built = run(task, {"gene": genes, "class": [" x", "y ", "x", None, "NA"]})
    assert outcomes(built) == {"hgnc:1": "x", "hgnc:2": "y", "hgnc:7": "x"}
    assert built.label_names == ["x", "y"]
    assert built.counts["without a value"] == 2


def test_the_gene_named_na_is_a_gene():
    task = declare("column", "multiclass", by_symbol(column="class"))
    assert outcomes(run(task, {"gene": ["NA"], "class": ["x"]})) == {"hgnc:7": "x"}


def test_column_takes_p_values_off_in_every_notation():
    values = ["good (1.2e-3)", "good (3E-4)", "good (0.0012)", "good (0.00e+0)", "bad", "bad (1)"]
    task = declare("column", "multiclass", by_symbol(column="class", remove=r"\s*\([^()]*\)\s*$"))
    genes = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX"]
    assert run(task, {"gene": genes, "class": values}).label_names == ["bad", "good"]


def test_column_extracts_renames_and_lumps_the_others():
    task = declare(
        "column",
        "binary",
        by_symbol(column="is", rename={"Yes": "in"}, others="out"),
        positive="in",
    )
    built = run(task, {"gene": ["ONE", "TWO", "SIX"], "is": ["Yes", "No", "Perhaps"]})
    assert outcomes(built) == {"hgnc:1": "in", "hgnc:2": "out", "hgnc:6": "out"}
    assert built.label_names == ["out", "in"]
    task = declare("column", "multiclass", by_symbol(column="name", extract=", (class I+),"))
    built = run(
        task, {"gene": ["ONE", "TWO", "SIX"], "name": ["h, class I, A", "x", "h, class II, B"]}
    )
    assert outcomes(built) == {"hgnc:1": "class I", "hgnc:6": "class II"}


def test_a_missing_value_is_not_in_the_class_others():
    rename = by_symbol(column="is", rename={"Yes": "in"}, others="out", drop=["NA"])
    task = declare("column", "binary", rename, positive="in")
    genes = ["ONE", "TWO", "FOUR", "FIVE", "SIX"]
    built = run(task, {"gene": genes, "is": ["Yes", "No", None, "NA", " "]})
    assert outcomes(built) == {"hgnc:1": "in", "hgnc:2": "out"}
    assert built.counts["without a value"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"extract": "(["}, r"with: extract: .*unclosed character class"),
        ({"extract": "class I"}, r"with: extract: .*needs a group"),
        ({"remove": "(?=x)"}, r"with: remove: .*look-around"),
    ],
)
def test_an_invalid_pattern_is_reported_before_any_row_is_read(arguments, words):
    task = declare("column", "multiclass", by_symbol(column="c"))
    (mistake,) = check_arguments(
        task.model_copy(update={"arguments": {**task.arguments, **arguments}})
    )
    assert re.search(words, mistake)


def test_an_entity_whose_rows_disagree_is_left_out_or_the_first_counts():
    rows = {"gene": ["ONE", "ONE", "TWO", "TWO", "SIX"], "class": ["x", "y", "x", "x", "y"]}
    built = run(declare("column", "multiclass", by_symbol(column="class")), rows)
    assert outcomes(built) == {"hgnc:2": "x", "hgnc:6": "y"}
    assert built.counts["entities with conflicting rows"] == 1
    first = run(declare("column", "multiclass", by_symbol(column="class", conflicts="first")), rows)
    assert outcomes(first) == {"hgnc:1": "x", "hgnc:2": "x", "hgnc:6": "y"}


def test_numbers_are_averaged_over_repeats_and_logarithms_taken_when_asked():
    rows = {"gene": ["ONE", "ONE", "TWO", "SIX"], "n": ["1", "3", "1e2", "many"]}
    built = run(declare("column", "regression", by_symbol(column="n")), rows)
    assert outcomes(built) == {"hgnc:1": 2.0, "hgnc:2": 100.0}
    assert built.counts["without a number"] == 1
    built = run(declare("column", "regression", by_symbol(column="n", transform="log1p")), rows)
    assert outcomes(built)["hgnc:2"] == pytest.approx(4.61512)


def test_split_takes_the_separators_of_every_release_and_joins_repeated_rows():
    task = declare("split", "multilabel", by_symbol(column="where", by=[",", ";", "<br>"]))
    where = ["a,b", "a;c", "b<br>c", "c", None]
    built = run(task, {"gene": ["ONE", "TWO", "SIX", "ONE", "FIVE"], "where": where})
    assert outcomes(built) == {
        "hgnc:1": ["a", "b", "c"],
        "hgnc:2": ["a", "c"],
        "hgnc:6": ["b", "c"],
    }


def test_split_keeps_entities_without_a_renamed_value_as_samples_without_a_label():
    rename = {"PF1": "kinase", "PF2": "finger", "PF3": "finger", "PF9": "nobody's"}
    task = declare("split", "multilabel", by_symbol(column="has", by=["|"], rename=rename))
    genes = ["ONE", "TWO", "FOUR", "FIVE", "SIX"]
    built = run(task, {"gene": genes, "has": ["PF1|PF8", "PF2|PF3", "PF8", None, "PF1|PF2"]})
    labels = {"hgnc:1": "kinase", "hgnc:2": "finger", "hgnc:6": ["finger", "kinase"]}
    assert outcomes(built) == labels
    assert built.samples["sample_id"].to_list() == ["hgnc:1", "hgnc:2", "hgnc:4", "hgnc:6"]
    assert built.label_names == ["finger", "kinase"]
    assert built.counts["without a value"] == 1


def test_rows_without_a_label_are_counted_wherever_labels_are_read():
    rows = {"gene": ["ONE", "TWO", "SIX", "GONE", "FIVE"], "word": ["a", None, " ", "b", ","]}
    task = declare("split", "multilabel", by_symbol(column="word", by=[","]))
    assert run(task, rows).counts == {
        "source rows": 5, "rows": 5, "without a value": 3, "unresolved": 1, "ambiguous": 0,
    }  # fmt: skip
    arguments_of = {"keywords": by_symbol(label="word"), "count": by_symbol(column="word")}
    for recipe, arguments in arguments_of.items():
        kind = "regression" if recipe == "count" else "multilabel"
        counts = run(declare(recipe, kind, arguments), rows).counts
        assert (counts["without a value"], counts["unresolved"]) == (1, 1)


def test_keywords_reads_one_category():
    task = declare("keywords", "multilabel", by_symbol(label="word", where={"category": ["PTM"]}))
    built = run(
        task,
        {
            "gene": ["ONE", "ONE", "TWO", "SIX"],
            "word": ["a", "b", "a", "z"],
            "category": ["PTM", "PTM", "PTM", "Domain"],
        },
    )
    assert outcomes(built) == {"hgnc:1": ["a", "b"], "hgnc:2": "a"}


def test_membership_climbs_to_the_top_and_keeps_to_one_species():
    task = declare(
        "membership",
        "multilabel",
        by_symbol(node="node", node_id="id", node_name="name", only="^H-"),
        source=["made.rows", "made.edges", "made.names"],
    )
    built = run(
        task,
        {"gene": ["ONE", "TWO", "SIX", "FIVE"], "node": ["H-3", "H-1", "H-4", "B-9"]},
        {"parent": ["H-1", "H-2", "H-3", "B-1"], "child": ["H-2", "H-3", "H-4", "H-1"]},
        {"id": ["H-1"], "name": ["Top"]},
    )
    assert outcomes(built) == {"hgnc:1": "Top", "hgnc:2": "Top", "hgnc:6": "Top"}
    assert built.counts["under no label"] == 1


SETS = {
    "parent": ["TOP", "TOP", "LARGE", "LARGE"],
    "child": ["LARGE", "TINY", "INNER", "OTHER"],
}


def sized(sizes):
    task = declare(
        "membership",
        "multilabel",
        by_symbol(node="node", node_id="id", node_name="name", root="TOP", sizes=sizes),
        source=["x.genes", "x.edges", "x.names"],
    )
    # LARGE has ONE, TWO, FIVE and SIX; INNER has ONE and TWO.
    genes = {
        "gene": ["ONE", "TWO", "ONE", "SIX", "FIVE", "THREE"],
        "node": ["INNER", "INNER", "LARGE", "OTHER", "LARGE", "TINY"],
    }
    names = {"id": ["LARGE", "INNER"], "name": ["large set", "inner set"]}
    return run(task, genes, SETS, names)


def test_sets_of_a_size_are_the_lowest_nodes_that_have_it():
    built = sized([2, 4])
    assert built.label_names == ["inner set"]
    assert built.samples["sample_id"].to_list() == ["hgnc:1", "hgnc:2"]
    assert sized([3, 4]).label_names == ["large set"]
    assert sized([1, 2]).label_names == ["OTHER", "TINY", "inner set"]


def test_depth_and_sizes_are_not_given_together():
    arguments = by_symbol(node="node", node_id="id", node_name="name", sizes=[2, 4])
    task = declare("membership", "multilabel", arguments, source=["x.a", "x.b", "x.c"])
    (mistake,) = check_arguments(task.model_copy(update={"arguments": arguments | {"depth": 1}}))
    assert "give one of them" in mistake


def test_without_a_set_of_the_size_there_is_no_task():
    with pytest.raises(DegenerateTask, match="no node below TOP has 5 to 9 entities"):
        sized([5, 9])


def test_rows_that_make_no_pair_of_a_group_are_counted():
    task = declare(
        "co_membership",
        "binary",
        by_symbol(group="node", under="top", max_size=2),
        source=["made.rows", "made.edges"],
        positive="same",
    )
    small = [(gene, group) for group, genes in PAIRED.items() for gene in genes]
    rows = [*small, small[0], ("ONE", "elsewhere"), *((gene, "wide") for gene in PAIRED["a"])]
    built = run(
        task,
        {"gene": [*(gene for gene, _ in rows), "SIX"], "node": [*(n for _, n in rows), "wide"]},
        {"parent": ["top"] * 4, "child": ["a", "b", "c", "wide"]},
    )
    assert built.counts["under no group"] == 1
    assert built.counts["repeated rows"] == 1
    assert built.counts["in a group of another size"] == 3


def test_flags_keeps_entities_without_any_label():
    task = declare("flags", "multilabel", by_symbol(columns=["a", "b"]))
    cells = {"gene": ["ONE", "TWO", "SIX"], "a": ["1", "0", "True"], "b": ["0", "0", "1"]}
    built = run(task, cells)
    assert outcomes(built) == {"hgnc:1": "a", "hgnc:6": ["a", "b"]}
    assert built.samples["sample_id"].to_list() == ["hgnc:1", "hgnc:2", "hgnc:6"]
    with pytest.raises(DegenerateTask, match="'perhaps'"):
        run(task, cells | {"b": ["0", "perhaps", "1"]})


def test_a_column_that_the_version_lacks_makes_the_task_not_applicable():
    task = declare("column", "multiclass", by_symbol(column="class"))
    with pytest.raises(DegenerateTask, match="no column 'class'"):
        run(task, {"gene": ["ONE"], "other": ["x"]})
    with pytest.raises(DegenerateTask, match="no column 'class'"):
        run(task, {"gene": ["ONE"], "class": [None]})


def test_a_binary_task_with_another_number_of_classes_is_refused():
    task = declare("column", "binary", by_symbol(column="class"), positive="x")
    with pytest.raises(DegenerateTask, match="two classes, 'x' among them; the source gives 'y'"):
        run(task, {"gene": ["ONE"], "class": ["y"]})


def test_too_many_unknown_identifiers_stop_the_task_and_are_named():
    task = declare("column", "multiclass", by_symbol(column="class", max_unresolved=0.3))
    with pytest.raises(UnresolvedEntities, match=r"50.0% .* GONE"):
        run(task, {"gene": ["ONE", "GONE"], "class": ["x", "y"]})


def test_an_unresolved_identifier_is_kept_if_the_entry_declares_it():
    task = declare(
        "column", "multiclass", by_symbol(column="class", unknown="keep", max_unresolved=1)
    )
    rows = {"gene": ["GONE", "SHARED", "not a gene", "OCHO"], "class": ["w", "x", "y", "z"]}
    built = run(task, rows)
    assert outcomes(built) == {"hgnc.symbol:GONE": "w", "hgnc.symbol:SHARED": "x", "hgnc:8": "z"}
    assert (built.counts["unresolved"], built.counts["ambiguous"]) == (2, 1)


def test_unresolved_entities_are_listed_and_resolve_unless_they_are_ambiguous():
    sampled = pl.DataFrame(
        {
            "entity_type": ["gene"] * 4,
            "entity_id": ["hgnc:1", "hgnc.symbol:GONE", "hgnc.symbol:SHARED", "ensembl:ENSG9"],
            "snapshot_id": ["s"] * 4,
        }
    )
    listed = list_unresolved_entities(sampled, CATALOGUE)
    assert set(listed.entities["entity_id"]) == set(sampled["entity_id"][1:])
    assert set(listed.entities["locus_group"]) == {NOT_IN_CATALOGUE}
    assert set(listed.xrefs["identifier"]) == {"GONE", "ENSG9"}
    again = Resolver(pl.concat([CATALOGUE.xrefs, listed.xrefs]))
    found = again.resolve(pl.Series(["GONE", "SHARED", "ONE"]), "symbol")
    assert found.entity_ids.to_list() == ["hgnc.symbol:GONE", None, "hgnc:1"]


def test_a_fallback_names_the_entity_unless_another_row_claims_it():
    task = declare(
        "column",
        "multiclass",
        {
            "id": "ensembl",
            "namespace": "ensembl",
            "fallback": {"gene": "symbol"},
            "unknown": "keep",
            "max_unresolved": 1,
            "column": "class",
        },
    )
    built = run(
        task,
        {
            "ensembl": ["ENSG00000000001", "ENSG77", "ENSG88", "ENSG99", "ENSG66"],
            "gene": ["ONE", "ONE", "TWO", "SIX", "SIX"],
            "class": ["a", "b", "c", "d", "e"],
        },
    )
    assert outcomes(built) == {
        "hgnc:1": "a",
        "ensembl:ENSG77": "b",
        "hgnc:2": "c",
        "ensembl:ENSG99": "d",
        "ensembl:ENSG66": "e",
    }


@given(st.lists(st.sampled_from([*GENES["symbol"], "SHARED", "GONE", "TRE"]), min_size=1))
def test_recipes_never_invent_entities_and_account_for_every_row(symbols):
    task = declare("column", "multiclass", by_symbol(column="class", max_unresolved=1))
    rows = {"gene": symbols, "class": [str(len(symbol)) for symbol in symbols]}
    try:
        built = run(task, rows)
    except DegenerateTask:
        assert set(symbols) <= {"SHARED", "GONE", "THREE", "TRE"}
        return
    assert set(built.samples["entity_id"]) <= set(CATALOGUE.entities["entity_id"])
    counts = built.counts
    lost = counts["unresolved"] + counts["ambiguous"]
    assert lost == sum(symbol in ("SHARED", "GONE") for symbol in symbols)
    n_conflicting_rows = counts["rows"] - lost - counts["repeated rows"] - built.samples.height
    assert (n_conflicting_rows > 0) == (counts["entities with conflicting rows"] > 0)


def test_every_recipe_gives_frames_of_the_declared_shape():
    built = run(
        declare("column", "multiclass", by_symbol(column="c")), {"gene": ["ONE"], "c": ["x"]}
    )
    assert built.samples.schema == SAMPLES_SCHEMA
    assert built.labels.schema == LABELS_SCHEMA
    assert set(RECIPES) == {
        "column", "split", "keywords", "membership", "flags", "count", "pairs", "association",
        "co_membership", "gained",
    }  # fmt: skip


def test_unresolved_ids_are_curies_of_their_namespace():
    assert unresolved_ids(pl.Series(["ENSG1.5"]), "ensembl", "gene").to_list() == ["ensembl:ENSG1"]
    assert unresolved_ids(pl.Series(["EFO_1", "x"]), "efo", "disease").to_list() == ["efo:1", None]
