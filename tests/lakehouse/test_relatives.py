"""Folds that hold out relatives: HGNC groups, Pfam families, or stems of symbols."""

import numpy as np
import polars as pl
import pytest
from blanks import filled
from declared import read_fields, read_protocol

from lakehouse import open_lake
from lakehouse.score.holdout_groups import number_groups, read_holdout_groups
from lakehouse.score.plan_inputs import read_plan_inputs
from lakehouse.score.relatives import RELATIVES, symbol_stems
from lakehouse.tables.commits import Commit

COMMIT = Commit(flow_run="r1", code="test", inputs={}, profile="embedded", extra={})
PROTOCOL = read_protocol("relatives")


def stem_of(*symbols):
    genes = pl.DataFrame({"entity_id": list(symbols), "symbol": list(symbols)})
    found = dict(symbol_stems(genes).iter_rows())
    return [found.get(symbol) for symbol in symbols]


def test_stems_are_the_letters_before_the_number():
    assert stem_of("ZNF12", "HLA-A", "OR1A1", "SLC22A1") == ["ZNF", "HLA", "OR", "SLC"]
    assert stem_of("TTN", "C1orf112", "LOC1053", "LINC01", "A1BG", "CD4") == [None] * 6


@pytest.fixture
def lake(tmp_path):
    """Twenty genes in four families of five, by symbol; HGNC groups cut across the symbols."""
    opened = open_lake(tmp_path / "lake")
    genes = [
        {"entity_type": "gene", "entity_id": f"hgnc:{n}", "symbol": f"{'ABCD'[n % 4] * 3}{n}",
         "snapshot_id": "hgnc_1"}
        for n in range(20)
    ]  # fmt: skip
    where = {"entity_type": "gene"}
    opened.delta.replace("silver.entities", filled("silver.entities", genes), COMMIT, where)
    return opened


def add_hgnc(lake):
    row = {"snapshot_id": "hgnc_1", "source": "hgnc", "file": "complete_set"}
    lake.delta.append("bronze.snapshots", filled("bronze.snapshots", [row]), COMMIT)
    groups = [f"g{n // 5}|everything" if n < 15 else None for n in range(20)]
    raw = pl.DataFrame(
        {"row_number": range(20), "snapshot_id": "hgnc_1",
         "hgnc_id": [f"HGNC:{n}" for n in range(20)], "gene_group": groups},
        schema_overrides={"row_number": pl.Int64},
    )  # fmt: skip
    where = {"snapshot_id": "hgnc_1"}
    lake.delta.replace("bronze.hgnc_complete_set", raw, COMMIT, where)


def test_groups_of_hgnc_go_before_stems(lake):
    ids = pl.Series("entity_id", [f"hgnc:{n}" for n in range(20)])
    stems = read_holdout_groups(lake, ids, PROTOCOL)
    assert len(set(stems)) == 4
    assert len(set(stems[::4])) == 1
    add_hgnc(lake)
    groups = read_holdout_groups(open_lake(lake.delta.storage.root), ids, PROTOCOL)
    assert [len(set(groups[start : start + 5])) for start in (0, 5, 10, 15)] == [1, 1, 1, 5]
    assert len(set(groups)) == 8


def test_families_go_before_stems_and_a_gene_is_in_its_largest_one(tmp_path):
    lake = open_lake(tmp_path / "lake")
    symbols = ["AAA1", "AAA2", "BBB1", "BBB2", "BBB3", "CCC1", "CCC2", "SOLO"]
    families = ["PF1", "PF2", "PF1|PF2", "PF1|PF3", "PF3", None, None, None]
    genes = [
        {"entity_type": "gene", "entity_id": f"ncbigene:{n}", "symbol": symbol,
         "snapshot_id": "genes_1"}
        for n, symbol in enumerate(symbols)
    ]  # fmt: skip
    where = {"entity_type": "gene"}
    lake.delta.replace("silver.entities", filled("silver.entities", genes), COMMIT, where)
    row = {"snapshot_id": "genes_1", "source": "bioconductor", "file": "genes"}
    lake.delta.append("bronze.snapshots", filled("bronze.snapshots", [row]), COMMIT)
    raw = pl.DataFrame(
        {"row_number": range(8), "snapshot_id": "genes_1",
         "entrez_id": [str(n) for n in range(8)], "pfam_ids": families},
        schema_overrides={"row_number": pl.Int64},
    )  # fmt: skip
    lake.delta.replace("bronze.bioconductor_genes", raw, COMMIT, {"snapshot_id": "genes_1"})
    ids = pl.Series("entity_id", [f"ncbigene:{n}" for n in range(8)])
    groups = read_holdout_groups(lake, ids, PROTOCOL).tolist()
    of_symbol = dict(zip(symbols, groups, strict=True))
    assert of_symbol["AAA1"] == of_symbol["BBB1"] == of_symbol["BBB2"], "PF1 is the largest"
    assert of_symbol["CCC1"] == of_symbol["CCC2"], "without a family, the stem counts"
    assert len(set(groups)) == 5


def test_the_protocol_differs_from_standard_in_the_groups_alone():
    own, standard = read_fields("protocols", "relatives"), read_fields("protocols", "standard")
    assert own["folds"].pop("groups") == RELATIVES
    named = ("id", "title", "description")
    assert all(own[name] == standard[name] for name in standard if name not in named)


def test_no_family_is_on_both_sides_of_a_fold_of_a_release(lake):
    who = {"family": "protein", "task_id": "t"}
    ids = [f"hgnc:{n}" for n in range(20)]
    samples = [
        who | {"sample_id": one, "entity_type": "gene", "entity_id": one, "position": 0}
        for one in ids
    ]
    labels = [
        who | {"sample_id": one, "label": "yes" if n % 3 else "no", "value": 1.0}
        for n, one in enumerate(ids)
    ]
    task = who | {"kind": "binary", "positive": "yes", "entity_types": "gene"}
    lake.delta.replace("silver.tasks", filled("silver.tasks", [task]), COMMIT)
    for name, rows in (("silver.samples", samples), ("silver.labels", labels)):
        lake.delta.replace(name, filled(name, rows), COMMIT, {"family": "protein"})
    encoder = {"encoder_id": "e", "modality": "text", "is_complete": True}
    where = {"encoder_id": "e"}
    lake.delta.replace("silver.encoders", filled("silver.encoders", [encoder]), COMMIT, where)
    vectors = [
        {"encoder_id": "e", "entity_type": "gene", "entity_id": one, "vector": [0.5],
         "dimension": 1, "vector_digest": one}
        for one in ids
    ]  # fmt: skip
    lake.delta.replace("silver.embeddings", filled("silver.embeddings", vectors), COMMIT, where)
    inputs = read_plan_inputs(lake.delta, PROTOCOL, "shared", frozenset(), {})
    (universe,) = inputs.universes
    folds = universe.prepared["t"].slot_folds(PROTOCOL)[:, 0, 0]
    symbols = np.array([int(one.removeprefix("hgnc:")) % 4 for one in universe.entity_ids])
    assert all(len(set(folds[symbols == family])) == 1 for family in range(4))
    assert len(set(folds)) > 1


def test_an_entity_without_relatives_is_alone():
    labels = pl.DataFrame({"entity_id": ["a", "b"], "label": ["x", "x"]})
    groups = number_groups(pl.Series(["a", "b", "c", "d"]), labels)
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3
