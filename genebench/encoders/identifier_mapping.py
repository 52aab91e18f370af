"""Maps the identifiers in a file to entities, averages rows of one entity, and counts losses."""

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
class MappedRows:
    """Rows of a file with the entity of each.

    Args:
        rows: (m,) row numbers of the file, grouped by entity.
        entity_ids: (m,) entity of each row.
        counts: Numbers of rows: n_rows (all), n_unmapped, n_ambiguous, n_outside (entities that
            were not requested), n_outranked (the entity has a row with a better status).
        unmapped: (n_unmapped,) row numbers of identifiers that match no entity.
        ambiguous: (n_ambiguous,) row numbers of identifiers that match several entities.
    """

    rows: npt.NDArray[np.int64]
    entity_ids: list[str]
    counts: dict[str, int]
    unmapped: npt.NDArray[np.int64]
    ambiguous: npt.NDArray[np.int64]


def map_identifiers(
    identifiers: Sequence[str], namespace: Namespace, inputs: LoaderInput, encoder_id: str
) -> MappedRows:
    """Map the identifiers of the rows of a file to entities.

    If an identifier matches several entities, the one with the best status wins (approved, then
    previous, then alias); a tie is ambiguous and maps to none. If several rows map to one entity,
    those with the best status are kept. Version suffixes of Ensembl ids and isoform suffixes of
    UniProt ids are removed.

    Raises:
        EncoderError: No identifier maps to an entity, usually because the namespace is wrong.
    """
    names = strip_suffixes(identifiers, namespace)
    rows = pl.DataFrame(
        {"row": np.arange(len(names)), "identifier": names},
        schema={"row": pl.Int64, "identifier": pl.String},
    )
    known = known_identifiers(namespace, inputs)
    best = (
        known.filter(pl.col("rank") == pl.col("rank").min().over("identifier"))
        .with_columns(n=pl.col("entity_id").n_unique().over("identifier"))
        .unique(["identifier", "entity_id"])
    )
    joined = rows.join(best.filter(pl.col("n") == 1), on="identifier", how="left")
    is_ambiguous = pl.col("identifier").is_in(best.filter(pl.col("n") > 1)["identifier"].implode())
    ambiguous = rows.filter(is_ambiguous)["row"].to_numpy()
    found = joined.filter(pl.col("entity_id").is_not_null())
    if rows.height and found.is_empty():
        examples = ", ".join(repr(name) for name in names[:3])
        raise EncoderError(
            f"{encoder_id}: none of {rows.height} identifiers is a known {namespace} "
            f"(first: {examples}); correct `with.namespace` or `with.key`"
        )
    requested = found.filter(pl.col("entity_id").is_in(list(inputs.entity_ids)))
    kept = requested.filter(pl.col("rank") == pl.col("rank").min().over("entity_id")).sort(
        "entity_id", "row"
    )
    counts = {
        "n_rows": rows.height,
        "n_unmapped": rows.height - found.height - len(ambiguous),
        "n_ambiguous": len(ambiguous),
        "n_outside": found.height - requested.height,
        "n_outranked": requested.height - kept.height,
    }
    unmapped = np.setdiff1d(rows["row"], np.union1d(found["row"], ambiguous))
    return MappedRows(
        kept["row"].to_numpy(), kept["entity_id"].to_list(), counts, unmapped, ambiguous
    )


def strip_suffixes(identifiers: Sequence[str], namespace: Namespace) -> list[str]:
    """Remove white space, versions of Ensembl ids and isoforms of UniProt accessions."""
    suffix = SUFFIXES.get(namespace)
    stripped = (name.strip() for name in identifiers)
    return [suffix.sub("", name) if suffix else name for name in stripped]


def known_identifiers(namespace: Namespace, inputs: LoaderInput) -> pl.DataFrame:
    """List the identifiers of a namespace: identifier, entity_id and rank (0 is approved)."""
    schema = pl.Schema({"identifier": pl.String, "entity_id": pl.String, "rank": pl.Int32})
    prefix = "" if namespace == "entity" else CURIE_PREFIXES.get(namespace)
    from_ids = pl.DataFrame(schema=schema)
    if prefix is not None:
        entity_ids = pl.Series("entity_id", [*inputs.entity_ids, *inputs.known_ids], pl.String)
        ids = entity_ids.filter(entity_ids.str.starts_with(prefix)).unique()
        forms = [ids, ids.str.strip_prefix(prefix)]
        forms += [ids.str.to_uppercase()] if namespace == "hgnc" else []
        from_ids = pl.concat(
            pl.DataFrame([form.alias("identifier"), ids]).with_columns(rank=pl.lit(0, pl.Int32))
            for form in forms
        ).unique()
    if inputs.xrefs is None or namespace == "entity":
        return from_ids
    ranked = pl.col("status").replace_strict(STATUS_RANKS, default=0, return_dtype=pl.Int32)
    from_xrefs = inputs.xrefs.filter(pl.col("namespace") == namespace).select(
        "identifier", "entity_id", ranked.alias("rank")
    )
    return pl.concat([from_ids, from_xrefs.cast(schema)]).unique()


def average_rows(mapped: MappedRows, matrix: npt.NDArray[np.float32]) -> Vectors:
    """Select the mapped rows of a matrix and average the rows of each entity.

    Args:
        mapped: Result of `map_identifiers`.
        matrix: (rows, d) numbers of the whole file.

    Returns:
        The vectors, sorted by entity id; n_parts is the number of averaged rows.
    """
    if not mapped.entity_ids:
        return Vectors([], np.zeros((0, matrix.shape[1]), np.float32), counts=mapped.counts)
    ids = np.array(mapped.entity_ids)
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    n_parts = np.diff(np.r_[starts, len(ids)])
    selected = matrix[mapped.rows]
    if len(starts) < len(ids):
        sums = np.add.reduceat(selected.astype(np.float64), starts, axis=0)
        selected = (sums / n_parts[:, None]).astype(np.float32)
    n_averaged = int((n_parts > 1).sum())
    counts = mapped.counts | {"n_averaged": n_averaged}
    return Vectors(ids[starts].tolist(), selected, n_parts.astype(np.int32), counts)
