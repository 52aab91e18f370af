"""What a protocol may say: the rules around a probe.

A protocol fixes the folds, the scaling, the penalty, the positive class, the metrics and how
vectors of a pair are joined. It is part of every evaluation's key. Two ship: `paper`, comparable
with what was published, faults and all, and `standard`, what one should believe.
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
    """How samples are dealt to folds, by kind of task."""

    binary: Splitter = "stratified"
    multiclass: Splitter = "stratified"
    multilabel: Literal["plain"] = "plain"
    regression: Literal["plain"] = "plain"


class Folds(_Model):
    """How rows are held out."""

    n: int = Field(default=5, ge=2, le=50, description="number of folds")
    seed: int = Field(default=0, ge=0, description="seed of the dealing")
    repeats: int = Field(default=1, ge=1, le=25, description="dealings of each task")
    small_below: int = Field(default=0, ge=0, description="a task with fewer samples is small")
    small_repeats: int = Field(default=1, ge=1, le=25, description="dealings of a small task")
    splitters: Splitters = Splitters()
    pairs: Literal["plain", "entity_disjoint"] = Field(
        default="plain",
        description="`entity_disjoint`: no entity of a test pair is seen in training",
    )
    groups: str | None = Field(
        default=None,
        description="name of the grouping of entities that is held out whole, such as "
        "`chromosome`; the caller brings the groups",
    )

    @model_validator(mode="after")
    def _folds_fit_int8(self) -> Self:
        if self.n * max(self.repeats, self.small_repeats) > 125:
            raise ValueError("more than 125 folds with repeats; a fold number must fit 8 bits")
        return self

    def n_repeats(self, n_samples: int) -> int:
        """Dealings of a task of this size."""
        return self.small_repeats if n_samples < self.small_below else self.repeats


class Penalty(_Model):
    """Strength of the L2 penalty.

    The objective is scikit-learn's: C times the summed loss plus half the squared coefficients,
    the intercept free. For ridge regression the loss is half the squared error, so alpha = 1 / C.
    """

    c: tuple[Positive, ...] = Field(
        default=(1.0,),
        min_length=1,
        description="one value is used as it is; several are a path from which inner folds choose",
    )
    inner: int = Field(
        default=2, ge=2, le=10, description="inner folds of each outer one that choose C on a path"
    )

    @model_validator(mode="after")
    def _path_rises(self) -> Self:
        if list(self.c) != sorted(set(self.c)):
            raise ValueError("the path of C must rise, each value once")
        return self


class Metrics(_Model):
    """Names of the metrics computed for each kind of task, and for each label or class."""

    binary: tuple[str, ...]
    multiclass: tuple[str, ...]
    multilabel: tuple[str, ...]
    regression: tuple[str, ...]
    per_label: tuple[str, ...] = Field(
        default=(), description="also for each label, and for each class against the rest"
    )

    @model_validator(mode="after")
    def _are_known(self) -> Self:
        for kind in KINDS:
            for name in getattr(self, kind):
                if name not in METRICS or kind not in METRICS[name].kinds:
                    known = sorted(m.id for m in METRICS.values() if kind in m.kinds)
                    raise ValueError(f"no metric {name!r} for {kind} tasks; there are {known}")
        for name in self.per_label:
            if name not in LABEL_METRICS:
                raise ValueError(
                    f"no metric {name!r} for one label; there are {sorted(LABEL_METRICS)}"
                )
        return self


class Uncertainty(_Model):
    """How the uncertainty of a score is stated.

    It is in no key: a stored interval is used by every protocol that asks for the same scores.
    """

    intervals: Literal["none", "bootstrap"] = Field(
        default="none", description="`none`: mean and population SD over folds only"
    )
    draws: int = Field(default=1000, ge=100, description="bootstrap samples of held-out rows")


class Protocol(_Model):
    """The rules around a probe."""

    id: Slug = Field(description="unique id; never changes")
    title: str = Field(description="what people read")
    description: str = Field(default="", description="one sentence, with the source")
    folds: Folds = Folds()
    standardise: bool = Field(
        default=False,
        description="features to mean 0 and standard deviation 1 over the training rows",
    )
    penalty: Penalty = Penalty()
    regression: Literal["as_probe", "ridge"] = Field(
        default="as_probe",
        description="`ridge`: least squares gets the penalty too, which wide vectors need",
    )
    numbers: Literal["given", "normal_scores"] = Field(
        default="given",
        description="what a regression predicts: the task's numbers, or their ranks' normal scores",
    )
    positive: Literal["first", "declared"] = Field(
        default="declared",
        description="positive class of a binary task: the first in sort order, or as declared",
    )
    multilabel_auc: Literal["hard", "scores"] = Field(
        default="scores", description="ranks of hard 0/1 predictions, or of scores"
    )
    min_share: float = Field(
        default=0.01, ge=0, lt=1, description="labels strictly above this share of samples count"
    )
    min_class_share: float = Field(
        default=0.01, ge=0, lt=1, description="classes strictly above this share of samples count"
    )
    pair_join: Literal["concat", "mean", "product", "difference"] = Field(
        default="concat", description="how the vectors of a pair become one"
    )
    metrics: Metrics
    uncertainty: Uncertainty = Uncertainty()

    def metrics_of(self, kind: Kind) -> tuple[str, ...]:
        """Metrics computed for one kind of task."""
        names: tuple[str, ...] = getattr(self.metrics, kind)
        return names

    def digest(self) -> str:
        """Digest of what decides the scores; id, title, description and intervals do not."""
        # The shares decide which labels there are, which is in each task's own digest.
        shares = {"min_share", "min_class_share"}
        decides = self.model_dump(
            mode="json", exclude={"id", "title", "description", "uncertainty", *shares}
        )
        # Younger than the first evaluations, which its default leaves as they are.
        if self.numbers == "given":
            del decides["numbers"]
        return digest_json(decides)


def positive_class(
    label_names: Sequence[str], declared: str | None, protocol: Protocol
) -> tuple[str, str]:
    """Which class of a binary task counts as positive.

    The published pipeline one-hot encodes the outcome and takes the first column, so the first
    class in sort order is positive there; for derived tasks that is the class "label absent".

    Args:
        label_names: The two class names, as the task stores them: negative, then positive.
        declared: The positive class the task declares; None for the second of `label_names`.
        protocol: Its `positive` decides.

    Returns:
        The negative and the positive class.

    Raises:
        ValueError: There are not two classes, or the declared one is none of them.
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
