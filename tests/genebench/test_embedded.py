"""The embedded tables are complete, consistent and reproducible by their script."""

import lzma
import re
import runpy
import sqlite3
from pathlib import Path

import polars as pl
import pytest
import yaml

from genebench.entities.entity_catalogue import build_catalogue
from genebench.entities.identifiers import Resolver
from genebench.sources.declaration import EMBEDDED_FOLDER, Source, embedded_path
from genebench.sources.readers.dispatch import read_source_file

DECLARED = EMBEDDED_FOLDER.parent / "declared"
SOURCE, PAST = (
    Source.model_validate(yaml.safe_load((DECLARED / f"{name}.yaml").read_text()))
    for name in ("bioconductor", "bioconductor_2022")
)


def read_all(source: Source) -> dict[str, pl.DataFrame]:
    return {
        name: read_source_file(embedded_path(file), file, source, source.version)
        for name, file in source.files.items()
    }


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return read_all(SOURCE)


@pytest.fixture(scope="module")
def past() -> dict[str, pl.DataFrame]:
    return read_all(PAST)


def test_the_embedded_files_stay_small_and_each_is_declared() -> None:
    carried = set(EMBEDDED_FOLDER.glob("**/*.xz"))
    assert sum(path.stat().st_size for path in carried) < 7_000_000
    assert carried == {embedded_path(f) for s in (SOURCE, PAST) for f in s.files.values()}
    assert {path.parent.name for path in carried} == {SOURCE.version, PAST.version}


def test_the_page_of_the_data_gives_the_true_numbers_of_rows(
    tables: dict[str, pl.DataFrame], past: dict[str, pl.DataFrame]
) -> None:
    page = (EMBEDDED_FOLDER / "README.md").read_text()
    row = re.compile(r"^\| `(\w+)\.tsv\.xz` \|[^|]*\| ([\d,]+) \| ([\d,]+|–) \|", re.MULTILINE)
    rows = row.findall(page)
    assert {name: number for name, number, _ in rows} == {
        name: f"{frame.height:,}" for name, frame in tables.items()
    }
    assert {name: number for name, _, number in rows if number != "–"} == {
        name: f"{frame.height:,}" for name, frame in past.items()
    }


def test_most_terms_of_the_past_are_found_now(
    tables: dict[str, pl.DataFrame], past: dict[str, pl.DataFrame]
) -> None:
    by_id = past["go_terms"].join(tables["go_terms"], on="go_id", how="semi")
    assert by_id.height / past["go_terms"].height > 0.85
    used = past["go_annotations"].join(tables["go_terms"], on="go_id", how="semi")
    assert used.height / past["go_annotations"].height > 0.9


@pytest.mark.parametrize("name", SOURCE.files)
def test_keys_are_unique_and_whole(tables: dict[str, pl.DataFrame], name: str) -> None:
    key = tables[name].select(SOURCE.files[name].key)
    assert not key.is_duplicated().any()
    assert not any(key.null_count().row(0))


def test_annotations_point_at_genes_and_terms_that_are_there(
    tables: dict[str, pl.DataFrame],
) -> None:
    annotations = tables["go_annotations"]
    assert annotations.join(tables["genes"], on="entrez_id", how="anti").is_empty()
    unknown = annotations.join(tables["go_terms"], on="go_id", how="anti")
    assert unknown["go_id"].n_unique() / annotations["go_id"].n_unique() < 0.001
    same = annotations.join(tables["go_terms"], on="go_id")
    assert (same["ontology"] == same["ontology_right"]).all()


def test_the_ontology_is_acyclic_and_every_term_reaches_its_root(
    tables: dict[str, pl.DataFrame],
) -> None:
    parents: dict[str, list[str]] = {}
    for child, parent, _ in tables["go_relations"].iter_rows():
        parents.setdefault(child, []).append(parent)
    state: dict[str, bool] = {}
    roots = {"GO:0008150", "GO:0003674", "GO:0005575"}

    def reaches_root(term: str, below: frozenset[str]) -> bool:
        assert term not in below, f"{term} is its own ancestor"
        if term not in state:
            above = [reaches_root(p, below | {term}) for p in parents.get(term, [])]
            state[term] = term in roots or any(above)
        return state[term]

    lost = [t for t in tables["go_terms"]["go_id"] if not reaches_root(t, frozenset())]
    assert lost == []
    assert set(tables["go_relations"]["relation"]) == {"is_a", "part_of"}


def test_well_known_genes_are_who_they_are(tables: dict[str, pl.DataFrame]) -> None:
    entities, xrefs = build_catalogue(tables["genes"], "bioconductor.genes")
    assert entities.height == 65_536
    resolver = Resolver(xrefs)
    symbols = resolver.resolve(pl.Series(["TP53", "BRCA1", "HLA-A", "p53"]), "symbol")
    assert symbols.entity_ids.to_list() == [
        "ncbigene:7157",
        "ncbigene:672",
        "ncbigene:3105",
        None,
    ]
    ensembl = resolver.resolve(pl.Series(["ENSG00000141510.18"]), "ensembl")
    assert ensembl.entity_ids.to_list() == ["ncbigene:7157"]
    coding = entities.filter(pl.col("locus_group") == "protein-coding")
    assert 19_000 < coding.height < 21_000


def test_it_agrees_with_another_extract_of_the_same_packages(
    past: dict[str, pl.DataFrame], shared: Path
) -> None:
    other = {
        name: read_source_file(
            shared / "data" / "ncbi" / path, PAST.files[name], PAST, PAST.version
        )
        for name, path in {
            "go_annotations": "org_hs_eg_db_go.tsv.gz",
            "go_terms": "go_db_terms.tsv.gz",
        }.items()
    }
    columns = past["go_annotations"].columns
    assert (
        past["go_annotations"]
        .sort(columns)
        .equals(other["go_annotations"].select(columns).sort(columns))
    )
    terms = other["go_terms"].filter(pl.col("go_id") != "all").select("go_id", "term", "ontology")
    ours = past["go_terms"].select(terms.columns)
    assert ours.sort("go_id").equals(terms.sort("go_id"))


ORG = """
create table genes (_id integer primary key, gene_id text);
create table gene_info (_id integer, gene_name text, symbol text);
create table genetype (_id integer, gene_type text);
create table chromosomes (_id integer, chromosome text);
create table cytogenetic_locations (_id integer, cytogenetic_location text);
create table ensembl (_id integer, ensembl_id text);
create table uniprot (_id integer, uniprot_id text);
create table alias (_id integer, alias_symbol text);
create table pfam (_id integer, ipi_id text, pfam_id text);
create table omim (_id integer, omim_id text);
create table pubmed (_id integer, pubmed_id text);
create table go_bp (_id integer, go_id text, evidence text);
create table go_cc (_id integer, go_id text, evidence text);
create table go_mf (_id integer, go_id text, evidence text);
insert into genes values (1, '20'), (2, '3'), (3, '4');
insert into gene_info values (1, 'twenty', 'TWY'), (2, 'three', 'NA'), (3, 'enhancer', 'ENH');
insert into genetype values (1, 'protein-coding'), (2, 'pseudo'), (3, 'biological-region');
insert into chromosomes values (1, 'Y'), (1, 'X'), (2, '1');
insert into alias values (1, 'TWY'), (1, 'B'), (1, 'A'), (1, 'A');
insert into uniprot values (1, 'P2'), (1, 'P1');
insert into pfam values (1, 'I1', 'PF2'), (1, 'I2', 'PF2'), (1, 'I2', 'PF1'), (2, 'I3', null);
insert into omim values (1, '100'), (1, '200'), (1, '200');
insert into pubmed values (1, '7'), (1, '7'), (1, '8'), (3, '9');
insert into go_bp values (1, 'GO:2', 'IDA');
insert into go_mf values (1, 'GO:3', 'IEA'), (3, 'GO:3', 'IEA');
"""
GO = """
create table go_term (_id integer primary key, go_id text, term text, ontology text);
create table go_synonym (_id integer, synonym text, secondary text, like_go_id integer);
create table go_bp_parents (_id integer, _parent_id integer, relationship_type text);
create table go_cc_parents (_id integer, _parent_id integer, relationship_type text);
create table go_mf_parents (_id integer, _parent_id integer, relationship_type text);
insert into go_term values (1, 'GO:1', 'root', 'BP'), (2, 'GO:2', 'leaf', 'BP'),
    (3, 'GO:3', 'work', 'MF'), (9, 'all', 'all', 'universal');
insert into go_synonym values (2, 'GO:9', 'GO:9', 1), (2, 'GO:8', 'GO:8', 1), (2, 'twig', null, 0);
insert into go_bp_parents values (2, 1, 'isa'), (2, 1, 'part of'), (2, 1, 'regulates'),
    (1, 9, 'isa');
"""


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    for name, script in {"org.sqlite": ORG, "go.sqlite": GO}.items():
        change(tmp_path / name, script)
    return tmp_path


def change(path: Path, script: str) -> None:
    database = sqlite3.connect(path)
    database.executescript(script)
    database.commit()
    database.close()


def script() -> dict[str, object]:
    return runpy.run_path(str(EMBEDDED_FOLDER / "extract.py"))


def test_the_script_extracts_what_it_says_and_gives_the_same_bytes_again(
    databases: Path,
) -> None:
    tmp_path, extract = databases, script()["extract"]
    made = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        counts = dict(extract(tmp_path / "org.sqlite", tmp_path / "go.sqlite", folder))
        made.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert made[0] == made[1]
    assert counts == {
        "genes.tsv.xz": 2,
        "go_annotations.tsv.xz": 2,
        "publications.tsv.xz": 1,
        "go_terms.tsv.xz": 3,
        "go_relations.tsv.xz": 2,
    }
    read_back = {
        name: read_source_file(tmp_path / "one" / f"{name}.tsv.xz", file, SOURCE, "test").rows()
        for name, file in SOURCE.files.items()
    }
    assert read_back["genes"] == [
        ("3", "NA", "three", "pseudo", "1", *[None] * 6),
        (
            *("20", "TWY", "twenty", "protein-coding", "X|Y", None, None, "P1|P2", "A|B"),
            *("PF1|PF2", "2"),
        ),
    ]
    assert read_back["publications"] == [("20", "2")]
    assert read_back["go_terms"] == [
        ("GO:1", "root", "BP", None),
        ("GO:2", "leaf", "BP", "GO:8|GO:9"),
        ("GO:3", "work", "MF", None),
    ]
    assert read_back["go_relations"] == [("GO:2", "GO:1", "is_a"), ("GO:2", "GO:1", "part_of")]


def test_the_script_reads_databases_without_types_of_genes_and_families(databases: Path) -> None:
    change(databases / "org.sqlite", "drop table genetype; drop table pfam; drop table omim")
    counts = dict(script()["extract"](databases / "org.sqlite", databases / "go.sqlite", databases))
    assert counts["genes.tsv.xz"] == 3
    path = databases / "genes.tsv.xz"
    genes = read_source_file(path, SOURCE.files["genes"], SOURCE, "test")
    assert set(genes["gene_type"]) == {"unknown"}
    assert genes.select("pfam_ids", "n_mim_entries").null_count().row(0) == (3, 3)
    assert genes.filter(pl.col("entrez_id") == "4")["symbol"].to_list() == ["ENH"]


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("genes", "3\tNA", "20\tNA", "genes: a key entrez_id is empty or repeats"),
        ("genes", "3\tNA", "\tNA", "genes: a key entrez_id is empty or repeats"),
        ("genes", "20\tTWY", "21\tTWY", "go_annotations: 1 genes are not in genes, such as 20"),
        ("go_terms", "GO:2\tleaf", "GO:9\tleaf", "1 of 2 annotated terms have no name"),
    ],
)
def test_the_script_refuses_tables_that_do_not_fit(
    databases: Path, name: str, old: str, new: str, complaint: str
) -> None:
    found = script()
    dict(found["extract"](databases / "org.sqlite", databases / "go.sqlite", databases))
    found["check_tables"](databases)
    path = databases / f"{name}.tsv.xz"
    text = lzma.decompress(path.read_bytes()).decode()
    assert old in text
    path.write_bytes(lzma.compress(text.replace(old, new, 1).encode()))
    with pytest.raises(SystemExit, match=complaint):
        found["check_tables"](databases)
