"""Identifiers resolve to the right entity or to none; unresolved ones are counted."""

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from genebench.entities.entity_catalogue import (
    ENTITY_COLUMNS,
    XREF_COLUMNS,
    build_catalogue,
    disease_curies,
)
from genebench.entities.identifiers import Resolver, mark_ambiguous
from genebench.entities.inputs import source_inputs
from genebench.errors import SourceError, UnresolvedEntities
from genebench.registry.loading import declarations_folder
from genebench.registry.profiles import InputSource


def hgnc_rows(**columns: list[str | None]) -> pl.DataFrame:
    n = len(columns["symbol"])
    names = ["status", "locus_group", "alias_symbol", "prev_symbol", "entrez_id"]
    empty: dict[str, list[str | None]] = {
        name: [None] * n for name in [*names, "ensembl_gene_id", "uniprot_ids"]
    }
    numbered = {
        "hgnc_id": [f"HGNC:{i}" for i in range(1, n + 1)],
        "name": [f"gene {i}" for i in range(1, n + 1)],
    }
    frame = pl.DataFrame(empty | numbered | columns)
    return frame.with_columns(pl.all().cast(pl.String))


def resolver_of(frame: pl.DataFrame, withdrawn: pl.DataFrame | None = None) -> Resolver:
    return Resolver(build_catalogue(frame, "hgnc.complete_set", "s", withdrawn).xrefs)


def resolve(resolver: Resolver, *identifiers: str | None, namespace: str = "symbol") -> list[str]:
    return resolver.resolve(pl.Series(identifiers), namespace).entity_ids.to_list()


@pytest.fixture
def resolver() -> Resolver:
    return resolver_of(
        hgnc_rows(
            symbol=["NA", "BMX1", "ARX2", "Qorf3"],
            prev_symbol=[None, "ARNX", "OLD", None],
            alias_symbol=["ARX2|TWICE", "OLD|both", "TWICE", "BOTH"],
            ensembl_gene_id=["ENSG1", "ENSG2", "ENSG2", None],
            entrez_id=["11", "12", "13", "14"],
            uniprot_ids=["P1|P2|P3", None, None, None],
        )
    )


def test_catalogues_give_the_columns_of_their_tables() -> None:
    entities, xrefs = build_catalogue(hgnc_rows(symbol=["A", "B"]), "hgnc.complete_set", "snap")
    assert entities.columns == ENTITY_COLUMNS
    assert xrefs.columns == XREF_COLUMNS
    assert entities["entity_id"].to_list() == ["hgnc:1", "hgnc:2"]
    assert entities["snapshot_id"].unique().to_list() == ["snap"]
    assert entities["name"].null_count() == 0
    key = ["entity_type", "namespace", "identifier", "entity_id"]
    assert not xrefs.select(key).is_duplicated().any()


def test_na_is_a_gene(resolver: Resolver) -> None:
    assert resolve(resolver, "NA") == ["hgnc:1"]


def test_an_approved_symbol_beats_an_alias_of_another_gene(resolver: Resolver) -> None:
    assert resolve(resolver, "ARX2") == ["hgnc:3"]


def test_a_previous_symbol_beats_an_alias_of_another_gene(resolver: Resolver) -> None:
    assert resolve(resolver, "OLD", "ARNX") == ["hgnc:3", "hgnc:2"]


def test_an_ambiguous_identifier_resolves_to_none(resolver: Resolver) -> None:
    found = resolver.resolve(pl.Series(["TWICE"]), "symbol")
    assert found.entity_ids.to_list() == [None]
    assert (found.n_ambiguous, found.n_unresolved) == (1, 0)
    assert found.ambiguous_examples == ["TWICE"]
    assert resolve(resolver, "ENSG2", namespace="ensembl") == [None]


def test_versions_isoforms_prefixes_and_white_space_are_no_part_of_an_identifier(
    resolver: Resolver,
) -> None:
    assert resolve(resolver, "ENSG1.15", namespace="ensembl") == ["hgnc:1"]
    assert resolve(resolver, "P2-4", namespace="uniprot") == ["hgnc:1"]
    assert resolve(resolver, "HGNC:2", "2", namespace="hgnc") == ["hgnc:2", "hgnc:2"]
    assert resolve(resolver, " BMX1 ") == ["hgnc:2"]
    assert resolve(resolver, "12", namespace="entrez") == ["hgnc:2"]


def test_case_counts_unless_it_is_declared_not_to(resolver: Resolver) -> None:
    asked = pl.Series(["bmx1", "QORF3", "Both", "nothing", "TWICE"])
    assert resolver.resolve(asked, "symbol").entity_ids.to_list() == [None] * 5
    found = resolver.resolve(asked, "symbol", ignore_case=True)
    assert found.entity_ids.to_list() == ["hgnc:2", "hgnc:4", None, None, None]
    assert (found.n_resolved, found.n_ambiguous, found.n_unresolved) == (2, 2, 1)


def test_an_exact_match_takes_precedence_over_another_case(resolver: Resolver) -> None:
    found = resolver.resolve(pl.Series(["both", "BOTH"]), "symbol", ignore_case=True)
    assert found.entity_ids.to_list() == ["hgnc:2", "hgnc:4"]


def test_what_is_ambiguous_as_written_is_not_settled_by_another_case() -> None:
    rows = hgnc_rows(symbol=["A", "B", "SAME"], alias_symbol=["Same", "Same", None])
    found = resolver_of(rows).resolve(pl.Series(["Same", "same"]), "symbol", ignore_case=True)
    assert found.entity_ids.to_list() == [None, "hgnc:3"]


def test_counts_add_up_and_gaps_are_not_counted(resolver: Resolver) -> None:
    found = resolver.resolve(pl.Series(["NA", None, "x", "x", "y", "TWICE"]), "symbol")
    assert len(found.entity_ids) == 6
    assert (found.n, found.n_resolved, found.n_unresolved, found.n_ambiguous) == (5, 1, 3, 1)
    assert found.unresolved_examples == ["x", "y"]
    assert found.lost_share == pytest.approx(0.8)


def test_too_many_unknown_identifiers_raise_with_share_and_twenty_examples(
    resolver: Resolver,
) -> None:
    asked = pl.Series(["NA"] * 10 + [f"unknown{i:02d}" for i in range(30)])
    found = resolver.resolve(asked, "symbol")
    assert found.require_resolved(0.75, "demo.table, column Gene").len() == 40
    with pytest.raises(UnresolvedEntities) as caught:
        found.require_resolved(0.5, "demo.table, column Gene")
    message = str(caught.value)
    assert "demo.table, column Gene: 75.0% of 40 identifiers" in message
    assert "the 50.0% allowed" in message
    assert message.count("unknown") == 21  # twenty examples and the word in the counts


def test_no_identifiers_at_all_lose_nothing(resolver: Resolver) -> None:
    found = resolver.resolve(pl.Series([None, None], dtype=pl.String), "symbol")
    assert found.n == 0
    assert found.require_resolved(0.0, "an empty column").null_count() == 2


def test_an_unknown_namespace_is_an_error_that_lists_the_known(resolver: Resolver) -> None:
    with pytest.raises(UnresolvedEntities, match="'refseq'; it has ensembl, entrez, hgnc, symbol"):
        resolver.resolve(pl.Series(["x"]), "refseq")


def test_withdrawn_entries_lead_to_the_one_they_were_merged_into() -> None:
    withdrawn = pl.DataFrame(
        {
            "HGNC_ID": ["HGNC:91", "HGNC:92", "HGNC:93", "HGNC:94", "HGNC:95", "HGNC:96"],
            "WITHDRAWN_SYMBOL": ["MERGED", "SPLIT", "GONE", "CHAIN", "RING", "RING2"],
            "MERGED_INTO_REPORTS": [
                "HGNC:1|A|Approved",
                "HGNC:1|A|Approved, HGNC:2|B|Approved",
                None,
                "HGNC:91|MERGED|Merged/Split",
                "HGNC:96|RING2|Merged/Split",
                "HGNC:95|RING|Merged/Split",
            ],
        }
    )
    resolver = resolver_of(hgnc_rows(symbol=["A", "B"]), withdrawn)
    assert resolve(resolver, "MERGED", "SPLIT", "GONE") == ["hgnc:1", None, None]
    assert resolve(resolver, "CHAIN", "RING") == ["hgnc:1", None]
    assert resolve(resolver, "HGNC:91", namespace="hgnc") == ["hgnc:1"]


def test_entries_that_are_not_approved_are_no_entities() -> None:
    rows = hgnc_rows(symbol=["A", "B~withdrawn"], status=["Approved", "Entry Withdrawn"])
    assert build_catalogue(rows, "hgnc.complete_set").entities["symbol"].to_list() == ["A"]


def test_a_catalogue_with_one_symbol_twice_is_refused() -> None:
    with pytest.raises(SourceError, match=r"hgnc.complete_set: 1 values of symbol .*: A; remove"):
        build_catalogue(hgnc_rows(symbol=["A", "A", "B"]), "hgnc.complete_set")


def test_a_catalogue_with_one_entity_twice_is_refused() -> None:
    rows = hgnc_rows(symbol=["A", "B"], hgnc_id=["HGNC:1", "HGNC:1"])
    with pytest.raises(SourceError, match=r"1 values of entity_id .*: hgnc:1"):
        build_catalogue(rows, "hgnc.complete_set")


def test_a_catalogue_with_a_missing_symbol_or_no_row_is_refused() -> None:
    with pytest.raises(SourceError, match="1 rows have no id or no symbol"):
        build_catalogue(hgnc_rows(symbol=["A", None]), "hgnc.complete_set")
    with pytest.raises(SourceError, match="the file has no entity"):
        build_catalogue(hgnc_rows(symbol=["A"], status=["Entry Withdrawn"]), "hgnc.complete_set")


def test_a_file_that_is_no_catalogue_is_named_with_those_that_are() -> None:
    with pytest.raises(SourceError, match=r"hpa.proteinatlas is no catalogue.*bioconductor.genes"):
        build_catalogue(pl.DataFrame(), "hpa.proteinatlas")


def test_symbols_that_ncbi_gives_to_several_genes_are_ambiguous() -> None:
    rows = pl.DataFrame(
        {
            "entrez_id": ["1", "2", "3"],
            "symbol": ["TRX", "TRX", "A"],
            "name": ["tRNA", "tRNA", None],
            "gene_type": ["tRNA", "tRNA", "protein-coding"],
            "ensembl_gene_ids": [None, None, "E1|E2"],
            "uniprot_ids": [None, None, "P1"],
            "alias_symbols": [None, None, "B|C"],
        }
    )
    entities, xrefs = build_catalogue(rows, "bioconductor.genes")
    assert entities["entity_id"].to_list() == ["ncbigene:1", "ncbigene:2", "ncbigene:3"]
    assert entities["name"].to_list() == ["tRNA", "tRNA", ""]
    found = Resolver(xrefs)
    assert resolve(found, "TRX", "A", "C") == [None, "ncbigene:3", "ncbigene:3"]
    assert resolve(found, "E2", namespace="ensembl") == ["ncbigene:3"]
    without_aliases, _ = build_catalogue(rows.drop("alias_symbols"), "bioconductor.genes")
    assert without_aliases.height == 3


def test_diseases_get_curies_and_resolve_by_their_open_targets_id() -> None:
    rows = pl.DataFrame({"id": ["EFO_0000270", "MONDO_0004979"], "name": ["asthma", "b"]})
    entities, xrefs = build_catalogue(rows, "opentargets.diseases")
    assert entities["entity_id"].to_list() == ["efo:0000270", "mondo:0004979"]
    assert entities["entity_type"].unique().to_list() == ["disease"]
    diseases = Resolver(xrefs, "disease")
    assert resolve(diseases, "MONDO_0004979", namespace="efo") == ["mondo:0004979"]
    with pytest.raises(SourceError, match="1 ids are not of the form"):
        build_catalogue(pl.DataFrame({"id": ["asthma"], "name": ["x"]}), "opentargets.diseases")


def test_disease_curies_are_null_where_malformed() -> None:
    given_ids = pl.Series(["EFO_1", "Orphanet_9", "EFO:2", "plain", None])
    assert disease_curies(given_ids).to_list() == ["efo:1", "orphanet:9", "efo:2", None, None]


xref_rows = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from("XYZ"),
        st.sampled_from(["approved", "previous", "alias"]),
    ),
    min_size=1,
    max_size=12,
)


@given(xref_rows)
def test_resolving_follows_the_rule_of_best_status(rows: list[tuple[str, str, str]]) -> None:
    frame = pl.DataFrame(rows, schema=["identifier", "entity_id", "status"], orient="row")
    frame = frame.with_columns(
        pl.lit("gene").alias("entity_type"), pl.lit("symbol").alias("namespace")
    )
    resolver = Resolver(mark_ambiguous(frame))
    for identifier in "abc":
        of_identifier = [(entity, status) for i, entity, status in rows if i == identifier]
        expected = None
        for status in ("approved", "previous", "alias"):
            readings = {entity for entity, s in of_identifier if s == status}
            if readings:
                expected = next(iter(readings)) if len(readings) == 1 else None
                break
        assert resolve(resolver, identifier) == [expected]


def test_two_million_identifiers_resolve_at_once(resolver: Resolver) -> None:
    asked = pl.Series(["NA", "BMX1", "unknown", "TWICE"] * 500_000)
    found = resolver.resolve(asked, "symbol")
    assert found.n_resolved == 1_000_000


def test_declared_catalogues_exist_as_source_files() -> None:
    folder = declarations_folder("sources")
    for source, name in (
        ("bioconductor", "genes"),
        ("hgnc", "complete_set"),
        ("opentargets", "diseases"),
    ):
        declared = yaml.safe_load((folder / f"{source}.yaml").read_text())
        assert name in declared["files"]


SUMMARY = InputSource(
    modality="text",
    field="summary",
    source="ncbi.summaries",
    id="GeneID",
    namespace="entrez",
    column="Summary",
)


def test_texts_of_no_known_gene_are_left_out_and_counted():
    resolver = resolver_of(hgnc_rows(symbol=["A", "B"], entrez_id=["1", "2"]))
    raw = pl.DataFrame({"GeneID": ["1", "2", "9", None], "Summary": ["One.", None, "Nine.", "?"]})
    found = source_inputs(raw, SUMMARY, resolver, "s")
    assert found.rows["content"].to_list() == ["One."]
    assert (found.n_filled, found.n_lost) == (3, 2)


def test_a_file_whose_texts_are_all_of_no_known_gene_is_refused_with_what_it_holds():
    resolver = resolver_of(hgnc_rows(symbol=["A"], entrez_id=["1"]))
    raw = pl.DataFrame({"GeneID": ["1.0", "2.0"], "Summary": ["One.", "Two."]})
    with pytest.raises(
        SourceError, match=r"none of the 2 rows with a Summary.*entrez.* 1\.0, 2\.0"
    ):
        source_inputs(raw, SUMMARY, resolver, "s")
