"""Model of a protocol: folds, scaling, penalty, positive class, metrics and the join of pairs.

A protocol is part of every evaluation's key. Two are shipped: `standard` (recommended) and `paper`
(reproduces the publication, including its errors).
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from genebench.digest import digest_json
from genebench.evaluation.metrics import LABEL_METRICS, METRICS
from genebench.probes.declaration import KINDS, Kind, Slug

Splitter = Literal["plain", "stratified"]
Positive = Annotated[float, Field(gt=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Splitters(_Model):
    """How samples are assigned to folds, by kind of task."""

    binary: Splitter = "stratified"
    multiclass: Splitter = "stratified"
    multilabel: Literal["plain"] = "plain"
    regression: Literal["plain"] = "plain"


class Folds(_Model):
    """Number, seed, repeats and kind of the cross-validation folds."""

    n: int = Field(default=5, ge=2, le=50, description="number of folds")
    seed: int = Field(default=0, ge=0, description="seed of the split")
    repeats: int = Field(default=1, ge=1, le=25, description="repeats of each task")
    small_below: int = Field(default=0, ge=0, description="a task with fewer samples is small")
    small_repeats: int = Field(default=1, ge=1, le=25, description="repeats of a small task")
    splitters: Splitters = Splitters()
    pairs: Literal["plain", "entity_disjoint"] = Field(
        default="plain",
        description="`entity_disjoint`: no entity of a test pair is in a training pair",
    )
    groups: str | None = Field(
        default=None,
        description="grouping of entities whose groups are held out whole: a task, such as "
        "`chromosome`, or `relatives`",
    )

    @model_validator(mode="after")
    def _folds_fit_int8(self) -> Self:
        n = self.n * max(self.repeats, self.small_repeats)
        if n > 125:
            raise ValueError(
                f"{n} folds with repeats; at most 125 are possible, lower `n` or `repeats`"
            )
        return self

    def n_repeats(self, n_samples: int) -> int:
        """Number of repeats for a task of this size."""
        return self.small_repeats if n_samples < self.small_below else self.repeats


class Penalty(_Model):
    """Strength of the L2 penalty.

    The objective is scikit-learn's: C * sum(loss) + |w|^2 / 2, with the intercept unpenalised. For
    ridge regression the loss is half the squared error, so alpha = 1 / C.
    """

    c: tuple[Positive, ...] = Field(
        default=(1.0,),
        min_length=1,
        description="inverse penalty strength; of several values (a path) inner folds choose one",
    )
    inner: int = Field(
        default=2,
        ge=2,
        le=10,
        description="number of inner folds, in each outer fold, that choose C",
    )

    @model_validator(mode="after")
    def _path_increases(self) -> Self:
        if list(self.c) != sorted(set(self.c)):
            raise ValueError("the values of C must rise, each given once")
        return self


class Metrics(_Model):
    """Names of the metrics computed for each kind of task, and for each label or class."""

    binary: tuple[str, ...]
    multiclass: tuple[str, ...]
    multilabel: tuple[str, ...]
    regression: tuple[str, ...]
    per_label: tuple[str, ...] = Field(
        default=(),
        description="metrics computed for each label, and for each class against the rest",
    )

    @model_validator(mode="after")
    def _are_known(self) -> Self:
        for kind in KINDS:
            for name in getattr(self, kind):
                if name not in METRICS or kind not in METRICS[name].kinds:
                    known = sorted(m.id for m in METRICS.values() if kind in m.kinds)
                    raise ValueError(f"no metric {name!r} for {kind} tasks; choose from {known}")
        for name in self.per_label:
            if name not in LABEL_METRICS:
                raise ValueError(
                    f"no metric {name!r} for one label; choose from {sorted(LABEL_METRICS)}"
                )
        return self


class Uncertainty(_Model):
    """How confidence intervals of scores are computed.

    Not part of the protocol's digest: protocols with the same scores share stored intervals.
    """

    intervals: Literal["none", "bootstrap"] = Field(
        default="none", description="`none`: mean and population SD over folds only"
    )
    draws: int = Field(
        default=1000, ge=100, description="number of bootstrap samples of the held-out rows"
    )


class Protocol(_Model):
    """The rules by which a probe is fitted and scored."""

    id: Slug = Field(description="unique id; never changes")
    title: str = Field(description="display name")
    description: str = Field(default="", description="one sentence, with the source")
    folds: Folds = Folds()
    standardise: bool = Field(
        default=False,
        description="scale features to mean 0 and standard deviation 1 over the training rows",
    )
    penalty: Penalty = Penalty()
    regression: Literal["as_probe", "ridge"] = Field(
        default="as_probe",
        description="`ridge`: least squares is penalised too, which wide vectors need",
    )
    numbers: Literal["given", "normal_scores"] = Field(
        default="given",
        description="target of a regression: the given numbers, or normal scores of their ranks",
    )
    positive: Literal["first", "declared"] = Field(
        default="declared",
        description="positive class of a binary task: the first in sort order, or the declared one",
    )
    multilabel_auc: Literal["hard", "scores"] = Field(
        default="scores",
        description="compute multi-label AUC from hard 0/1 predictions, or from scores",
    )
    min_share: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="labels with at most this share of the samples are dropped",
    )
    min_class_share: float = Field(
        default=0.01,
        ge=0,
        lt=1,
        description="classes with at most this share of the samples are dropped",
    )
    pair_join: Literal["concat", "mean", "product", "difference"] = Field(
        default="concat", description="how the two vectors of a pair are joined to one"
    )
    metrics: Metrics
    uncertainty: Uncertainty = Uncertainty()

    def metrics_of(self, kind: Kind) -> tuple[str, ...]:
        """Metrics computed for one kind of task."""
        names: tuple[str, ...] = getattr(self.metrics, kind)
        return names

    def digest(self) -> str:
        """Digest of all fields that affect scores: not id, title, description and intervals."""
        # The shares select labels, and the label digest of each task covers its labels.
        shares = {"min_share", "min_class_share"}
        fields = self.model_dump(
            mode="json", exclude={"id", "title", "description", "uncertainty", *shares}
        )
        # Added later: left out at its default, so that keys of earlier evaluations stay valid.
        if self.numbers == "given":
            del fields["numbers"]
        return digest_json(fields)


def positive_class(
    label_names: Sequence[str], declared: str | None, protocol: Protocol
) -> tuple[str, str]:
    """Choose the positive class of a binary task.

    The published pipeline one-hot encodes the outcome and takes the first column. There the first
    class in sort order is positive; for sub-tasks it is the class "label absent".

    Args:
        label_names: The two class names as stored with the task: negative, then positive.
        declared: Positive class declared by the task; None for the second of `label_names`.
        protocol: `protocol.positive` chooses between the first and the declared class.

    Returns:
        The negative and the positive class.

    Raises:
        ValueError: There are not two classes, or the declared class is not one of them.
    """
    if len(set(label_names)) != 2:
        raise ValueError(f"a binary task has two classes, not {list(label_names)}")
    if protocol.positive == "first":
        positive = min(label_names)
    else:
        positive = label_names[1] if declared is None else declared
    if positive not in label_names:
        raise ValueError(f"declared positive class {positive!r} is none of {list(label_names)}")
    negative = next(name for name in label_names if name != positive)
    return negative, positive
