"""Loaders that measure how well an entity is studied, as baselines for study bias."""

import math
from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from genebench.encoders.declaration import Arguments
from genebench.encoders.identifier_mapping import Namespace, map_identifiers
from genebench.encoders.loader import DeclaredLoader, LoaderInput, Vectors
from genebench.encoders.loaders.bag_of_words import joined_texts
from genebench.errors import EncoderError
from genebench.sources.readers.containers import FileError, open_containers


class RowCountArguments(Arguments):
    """Arguments of `row_count`.

    Args:
        namespace: Namespace of the identifiers.
        key: Column of the identifiers.
        distinct: Column whose distinct values are counted, instead of rows.
        numbers: Column of integers that are summed, instead of counting rows.
        where: Columns and the values that they must have; other rows are ignored.
    """

    namespace: Namespace = "entrez"
    key: str
    distinct: str | None = None
    numbers: str | None = None
    where: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_exclusive(self) -> Self:
        if self.distinct and self.numbers:
            raise ValueError("`distinct` and `numbers` exclude each other; remove one of them")
        return self


class RowCount(DeclaredLoader[RowCountArguments]):
    """log(1 + number of rows of a file for the entity), such as publications or annotations.

    An entity without a row has the count 0. With a second file `before`, the count is that of the
    first file minus that of the second, at least 0.
    """

    Arguments: ClassVar[type[Arguments]] = RowCountArguments

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Count rows: (n, 1).

        Raises:
            EncoderError: The file is missing or lacks a declared column, a value is not an
                integer, or no identifier maps to an entity.
        """
        totals, counts = self._totals("table", inputs)
        if "before" in self.encoder.files:
            before, _ = self._totals("before", inputs)
            totals = {name: max(0, n - before[name]) for name, n in totals.items()}
        progress(len(totals))
        matrix = np.log1p(np.array(list(totals.values()), dtype=np.float32))[:, None]
        return Vectors(list(totals), matrix, counts=counts)

    def _totals(self, role: str, inputs: LoaderInput) -> tuple[dict[str, int], dict[str, int]]:
        """Count the rows of one file by entity; also return how its identifiers were mapped."""
        from genebench.encoders.weights.locations import find_weight_file

        path = find_weight_file(self.encoder, self.context, role)
        separator = "," if ".csv" in path.suffixes else "\t"
        try:
            (content,) = open_containers(path.read_bytes())
            frame = pl.read_csv(content, separator=separator, infer_schema=False, quote_char=None)
        except (OSError, pl.exceptions.PolarsError, FileError) as error:
            raise EncoderError(
                f"{path}: cannot be read as a table: {error}; correct the file"
            ) from error
        counted = self.arguments.distinct or self.arguments.numbers
        wanted = {self.arguments.key, *self.arguments.where, *([counted] if counted else [])}
        absent = sorted(wanted - set(frame.columns))
        if absent:
            raise EncoderError(
                f"{path}: has no column {absent[0]!r}; its columns are {', '.join(frame.columns)}"
            )
        for column, value in self.arguments.where.items():
            frame = frame.filter(pl.col(column) == value)
        frame = frame.filter(pl.col(self.arguments.key).is_not_null())
        try:
            counts = frame.group_by(self.arguments.key).agg(self._count().alias("n"))
        except pl.exceptions.InvalidOperationError as error:
            raise EncoderError(
                f"{path}: column {self.arguments.numbers!r} has values that are not integers: "
                f"{error}"
            ) from error
        counts = counts.sort(self.arguments.key)
        names = counts[self.arguments.key].to_list()
        mapped = map_identifiers(names, self.arguments.namespace, inputs, self.encoder.id)
        totals = dict.fromkeys(inputs.entity_ids, 0)
        for row, entity_id in zip(mapped.rows, mapped.entity_ids, strict=True):
            totals[entity_id] += counts["n"][int(row)]
        return totals, mapped.counts

    def _count(self) -> pl.Expr:
        if self.arguments.numbers:
            return pl.col(self.arguments.numbers).cast(pl.Int64).sum()
        return pl.col(self.arguments.distinct).n_unique() if self.arguments.distinct else pl.len()


class TextLength(DeclaredLoader[Arguments]):
    """log(1 + number of characters) of an entity's text; well-studied genes have longer texts."""

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Count characters: (n, 1)."""
        texts = joined_texts(self.encoder, inputs)
        matrix = np.array([[math.log1p(len(text))] for text in texts], dtype=np.float32)
        progress(len(texts))
        return Vectors(list(inputs.entity_ids), matrix.reshape(len(texts), 1))
