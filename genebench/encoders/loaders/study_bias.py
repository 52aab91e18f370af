"""How much is known of an entity, as its only feature: what a probe reaches by study bias alone."""

import math
from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from genebench.encoders.declaration import Arguments
from genebench.encoders.loader import DeclaredLoader, LoaderInput, Vectors
from genebench.encoders.loaders.identifier_mapping import Namespace, map_identifiers
from genebench.encoders.loaders.words import joined_texts
from genebench.errors import EncoderError


class RowCountArguments(Arguments):
    """Arguments of `row_count`.

    Args:
        namespace: What the identifiers are.
        key: The column with the identifiers.
        distinct: Count the different values of this column rather than rows.
        numbers: Add up the numbers of this column rather than counting rows.
        where: Only rows whose columns have these values.
    """

    namespace: Namespace = "entrez"
    key: str
    distinct: str | None = None
    numbers: str | None = None
    where: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _counts_one_thing(self) -> Self:
        if self.distinct and self.numbers:
            raise ValueError("either distinct values are counted or numbers added, not both")
        return self


class RowCount(DeclaredLoader[RowCountArguments]):
    """log(1 + rows of a file that name the entity): publications, annotations, interactions.

    An entity that the file does not name has a count of 0, not a missing vector.
    """

    Arguments: ClassVar[type[Arguments]] = RowCountArguments

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Count rows: (n, 1).

        Raises:
            EncoderError: The file is missing or lacks a declared column; a number is none; or no
                identifier maps.
        """
        from genebench.encoders.weights.locations import find_file

        path = find_file(self.encoder, self.place, "table")
        separator = "," if ".csv" in path.suffixes else "\t"
        try:
            frame = pl.read_csv(path, separator=separator, infer_schema=False, quote_char=None)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise EncoderError(f"{path}: cannot be read as a table: {error}") from error
        counted = self.arguments.distinct or self.arguments.numbers
        wanted = {self.arguments.key, *self.arguments.where, *([counted] if counted else [])}
        absent = sorted(wanted - set(frame.columns))
        if absent:
            raise EncoderError(f"{path}: has no column {absent[0]!r}: {', '.join(frame.columns)}")
        for column, value in self.arguments.where.items():
            frame = frame.filter(pl.col(column) == value)
        frame = frame.filter(pl.col(self.arguments.key).is_not_null())
        try:
            counts = frame.group_by(self.arguments.key).agg(self._count().alias("n"))
        except pl.exceptions.InvalidOperationError as error:
            raise EncoderError(
                f"{path}: column {self.arguments.numbers!r} holds something else than whole "
                f"numbers: {error}"
            ) from error
        counts = counts.sort(self.arguments.key)
        names = counts[self.arguments.key].to_list()
        mapped = map_identifiers(names, self.arguments.namespace, reading, self.encoder.id)
        totals = dict.fromkeys(reading.entity_ids, 0)
        for row, entity_id in zip(mapped.rows, mapped.entity_ids, strict=True):
            totals[entity_id] += counts["n"][int(row)]
        progress(len(totals))
        matrix = np.log1p(np.array(list(totals.values()), dtype=np.float32))[:, None]
        return Vectors(list(totals), matrix, counts=mapped.counts)

    def _count(self) -> pl.Expr:
        if self.arguments.numbers:
            return pl.col(self.arguments.numbers).cast(pl.Int64).sum()
        return pl.col(self.arguments.distinct).n_unique() if self.arguments.distinct else pl.len()


class TextLength(DeclaredLoader[Arguments]):
    """log(1 + characters) of an entity's text: well-studied genes have long descriptions."""

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Measure texts: (n, 1)."""
        texts = joined_texts(self.encoder, reading)
        matrix = np.array([[math.log1p(len(text))] for text in texts], dtype=np.float32)
        progress(len(texts))
        return Vectors(list(reading.entity_ids), matrix.reshape(len(texts), 1))
