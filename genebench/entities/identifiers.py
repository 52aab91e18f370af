"""Resolves external identifiers, such as symbols and Ensembl ids, to entities of the catalogue.

Rules:

- An approved identifier takes precedence over a previous one, and a previous one over an alias.
- An identifier with several entities at its best status is ambiguous and resolves to none.
- Identifiers are compared exactly. With `ignore_case`, identifiers without a match are compared
  again in upper case, by the same two rules.
- Surrounding white space, the version of an Ensembl id (`ENSG00000012048.23`), the isoform of a
  UniProt accession (`P38398-2`) and the prefix `HGNC:` are removed first.
"""

from dataclasses import dataclass, field

import polars as pl

from genebench.errors import UnresolvedEntities

APPROVED, PREVIOUS, ALIAS = "approved", "previous", "alias"
STATUSES = (APPROVED, PREVIOUS, ALIAS)
N_EXAMPLES = 20


def clean_identifier(column: str, namespace: str) -> pl.Expr:
    """Strip white space, versions, isoforms and prefixes from a column of identifiers."""
    text = pl.col(column).str.strip_chars()
    if namespace == "ensembl":
        return text.str.replace(r"\.\d+$", "")
    if namespace == "uniprot":
        return text.str.replace(r"-\d+$", "")
    if namespace == "hgnc":
        return text.str.strip_prefix("HGNC:")
    return text


def mark_ambiguous(xrefs: pl.DataFrame) -> pl.DataFrame:
    """Keep the best status of each xref and mark ambiguous identifiers.

    Args:
        xrefs: entity_type, namespace, identifier, entity_id, status.

    Returns:
        One row for each (entity_type, namespace, identifier, entity_id), with `is_ambiguous`: the
        identifier has more than one entity at its best status.
    """
    identifier = ["entity_type", "namespace", "identifier"]
    status = pl.col("status").cast(pl.Enum(STATUSES))
    best = (
        xrefs.group_by([*identifier, "entity_id"])
        .agg(status.to_physical().min().alias("rank"))
        .with_columns(pl.col("rank").min().over(identifier).alias("best"))
    )
    n_candidates = (pl.col("rank") == pl.col("best")).sum().over(identifier)
    return best.with_columns(
        pl.col("rank")
        .replace_strict(dict(enumerate(STATUSES)), return_dtype=pl.String)
        .alias("status"),
        (n_candidates > 1).alias("is_ambiguous"),
    ).drop("rank", "best")


@dataclass(frozen=True)
class Resolution:
    """The entities of a column of identifiers, with counts and examples of unresolved ones.

    Attributes:
        entity_ids: (rows,) aligned with the identifiers; null where one does not resolve.
        n: Number of identifiers, nulls excluded.
        n_resolved: Number of identifiers that resolve to one entity.
        n_ambiguous: Number of ambiguous identifiers.
        n_unresolved: Number of identifiers without a match.
        unresolved_examples: Up to 20 distinct identifiers without a match, most frequent first.
        ambiguous_examples: Up to 20 distinct ambiguous identifiers, most frequent first.
        is_ambiguous: (rows,) aligned with the identifiers; null where one has no match.
    """

    entity_ids: pl.Series
    n: int
    n_resolved: int
    n_ambiguous: int
    n_unresolved: int
    unresolved_examples: list[str] = field(default_factory=list)
    ambiguous_examples: list[str] = field(default_factory=list)
    is_ambiguous: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.Boolean))

    @property
    def lost_share(self) -> float:
        """Share of identifiers that do not resolve, including ambiguous ones; 0 without any."""
        return (self.n - self.n_resolved) / self.n if self.n else 0.0

    def require_resolved(self, max_lost_share: float, where: str) -> pl.Series:
        """Return the entity ids if enough identifiers resolve.

        Args:
            max_lost_share: Largest accepted `lost_share`.
            where: Task, file and column; the error message begins with it.

        Raises:
            UnresolvedEntities: `lost_share` is larger than `max_lost_share`.
        """
        if self.lost_share <= max_lost_share:
            return self.entity_ids
        examples = (self.unresolved_examples + self.ambiguous_examples)[:N_EXAMPLES]
        raise UnresolvedEntities(
            f"{where}: {self.lost_share:.1%} of {self.n} identifiers match no entity of the "
            f"catalogue ({self.n_unresolved} unknown, {self.n_ambiguous} ambiguous), more than the "
            f"{max_lost_share:.1%} allowed: {', '.join(examples)}; check the namespace and the "
            "catalogue's version, or raise `max_unresolved` of the task"
        )


class Resolver:
    """Resolves external identifiers to entities of one type.

    Args:
        xrefs: Rows of `silver.xrefs`.
        entity_type: The entity type whose rows are used.

    Attributes:
        namespaces: The namespaces whose identifiers can be resolved.
    """

    def __init__(self, xrefs: pl.DataFrame, entity_type: str = "gene") -> None:
        self._xrefs = xrefs.filter(pl.col("entity_type") == entity_type)
        self._lookup_tables: dict[tuple[str, bool], pl.DataFrame] = {}
        self.namespaces: list[str] = self._xrefs["namespace"].unique().sort().to_list()

    def resolve(
        self, identifiers: pl.Series, namespace: str, ignore_case: bool = False
    ) -> Resolution:
        """Resolve a column of identifiers and count those that do not resolve.

        Args:
            identifiers: (rows,) strings, nulls allowed.
            namespace: `symbol`, `ensembl`, `entrez`, `uniprot`, `hgnc`; `efo` for diseases.
            ignore_case: Whether identifiers without a match are tried again in upper case.

        Raises:
            UnresolvedEntities: The catalogue has no identifiers of this namespace.
        """
        if namespace not in self.namespaces:
            raise UnresolvedEntities(
                f"the catalogue has no identifiers of the namespace {namespace!r}; "
                f"it has {', '.join(self.namespaces)}"
            )
        given = identifiers.cast(pl.String).to_frame("given")
        cleaned = given.with_columns(clean_identifier("given", namespace).alias("identifier"))
        found = cleaned.join(
            self._lookup_table(namespace), on="identifier", how="left", maintain_order="left"
        )
        if ignore_case:
            found = (
                found.with_columns(pl.col("identifier").str.to_uppercase().alias("upper_case"))
                .join(
                    self._lookup_table(namespace, in_upper_case=True),
                    left_on="upper_case",
                    right_on="identifier",
                    how="left",
                    maintain_order="left",
                    suffix="_upper_case",
                )
                .with_columns(
                    pl.when(pl.col("is_ambiguous").is_null())
                    .then(f"{name}_upper_case")
                    .otherwise(name)
                    .alias(name)
                    for name in ("entity_id", "is_ambiguous")
                )
            )
        return _resolution(found)

    def _lookup_table(self, namespace: str, in_upper_case: bool = False) -> pl.DataFrame:
        """One row for each identifier: its entity, or null where it is ambiguous."""
        key = (namespace, in_upper_case)
        if key not in self._lookup_tables:
            rows = self._xrefs.filter(pl.col("namespace") == namespace)
            if in_upper_case:
                rows = mark_ambiguous(rows.with_columns(pl.col("identifier").str.to_uppercase()))
            rank = pl.col("status").cast(pl.Enum(STATUSES)).to_physical()
            self._lookup_tables[key] = (
                rows.sort(rank)
                .unique("identifier", keep="first", maintain_order=True)
                .select(
                    "identifier",
                    pl.when(~pl.col("is_ambiguous")).then("entity_id").alias("entity_id"),
                    "is_ambiguous",
                )
            )
        return self._lookup_tables[key]


def _resolution(found: pl.DataFrame) -> Resolution:
    given = found.filter(pl.col("given").is_not_null())
    unknown = given.filter(pl.col("is_ambiguous").is_null())["given"]
    ambiguous = given.filter(pl.col("is_ambiguous"))["given"]
    return Resolution(
        entity_ids=found["entity_id"],
        n=given.height,
        n_resolved=given.height - len(unknown) - len(ambiguous),
        n_ambiguous=len(ambiguous),
        n_unresolved=len(unknown),
        unresolved_examples=_most_frequent(unknown),
        ambiguous_examples=_most_frequent(ambiguous),
        is_ambiguous=found["is_ambiguous"],
    )


def _most_frequent(values: pl.Series) -> list[str]:
    counts = values.alias("given").value_counts(name="n")
    ordered = counts.sort(["n", "given"], descending=[True, False])
    examples: list[str] = ordered["given"].head(N_EXAMPLES).to_list()
    return examples
