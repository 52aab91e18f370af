"""The synthetic test world has the formats and irregularities of the real sources."""

from pathlib import Path

import polars as pl
import pytest
import yaml
from world import World, build_world

from genebench.entities.entity_catalogue import Catalogue, build_catalogue
from genebench.entities.identifiers import Resolver
from genebench.registry.loading import declarations_folder
from genebench.sources.declaration import Source
from genebench.sources.readers.dispatch import read_source_file

FOLDER = declarations_folder("sources")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return build_world(tmp_path / "world")


def read_file(world: World, file_id: str, position: int = -1) -> pl.DataFrame:
    source_id, name = file_id.split(".")
    source = Source.model_validate(yaml.safe_load((FOLDER / f"{source_id}.yaml").read_text()))
    file = source.files[name]
    entry = yaml.safe_load((world.folder / "sources.yaml").read_text())[file_id][position]
    companions = {role: world.folder / entry[role] for role in file.companions}
    return read_source_file(
        world.folder / entry["path"], file, source, entry["version"], companions
    )


def hgnc(world: World) -> Catalogue:
    return build_catalogue(
        read_file(world, "hgnc.complete_set"),
        "hgnc.complete_set",
        withdrawn=read_file(world, "hgnc.withdrawn"),
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_file_of_the_world_is_read_by_the_real_declarations(world: World) -> None:
    assert len(world.entries) >= 27
    for file_id in world.entries:
        assert read_file(world, file_id).height, file_id


def test_the_world_is_small_and_the_same_each_time(world: World, tmp_path: Path) -> None:
    build_world(tmp_path / "again")
    assert contents(world.folder) == contents(tmp_path / "again")
    assert sum(len(content) for content in contents(world.folder).values()) < 100_000


def test_the_world_has_the_trouble_of_the_real_one(world: World) -> None:
    resolver = Resolver(hgnc(world).xrefs)
    asked = pl.Series(["NA", "SHARED1", "OLDZYF", "GRX2", "ZYF99", "SPLITX", "GONEX"])
    found = resolver.resolve(asked, "symbol")
    symbols = [world.gene(symbol).hgnc_id for symbol in ("NA", "ZYF1", "GRX2", "ZYF3")]
    na, zyf1, grx2, zyf3 = (f"hgnc:{identifier[5:]}" for identifier in symbols)
    assert found.entity_ids.to_list() == [na, None, zyf1, grx2, zyf3, None, None]
    genes = read_file(world, "bioconductor.genes")
    assert genes["name"].null_count() == 1
    assert genes.filter(pl.col("symbol") == "RBX1")["uniprot_ids"].to_list() == [
        "X90001|X90002|X90003"
    ]
    assert '"' in genes.filter(pl.col("symbol") == "RBX2")["name"][0]


def test_five_stratified_folds_fit_every_main_class_of_the_world(world: World) -> None:
    genes = read_file(world, "bioconductor.genes").filter(pl.col("gene_type") == "protein-coding")
    chromosomes = genes.filter(pl.col("chromosome") != "X|Y")["chromosome"].value_counts()
    assert chromosomes["count"].min() >= 5
    names = genes["name"].drop_nulls()
    for hla_class in (", class I, ", ", class II, "):
        assert names.str.contains(hla_class, literal=True).sum() >= 5
    annotated = read_file(world, "bioconductor.go_annotations")["go_id"].value_counts()
    assert annotated.filter(pl.col("count") >= 5).height >= 12


def test_the_atlas_has_every_column_that_a_task_of_the_paper_uses(
    world: World, shared: Path
) -> None:
    header = read_file(world, "hpa.proteinatlas").columns
    tasks = pl.read_csv(shared / "tasks.csv", infer_schema=False).filter(
        pl.col("source").str.starts_with("HPA") & pl.col("parent").is_null()
    )
    assert tasks.height == 60
    named = tasks["column_or_file"].str.replace(r" \(Yes / No / NA\)$", "")
    wanted = [
        task if column.startswith("same name") else column
        for task, column in zip(tasks["task"], named, strict=True)
    ]
    assert [column for column in wanted if column not in header] == []


def test_renaming_changes_catalogues_alone_and_keeps_the_entity(world: World) -> None:
    before = contents(world.folder)
    old = Resolver(hgnc(world).xrefs).resolve(pl.Series(["KYN5"]), "symbol").entity_ids
    world.rename("KYN5", "KYN5NEW")
    world.write()
    after = contents(world.folder)
    changed = {name.split("/")[0] for name in after if after[name] != before[name]}
    assert changed == {"bioconductor", "hgnc", "ncbi"}
    found = Resolver(hgnc(world).xrefs).resolve(pl.Series(["KYN5", "KYN5NEW"]), "symbol")
    assert found.entity_ids.to_list() == [old[0], old[0]]


def test_relabelling_changes_one_gene_of_one_column(world: World) -> None:
    before = read_file(world, "bioconductor.genes")
    world.relabel("KYN6", "X" if world.gene("KYN6").chromosome != "X" else "2")
    world.write()
    after = read_file(world, "bioconductor.genes")
    rows = (before["chromosome"] != after["chromosome"]).sum()
    assert rows == 1
    assert before.drop("chromosome", "map_location").equals(
        after.drop("chromosome", "map_location")
    )


def test_annotations_and_summaries_change_as_asked(world: World) -> None:
    world.annotate("GRX5", ["core", "DNA contact"])
    world.resummarise("ZYF3", "Another text.")
    world.write()
    annotated = read_file(world, "bioconductor.go_annotations")
    of_gene = annotated.filter(pl.col("entrez_id") == world.gene("GRX5").entrez_id)
    assert sorted(of_gene["go_id"]) == ["GO:9200011", "GO:9300011"]
    summaries = read_file(world, "ncbi.summaries")
    of_gene = summaries.filter(pl.col("GeneID") == world.gene("ZYF3").entrez_id)
    assert of_gene["Summary"].to_list() == ["Another text."]


def test_a_new_version_stands_beside_the_older_one(world: World) -> None:
    world.relabel("KYN6", "X")
    world.release("hpa", "23.1")
    world.write()
    entries = yaml.safe_load((world.folder / "sources.yaml").read_text())
    assert [entry["version"] for entry in entries["hpa.proteinatlas"]] == ["23.0", "23.1"]
    assert [entry["version"] for entry in entries["hgnc.complete_set"]] == ["2024-10-01"]
    older = read_file(world, "hpa.proteinatlas", 0)
    newer = read_file(world, "hpa.proteinatlas", 1)
    assert (older["Chromosome"] != newer["Chromosome"]).sum() == 1
