"""Each cause of another evaluation key is found where it is planted, and no other."""

import polars as pl
import pytest
from blanks import filled

from lakehouse.query.lake import Lake
from lakehouse.report.diff.lake_states import LakeState
from lakehouse.report.diff.score_causes import compare_samples, find_causes
from lakehouse.tables.commits import Commit

pytestmark = pytest.mark.slow

COMMIT = Commit("test", "test")
GENES = ["g1", "g2", "g3", "g4"]
LABELS = {"g1": ["red"], "g2": ["blue"], "g3": ["red", "blue"], "g4": ["blue"]}
# One vector of each gene: its digest and that of its input.
VECTORS = dict.fromkeys(GENES, ("v0", "i0"))


def state(folder, labels=LABELS, universe=GENES, vectors=VECTORS, encoder_digest="e0"):
    """A lake with one task of a sample a gene, and one encoder."""
    lake = Lake(folder)
    who = {"family": "genomic", "task_id": "t"}
    genes = [{"entity_type": "gene", "entity_id": gene} for gene in universe]
    rows = {
        "silver.samples": [
            {**who, "sample_id": gene, "position": 0, "entity_type": "gene", "entity_id": gene}
            for gene in labels
        ],
        "silver.labels": [
            {**who, "sample_id": gene, "label": label, "value": 1.0}
            for gene, of_gene in labels.items()
            for label in of_gene
        ],
        "silver.embeddings": [
            {"encoder_id": "e", "encoder_digest": encoder_digest, "entity_type": "gene",
             "entity_id": gene, "vector_digest": vector, "input_digest": read}
            for gene, (vector, read) in vectors.items()
        ],
        "gold.universes": [{"release_id": "current", **gene} for gene in genes],
    }  # fmt: skip
    for name, of_table in rows.items():
        lake.delta.append(name, filled(name, of_table), COMMIT)
    return LakeState("current", "current", lake, lake)


def causes(tmp_path, digests, task="t", **after):
    """The causes of an evaluation whose named digests differ."""
    before = state(tmp_path / "before")
    names = ("label_digest", "feature_digest", "probe_digest", "protocol_id")
    row = {"task_id": task, "encoder_id": "e", "probe_id": "linear"}
    for name in names:
        row |= {name: "one", f"{name}_after": "other" if name in digests else "one"}
    found = find_causes(before, state(tmp_path / "after", **after), pl.DataFrame([row]))
    return found["causes"].to_list()[0]


BOTH = ("label_digest", "feature_digest")
RED = LABELS | {"g2": ["red"]}
FEWER = {gene: LABELS[gene] for gene in GENES[:3]}
OTHER = VECTORS | {"g1": ("v1", "i0")}
READ = VECTORS | {"g1": ("v1", "i1")}


@pytest.mark.parametrize(
    ("digests", "after", "expected"),
    [
        (["label_digest"], {"labels": RED}, ["labels"]),
        (BOTH, {"labels": FEWER}, ["samples"]),
        (BOTH, {"universe": GENES[:3]}, ["universe"]),
        (["feature_digest"], {"vectors": READ}, ["inputs"]),
        (["feature_digest"], {"vectors": OTHER}, ["vectors"]),
        (["feature_digest"], {"vectors": OTHER, "encoder_digest": "e1"}, ["encoder"]),
        (["probe_digest"], {}, ["probe"]),
        (["probe_digest", "protocol_id"], {}, ["protocol"]),
        (["label_digest"], {}, ["declaration"]),
        (BOTH, {"labels": RED, "universe": GENES[:3], "vectors": READ},
         ["labels", "universe", "inputs"]),
    ],
)  # fmt: skip
def test_a_planted_cause_is_found_and_no_other(tmp_path, digests, after, expected):
    assert causes(tmp_path, digests, **after) == expected


def test_a_sub_task_has_other_labels_only_if_its_own_label_moved(tmp_path):
    # g3 loses blue and keeps red.
    moved = {"labels": LABELS | {"g3": ["red"]}}
    assert causes(tmp_path / "blue", ["label_digest"], "t__blue", **moved) == ["labels"]
    assert causes(tmp_path / "red", ["label_digest"], "t__red", **moved) == ["declaration"]


def test_a_change_outside_of_both_universes_is_no_cause(tmp_path):
    before = state(tmp_path / "before", universe=GENES[:3])
    after = state(tmp_path / "after", LABELS | {"g4": ["red"]}, universe=GENES[:3])
    found = compare_samples(before, after, pl.DataFrame({"task_id": ["t"]}))
    counts = found.counts.row(0, named=True)
    assert (counts["n_labels"], counts["n_samples"], counts["n_universe"]) == (0, 0, 0)


def test_changed_samples_are_counted_by_kind(tmp_path):
    before = state(tmp_path / "before")
    labels = {"g1": ["blue"], "g2": ["blue"], "g3": ["red", "blue"], "g5": ["red"], "g6": ["red"]}
    after = state(tmp_path / "after", labels, universe=["g1", "g3", "g5", "g6"])
    counts = compare_samples(before, after, pl.DataFrame({"task_id": ["t"]})).counts
    # g1 is relabelled, g4 gone, g5 and g6 new, g2 outside of the later universe.
    row = counts.row(0, named=True)
    assert (row["n_labels"], row["n_samples"], row["n_universe"]) == (1, 3, 1)
