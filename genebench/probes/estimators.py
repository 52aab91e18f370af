"""scikit-learn estimators on the linear engine: `LinearProbeCV` and `RidgeProbeCV`.

Both choose the penalty by cross-validation, keep out-of-fold predictions, and fit all columns and
folds together.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, check_cv
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from genebench.probes.linear.batch import LossName
from genebench.probes.linear.columns import ColumnFits, fit_columns
from genebench.probes.problem import TEST, TRAIN

Array = npt.NDArray[Any]
Split = npt.NDArray[np.int8]


def make_cv_split(
    cv: Any, features: Array, targets: Array, groups: Array | None, *, stratified: bool
) -> Split:
    """(n, folds + 1) int8 split of `fit_columns`; the last fold trains on all rows.

    Args:
        cv: Number of folds, or a scikit-learn splitter or iterable.
        features: (n, features).
        targets: Targets for a splitter.
        groups: (n,) groups that folds hold out whole; None without.
        stratified: Whether a number of folds means stratified folds.

    Raises:
        ValueError: There are fewer rows, or fewer of every class, than folds.
    """
    if isinstance(cv, int | np.integer):
        if groups is not None:
            splitter: Any = GroupKFold(cv)
        elif stratified:
            # Warns of a class with fewer rows than folds, as scikit-learn does.
            splitter = StratifiedKFold(int(cv), shuffle=True, random_state=0)
        else:
            splitter = KFold(int(cv), shuffle=True, random_state=0)
    else:
        splitter = check_cv(cv)
    split = np.full((len(features), splitter.get_n_splits(features, targets, groups) + 1), TRAIN)
    split[:, :-1] = 0
    for fold, (train, test) in enumerate(splitter.split(features, targets, groups)):
        split[train, fold], split[test, fold] = TRAIN, TEST
    return split.astype(np.int8)


class _ProbeCV(BaseEstimator):  # type: ignore[misc]
    """Common parts of both estimators."""

    def _fit(
        self,
        features: Array,
        targets: Array,
        split: Split,
        loss: LossName,
        path: Sequence[float],
        class_weight: Sequence[float] | Literal["balanced"] | None = None,
    ) -> ColumnFits:
        fits = fit_columns(
            features,
            targets,
            split,
            loss=loss,
            C=sorted(set(path)),
            standardize=self.standardize,
            fit_intercept=self.fit_intercept,
            class_weight=class_weight,
            tol=self.tol,
            device=self.device,
        )
        if not fits.converged[-1].all():
            column = int(np.flatnonzero(~fits.converged[-1])[0])
            raise ValueError(f"column {column} cannot be fitted: {fits.reason[-1, column]}")
        self.C_ = fits.C[-1]
        self.n_iter_ = np.maximum(fits.n_iter[-1], 1)
        self.coef_, self.intercept_ = fits.coef[-1], fits.intercept[-1]
        oof, count = np.zeros((len(features), fits.coef.shape[1])), np.zeros(len(features))
        for rows, decision in zip(fits.held_out, fits.decision, strict=True):
            oof[rows] += decision
            count[rows] += 1
        with np.errstate(invalid="ignore"):
            self.oof_decision_function_ = oof / count[:, None]
        return fits

    def _decide(self, features: Any) -> Array:
        check_is_fitted(self)
        checked = validate_data(self, features, reset=False)
        return np.asarray(checked @ self.coef_.T + self.intercept_)


class LinearProbeCV(ClassifierMixin, _ProbeCV):  # type: ignore[misc]
    """Logistic regression whose C is chosen by cross-validation; all labels are fitted together.

    Binary and multinomial for one column of targets, one binary model a label for a matrix of 0 and
    1.

    Args:
        Cs: Values of C to choose from.
        cv: Number of folds, or a scikit-learn splitter.
        standardize: Scale features on the training rows of each fold.
        fit_intercept: Whether to fit intercepts.
        class_weight: `balanced`, or a dictionary of weights by class.
        tol: See `fit_columns`.
        device: torch device.

    Attributes:
        classes_: (classes,) labels; for multi-label targets [0, 1].
        coef_: (1, features), (classes, features) or (labels, features) of the original features.
        intercept_: (1,), (classes,) or (labels,).
        C_: The C that was chosen, for each row of `coef_`.
        n_iter_: Steps of L-BFGS, for each row of `coef_`.
        oof_decision_function_: (n,) or (n, columns) decision values of models that were not trained
            on the row, each with a C that was chosen without it; NaN where no fold held it out.
    """

    def __init__(
        self,
        Cs: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
        *,
        cv: Any = 5,
        standardize: bool = True,
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        tol: float = 1e-6,
        device: str = "cpu",
    ) -> None:
        self.Cs = Cs
        self.cv = cv
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol
        self.device = device

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Choose C, keep out-of-fold decision values, and fit on all rows.

        Args:
            X: (n, features).
            y: (n,) classes, or (n, labels) of 0 and 1.
            groups: (n,) groups that folds hold out whole.

        Raises:
            ValueError: There is one class only, or a column cannot be fitted.
        """
        features, targets = validate_data(self, X, y, multi_output=True)
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)
        check_classification_targets(targets)
        self.is_multilabel_ = type_of_target(targets) == "multilabel-indicator"
        if self.is_multilabel_:
            self.classes_, codes = np.array([0, 1]), targets
        else:
            self.classes_, codes = np.unique(np.ravel(targets), return_inverse=True)
            if len(self.classes_) < 2:
                raise ValueError(f"y has one class only, {self.classes_[0]!r}; needs two or more")
        is_multinomial = len(self.classes_) > 2
        groups = None if groups is None else np.asarray(groups)
        split = make_cv_split(self.cv, features, codes, groups, stratified=not self.is_multilabel_)
        weight: list[float] | Literal["balanced"] | None = None
        if isinstance(self.class_weight, dict):
            weight = [self.class_weight.get(label, 1.0) for label in self.classes_]
        else:
            weight = self.class_weight
        loss: LossName = "multinomial" if is_multinomial else "logistic"
        self._fit(features, codes, split, loss, self.Cs, weight)
        if self.oof_decision_function_.shape[1] == 1 and not self.is_multilabel_:
            self.oof_decision_function_ = self.oof_decision_function_[:, 0]
        return self

    def decision_function(self, X: Any) -> Array:
        """(n,) log odds of the second class, or (n, classes or labels) decision values."""
        values = self._decide(X)
        return values if values.shape[1] > 1 or self.is_multilabel_ else values[:, 0]

    def predict(self, X: Any) -> Array:
        """(n,) classes, or (n, labels) of 0 and 1."""
        values = self.decision_function(X)
        if self.is_multilabel_:
            return (values > 0).astype(int)
        codes = (values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)
        return np.asarray(self.classes_[codes])

    def predict_proba(self, X: Any) -> Array:
        """(n, classes) probabilities; (n, labels) probabilities of 1 for multi-label targets."""
        values = self._decide(X)
        if self.is_multilabel_ or values.shape[1] == 1:
            positive = np.exp(-np.logaddexp(0, -values))
            if self.is_multilabel_:
                return np.asarray(positive)
            return np.hstack([np.exp(-np.logaddexp(0, values)), positive])
        shares = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


class RidgeProbeCV(RegressorMixin, _ProbeCV):  # type: ignore[misc]
    """Ridge regression whose penalty is chosen by cross-validation for each column.

    Minimises the sum of squared errors + alpha |w|², as scikit-learn's `Ridge`.

    Args:
        alphas: Values of the penalty to choose from.
        cv: Number of folds, or a scikit-learn splitter.
        standardize: Scale features on the training rows of each fold.
        fit_intercept: Whether to fit intercepts.
        tol: See `fit_columns`.
        device: torch device.

    Attributes:
        coef_: (features,) or (columns, features) of the original features.
        intercept_: A number or (columns,).
        alpha_: The penalty that was chosen, a number or for each column.
        n_iter_: Steps of L-BFGS of each column.
        oof_decision_function_: (n,) or (n, columns) predictions of models that were not trained on
            the row; NaN where no fold held it out.
    """

    def __init__(
        self,
        alphas: Sequence[float] = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4),
        *,
        cv: Any = 5,
        standardize: bool = True,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        device: str = "cpu",
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.standardize = standardize
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.device = device

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Choose alpha, keep out-of-fold predictions, and fit on all rows.

        Args:
            X: (n, features).
            y: (n,) or (n, columns) numbers.
            groups: (n,) groups that folds hold out whole.
        """
        features, targets = validate_data(self, X, y, multi_output=True, y_numeric=True)
        if len(features) < 2:
            raise ValueError("cross-validation needs more than 1 sample; found 1 sample")
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)
        groups = None if groups is None else np.asarray(groups)
        split = make_cv_split(self.cv, features, targets, groups, stratified=False)
        path = [1 / alpha for alpha in self.alphas]
        self._fit(features, targets, split, "squared", path)
        self.alpha_ = 1 / self.C_
        if targets.ndim == 1:
            self.coef_, self.intercept_ = self.coef_[0], self.intercept_[0]
            self.alpha_ = self.alpha_[0]
            self.oof_decision_function_ = self.oof_decision_function_[:, 0]
        return self

    def predict(self, X: Any) -> Array:
        """(n,) or (n, columns) predictions."""
        return self._decide(X)
