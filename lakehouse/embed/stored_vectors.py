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
    """The stored vectors of an encoder, in the order of the entity ids; see `read_stored`."""
    rows, matrix = read_stored(delta, encoder_id, entity_type)
    order = rows["entity_id"].arg_sort().to_numpy()
    ids = rows["entity_id"].gather(order).to_list()
    return Vectors(ids, matrix[order], rows["n_parts"].to_numpy()[order])


def read_finished(delta: Delta, encoder_id: str) -> Vectors:
    """The stored vectors of an encoder that has all of them; see `read_vectors`.

    Raises:
        LakeError: The lake holds none, or only those that an interrupted run had made.
    """
    mine = (pl.col("encoder_id") == encoder_id) & ~pl.col("is_complete")
    if not delta.scan("silver.encoders").filter(mine).collect().is_empty():
        raise LakeError(f"{encoder_id}: {interrupted(encoder_id)}")
    return read_vectors(delta, encoder_id)


def interrupted(encoder_id: str) -> str:
    """Why an encoder that is not complete is not read."""
    return f"its embedding was interrupted; `genebench embed {encoder_id}` resumes it"


def read_stored(
    delta: Delta, encoder_id: str, entity_type: str | None = None
) -> tuple[pl.DataFrame, npt.NDArray[np.float32]]:
    """The stored vectors of an encoder as a matrix, in the order in which they are stored.

    Where entity types have vectors of different width, the narrower ones are filled with zeros,
    which a linear probe does not see.

    Returns:
        entity_id, entity_type and n_parts; beside them (entities, features) float32.

    Raises:
        LakeError: The lake holds no vector of the encoder at all.
    """
    found = _read_pages(delta, encoder_id)
    if found is None:
        return _read_rows(delta, encoder_id, entity_type)
    rows, matrix = found
    if entity_type is None or set(rows["entity_type"].unique()) == {entity_type}:
        return found
    of_type = rows["entity_type"] == entity_type
    return rows.filter(of_type), matrix[of_type.to_numpy()]


_BESIDE = ["entity_id", "entity_type", "n_parts"]


def _read_pages(
    delta: Delta, encoder_id: str
) -> tuple[pl.DataFrame, npt.NDArray[np.float32]] | None:
    """Vectors of one width whose files lie at hand as the lake wrote them; None for all others."""
    files = delta.plain_files("silver.embeddings", {"encoder_id": encoder_id})
    if not files:
        return None
    with ThreadPoolExecutor(1) as aside:
        reading = aside.submit(
            pl.read_parquet, files, columns=_BESIDE, glob=False, hive_partitioning=False
        )
        matrix = read_lists(files, "vector")
    return None if matrix is None else (reading.result(), matrix)


def _read_rows(
    delta: Delta, encoder_id: str, entity_type: str | None
) -> tuple[pl.DataFrame, npt.NDArray[np.float32]]:
    """Vectors of all widths, wherever they are and whoever wrote them."""
    rows = delta.scan("silver.embeddings").filter(pl.col("encoder_id") == encoder_id)
    if entity_type is not None:
        rows = rows.filter(pl.col("entity_type") == entity_type)
    frame = rows.select(*_BESIDE, "vector", "dimension").collect()
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
    return frame.select(_BESIDE), to_matrix(frame["vector"])
