"""Encoders whose result is known beforehand; they bound every score and test the road itself."""

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
        seed: Another seed is another encoder.
    """

    seed: int = 0


class Random(DeclaredLoader[SeedArguments]):
    """Noise: an entity's vector is drawn from its id and the seed alone, independent N(0, 1)."""

    Arguments: ClassVar[type[Arguments]] = SeedArguments

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Draw (n, dimension) numbers; no entity's vector depends on the others."""
        width = self.encoder.dimension
        assert width is not None
        matrix = np.empty((len(reading.entity_ids), width), np.float32)
        for row, entity_id in enumerate(reading.entity_ids):
            name = f"{self.arguments.seed}|{reading.entity_type}|{entity_id}".encode()
            seed = int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "little")
            generator = np.random.Generator(np.random.PCG64(seed))
            matrix[row] = generator.standard_normal(width, dtype=np.float32)
        progress(len(reading.entity_ids))
        return Vectors(list(reading.entity_ids), matrix)


class Shuffled(DeclaredLoader[SeedArguments]):
    """A real encoder's vectors dealt to the wrong entities: no entity keeps its own."""

    Arguments: ClassVar[type[Arguments]] = SeedArguments

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Deal the vectors of the base in a seeded derangement of the sorted ids.

        Raises:
            EncoderError: The base has one entity only, so that no other one can take its vector.
        """
        base = base_vectors(self.encoder, reading)
        n = len(base.entity_ids)
        if n == 1:
            raise EncoderError(f"{self.encoder.id}: one vector cannot be shuffled")
        order = np.argsort(np.array(base.entity_ids))
        # One cycle through a random order moves every entity, which a plain shuffle does not.
        cycle = order[np.random.default_rng(self.arguments.seed).permutation(n)]
        source = np.empty(n, np.int64)
        source[cycle] = np.roll(cycle, 1)
        progress(n)
        return Vectors(list(base.entity_ids), base.matrix[source], base.n_parts[source])


class Oracle(DeclaredLoader[Arguments]):
    """An entity's own labels side by side: the best that any vector could tell a probe.

    A column whose values are only 0 and 1 stays as it is. Any other is standardised over the
    entities that have it, and beside it stand the normal scores of its ranks, for protocols that
    predict these. What an entity has no value for is 0.
    """

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Lay labels side by side: (n, columns), columns in the order of their names.

        Raises:
            EncoderError: There are no labels to read.
        """
        labels = reading.labels
        if labels is None or labels.is_empty():
            raise EncoderError(f"{self.encoder.id}: there are no labels yet; run curate first")
        wanted = pl.DataFrame(
            {
                "entity_id": list(reading.entity_ids),
                "row": np.arange(len(reading.entity_ids)),
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
        columns = pl.DataFrame({"column": names, "place": np.arange(len(names))})
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
        matrix[cells["row"].to_numpy(), cells["place"].to_numpy()] = cells["value"].to_numpy()
        progress(wanted.height)
        return Vectors(list(reading.entity_ids), matrix)


def _normal_scores(values: pl.Series) -> pl.Series:
    return pl.Series(normal_scores(values.to_numpy()))


def base_vectors(encoder: Encoder, reading: LoaderInput, base_id: str | None = None) -> Vectors:
    """The finished vectors of a base encoder.

    Raises:
        EncoderError: The reading gives no access to other encoders' vectors.
        EncoderUnavailable: They are none.
    """
    wanted = base_id or encoder.bases(reading.entity_type)[0]
    if reading.vectors is None:
        raise EncoderError(f"{encoder.id}: reads the vectors of {wanted!r}, which were not given")
    vectors = reading.vectors(wanted)
    if not vectors.entity_ids:
        raise EncoderUnavailable(
            f"{encoder.id}: {wanted!r} has no {reading.entity_type} vectors; embed it first"
        )
    return vectors
