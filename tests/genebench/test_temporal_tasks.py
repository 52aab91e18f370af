"""Temporal tasks: trained on the labels of an earlier release, tested on what was gained since."""

import lzma
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from built_tasks import by_symbol, declare, run
from declared import read_probe, read_protocol
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from genebench.encoders.loader import Vectors
from genebench.errors import DegenerateTask
from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.metrics import score_labels, score_multilabel
from genebench.evaluation.problems import prepare_task
from genebench.evaluation.statistics.means import OVERALL, rank_encoders
from genebench.evaluation.statistics.resampling import score_weighted
from genebench.probes.declaration import NOT_SCORED, TEST, TRAIN
from genebench.reference.packaged_tasks import prepare_packaged_tasks
from genebench.reference.vectors_evaluation import place_vectors, score_tasks
from genebench.registry.loading import load_registry
from genebench.settings import get_settings
from genebench.sources.declaration import EMBEDDED_FOLDER
from genebench.tasks.declaration import is_temporal
from genebench.tasks.recipes.gained_recipe import match_nodes
from genebench.tasks.recipes.recipe import check_arguments

pytestmark = pytest.mark.slow

SOURCES = ["now.rows", "now.edges", "now.names", "then.rows", "then.edges", "then.names"]
ARGUMENTS = by_symbol(
    node="node", node_id="id", node_name="name", root="R", depth=1, min_gained=1,
    gained_by={"evidence": ["IDA"]}, unless={"evidence": ["ND"]},
)  # fmt: skip
# A is the same in both releases; B is called E now; C is obsolete; D is gained by nobody.
THEN_NODES = {"id": list("RABCD"), "name": ["root", "a", "b", "c", "d"]}
NOW_NODES = {"id": list("RAED"), "name": ["root", "a", "b", "d"]}
THEN_EDGES = {"parent": ["R"] * 4 + ["A"], "child": [*"ABCD", "a1"]}
NOW_EDGES = {"parent": ["R"] * 3 + ["A", "E"], "child": [*"AED", "a1", "b1"]}


def rows(*cells):
    genes, nodes, evidence = zip(*cells, strict=True)
    return {"gene": list(genes), "node": list(nodes), "evidence": list(evidence)}


THEN = rows(
    ("ONE", "a1", "IEA"), ("TWO", "B", "IDA"), ("THREE", "b1", "IDA"), ("THREE", "D", "IDA"),
    ("SIX", "C", "IDA"), ("SIX", "A", "ND"), ("FIVE", "A", "IDA"),
)  # fmt: skip
NOW = rows(
    ("ONE", "a1", "IEA"),  # known still
    ("ONE", "b1", "IDA"),  # gains b by a new experiment
    ("TWO", "A", "IEA"),  # gains a by a computer
    ("TWO", "E", "IDA"),  # b under its new id: known
    ("THREE", "b1", "IDA"),  # the annotation is old, b1 moved below b: no finding
    ("THREE", "D", "IDA"), ("THREE", "A", "IDA"),  # gains a
    ("SIX", "E", "IDA"),  # had an obsolete label only: is in no test
)  # fmt: skip


def build(then=THEN, now=NOW, **changes):
    task = declare("gained", "multilabel", ARGUMENTS | changes, source=SOURCES, family="temporal")
    return run(task, now, NOW_EDGES, NOW_NODES, then, THEN_EDGES, THEN_NODES)


def test_labels_are_known_gained_or_unconfirmed():
    built = build()
    found = {(r["sample_id"], r["label"]): r["status"] for r in built.labels.rows(named=True)}
    assert found == {
        ("hgnc:1", "a"): "known",
        ("hgnc:1", "b"): "gained",
        ("hgnc:2", "a"): "unconfirmed",
        ("hgnc:2", "b"): "known",
        ("hgnc:3", "a"): "gained",
        ("hgnc:3", "b"): "unconfirmed",
        ("hgnc:5", "a"): "known",
    }
    assert built.samples["sample_id"].to_list() == ["hgnc:1", "hgnc:2", "hgnc:3", "hgnc:5"]
    assert built.label_names == ["a", "b"]
    assert is_temporal(built.labels)
    counts = built.counts
    assert (counts["terms matched by name"], counts["obsolete terms"]) == (1, 1)
    assert (counts["labels"], counts["obsolete labels"]) == (4, 1)
    assert counts["labels gained by fewer than 1 entities"] == 1
    assert [counts[name] for name in ("known", "gained", "unconfirmed", "lost")] == [3, 2, 2, 1]


def test_without_a_choice_of_evidence_every_new_annotation_is_a_gain():
    labels = build(gained_by={}).labels
    assert labels.filter(sample_id="hgnc:2", label="a")["status"].to_list() == ["gained"]


def test_labels_that_nobody_gained_leave_no_task():
    with pytest.raises(DegenerateTask, match=r"no label was gained by 3 entities.*min_gained"):
        build(min_gained=3)


@pytest.mark.parametrize(
    ("root", "which"), [("Z", "neither release"), ("E", "the current release")]
)
def test_a_root_that_the_past_lacks_is_named(root, which):
    with pytest.raises(DegenerateTask, match=f"the root '{root}' is a term of {which}"):
        build(root=root)


def test_a_title_of_two_nodes_matches_neither():
    then, now = {"X": "same", "Y": "other"}, {"P": "same", "Q": "same", "Y": "renamed"}
    assert match_nodes(then, now, {}) == {"X": None, "Y": "Y"}


def test_a_merged_node_is_the_one_that_it_was_merged_into():
    names = NOW_NODES | {"merged": ["", "C|F", "", "G"]}
    # SIX and ONE were annotated with C, which is A now: no gain of ONE, and a label of SIX.
    then = rows(*zip(*THEN.values(), strict=True), ("ONE", "C", "IDA"))
    now = rows(*zip(*NOW.values(), strict=True), ("SIX", "A", "IDA"))
    task = declare(
        "gained", "multilabel", ARGUMENTS | {"merged": "merged"}, source=SOURCES, family="temporal"
    )
    built = run(task, now, NOW_EDGES, names, then, THEN_EDGES, THEN_NODES)
    counts = built.counts
    assert (counts["merged terms"], counts["terms matched by name"]) == (1, 1)
    assert (counts["obsolete terms"], counts["obsolete labels"]) == (0, 0)
    found = built.labels.filter(sample_id="hgnc:6")
    assert dict(found.select("label", "status").iter_rows()) == {
        "a": "unconfirmed",
        "b": "gained",
        "c": "known",
    }


def test_a_release_that_lacks_the_column_of_merged_nodes_tells_of_none():
    assert build(merged="absent").counts["merged terms"] == 0
    assert build(merged="absent").labels.equals(build().labels)


def test_an_id_goes_before_a_merger_and_a_merger_before_a_title():
    then, now = {"X": "one", "Y": "two"}, {"X": "one", "P": "two", "Q": "three"}
    assert match_nodes(then, now, {"X": "Q", "Y": "Q"}) == {"X": "X", "Y": "Q"}
    assert match_nodes(then, now, {}) == {"X": "X", "Y": "P"}


def test_the_family_and_the_recipe_go_together():
    task = declare("gained", "multilabel", ARGUMENTS, source=SOURCES, family="temporal")
    (mistake,) = check_arguments(task.model_copy(update={"family": "protein"}))
    assert "built by the recipe 'gained'" in mistake


def test_a_probe_is_trained_on_the_past_and_tested_on_what_was_lacking_then():
    built = build()
    row = {"task_id": "t", "family": "temporal", "kind": "multilabel", "positive": None}
    universe = pl.Series("entity_id", ["hgnc:1", "hgnc:2", "hgnc:3", "hgnc:4"])
    prepared = prepare_task(row, built.samples, built.labels, universe, read_protocol("standard"))
    assert prepared.labels == ("a", "b")
    assert prepared.targets.tolist() == [[1, 0], [0, 1], [0, 0]]
    assert prepared.later.tolist() == [[NOT_SCORED, 1], [NOT_SCORED] * 2, [1, NOT_SCORED]]
    other = build(gained_by={"evidence": ["IDA", "IEA"]})
    changed = prepare_task(row, other.samples, other.labels, universe, read_protocol("standard"))
    assert changed.label_digest != prepared.label_digest
    assert changed.sample_digest == prepared.sample_digest


def test_cells_that_are_not_scored_count_in_no_metric():
    rng = np.random.default_rng(0)
    names = ["roc_auc", "average_precision", "log_loss", "f1", "mcc", "balanced_accuracy"]
    truth = rng.integers(0, 2, (60, 3)).astype(np.uint8)
    truth[rng.random((60, 3)) < 0.3] = NOT_SCORED
    scores = rng.normal(size=(60, 3))
    masked = score_labels(names, truth, scores)
    for column in range(3):
        use = truth[:, column] != NOT_SCORED
        alone = score_labels(names, truth[use, column][:, None], scores[use, column][:, None])
        assert all(masked[name][column] == alone[name][0] for name in names)
    whole = score_multilabel([*names, "accuracy", "hamming_loss"], truth, scores)
    cells = truth != NOT_SCORED
    wrong = ((truth == 1) != (scores > 0)) & cells
    assert whole["hamming_loss"] == pytest.approx(wrong.sum() / cells.sum())
    assert whole["accuracy"] == pytest.approx(1 - wrong.any(axis=1).mean())
    ones = np.ones((60, 2), np.float64)
    weighted = score_weighted("multilabel", list(whole), truth, scores, ones)
    for name, value in whole.items():
        assert weighted[name] == pytest.approx(value), name


def test_the_overall_mean_has_no_temporal_task():
    keys = {"modality": "text", "probe_id": "p", "protocol_id": "s"}
    tasks = [("protein", "x", "e", 0.8), ("temporal", "y", "e", 0.6), ("temporal", "y", "f", 0.7)]
    release = pl.DataFrame(
        [{"family": f, "task_id": t, "kind": "binary", "encoder_id": e, **keys}
         for f, t, e, _ in tasks]
    )  # fmt: skip
    means = release.with_columns(
        metric=pl.lit("roc_auc"), mean=pl.Series([value for *_, value in tasks])
    )
    ranked = rank_encoders(release, means)
    assert ranked.filter(scope=OVERALL).select("encoder_id", "mean").rows() == [("e", 0.8)]
    assert sorted(ranked.filter(scope="temporal")["mean"]) == [0.6, 0.7]


EXPERIMENTS = {"EXP", "IDA", "IPI", "IMP", "IGI", "IEP", "HTP", "HDA", "HMP", "HGI", "HEP"}
TERMS = {"GO:0005654": "nucleoplasm", "GO:0005829": "cytosol", "GO:0016604": "nuclear body"}


def read_release(release):
    return {
        name: pd.read_csv(
            EMBEDDED_FOLDER / release / f"{name}.tsv.xz", sep="\t", dtype=str, quoting=3
        )
        for name in ("go_annotations", "go_relations", "go_terms")
    }


def annotated(release):
    """One row for each gene, annotation and ancestor among the terms, by climbing the parents."""
    parents = release["go_relations"].groupby("go_id")["parent_id"].agg(set).to_dict()
    above: dict[str, set[str]] = {}

    def climb(term):
        if term not in above:
            above[term] = {term}.union(*(climb(parent) for parent in parents.get(term, ())))
        return above[term]

    frame = release["go_annotations"].query("evidence != 'ND'")
    pairs = [(one, term) for one in set(frame["go_id"]) for term in climb(one) & set(TERMS)]
    return frame.merge(pd.DataFrame(pairs, columns=["go_id", "term"]), on="go_id")


@pytest.fixture(scope="module")
def component():
    """component_gained on a quarter of the genes, and vectors of hashed words of their names."""
    registry = load_registry("embedded")
    path = EMBEDDED_FOLDER / "3.23.1" / "genes.tsv.xz"
    table = lzma.decompress(path.read_bytes())
    genes = pl.read_csv(table, separator="\t", quote_char=None, infer_schema=False)
    genes = genes.filter(pl.col("gene_type") == "protein-coding").gather_every(4)
    chosen = genes.select(("ncbigene:" + pl.col("entrez_id")).alias("entity_id"), "name")
    chosen = chosen.sort("entity_id")
    protocol = read_protocol("standard", standardise=False, penalty={"c": [1.0]})
    only = {"component_gained": registry.tasks["component_gained"]}
    packaged = prepare_packaged_tasks(replace(registry, tasks=only), protocol, chosen["entity_id"])
    hashed = HashingVectorizer(n_features=32).transform(chosen["name"].fill_null("").to_list())
    # Genes with the same words would tie, and ties fall either way by the last bits.
    noise = 0.05 * np.random.default_rng(0).normal(size=hashed.shape)
    return packaged, protocol, chosen, (hashed.toarray() + noise).astype(np.float32)


def test_the_score_equals_an_independent_computation(component):
    packaged, protocol, chosen, matrix = component
    task = packaged.tasks["component_gained"]
    problem = task.problem("p", protocol)
    (done,) = evaluate(matrix, [problem], read_probe("linear"), protocol)
    # The engine stops at a gradient norm of 1e-6: some of 17,000 pairs of genes change their order.
    ours = done.scores.filter(metric="roc_auc").pivot(on="label", index="fold", values="value")

    past = read_release("3.16.0")
    current = read_release("3.23.1")
    then, now = annotated(past), annotated(current)
    old = past["go_annotations"].query("evidence != 'ND'")
    merged = current["go_terms"].dropna(subset="secondary_ids")
    merged = merged.assign(old=merged["secondary_ids"].str.split("|")).explode("old")
    new_id = merged.set_index("old")["go_id"].to_dict()
    old_ids = [new_id.get(one, one) for one in old["go_id"]]
    old_pairs = set(zip(old["entrez_id"], old_ids, strict=True))
    gene_of = [one.removeprefix("ncbigene:") for one in task.sample_ids]
    features = matrix[np.searchsorted(chosen["entity_id"].to_list(), task.sample_ids)]
    for term, label in TERMS.items():
        before = then[then["term"] == term]["entrez_id"].unique()
        of_term = now[now["term"] == term]
        pairs = zip(of_term["entrez_id"], of_term["go_id"], strict=True)
        is_new = np.array([pair not in old_pairs for pair in pairs])
        found = of_term[is_new & of_term["evidence"].isin(EXPERIMENTS)]["entrez_id"].unique()
        table = pd.DataFrame(index=gene_of)
        table["known"] = table.index.isin(before)
        table["present"] = table.index.isin(of_term["entrez_id"])
        table["gained"] = table.index.isin(found) & ~table["known"]
        tested = ~table["known"] & (table["gained"] | ~table["present"])
        column = task.labels.index(label)
        assert int(table["gained"].sum()) == int((task.later[:, column] == 1).sum()) > 20
        for fold in range(2):
            train = problem.split[:, fold] == TRAIN
            test = (problem.split[:, fold] == TEST) & tested.to_numpy()
            model = LogisticRegression(tol=1e-10, max_iter=10_000)
            model.fit(features[train], table["known"][train])
            value = roc_auc_score(table["gained"][test], model.decision_function(features[test]))
            assert ours.filter(fold=fold)[label].item() == pytest.approx(value, abs=1e-3)


def test_an_oracle_of_the_future_is_right_and_noise_is_not(component):
    packaged, _, chosen, hashed = component
    task = packaged.tasks["component_gained"]
    protocol = read_protocol("standard", penalty={"c": [0.01]})
    now = np.zeros((len(chosen), len(task.labels)), np.float32)
    now[task.rows[:, 0]] = (task.targets == 1) | (task.later == 1)
    rng = np.random.default_rng(0)
    vectors = {
        "oracle": now,
        "random": rng.normal(size=hashed.shape).astype(np.float32),
        "shuffled": rng.permutation(hashed),
        "names": hashed,
    }
    values = {}
    for name, matrix in vectors.items():
        placed, has_vector = place_vectors(
            Vectors(chosen["entity_id"].to_list(), matrix), chosen["entity_id"]
        )
        (scored,) = score_tasks(
            placed, has_vector, packaged, ["component_gained"], read_probe("linear"), protocol,
            get_settings(),
        )  # fmt: skip
        interval = scored.evaluation.intervals.filter(metric="roc_auc").row(0, named=True)
        assert interval["low"] <= interval["value"] <= interval["high"]
        values[name] = interval
    assert values["oracle"]["value"] > 0.99
    for noise in ("random", "shuffled"):
        assert abs(values[noise]["value"] - 0.5) < 3 * values[noise]["standard_error"] + 0.01
    assert values["names"]["low"] > 0.5
