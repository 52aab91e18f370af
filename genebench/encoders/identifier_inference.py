"""Infers the namespace of identifiers, and maps a column of mixed identifiers to entities."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.encoders.identifier_mapping import (
    MappedRows,
    Namespace,
    average_rows,
    known_identifiers,
    map_identifiers,
    strip_suffixes,
)
from genebench.encoders.loader import LoaderInput, Vectors
from genebench.errors import EncoderError

GENE_NAMESPACES: tuple[Namespace, ...] = ("symbol", "ensembl", "entrez", "uniprot", "hgnc")
# The second best namespace is a near-tie if it resolves this share of what the best resolves.
NEAR_TIE = 0.8
# Two namespaces differ if they resolve at least this share of identifiers to other entities.
MIN_DISAGREEMENT = 0.05
N_SHOWN = 5


@dataclass(frozen=True)
class IdentifierReport:
    """How the identifiers of a file were mapped to entities.

    Attributes:
        namespaces: Namespace to the number of rows that it mapped; the first is the main one.
        n_rows: Rows of the file.
        n_entities: Entities with a vector.
        n_averaged: Entities whose vector is the mean of several rows.
        n_outranked: Rows left out because another row of the entity has a better identifier (its
            approved symbol in place of an alias).
        n_outside: Rows of entities that no task samples.
        ambiguous: Identifiers that match several entities; their rows are left out.
        unknown: Identifiers that match no entity; their rows are left out.
    """

    namespaces: dict[str, int]
    n_rows: int
    n_entities: int
    n_averaged: int
    n_outranked: int
    n_outside: int
    ambiguous: tuple[str, ...]
    unknown: tuple[str, ...]

    def lines(self) -> list[str]:
        """Describe the mapping in a few lines, with examples of what was left out."""
        main, *others = self.namespaces.items()
        mixed = "".join(f", {n:,} as {name}" for name, n in others)
        found = [f"{self.n_rows:,} identifiers: {main[1]:,} read as {main[0]}{mixed}"]
        if self.n_averaged:
            found.append(f"{self.n_averaged:,} genes have several rows; their mean is used")
        if self.n_outranked:
            found.append(
                f"{self.n_outranked:,} rows left out: another row has the gene's approved name"
            )
        for text, names in (("ambiguous", self.ambiguous), ("unknown", self.unknown)):
            if names:
                more = ", …" if len(names) > N_SHOWN else ""
                shown = ", ".join(repr(name) for name in names[:N_SHOWN])
                found.append(f"{len(names):,} {text} and left out: {shown}{more}")
        return found


def infer_namespace(names: Sequence[str], inputs: LoaderInput) -> Namespace:
    """Choose the namespace that resolves most of the distinct identifiers.

    Args:
        names: The identifiers of a file.
        inputs: The entities and their external identifiers.

    Raises:
        EncoderError: No namespace resolves any identifier; or two resolve nearly equally many, to
            different entities.
    """
    distinct = pl.Series("name", list(dict.fromkeys(names)), dtype=pl.String)
    matched: dict[Namespace, pl.DataFrame] = {}
    for namespace in GENE_NAMESPACES:
        stripped = pl.Series("identifier", strip_suffixes(distinct.to_list(), namespace))
        known = known_identifiers(namespace, inputs).select("identifier", "entity_id")
        if namespace == "symbol":
            # Upper case, so that a column of lower-case symbols is recognised.
            stripped = stripped.str.to_uppercase()
            known = known.with_columns(pl.col("identifier").str.to_uppercase())
        rows = pl.DataFrame({"name": distinct, "identifier": stripped})
        matched[namespace] = rows.join(known.unique(), on="identifier")
    ordered = sorted(matched, key=lambda one: -matched[one]["name"].n_unique())
    first, second = (matched[name] for name in ordered[:2])
    n_first, n_second = first["name"].n_unique(), second["name"].n_unique()
    if not n_first:
        shown = ", ".join(repr(name) for name in distinct.head(N_SHOWN))
        raise EncoderError(
            f"none of the {len(distinct):,} identifiers ({shown}) is a known "
            f"{', '.join(GENE_NAMESPACES)}; name the column of identifiers with --id-column"
        )
    if n_second >= NEAR_TIE * n_first:
        same = first.join(second, on=["name", "entity_id"], how="semi")["name"].n_unique()
        if same < (1 - MIN_DISAGREEMENT) * n_second:
            raise EncoderError(
                f"{n_first:,} of {len(distinct):,} identifiers are known as {ordered[0]} and "
                f"{n_second:,} as {ordered[1]}, for different genes; choose one with "
                f"--ids {ordered[0]} or --ids {ordered[1]}"
            )
    return ordered[0]


def map_vectors(
    names: Sequence[str],
    matrix: npt.NDArray[np.float32],
    ids: str,
    inputs: LoaderInput,
) -> tuple[Vectors, IdentifierReport]:
    """Map the rows of a file to entities and average the rows of each entity.

    Rows that the main namespace does not resolve are tried in the others; symbols are then compared
    in upper case too. An entity that the main namespace found takes no further rows.

    Args:
        names: (rows,) identifiers.
        matrix: (rows, d) numbers.
        ids: A namespace, or `auto` to infer it.
        inputs: The entities and their external identifiers.

    Raises:
        EncoderError: The namespace cannot be inferred, or no identifier maps to an entity.
    """
    main = infer_namespace(names, inputs) if ids == "auto" else _namespace(ids)
    cleaned = [name.strip() for name in names]
    others = [name for name in GENE_NAMESPACES if name != main] if ids == "auto" else []
    mapped: MappedRows | None = None
    namespaces: dict[str, int] = {}
    rows, entity_ids = np.zeros(0, np.int64), list[str]()
    left = np.arange(len(cleaned))
    outside = outranked = 0
    ambiguous: list[str] = []
    attempts = [(main, False), ("symbol", True), *((name, False) for name in others)]
    for namespace, is_upper in attempts:
        if not len(left):
            break
        tried = [cleaned[row] for row in left]
        if is_upper:
            if ids not in ("auto", "symbol"):
                continue
            tried = _approved_case(tried, inputs)
        try:
            mapped = map_identifiers(tried, namespace, inputs, "")
        except EncoderError:
            continue
        is_new = ~np.isin(mapped.entity_ids, entity_ids)
        n_found = len(left) - len(mapped.unmapped) - len(mapped.ambiguous)
        if n_found:
            namespaces[namespace] = namespaces.get(namespace, 0) + n_found
        rows = np.concatenate([rows, left[mapped.rows[is_new]]])
        entity_ids += np.array(mapped.entity_ids, dtype=object)[is_new].tolist()
        outside += mapped.counts["n_outside"]
        outranked += mapped.counts["n_outranked"] + int((~is_new).sum())
        ambiguous += [tried[row] for row in mapped.ambiguous]
        left = left[mapped.unmapped]
    if mapped is None or not entity_ids:
        shown = ", ".join(repr(name) for name in cleaned[:N_SHOWN])
        raise EncoderError(
            f"none of the {len(cleaned):,} identifiers ({shown}) is a known {main} of a gene in "
            "the tasks; choose another namespace with --ids"
        )
    order = np.lexsort((rows, np.array(entity_ids)))
    whole = replace(mapped, rows=rows[order], entity_ids=[entity_ids[i] for i in order], counts={})
    vectors = average_rows(whole, matrix)
    report = IdentifierReport(
        namespaces=namespaces,
        n_rows=len(cleaned),
        n_entities=len(vectors.entity_ids),
        n_averaged=int(vectors.counts["n_averaged"]),
        n_outranked=outranked,
        n_outside=outside,
        ambiguous=tuple(dict.fromkeys(ambiguous)),
        unknown=tuple(dict.fromkeys(cleaned[row] for row in left)),
    )
    return vectors, report


def _namespace(ids: str) -> Namespace:
    for namespace in GENE_NAMESPACES:
        if ids == namespace:
            return namespace
    raise EncoderError(
        f"unknown namespace {ids!r}; choose one of auto, {', '.join(GENE_NAMESPACES)}"
    )


def _approved_case(names: Sequence[str], inputs: LoaderInput) -> list[str]:
    """Replace each name by the approved symbol that equals it in upper case, if one does."""
    known = known_identifiers("symbol", inputs).filter(pl.col("rank") == 0)
    of_upper = {name.upper(): name for name in known["identifier"]}
    return [of_upper.get(name.upper(), name) for name in names]
