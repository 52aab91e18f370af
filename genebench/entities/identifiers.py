"""Which entity an outside identifier names.

An outside identifier (`xref`) is read by these rules:

- An approved identifier beats a previous one, which beats an alias.
- An identifier that names several entities at its best status is ambiguous and resolves to none.
- Identifiers are compared exactly. Only where `ignore_case` is asked for, those that name nothing
  are compared once more in capitals, by the same two rules.
- White space around an identifier is no part of it, nor is the version of an Ensembl identifier
  (`ENSG00000012048.23`), the isoform of a UniProt accession (`P38398-2`) or the prefix `HGNC:`.
"""

from dataclasses import dataclass, field

import polars as pl

from genebench.errors import UnresolvedEntities

APPROVED, PREVIOUS, ALIAS = "approved", "previous", "alias"
STATUSES = (APPROVED, PREVIOUS, ALIAS)
N_EXAMPLES = 20


def clean_identifier(column: str, namespace: str) -> pl.Expr:
    """A column of identifiers without what is no part of them: white space, version, prefix."""
    text = pl.col(column).str.strip_chars()
    if namespace == "ensembl":
        return text.str.replace(r"\.\d+$", "")
    if namespace == "uniprot":
        return text.str.replace(r"-\d+$", "")
    if namespace == "hgnc":
        return text.str.strip_prefix("HGNC:")
    return text


def mark_ambiguous(xrefs: pl.DataFrame) -> pl.DataFrame:
    """Keep the best status of each xref and mark identifiers with several readings at it.

    Args:
        xrefs: entity_type, namespace, identifier, entity_id, status.

    Returns:
        One row for each (entity_type, namespace, identifier, entity_id), with `is_ambiguous`: the
        identifier names more than one entity at the best status it has.
    """
    identifier = ["entity_type", "namespace", "identifier"]
    status = pl.col("status").cast(pl.Enum(STATUSES))
    best = (
        xrefs.group_by([*identifier, "entity_id"])
        .agg(status.to_physical().min().alias("rank"))
        .with_columns(pl.col("rank").min().over(identifier).alias("best"))
    )
    readings = (pl.col("rank") == pl.col("best")).sum().over(identifier)
    return best.with_columns(
        pl.col("rank")
        .replace_strict(dict(enumerate(STATUSES)), return_dtype=pl.String)
        .alias("status"),
        (readings > 1).alias("is_ambiguous"),
    ).drop("rank", "best")


@dataclass(frozen=True)
class Resolution:
    """What became of a column of identifiers.

    Attributes:
        entity_ids: (n,) aligned with the identifiers; null where none is named.
        n: Identifiers that are there (nulls are not).
        n_resolved: Of these, those that name one entity.
        n_ambiguous: Those with several readings.
        n_unresolved: Those that name nothing.
        unresolved_examples: Up to twenty distinct identifiers that name nothing, most frequent
            first.
        ambiguous_examples: Up to twenty distinct ambiguous ones.
        is_ambiguous: (n,) aligned with the identifiers; null where one names nothing at all.
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
        """Share of the identifiers that do not resolve, ambiguous ones among them; 0 of none."""
        return (self.n - self.n_resolved) / self.n if self.n else 0.0

    def require(self, max_lost_share: float, where: str) -> pl.Series:
        """Give the entity ids if enough identifiers resolve.

        Raises:
            UnresolvedEntities: More than the stated share do not.
        """
        if self.lost_share <= max_lost_share:
            return self.entity_ids
        examples = (self.unresolved_examples + self.ambiguous_examples)[:N_EXAMPLES]
        raise UnresolvedEntities(
            f"{where}: {self.lost_share:.1%} of {self.n} identifiers name no entity of the "
            f"catalogue ({self.n_unresolved} unknown, {self.n_ambiguous} ambiguous), more than the "
            f"{max_lost_share:.1%} allowed: {', '.join(examples)}; check the namespace and the "
            "catalogue's version, or allow a larger share"
        )


class Resolver:
    """Resolves outside identifiers of one entity type.

    Args:
        xrefs: Rows of `silver.xrefs`.
        entity_type: Which of them to use.

    Attributes:
        namespaces: The namespaces whose identifiers can be resolved.
    """

    def __init__(self, xrefs: pl.DataFrame, entity_type: str = "gene") -> None:
        self._xrefs = xrefs.filter(pl.col("entity_type") == entity_type)
        self._readings: dict[tuple[str, bool], pl.DataFrame] = {}
        self.namespaces: list[str] = self._xrefs["namespace"].unique().sort().to_list()

    def resolve(
        self, identifiers: pl.Series, namespace: str, ignore_case: bool = False
    ) -> Resolution:
        """Resolve a column of identifiers and count what was lost.

        Args:
            identifiers: (n,) strings, nulls allowed.
            namespace: `symbol`, `ensembl`, `entrez`, `uniprot`, `hgnc`; `efo` for diseases.
            ignore_case: Whether what names nothing as written is tried once more in capitals.

        Raises:
            UnresolvedEntities: The catalogue has no identifiers of this namespace.
        """
        if namespace not in self.namespaces:
            raise UnresolvedEntities(
                f"the catalogue has no identifiers of the namespace {namespace!r}; "
                f"it has {', '.join(self.namespaces)}"
            )
        given = identifiers.cast(pl.String).to_frame("given")
        asked = given.with_columns(clean_identifier("given", namespace).alias("identifier"))
        found = asked.join(
            self._reading(namespace), on="identifier", how="left", maintain_order="left"
        )
        if ignore_case:
            found = (
                found.with_columns(pl.col("identifier").str.to_uppercase().alias("capitals"))
                .join(
                    self._reading(namespace, in_capitals=True),
                    left_on="capitals",
                    right_on="identifier",
                    how="left",
                    maintain_order="left",
                    suffix="_capitals",
                )
                .with_columns(
                    pl.when(pl.col("is_ambiguous").is_null())
                    .then(f"{name}_capitals")
                    .otherwise(name)
                    .alias(name)
                    for name in ("entity_id", "is_ambiguous")
                )
            )
        return _resolution(found)

    def _reading(self, namespace: str, in_capitals: bool = False) -> pl.DataFrame:
        """One row for each identifier: its entity, or null where it is ambiguous."""
        key = (namespace, in_capitals)
        if key not in self._readings:
            rows = self._xrefs.filter(pl.col("namespace") == namespace)
            if in_capitals:
                rows = mark_ambiguous(rows.with_columns(pl.col("identifier").str.to_uppercase()))
            rank = pl.col("status").cast(pl.Enum(STATUSES)).to_physical()
            self._readings[key] = (
                rows.sort(rank)
                .unique("identifier", keep="first", maintain_order=True)
                .select(
                    "identifier",
                    pl.when(~pl.col("is_ambiguous")).then("entity_id").alias("entity_id"),
                    "is_ambiguous",
                )
            )
        return self._readings[key]


def _resolution(found: pl.DataFrame) -> Resolution:
    there = found.filter(pl.col("given").is_not_null())
    unknown = there.filter(pl.col("is_ambiguous").is_null())["given"]
    ambiguous = there.filter(pl.col("is_ambiguous"))["given"]
    return Resolution(
        entity_ids=found["entity_id"],
        n=there.height,
        n_resolved=there.height - len(unknown) - len(ambiguous),
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
