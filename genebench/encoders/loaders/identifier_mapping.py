"""From a file's identifiers to entities: what maps, what is averaged, what is counted as lost."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.encoders.loader import LoaderInput, Vectors
from genebench.errors import EncoderError

Namespace = Literal["symbol", "ensembl", "entrez", "uniprot", "hgnc", "efo", "entity"]
STATUS_RANKS = {"approved": 0, "previous": 1, "alias": 2}
CURIE_PREFIXES = {"hgnc": "hgnc:", "entrez": "ncbigene:"}
SUFFIXES = {"ensembl": re.compile(r"\.\d+$"), "uniprot": re.compile(r"-\d+$")}


@dataclass(frozen=True)
class Mapped:
    """Rows of a file and the entities that they belong to.

    Args:
        rows: (m,) rows of the file, those of one entity together.
        entity_ids: (m,) the entity of each.
        counts: n_rows, n_unmapped, n_ambiguous, n_outside (entities not asked for).
    """

    rows: npt.NDArray[np.int64]
    entity_ids: list[str]
    counts: dict[str, int]


def map_identifiers(
    identifiers: Sequence[str], namespace: Namespace, reading: LoaderInput, encoder_id: str
) -> Mapped:
    """Map the identifiers of a file's rows to entities.

    Of several entities for one identifier the one with the best status wins (approved before
    previous before alias); a tie is ambiguous and maps to none. Of several rows for one entity
    those with the best status stay. Version suffixes of Ensembl and isoforms of UniProt ids are
    cut off.

    Raises:
        EncoderError: Not one identifier maps, most likely because the namespace is another.
    """
    suffix = SUFFIXES.get(namespace)
    names = [suffix.sub("", name) if suffix else name for name in identifiers]
    rows = pl.DataFrame(
        {"row": np.arange(len(names)), "identifier": names},
        schema={"row": pl.Int64, "identifier": pl.String},
    )
    known = _known(namespace, reading)
    best = (
        known.filter(pl.col("rank") == pl.col("rank").min().over("identifier"))
        .with_columns(n=pl.col("entity_id").n_unique().over("identifier"))
        .unique(["identifier", "entity_id"])
    )
    joined = rows.join(best.filter(pl.col("n") == 1), on="identifier", how="left")
    n_ambiguous = rows.join(best.filter(pl.col("n") > 1), on="identifier", how="semi").height
    found = joined.filter(pl.col("entity_id").is_not_null())
    if rows.height and found.is_empty():
        shown = ", ".join(repr(name) for name in names[:3])
        raise EncoderError(
            f"{encoder_id}: none of {rows.height} identifiers is a known {namespace} "
            f"(first: {shown}); check the declared namespace and column"
        )
    asked = found.filter(pl.col("entity_id").is_in(list(reading.entity_ids)))
    kept = asked.filter(pl.col("rank") == pl.col("rank").min().over("entity_id")).sort(
        "entity_id", "row"
    )
    counts = {
        "n_rows": rows.height,
        "n_unmapped": rows.height - found.height - n_ambiguous,
        "n_ambiguous": n_ambiguous,
        "n_outside": found.height - asked.height,
        "n_outranked": asked.height - kept.height,
    }
    return Mapped(kept["row"].to_numpy(), kept["entity_id"].to_list(), counts)


def _known(namespace: Namespace, reading: LoaderInput) -> pl.DataFrame:
    schema = pl.Schema({"identifier": pl.String, "entity_id": pl.String, "rank": pl.Int32})
    prefix = "" if namespace == "entity" else CURIE_PREFIXES.get(namespace)
    own = pl.DataFrame(schema=schema)
    if prefix is not None:
        ids = [i for i in {*reading.entity_ids, *reading.known_ids} if i.startswith(prefix)]
        forms = [(i, i, 0) for i in ids] + [(i.removeprefix(prefix), i, 0) for i in ids]
        forms += [(i.upper(), i, 0) for i in ids if namespace == "hgnc"]
        own = pl.DataFrame(sorted(set(forms)), schema=schema, orient="row")
    if reading.xrefs is None or namespace == "entity":
        return own
    ranked = pl.col("status").replace_strict(STATUS_RANKS, default=0, return_dtype=pl.Int32)
    listed = reading.xrefs.filter(pl.col("namespace") == namespace).select(
        "identifier", "entity_id", ranked.alias("rank")
    )
    return pl.concat([own, listed.cast(schema)]).unique()


def gather(mapped: Mapped, matrix: npt.NDArray[np.float32]) -> Vectors:
    """Vectors of entities from rows of a table; rows of one entity are averaged.

    Args:
        mapped: From `map_identifiers`.
        matrix: (rows, d) of the whole file.

    Returns:
        Entities in the order of their ids; n_parts says how many rows each averages.
    """
    if not mapped.entity_ids:
        return Vectors([], np.zeros((0, matrix.shape[1]), np.float32), counts=mapped.counts)
    ids = np.array(mapped.entity_ids)
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    n_parts = np.diff(np.r_[starts, len(ids)])
    taken = matrix[mapped.rows]
    if len(starts) < len(ids):
        sums = np.add.reduceat(taken.astype(np.float64), starts, axis=0)
        taken = (sums / n_parts[:, None]).astype(np.float32)
    n_averaged = int((n_parts > 1).sum())
    counts = mapped.counts | {"n_averaged": n_averaged}
    return Vectors(ids[starts].tolist(), taken, n_parts.astype(np.int32), counts)
