"""Source declarations are complete, reject invalid entries, and match the real files."""

import json
from pathlib import Path

import polars as pl
import pytest
import yaml
from pydantic import ValidationError

from genebench.entities.entity_catalogue import build_catalogue
from genebench.entities.identifiers import Resolver
from genebench.registry.loading import declarations_folder
from genebench.sources.declaration import (
    Discovery,
    Source,
    SourceFile,
    version_order,
)
from genebench.sources.readers.dispatch import read_source_file

FOLDER = declarations_folder("sources")
SOURCES = {
    path.stem: Source.model_validate(yaml.safe_load(path.read_text()))
    for path in sorted(FOLDER.glob("*.yaml"))
}
FILES = [(source, name) for source in SOURCES for name in SOURCES[source].files]


@pytest.mark.parametrize("source_id", SOURCES)
def test_each_source_states_its_licence_citation_and_home(source_id: str) -> None:
    source = SOURCES[source_id]
    assert source.id == source_id
    assert source.license
    assert source.cite
    assert source.homepage.startswith("http")


@pytest.mark.parametrize(("source_id", "name"), FILES)
def test_each_file_has_an_address_for_its_version(source_id: str, name: str) -> None:
    source = SOURCES[source_id]
    file = source.files[name]
    assert "{" not in file.url_for(source.version)
    assert source.table_of(name) == f"{source_id}_{name}"
    assert source.name_of(file) == name
    if file.is_versioned:
        assert file.url_for("77.5") != file.url_for("88.5")
    assert file.key or file.columns


def test_the_major_version_names_the_archive_of_the_atlas() -> None:
    url = SOURCES["hpa"].files["proteinatlas"].url_for("23.0")
    assert url == "https://v23.proteinatlas.org/download/proteinatlas.tsv.zip"


def declaration(**changes: object) -> dict[str, object]:
    file = {"url": "https://example.org/a", "format": "tsv"}
    return {
        "id": "demo",
        "title": "t",
        "license": "CC0",
        "cite": "c",
        "homepage": "https://example.org",
        "version": "1",
        "files": {"a": file | changes},
    }


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": "tsvv"}, "unknown format 'tsvv'"),
        ({"format": "tsv.rar"}, "unknown container 'rar'"),
        ({"url": "example.org/a"}, "URL"),
        ({"url": "https://example.org/{release}"}, "unknown placeholder {release}"),
        ({"url": "embedded:nothing.tsv.gz"}, "includes no file 'nothing.tsv.gz'"),
        ({"url": "embedded:../declared/bioconductor.yaml"}, "includes no file"),
        ({"url": f"embedded:{__file__}"}, "includes no file"),
        ({"options": {"separator": ";"}}, "'separator' is not an option of tsv"),
        ({"options": {"also": ["word"]}}, "unknown format 'word'"),
        ({"format": "json"}, "needs 'fields'"),
        ({"max_bytes": 0}, "greater than 0"),
        ({"colums": ["a"]}, "colums"),
        ({"companions": {"labels": "nowhere"}}, "URL"),
    ],
)
def test_a_faulty_declaration_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Source.model_validate(declaration(**changes))
    assert complaint in str(caught.value)


def test_a_declaration_cannot_be_changed_after_reading() -> None:
    source = Source.model_validate(declaration())
    with pytest.raises(ValidationError, match="frozen"):
        source.version = "2"  # type: ignore[misc]


def test_versions_are_found_and_ordered_as_numbers() -> None:
    page = 'href="23.09/" href="9.12/" href="24.3/" href="23.09/"'
    found = Discovery(page="https://example.org", pattern=r'href="([\d.]+)/"').find_versions(page)
    assert found == ["9.12", "23.09", "24.3"]
    versions = ["2023_04", "2022_12", "23.0-composite", "23.0"]
    assert sorted(versions, key=version_order) == ["23.0", "23.0-composite", "2022_12", "2023_04"]


@pytest.mark.parametrize("pattern", ["no group", "(two) (groups)", "(open"])
def test_a_discovery_pattern_has_exactly_one_group(pattern: str) -> None:
    with pytest.raises(ValidationError):
        Discovery(page="https://example.org", pattern=pattern)


PAGES = {
    "hgnc": ("hgnc_complete_set_2024-12-03.txt", "2024-12-03"),
    "hpa": ("data available in the Human Protein Atlas version 24.0.", "24.0"),
    "reactome": ("89\n", "89"),
    "uniprot": ("UniProt Release 2024_03", "2024_03"),
    "opentargets": ('<a href="24.09/">24.09/</a> <a href="25.03/">', "24.09"),
    "ensembl": ('<a href="release-99/"> <a href="release-112/">', "112"),
}


@pytest.mark.parametrize("source_id", PAGES)
def test_the_newest_version_is_read_from_the_owners_page(source_id: str) -> None:
    text, newest = PAGES[source_id]
    discover = SOURCES[source_id].discover
    assert discover is not None
    assert discover.find_versions(text)[-1] == newest


def mirror(folder: Path) -> list[tuple[str, dict[str, str]]]:
    entries = yaml.safe_load((folder / "sources.yaml").read_text())
    return [(file_id, entry) for file_id, listed in entries.items() for entry in listed]


def read_entry(
    folder: Path, file_id: str, entry: dict[str, str]
) -> tuple[SourceFile, pl.DataFrame]:
    source_id, name = file_id.split(".")
    source = SOURCES[source_id]
    file = source.files[name]
    companions = {role: folder / entry[role] for role in file.companions}
    return file, read_source_file(
        folder / entry["path"], file, source, entry["version"], companions
    )


REAL_ROWS = {
    ("hgnc.complete_set", "2024-10"): 43_882,
    ("hgnc.group_588_hla", "2024-10"): 44,
    ("hpa.proteinatlas", "18.1"): 19_613,
    ("hpa.proteinatlas", "23.0"): 20_162,
    ("hpa.pathology", "23.0"): 403_240,
    ("hpa.subcellular_location", "23.0"): 13_147,
    ("reactome.pathways_relation", "85"): 22_168,
    ("uniprot.human_keywords", "2023_04"): 144_279,
    ("opentargets.associations", "22.04"): 61_576,
    ("genecorpus.n1_target", "30M"): 1_140,
    ("gene2vec.pairs_train", "6236e0b2"): 263_016,
    ("humantfs.database_extract", "1.01"): 2_765,
    ("bioconductor.go_annotations", "3.16.0"): 348_116,
}


@pytest.mark.slow
def test_every_real_file_is_read_by_its_declaration(shared: Path) -> None:
    folder = shared / "data"
    rows = {}
    for file_id, entry in mirror(folder):
        file, frame = read_entry(folder, file_id, entry)
        assert set(frame.dtypes) == {pl.String}, file_id
        assert not frame.select((pl.all() == "").any()).row(0).count(True), file_id
        if file.key:
            assert not frame.select(file.key).is_duplicated().any(), (file_id, entry["version"])
            assert not any(frame.select(file.key).null_count().row(0)), file_id
        rows[file_id, entry["version"]] = frame.height
    assert REAL_ROWS.items() <= rows.items()


def test_real_pairs_keep_their_labels_and_real_lists_their_sizes(shared: Path) -> None:
    folder = shared / "data"
    entries = dict(mirror(folder))
    labels = pl.concat(
        read_entry(folder, name, entries[name])[1]["labels"]
        for name in entries
        if name.startswith("gene2vec.")
    )
    assert labels.value_counts().sort("labels")["count"].to_list() == [145_884, 144_148]
    _, lists = read_entry(
        folder, "genecorpus.dosage_sensitivity_tfs", entries["genecorpus.dosage_sensitivity_tfs"]
    )
    assert sorted(lists["label"].value_counts()["count"]) == [122, 368]


@pytest.mark.slow
def test_real_hpa_symbols_and_transcription_factors_resolve(shared: Path) -> None:
    folder = shared / "data"
    entries = dict(mirror(folder))
    _, complete_set = read_entry(folder, "hgnc.complete_set", entries["hgnc.complete_set"])
    resolver = Resolver(build_catalogue(complete_set, "hgnc.complete_set").xrefs)
    _, atlas = read_entry(folder, "hpa.proteinatlas", entries["hpa.proteinatlas"])
    assert resolver.resolve(atlas["Ensembl"], "ensembl").lost_share < 0.02
    _, factors = read_entry(
        folder, "humantfs.database_extract", entries["humantfs.database_extract"]
    )
    assert resolver.resolve(factors["HGNC symbol"], "symbol").lost_share < 0.02


def test_the_columns_of_all_atlas_tasks_are_in_the_real_version_23(shared: Path) -> None:
    folder = shared / "data"
    entry = next(e for i, e in mirror(folder) if i == "hpa.proteinatlas" and e["version"] == "23.0")
    _, frame = read_entry(folder, "hpa.proteinatlas", entry)
    assert frame.width == 89
    assert "Pathology prognostics - Urothelial cancer" in frame.columns


def test_summaries_may_come_as_an_answer_of_mygene(tmp_path: Path) -> None:
    answer = {"hits": [{"entrezgene": "672", "symbol": "BRCA1", "name": "n", "summary": "s"}]}
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(answer))
    source = SOURCES["ncbi"]
    frame = read_source_file(path, source.files["summaries"], source, "current")
    assert frame.rows(named=True) == [
        {"GeneID": "672", "Symbol": "BRCA1", "Name": "n", "Summary": "s"}
    ]


def test_peptides_of_a_mirror_may_be_a_table(tmp_path: Path) -> None:
    path = tmp_path / "sequences.tsv"
    path.write_text("symbol\tprotein_id\tsequence\nNA\tP1\tMK\n")
    source = SOURCES["uniprot"]
    frame = read_source_file(path, source.files["human_sequences"], source, "partial")
    assert frame.rows() == [("NA", "P1", "MK")]
