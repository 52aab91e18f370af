"""The two shipped protocols, and the error messages of invalid ones."""

import pytest
from declared import read_fields, read_protocol
from pydantic import ValidationError

from genebench.evaluation.metrics import METRICS
from genebench.probes.declaration import KINDS
from genebench.protocols.declaration import positive_class


def test_the_paper_protocol_is_what_was_published():
    paper = read_protocol("paper")
    assert (paper.folds.n, paper.folds.pairs, paper.folds.repeats) == (5, "plain", 1)
    assert paper.folds.splitters.model_dump() == {
        "binary": "stratified",
        "multiclass": "stratified",
        "multilabel": "plain",
        "regression": "plain",
    }
    assert not paper.standardise
    assert paper.penalty.c == (1.0,)
    assert (paper.positive, paper.multilabel_auc) == ("first", "hard")
    assert (paper.min_share, paper.min_class_share) == (0.01, 0)
    assert paper.metrics_of("regression") == ("r2", "rmse", "mae")


def test_the_standard_protocol_holds_out_entities_scales_and_chooses_its_penalty():
    standard = read_protocol("standard")
    assert standard.folds.pairs == "entity_disjoint"
    assert standard.folds.n_repeats(44) > 1
    assert standard.folds.n_repeats(16_000) == 1
    assert standard.standardise
    assert len(standard.penalty.c) > 3
    assert (standard.positive, standard.multilabel_auc) == ("declared", "scores")
    for kind in KINDS:
        assert set(read_protocol("paper").metrics_of(kind)) <= set(standard.metrics_of(kind))


@pytest.mark.parametrize("rule", [{"level": 0.9}, {"comparison": "none"}, {"correction": "none"}])
def test_a_rule_of_uncertainty_that_nothing_follows_is_refused(rule):
    with pytest.raises(ValidationError, match=rf"uncertainty\.{next(iter(rule))}"):
        read_protocol("paper", uncertainty={"intervals": "bootstrap", **rule})


def test_the_digest_follows_what_decides_the_scores_and_nothing_else():
    paper = read_protocol("paper")
    assert read_protocol("paper", id="mine", title="Mine").digest() == paper.digest()
    assert read_protocol("paper", uncertainty={"intervals": "bootstrap"}).digest() == paper.digest()
    changes = [
        {"standardise": True},
        {"penalty": {"c": [0.5]}},
        {"pair_join": "difference"},
        {"positive": "declared"},
        {"multilabel_auc": "scores"},
        {"numbers": "normal_scores"},
        {"folds": {"seed": 1}},
        {"metrics": read_fields("protocols", "standard")["metrics"]},
    ]
    digests = {read_protocol("paper", **change).digest() for change in changes}
    assert len(digests | {paper.digest()}) == len(changes) + 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"scaling": True}, "scaling"),
        ({"pair_join": "sum"}, "concat"),
        ({"penalty": {"c": [1.0, 0.1]}}, "rise"),
        ({"penalty": {"c": []}}, "at least 1"),
        ({"penalty": {"c": [0.0]}}, "greater than 0"),
        ({"folds": {"n": 25, "small_repeats": 10}}, "125"),
        ({"folds": {"n": 1}}, "greater than or equal to 2"),
    ],
)
def test_a_wrong_protocol_is_refused(change, word):
    with pytest.raises(ValidationError, match=word):
        read_protocol("paper", **change)


def test_a_metric_of_another_kind_is_refused_with_those_there_are():
    metrics = read_fields("protocols", "paper")["metrics"]
    with pytest.raises(ValidationError, match="roc_auc"):
        read_protocol("paper", metrics=metrics | {"binary": ["auc"]})
    with pytest.raises(ValidationError, match="spearman"):
        read_protocol("paper", metrics=metrics | {"regression": ["roc_auc"]})
    with pytest.raises(ValidationError, match="hamming_loss"):
        read_protocol("paper", metrics=metrics | {"per_label": ["hamming_loss"]})


def test_the_first_class_in_sort_order_is_positive_in_paper_and_the_declared_one_in_standard():
    names = ("Not a transcription factor", "Transcription factor")
    assert positive_class(names, None, read_protocol("paper")) == (names[1], names[0])
    assert positive_class(names, None, read_protocol("standard")) == names
    assert positive_class(names, names[0], read_protocol("standard")) == (names[1], names[0])
    with pytest.raises(ValueError, match="none of"):
        positive_class(names, "other", read_protocol("standard"))
    with pytest.raises(ValueError, match="two classes"):
        positive_class(("a", "b", "c"), None, read_protocol("standard"))


def test_every_metric_that_ships_is_declared_with_a_direction():
    for metric in METRICS.values():
        assert metric.title
        assert metric.kinds <= set(KINDS)
        assert isinstance(metric.is_greater_better, bool)
        bound = metric.high if metric.is_greater_better else metric.low
        assert bound is not None
