"""Gene2Gene, on which counting pairs beats all encoders of the paper, on a sample of its pairs."""

import numpy as np
import pytest
from declared import read_probe, read_protocol

from genebench.evaluation.evaluate import evaluate
from genebench.evaluation.folds import assign_folds, make_split
from genebench.probes.declaration import Problem


@pytest.fixture(scope="module")
def pairs(shared):
    """All pairs of genes with their labels, 290,032 rows."""
    folder = shared / "data" / "gene2vec" / "predictionData"
    genes, labels = [], []
    for part in ("train", "valid", "test"):
        genes += [line.split() for line in (folder / f"{part}_text.txt").read_text().splitlines()]
        labels += [int(word) for word in (folder / f"{part}_label.txt").read_text().split()]
    return np.array(genes), np.array(labels, dtype=np.uint8)


def problem_of(genes, labels, protocol):
    names, rows = np.unique(genes, return_inverse=True)
    rows = rows.reshape(genes.shape)
    ids = [f"{number:06d}" for number in range(len(labels))]
    split = make_split(assign_folds("binary", ids, rows, labels, protocol))
    return names, Problem("gene2gene", "binary", rows, labels, ("interacts",), split)


def area(matrix, problem, probe, protocol):
    (found,) = evaluate(matrix, [problem], probe, protocol, threads=1)
    assert found.status == "ok", found.reason
    return found.scores.filter(metric="roc_auc", label="")["value"].mean()


PLAIN = read_protocol("paper", positive="declared")
DISJOINT = read_protocol("paper", positive="declared", folds={"pairs": "entity_disjoint"})
DEGREE, IDENTITY, LINEAR = (read_probe(name) for name in ("degree", "identity", "linear"))


@pytest.mark.slow
def test_the_degree_of_a_gene_solves_gene2gene_under_plain_folds_and_nothing_else(pairs):
    genes, labels = pairs
    for protocol, low, high in ((PLAIN, 0.974, 0.980), (DISJOINT, 0.47, 0.53)):
        names, problem = problem_of(genes, labels, protocol)
        blank = np.zeros((len(names), 1), np.float32)
        assert low <= area(blank, problem, DEGREE, protocol) <= high


@pytest.fixture(scope="module")
def sample(pairs):
    """Pairs among a third of the genes: few enough to fit, and dense as the whole."""
    genes, labels = pairs
    names = np.unique(genes)
    kept = np.random.default_rng(0).permutation(names)[: len(names) // 3]
    inside = np.isin(genes, kept).all(axis=1)
    return genes[inside], labels[inside]


def test_random_vectors_score_by_memory_and_fall_to_chance_where_genes_are_held_out(sample):
    genes, labels = sample
    found = {}
    for name, protocol in (("plain", PLAIN), ("disjoint", DISJOINT)):
        names, problem = problem_of(genes, labels, protocol)
        for width in (64, 512):
            noise = np.random.default_rng(1).normal(size=(len(names), width))
            found[name, width] = area(noise.astype(np.float32), problem, LINEAR, protocol)
    # Wider noise remembers more genes, for no biological reason.
    assert found["plain", 512] > found["plain", 64] + 0.03 > 0.5
    assert 0.62 <= found["plain", 512] <= 0.90
    assert 0.44 <= found["disjoint", 512] <= 0.56


def test_which_gene_it_is_says_as_much_as_any_vector_could_of_genes_that_were_seen(sample):
    genes, labels = sample
    for protocol, low, high in ((PLAIN, 0.90, 1.0), (DISJOINT, 0.45, 0.55)):
        names, problem = problem_of(genes, labels, protocol)
        blank = np.zeros((len(names), 1), np.float32)
        assert low <= area(blank, problem, IDENTITY, protocol) <= high


def test_a_control_of_pairs_says_why_it_has_nothing_to_say_of_single_genes():
    rows = np.arange(40)[:, None]
    targets = (np.arange(40) % 2).astype(np.uint8)
    ids = [str(number) for number in range(40)]
    split = make_split(assign_folds("binary", ids, rows, targets, PLAIN))
    problem = Problem("task", "binary", rows, targets, ("yes",), split)
    (found,) = evaluate(np.zeros((40, 1), np.float32), [problem], DEGREE, PLAIN)
    assert found.status == "failed"
    assert "pairs" in found.reason
