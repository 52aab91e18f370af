"""Loaders of the controls, whose scores are known in advance and test the whole pipeline.

`random` and `shuffled` should score at chance level, `oracle` nearly perfectly.
"""

import hashlib
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import polars as pl

from genebench.encoders.declaration import Arguments, Encoder
from genebench.encoders.loader import DeclaredLoader, LoaderInput, Vectors
from genebench.errors import EncoderError, EncoderUnavailable
from genebench.evaluation.ranks import normal_scores


class SeedArguments(Arguments):
    """Arguments of `random` and `shuffled`.

    Args:
        seed: Seed of the random numbers.
    """

    seed: int = 0


class Random(DeclaredLoader[SeedArguments]):
    """Independent N(0, 1) numbers; they depend only on seed, entity type and entity id."""

    Arguments: ClassVar[type[Arguments]] = SeedArguments

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Draw (n, dimension) random numbers."""
        width = self.encoder.dimension
        assert width is not None
        matrix = np.empty((len(inputs.entity_ids), width), np.float32)
        for row, entity_id in enumerate(inputs.entity_ids):
            name = f"{self.arguments.seed}|{inputs.entity_type}|{entity_id}".encode()
            seed = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
            generator = np.random.Generator(np.random.PCG64(seed))
            matrix[row] = generator.standard_normal(width, dtype=np.float32)
        progress(len(inputs.entity_ids))
        return Vectors(list(inputs.entity_ids), matrix)


class Shuffled(DeclaredLoader[SeedArguments]):
    """Random permutation of the vectors of a base encoder; no entity keeps its own vector."""

    Arguments: ClassVar[type[Arguments]] = SeedArguments

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Assign the vectors of the base in a seeded derangement of the sorted ids.

        Raises:
            EncoderError: The base has vectors of only one entity.
        """
        base = base_vectors(self.encoder, inputs)
        n = len(base.entity_ids)
        if n == 1:
            raise EncoderError(
                f"{self.encoder.id}: one vector cannot be shuffled; encode more entities with "
                f"{self.encoder.bases(inputs.entity_type)[0]!r} first"
            )
        order = np.argsort(np.array(base.entity_ids))
        # One cycle through a random order moves every entity; a plain shuffle may keep some.
        cycle = order[np.random.default_rng(self.arguments.seed).permutation(n)]
        source = np.empty(n, np.int64)
        source[cycle] = np.roll(cycle, 1)
        progress(n)
        return Vectors(list(base.entity_ids), base.matrix[source], base.n_parts[source])


class Oracle(DeclaredLoader[Arguments]):
    """Labels of single-entity tasks as vectors, which gives the highest possible score.

    A column with only the values 0 and 1 is unchanged. Any other column is standardised, and a
    second column holds the normal scores of its ranks, for protocols that predict these. A missing
    value becomes 0.
    """

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Arrange the labels as (n, columns), with the columns in the order of their names.

        Raises:
            EncoderError: The lake has no labels.
        """
        labels = inputs.labels
        if labels is None or labels.is_empty():
            raise EncoderError(
                f"{self.encoder.id}: the lake has no labels; run `genebench curate` first"
            )
        wanted = pl.DataFrame(
            {
                "entity_id": list(inputs.entity_ids),
                "row": np.arange(len(inputs.entity_ids)),
            },
            schema={"entity_id": pl.String, "row": pl.Int64},
        )
        values = (
            labels.group_by("entity_id", "column")
            .agg(pl.col("value").cast(pl.Float64).mean())
            .join(wanted, on="entity_id")
            .sort("column", "row")
            .with_columns(is_binary=pl.col("value").is_in([0.0, 1.0]).all().over("column"))
        )
        by_rank = values.filter(~pl.col("is_binary")).with_columns(
            column=pl.col("column") + " by rank",
            value=pl.col("value").map_batches(_normal_scores, pl.Float64).over("column"),
        )
        values = pl.concat([values, by_rank])
        names = values["column"].unique().sort().to_list()
        columns = pl.DataFrame({"column": names, "position": np.arange(len(names))})
        cells = (
            values.join(columns, on="column")
            .with_columns(
                mean=pl.col("value").mean().over("column"),
                deviation=pl.col("value").std(ddof=0).over("column"),
            )
            .with_columns(
                pl.when(pl.col("is_binary"))
                .then(pl.col("value"))
                .when(pl.col("deviation") > 0)
                .then((pl.col("value") - pl.col("mean")) / pl.col("deviation"))
                .otherwise(0.0)
                .alias("value")
            )
        )
        matrix = np.zeros((wanted.height, len(names)), np.float32)
        matrix[cells["row"].to_numpy(), cells["position"].to_numpy()] = cells["value"].to_numpy()
        progress(wanted.height)
        return Vectors(list(inputs.entity_ids), matrix)


def _normal_scores(values: pl.Series) -> pl.Series:
    return pl.Series(normal_scores(values.to_numpy()))


def base_vectors(encoder: Encoder, inputs: LoaderInput, base_id: str | None = None) -> Vectors:
    """Return the vectors of a base encoder for the entity type of the inputs.

    Raises:
        EncoderError: The inputs do not give access to the vectors of other encoders.
        EncoderUnavailable: The base encoder has no vectors.
    """
    wanted = base_id or encoder.bases(inputs.entity_type)[0]
    if inputs.vectors is None:
        raise EncoderError(
            f"{encoder.id}: needs the vectors of {wanted!r}; pass LoaderInput(vectors=...)"
        )
    vectors = inputs.vectors(wanted)
    if not vectors.entity_ids:
        raise EncoderUnavailable(
            f"{encoder.id}: {wanted!r} has no {inputs.entity_type} vectors; "
            f"run `genebench embed {wanted}` first"
        )
    return vectors
