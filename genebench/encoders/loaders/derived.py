"""Encoders made from the finished vectors of others: composite, concatenation, principal axes."""

from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from genebench.encoders.declaration import Arguments, Encoder
from genebench.encoders.loader import (
    DeclaredLoader,
    LoaderContext,
    LoaderInput,
    Vectors,
    check_dimension,
)
from genebench.encoders.loaders.controls import base_vectors
from genebench.errors import EncoderError


class ConcatArguments(Arguments):
    """Arguments of `concat`.

    Args:
        normalizes: Bring each base's vectors to unit length first, so that none drowns another.
    """

    normalizes: bool = True


class PcaArguments(Arguments):
    """Arguments of `pca`.

    Args:
        components: How many axes to keep.
        whitens: Divide each axis by its standard deviation.
    """

    components: Annotated[int, Field(gt=0)]
    whitens: bool = False


class Composite(DeclaredLoader[Arguments]):
    """Genes by one encoder, diseases by another: passes on what `base` names for the type."""

    def __init__(self, encoder: Encoder, place: LoaderContext) -> None:
        super().__init__(encoder, place)
        if not isinstance(encoder.base, dict):
            raise EncoderError(
                f"{encoder.id}: a composite needs a base for each entity type: "
                "`base: {gene: <encoder>, disease: <encoder>}`"
            )

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Give the vectors of the encoder that is declared for this entity type."""
        base = base_vectors(self.encoder, reading)
        progress(len(base.entity_ids))
        return base


class Concat(DeclaredLoader[ConcatArguments]):
    """The vectors of several encoders side by side, for entities that all of them cover."""

    Arguments: ClassVar[type[Arguments]] = ConcatArguments

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Lay (n, d1), (n, d2), ... side by side as (n, d1 + d2 + ...).

        Raises:
            EncoderError: A base has no vectors, or no entity is covered by all.
        """
        bases = [base_vectors(self.encoder, reading, b) for b in self.encoder.bases()]
        shared = sorted(set.intersection(*(set(b.entity_ids) for b in bases)))
        if not shared:
            raise EncoderError(f"{self.encoder.id}: no entity has a vector by every base")
        parts = []
        for base in bases:
            row_of = {entity_id: row for row, entity_id in enumerate(base.entity_ids)}
            matrix = base.matrix[[row_of[entity_id] for entity_id in shared]].astype(np.float64)
            norms = np.linalg.norm(matrix, axis=1, keepdims=True)
            parts.append(
                matrix / np.where(norms > 0, norms, 1.0) if self.arguments.normalizes else matrix
            )
        n_dropped = len(set().union(*(b.entity_ids for b in bases))) - len(shared)
        progress(len(shared))
        joined = Vectors(
            shared, np.hstack(parts).astype(np.float32), counts={"n_not_shared": n_dropped}
        )
        return check_dimension(self.encoder, joined)


class Pca(DeclaredLoader[PcaArguments]):
    """The leading principal axes of another encoder's vectors.

    Axes are those of the centred covariance, largest first; the sign of an axis is set so that
    its largest loading is positive, so that two machines give the same vectors.
    """

    Arguments: ClassVar[type[Arguments]] = PcaArguments

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Project (n, d) vectors on their leading axes: (n, components).

        Raises:
            EncoderError: The vectors have fewer entities or columns than components.
        """
        base = base_vectors(self.encoder, reading)
        components = self.arguments.components
        n, width = base.matrix.shape
        if components > min(n - 1, width):
            raise EncoderError(
                f"{self.encoder.id}: {components} components need more than {n} vectors of "
                f"{width} numbers; lower `with.components`"
            )
        order = np.argsort(np.array(base.entity_ids))
        wide = base.matrix[order].astype(np.float64)
        wide -= wide.mean(axis=0)
        values, axes = np.linalg.eigh(wide.T @ wide / n)
        axes = axes[:, ::-1][:, :components]
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(components)])
        projected = wide @ axes
        if self.arguments.whitens:
            deviations = np.sqrt(np.maximum(values[::-1][:components], 0.0))
            projected /= np.where(deviations > 1e-12, deviations, 1.0)
        progress(n)
        ids = [base.entity_ids[row] for row in order]
        return check_dimension(
            self.encoder, Vectors(ids, projected.astype(np.float32), base.n_parts[order])
        )
