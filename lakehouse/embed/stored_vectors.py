"""Reads the stored vectors of an encoder as a matrix."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.encoders.loader import Vectors
from genebench.errors import LakeError
from lakehouse.tables.delta import Delta
from lakehouse.tables.vector_pages import read_lists
from lakehouse.tables.vectors import to_matrix


def read_vectors(delta: Delta, encoder_id: str, entity_type: str | None = None) -> Vectors:
    """Read the stored vectors of an encoder, sorted by entity id; see `read_stored_matrix`."""
    rows, matrix = read_stored_matrix(delta, encoder_id, entity_type)
    order = rows["entity_id"].arg_sort().to_numpy()
    ids = rows["entity_id"].gather(order).to_list()
    return Vectors(ids, matrix[order], rows["n_parts"].to_numpy()[order])


def read_complete_vectors(delta: Delta, encoder_id: str) -> Vectors:
    """Read the stored vectors of an encoder, and require that they are complete.

    Raises:
        LakeError: The lake holds no vectors of the encoder, or its embedding was interrupted.
    """
    incomplete = (pl.col("encoder_id") == encoder_id) & ~pl.col("is_complete")
    if not delta.scan("silver.encoders").filter(incomplete).collect().is_empty():
        raise LakeError(f"{encoder_id}: {describe_interrupted(encoder_id)}")
    return read_vectors(delta, encoder_id)


def describe_interrupted(encoder_id: str) -> str:
    """Describe why an incomplete encoder is not used, and the command that completes it."""
    return f"its embedding was interrupted; run `genebench embed {encoder_id}` to resume it"


def read_stored_matrix(
    delta: Delta, encoder_id: str, entity_type: str | None = None
) -> tuple[pl.DataFrame, npt.NDArray[np.float32]]:
    """Read the stored vectors of an encoder as a matrix, in the order in which they are stored.

    If entity types have vectors of different length, shorter vectors are padded with zeros, which
    does not change the predictions of a linear probe.

    Returns:
        A frame with entity_id, entity_type and n_parts, and the (entities, features) float32
        matrix of the same rows.

    Raises:
        LakeError: The lake holds no vectors of the encoder.
    """
    found = _read_pages(delta, encoder_id)
    if found is None or found[0].select(_ENTITY).is_duplicated().any():
        return _read_rows(delta, encoder_id, entity_type)
    rows, matrix = found
    if entity_type is None or set(rows["entity_type"].unique()) == {entity_type}:
        return found
    of_type = rows["entity_type"] == entity_type
    return rows.filter(of_type), matrix[of_type.to_numpy()]


def keep_one_vector(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep one vector of each entity and encoder, that with the smallest digest.

    Two runs that embed with one encoder at once, without the writer lock, append both vectors of an
    entity. The next `genebench embed` removes one.

    Args:
        rows: Rows of `silver.embeddings`: entity_type, entity_id, vector_digest, and encoder_id
            where they are of several encoders.
    """
    key = [name for name in ("encoder_id", *_ENTITY) if name in rows.columns]
    if rows.select(key).n_unique() == rows.height:
        return rows
    return rows.sort("vector_digest").unique(key, keep="first", maintain_order=True)


_ENTITY = ["entity_type", "entity_id"]
_ID_COLUMNS = ["entity_id", "entity_type", "n_parts"]


def _read_pages(
    delta: Delta, encoder_id: str
) -> tuple[pl.DataFrame, npt.NDArray[np.float32]] | None:
    """Read the vectors from the data pages of local files; None if the files do not allow it."""
    files = delta.partition_files("silver.embeddings", {"encoder_id": encoder_id})
    if not files:
        return None
    with ThreadPoolExecutor(1) as executor:
        reading = executor.submit(
            pl.read_parquet, files, columns=_ID_COLUMNS, glob=False, hive_partitioning=False
        )
        matrix = read_lists(files, "vector")
    return None if matrix is None else (reading.result(), matrix)


def _read_rows(
    delta: Delta, encoder_id: str, entity_type: str | None
) -> tuple[pl.DataFrame, npt.NDArray[np.float32]]:
    """Read the vectors with polars: any storage, any writer, any mix of lengths."""
    rows = delta.scan("silver.embeddings").filter(pl.col("encoder_id") == encoder_id)
    if entity_type is not None:
        rows = rows.filter(pl.col("entity_type") == entity_type)
    frame = rows.select(*_ID_COLUMNS, "vector", "dimension", "vector_digest").collect()
    frame = keep_one_vector(frame)
    if entity_type is None and frame.is_empty():
        raise LakeError(
            f"the lake {delta.storage.root} holds no vectors of {encoder_id!r}; run "
            f"`genebench embed {encoder_id}`"
        )
    width = frame["dimension"].max()
    if frame["dimension"].n_unique() > 1:
        frame = frame.with_columns(
            pl.concat_list(
                "vector", pl.lit(0.0, pl.Float32).repeat_by(width - pl.col("dimension"))
            ).alias("vector")
        )
    return frame.select(_ID_COLUMNS), to_matrix(frame["vector"])
