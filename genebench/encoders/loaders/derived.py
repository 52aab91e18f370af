"""Loaders that read the vectors of other encoders: composite, concatenation and PCA."""

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
        normalizes: Scale the vectors of each base to unit length first.
    """

    normalizes: bool = True


class PcaArguments(Arguments):
    """Arguments of `pca`.

    Args:
        components: Number of principal components to keep.
        whitens: Divide each component by its standard deviation.
    """

    components: Annotated[int, Field(gt=0)]
    whitens: bool = False


class Composite(DeclaredLoader[Arguments]):
    """Uses one encoder per entity type, for example one for genes and one for diseases."""

    def __init__(self, encoder: Encoder, context: LoaderContext) -> None:
        super().__init__(encoder, context)
        if not isinstance(encoder.base, dict):
            raise EncoderError(
                f"{encoder.id}: a composite needs a base for each entity type: "
                "`base: {gene: <encoder>, disease: <encoder>}`"
            )

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Return the vectors of the encoder declared for this entity type."""
        base = base_vectors(self.encoder, inputs)
        progress(len(base.entity_ids))
        return base


class Concat(DeclaredLoader[ConcatArguments]):
    """Concatenates the vectors of several encoders, for the entities that all of them cover."""

    Arguments: ClassVar[type[Arguments]] = ConcatArguments

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Concatenate (n, d1), (n, d2), ... to (n, d1 + d2 + ...).

        Raises:
            EncoderError: A base has no vectors, or no entity has a vector of every base.
        """
        bases = [base_vectors(self.encoder, inputs, b) for b in self.encoder.bases()]
        shared = sorted(set.intersection(*(set(b.entity_ids) for b in bases)))
        if not shared:
            names = ", ".join(self.encoder.bases())
            raise EncoderError(
                f"{self.encoder.id}: no entity has a vector of every base ({names}); correct `base`"
            )
        blocks = []
        for base in bases:
            row_of = {entity_id: row for row, entity_id in enumerate(base.entity_ids)}
            matrix = base.matrix[[row_of[entity_id] for entity_id in shared]].astype(np.float64)
            norms = np.linalg.norm(matrix, axis=1, keepdims=True)
            blocks.append(
                matrix / np.where(norms > 0, norms, 1.0) if self.arguments.normalizes else matrix
            )
        n_dropped = len(set().union(*(b.entity_ids for b in bases))) - len(shared)
        progress(len(shared))
        joined = Vectors(
            shared, np.hstack(blocks).astype(np.float32), counts={"n_not_shared": n_dropped}
        )
        return check_dimension(self.encoder, joined)


class Pca(DeclaredLoader[PcaArguments]):
    """Principal component analysis (PCA) of the vectors of another encoder.

    The components are sorted by decreasing variance. The sign of each is set so that its largest
    loading is positive, which makes the vectors equal on all machines.
    """

    Arguments: ClassVar[type[Arguments]] = PcaArguments

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Project (n, d) vectors on their leading principal axes: (n, components).

        Raises:
            EncoderError: The base has too few entities or columns for the components.
        """
        base = base_vectors(self.encoder, inputs)
        components = self.arguments.components
        n, width = base.matrix.shape
        if components > min(n - 1, width):
            raise EncoderError(
                f"{self.encoder.id}: {n} vectors of width {width} have fewer than {components} "
                "principal components; lower `with.components`"
            )
        order = np.argsort(np.array(base.entity_ids))
        centred = base.matrix[order].astype(np.float64)
        centred -= centred.mean(axis=0)
        values, axes = np.linalg.eigh(centred.T @ centred / n)
        axes = axes[:, ::-1][:, :components]
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(components)])
        projected = centred @ axes
        if self.arguments.whitens:
            deviations = np.sqrt(np.maximum(values[::-1][:components], 0.0))
            projected /= np.where(deviations > 1e-12, deviations, 1.0)
        progress(n)
        ids = [base.entity_ids[row] for row in order]
        return check_dimension(
            self.encoder, Vectors(ids, projected.astype(np.float32), base.n_parts[order])
        )
