"""Objective, gradient and Hessian-vector products of a batch, each in one pass over the rows.

    f(w, b)  = sum loss(x w + b, y) + (penalty_strength / 2) |w|²
    gradient = X' r + penalty_strength w,  1' r              r: first derivatives of the losses
    H v      = X' D (X v + v_b) + penalty_strength v         D: second derivatives of the losses

What depends on a forward product X v is computed block by block, while it is in the processor's
cache. Subproblems that hold out the rows of a segment take no part in its products.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genebench.probes.linear.operators import LinearOperator
from genebench.probes.linear.segments import Block, Parameters, RaggedArray, Segment, Subset
from genebench.probes.linear.subproblems import Batch, Point, sum_classes


class Forward:
    """Forward products x w + b, block by block.

    Args:
        parameters: w and b of a batch.
        operator: The design matrix, exact or in low precision.
    """

    def __init__(self, parameters: Parameters, operator: LinearOperator) -> None:
        self.operator, self.projected = operator, operator.project(*parameters)
        self.segment: Segment | None = None

    def rows(self, block: Block) -> Tensor:
        """(block, columns of its segment), a new tensor."""
        if block.segment is not self.segment:
            self.segment = block.segment
            self.own = self.projected
            if not block.segment.is_whole:
                self.own = self.operator.subset(self.projected, block.segment.columns)
        return self.operator.rows(self.own, block.rows)


class Adjoint:
    """Adjoint products x' u and 1' u, summed block by block.

    Args:
        batch: The subproblems.
        operator: The design matrix, exact or in low precision.
    """

    def __init__(self, batch: Batch, operator: LinearOperator) -> None:
        self.operator = operator
        self.whole = self.sums = operator.zeros(batch.n_columns)
        self.segment: Segment | None = None

    def collect(self, block: Block, values: Tensor) -> None:
        """Add (block, columns of its segment) of u, which may be overwritten."""
        if block.segment is not self.segment:
            self._close()
            self.segment = block.segment
            if not block.segment.is_whole:
                self.sums = self.operator.zeros(len(block.segment.columns))
        self.operator.collect(self.sums, block.rows, values)

    def finish(self) -> Parameters:
        """The (width, columns) and (columns,) sums."""
        self._close()
        return self.operator.finish(self.whole)

    def _close(self) -> None:
        if self.segment is not None and self.sums is not self.whole:
            for whole, added in zip(self.whole, self.sums, strict=True):
                whole.index_add_(self.operator.column_axis, self.segment.columns, added)
        self.sums = self.whole


@dataclass(frozen=True)
class ValueAndGradient:
    """The objective and its derivatives at a point.

    Attributes:
        objective: (subproblems,) float64.
        gradient: (width, columns) by the coefficients.
        intercept_gradient: (columns,).
        weights: Second derivatives of each row's loss (see `Loss`).
    """

    objective: Tensor
    gradient: Tensor
    intercept_gradient: Tensor
    weights: RaggedArray

    @property
    def parameters(self) -> Parameters:
        """Gradients by the coefficients and the intercepts."""
        return self.gradient, self.intercept_gradient

    def take(self, subset: Subset) -> "ValueAndGradient":
        """Those of a subset."""
        return ValueAndGradient(
            self.objective[subset.subproblems],
            *subset.take(self.parameters),
            self.weights.take(subset),
        )

    def put(self, part: "ValueAndGradient", subset: Subset) -> None:
        """Write those of a subset, in place."""
        self.objective[subset.subproblems] = part.objective
        subset.put(self.parameters, part.parameters)
        self.weights.put(part.weights, subset)


def point_at(batch: Batch, parameters: Parameters) -> Point:
    """The point of these parameters, with its linear predictor."""
    values = batch.empty()
    # Zero coefficients, with which every solve begins, need no product.
    forward = Forward(parameters, batch.design) if bool(parameters[0].any()) else None
    for block in batch.blocks():
        values[block] = forward.rows(block) if forward else block.segment.take(parameters[1])
    return Point(*parameters, values)


def value_and_gradient(
    batch: Batch,
    coefficients: Tensor,
    values: Callable[[Block], Tensor],
    weights: RaggedArray,
    operator: LinearOperator,
) -> ValueAndGradient:
    """Objective, gradient and second derivatives of the losses.

    Args:
        batch: The subproblems.
        coefficients: (width, columns).
        values: Gives the linear predictor of a block of rows.
        weights: Overwritten with the second derivatives of the losses.
        operator: The design matrix, exact or in low precision.
    """
    adjoint, objective = Adjoint(batch, operator), torch.zeros_like(batch.penalty_strength)
    for block in batch.blocks():
        losses, residuals = batch.loss.loss_gradient(
            values(block), batch.targets(block), batch.mask(block), weights[block]
        )
        objective.index_add_(0, block.segment.subproblems, losses)
        adjoint.collect(block, residuals)
    gradient, intercept_gradient = adjoint.finish()
    intercept_gradient = intercept_gradient * batch.fit_intercept
    penalty = batch.penalise(coefficients)
    objective += sum_classes(torch.linalg.vecdot(penalty, coefficients, dim=0) / 2, batch.n_classes)
    gradient = center_classes(gradient, batch.n_classes).add_(penalty)
    return ValueAndGradient(objective, gradient, intercept_gradient, weights)


def hessian_product(
    batch: Batch, weights: RaggedArray, change: Parameters, operator: LinearOperator
) -> Parameters:
    """The Hessian of the objective times a change of the parameters."""
    forward, adjoint = Forward(change, operator), Adjoint(batch, operator)
    for block in batch.blocks(operator.dtype):
        curved = batch.loss.hessian_product(forward.rows(block), weights[block], batch.n_classes)
        adjoint.collect(block, curved)
    products, intercepts = adjoint.finish()
    products = center_classes(products, batch.n_classes) + batch.penalise(change[0])
    return products, intercepts * batch.fit_intercept


def gradient_norm(batch: Batch, at: ValueAndGradient) -> Tensor:
    """(subproblems,) |gradient| / n_train with features at unit root mean square length."""
    length = (batch.design.spectrum.sum() / batch.design.n_rows).clamp_min(1e-30)
    square = at.gradient.double().square().sum(dim=0) / length
    square += at.intercept_gradient.double().square()
    return sum_classes(square, batch.n_classes).sqrt() / batch.n_train


def center_classes(derivatives: Tensor, n_classes: int) -> Tensor:
    """Subtract the mean over the classes of each subproblem from (width, columns), in place.

    Derivatives of multinomial losses sum to 0 over the classes. What rounding leaves of the sum is
    removed, for a common shift of all classes changes no loss, and only the penalty opposes it.
    """
    if n_classes > 1:
        by_subproblem = derivatives.view(len(derivatives), -1, n_classes)
        by_subproblem -= by_subproblem.mean(dim=2, keepdim=True)
    return derivatives
