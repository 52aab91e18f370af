"""The paper profile on the miniature world: all tasks, new versions, tasks of one's own."""

import csv
import gzip
import json
import re
import shutil
import statistics

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner
from world import build_world

from flows.cli.app import app
from flows.cli.inspect import print_card, print_status, print_validations, write_cards
from genebench.errors import GenebenchError, LakeError
from genebench.reference.published_scores import published_file
from genebench.registry.loading import load_registry
from lakehouse.curate.changes import changes_since_release
from lakehouse.report.task_cards import read_task_cards

pytestmark = pytest.mark.usefixtures("prefect")


def paper() -> dict[str, str]:
    """Settings of a place with the paper profile."""
    return {"PROFILE": "paper"}


@pytest.fixture
def copied(paper_lake, tmp_path, place_of):
    """A copy of that world and lake, entered."""
    folder, *_ = paper_lake
    shutil.copytree(folder, tmp_path / "copy")
    place = place_of(tmp_path / "copy" / "lake", tmp_path / "copy" / "sources", extra=paper())
    return place, build_world(tmp_path / "copy" / "sources")


def tasks_of(place) -> pl.DataFrame:
    return place.rows("silver.tasks").filter(pl.col("parent_task_id").is_null())


def test_every_task_of_the_paper_is_built(paper_lake, place_of):
    folder, _, built = paper_lake
    place = place_of(folder / "lake", folder / "sources", extra=paper())
    registry = load_registry("paper")
    assert set(tasks_of(place)["task_id"]) == set(registry.tasks)
    assert not built.refused


def test_sub_tasks_are_derived_for_every_label(paper_lake, place_of):
    folder, *_ = paper_lake
    rows = place_of(folder / "lake", folder / "sources", extra=paper()).rows("silver.tasks")
    multilabel = rows.filter(pl.col("kind") == "multilabel")
    children = rows.filter(pl.col("parent_task_id").is_not_null())
    assert children.height == multilabel["n_labels"].sum()
    assert set(children["kind"]) == {"binary"}


def test_what_the_catalogue_does_not_know_is_listed_and_kept_apart(paper_lake, place_of):
    folder, *_ = paper_lake
    place = place_of(folder / "lake", folder / "sources", extra=paper())
    outside = place.rows("silver.entities").filter(pl.col("locus_group") == "not in the catalogue")
    assert outside.height > 0
    assert not outside["entity_id"].str.starts_with("hgnc:").any()
    inputs = place.rows("silver.inputs")
    assert inputs.join(outside, on="entity_id", how="semi").is_empty()
    sampled = place.rows("silver.samples")["entity_id"]
    assert sampled.is_in(outside["entity_id"].implode()).any()


def test_withdrawn_symbols_lead_to_the_gene_they_were_merged_into(paper_lake, place_of):
    folder, world, *_ = paper_lake
    place = place_of(folder / "lake", folder / "sources", extra=paper())
    target = world.gene("ZYF3").hgnc_id.replace("HGNC:", "hgnc:")
    row = place.rows("silver.xrefs").filter(pl.col("identifier") == "ZYF99")
    assert row.select("entity_id", "status").row(0) == (target, "previous")


def test_refreshing_the_same_bytes_and_curating_again_does_nothing(copied):
    from flows.curate import curate
    from flows.refresh import refresh

    place, _ = copied
    versions = {name: place.lake.delta.version(name) for name in place.lake.counts()}
    assert not refresh(["hpa", "hgnc", "gene2vec"]).done
    assert not curate().done
    assert {name: place.lake.delta.version(name) for name in place.lake.counts()} == versions


def test_a_new_version_changes_only_the_tasks_whose_labels_changed(copied, capsys):
    from flows.curate import curate
    from flows.embed import embed
    from flows.refresh import refresh
    from flows.score import score

    place, world = copied
    embed(["random"])
    chosen = ["chromosome", "protein_class", "subcellular_location"]
    score(["random"], chosen)
    evaluated = place.rows("gold.evaluations")
    before = tasks_of(place).select("task_id", "label_digest")
    moved = world.gene("KYN6")
    world.relabel("KYN6", "2" if moved.chromosome != "2" else "1")
    world.release("hpa", "24.0")
    world.write()
    assert set(refresh(["hpa"]).done) == {"hpa.proteinatlas"}
    done = curate().done
    after = tasks_of(place).join(before, on="task_id", suffix="_before")
    changed = after.filter(pl.col("label_digest") != pl.col("label_digest_before"))
    assert changed["task_id"].to_list() == ["chromosome"]
    assert "1 samples changed (hpa 23.0 → 24.0): 1 relabelled" in done["chromosome"]
    found = changes_since_release(place.lake, "current_paper")
    assert found.select("task_id", "n_relabelled", "n_added", "n_gone").rows() == [
        ("chromosome", 1, 0, 0)
    ]
    print_status("paper", None)
    shown = " ".join(capsys.readouterr().out.split())
    assert "tasks changed since release current_paper" in shown
    assert "hpa 23.0 → 24.0" in shown
    score(["random"], chosen)
    again = place.rows("gold.evaluations").join(evaluated, on=["evaluation_key"], how="anti")
    assert set(again["task_id"]) == {"chromosome"}
    assert changes_since_release(place.lake, "current_paper").is_empty()


def test_current_snapshots_are_pinned_with_their_companions(copied, tmp_path):
    from genebench.registry.loading import load_registry
    from lakehouse.refresh.pins import lock_current, read_lock

    place, _ = copied
    registry = load_registry("paper")
    lock = tmp_path / "snapshots.lock.yaml"
    lock_current(place.lake, registry, registry.source_files, lock)
    rows = place.rows("bronze.snapshots")
    found = {f"{one['source']}.{one['file']}": one["sha256"] for one in rows.to_dicts()}
    assert {name: entry["sha256"] for name, entry in read_lock(lock).items()} == found
    assert set(found) > {*registry.source_files} & {*found}, "companions are pinned too"


def test_bytes_that_change_under_one_version_are_drift_and_both_are_kept(copied):
    from flows.curate import curate
    from flows.refresh import refresh

    place, world = copied
    gene = world.gene("KYN6")
    world.relabel("KYN6", "2" if gene.chromosome != "2" else "1")
    world.write()
    refresh(["hpa"])
    atlas = place.rows("bronze.snapshots").filter(pl.col("source") == "hpa")
    assert atlas["version"].to_list() == ["23.0", "23.0"]
    assert atlas["sha256"].n_unique() == 2
    assert "hpa 23.0, new bytes" in curate().done["chromosome"]


def test_a_version_is_chosen_by_setting_and_never_mixed(copied):
    from flows.curate import curate
    from flows.refresh import refresh

    place, world = copied
    world.relabel("KYN6", "2" if world.gene("KYN6").chromosome != "2" else "1")
    world.release("hpa", "24.0")
    world.write()
    refresh(["hpa"])
    curate()
    newest = set(tasks_of(place).filter(pl.col("source") == "hpa.proteinatlas")["snapshot_id"])
    place.extra["VERSIONS"] = '{"hpa": "23.0"}'
    place.enter()
    assert "chromosome" in curate().done
    older = set(tasks_of(place).filter(pl.col("source") == "hpa.proteinatlas")["snapshot_id"])
    assert len(newest) == len(older) == 1
    assert {name[:9] for name in newest | older} == {"hpa_23_0_", "hpa_24_0_"}
    place.extra["VERSIONS"] = '{"hpa": "22.0"}'
    place.enter()
    left_out = curate().refused
    assert "no snapshot of hpa.proteinatlas" in left_out["chromosome"]


def test_an_older_version_can_be_fetched_by_name(copied):
    from flows.refresh import refresh

    place, world = copied
    older = place.lake.current_snapshots(["hpa.proteinatlas"])
    world.release("hpa", "24.0")
    world.write()
    refresh(["hpa"])
    assert set(refresh(["hpa"], version="23.0").done) == {"hpa.proteinatlas"}
    assert place.lake.current_snapshots(["hpa.proteinatlas"]) == older
    assert set(refresh(["hpa"], version="23.0").skipped) == {"hpa.proteinatlas"}
    with pytest.raises(GenebenchError, match="name the source"):
        refresh(version="23.0")
    with pytest.raises(
        GenebenchError, match=r"does not list version '22\.0' of hpa\.proteinatlas, but 23\.0"
    ):
        refresh(["hpa"], version="22.0")


def test_a_column_that_a_version_lacks_leaves_its_tasks_out_with_the_reason(copied, monkeypatch):
    from world import atlas

    from flows.curate import curate
    from flows.refresh import refresh

    place, world = copied
    whole = atlas.proteinatlas_table

    def without(genes):
        table = pl.read_csv(whole(genes).encode(), separator="\t", infer_schema=False)
        gone = [name for name in table.columns if name.startswith("Pathology")]
        return table.drop(gone).write_csv(separator="\t")

    monkeypatch.setattr(atlas, "proteinatlas_table", without)
    world.release("hpa", "25.0")
    world.write()
    refresh(["hpa"])
    left_out = curate().refused
    assert len(left_out) == 17
    assert "no column 'Pathology prognostics - Glioma'" in left_out["pathology_prognostics_glioma"]
    assert "chromosome" in set(tasks_of(place)["task_id"])
    cards = {c.task.id: c for c in read_task_cards(place.lake, load_registry("paper"), left_out)}
    assert cards["pathology_prognostics_glioma"].difference.startswith("not applicable: ")


def test_texts_of_genes_that_the_catalogue_lacks_are_counted(copied, monkeypatch):
    from world import paper as sources

    from flows.curate import curate
    from flows.refresh import refresh

    _, world = copied
    whole = sources.gene_summaries
    unknown = "9606\t99999999\tRefSeq\tA gene of another catalogue.\n"
    monkeypatch.setattr(sources, "gene_summaries", lambda genes: whole(genes) + unknown)
    world.write()
    refresh(["ncbi"])
    told = curate().done["silver.inputs"]
    assert re.search(r"gene summary: 1 of \d+ rows of ncbi\.summaries name no gene", told)


def test_a_source_that_cannot_be_had_leaves_out_its_tasks_and_no_other(tmp_path, place_of):
    from flows.curate import curate
    from flows.refresh import refresh

    world = build_world(tmp_path / "sources")
    for file_id in ("reactome.pathways_gmt", "ensembl.cdna", "hgnc.withdrawn"):
        del world.entries[file_id]
    (world.folder / "sources.yaml").write_text(yaml.safe_dump(world.entries))
    place = place_of(tmp_path / "lake", tmp_path / "sources", extra=paper())
    with pytest.raises(GenebenchError, match=r"1 failed.*\n.*reactome\.pathways_gmt"):
        refresh()
    left_out = curate().refused
    assert "no snapshot of reactome.pathways_gmt" in left_out["pathways"]
    assert "ensembl.cdna" in left_out["input gene cdna"]
    assert set(left_out) == {"reactome.pathways_gmt", "input gene cdna", "pathways"}
    assert tasks_of(place).height == 74


def test_without_its_catalogue_nothing_is_curated(tmp_path, place_of):
    from flows.curate import curate

    build_world(tmp_path / "sources")
    place_of(tmp_path / "lake", tmp_path / "sources", extra=paper())
    with pytest.raises(LakeError, match=r"genebench refresh hgnc\.complete_set"):
        curate()


def test_a_frame_that_breaks_an_expectation_leaves_every_silver_table_as_it_was(
    copied, monkeypatch
):
    from flows import curate as module

    place, world = copied
    world.relabel("KYN6", "2" if world.gene("KYN6").chromosome != "2" else "1")
    world.release("hpa", "24.0")
    world.write()
    from flows.refresh import refresh

    refresh(["hpa"])
    versions = {name: place.lake.delta.version(name) for name in place.lake.counts()}
    build = module.curate_tables

    def spoiled(*arguments):
        made = build(*arguments)
        labels = made.tables["silver.labels"]
        made.tables["silver.labels"] = labels.with_columns(pl.lit(" ").alias("label"))
        return made

    monkeypatch.setattr(module, "curate_tables", spoiled)
    with pytest.raises(GenebenchError, match="label_is_a_word"):
        module.curate()
    now = {name: place.lake.delta.version(name) for name in versions}
    assert {n for n in now if now[n] != versions[n]} == {"audit.validations"}
    refused = place.rows("audit.quarantine")
    assert "label_is_a_word" in set(refused["expectation_id"])
    assert set(refused["table_name"]) == {"silver.labels"}


def test_user_tasks_are_curated_and_scored_like_ours(copied, tmp_path):
    from flows.curate import curate
    from flows.embed import embed
    from flows.score import score

    place, world = copied
    genes = [g for g in world.genes if g.is_approved][:60]
    folder = tmp_path / "own" / "deep" / "parity"
    folder.mkdir(parents=True)
    (folder / "entities.csv").write_text("symbol\n" + "".join(f"{g.symbol}\n" for g in genes))
    (folder / "outcomes.csv").write_text(
        "Outcomes\n" + "".join(f"{'even' if g.number % 2 == 0 else 'odd'}\n" for g in genes)
    )
    entry = tmp_path / "size.yaml"
    entry.write_text(
        "size:\n  title: Size\n  kind: regression\n  file: size.csv\n  recipe: column\n"
        "  with: {id: gene, namespace: symbol, column: n}\n"
    )
    rows = "".join(f"{g.symbol},{g.number}\n" for g in genes)
    (tmp_path / "size.csv").write_text("gene,n\n" + rows)
    curate(task_folders=[str(tmp_path / "own")], task_files=[str(entry)])
    own = tasks_of(place).filter(pl.col("family") == "own").sort("task_id")
    assert own.select("task_id", "kind", "n_samples").rows() == [
        ("deep_parity", "binary", 60),
        ("size", "regression", 60),
    ]
    embed(["random"])
    score(["random"], ["deep_parity", "size"])
    done = place.rows("gold.evaluations")
    assert set(done["task_id"]) == {"deep_parity", "size"}
    assert set(done["status"]) == {"ok"}


def test_user_tasks_are_validated_like_ours(copied, tmp_path):
    from flows.curate import curate

    folder = tmp_path / "own" / "strange"
    folder.mkdir(parents=True)
    (folder / "entities.csv").write_text("symbol\nNOBODY1\nNOBODY2\nKYN4\n")
    (folder / "outcomes.csv").write_text("o\na\nb\na\n")
    with pytest.raises(GenebenchError, match=r"strange: own\.strange.* 66\.7%.*NOBODY1"):
        curate(task_folders=[str(tmp_path / "own")])


def test_labels_whose_sub_tasks_would_share_a_name_stop_their_task_and_no_other(copied, tmp_path):
    from flows.curate import curate

    place, world = copied
    one, two, three = [g.symbol for g in world.genes if g.is_approved][:3]
    (tmp_path / "rows.csv").write_text(f"gene,l\n{one},CD4+;B\n{two},CD4-\n{three},B\n")
    rest = "with: {id: gene, namespace: symbol, column: l, by: [';']}}"
    entry = "{title: T, kind: multilabel, file: rows.csv, recipe: split, "
    (tmp_path / "own.yaml").write_text(
        f"cells: {entry}expand: binary, {rest}\nwhole: {entry}{rest}\n"
    )
    with pytest.raises(GenebenchError, match=r"cells: the labels 'CD4\+' and 'CD4-' .*cells__cd4"):
        curate(task_files=[str(tmp_path / "own.yaml")])
    built = set(tasks_of(place)["task_id"])
    assert "whole" in built
    assert "cells" not in built


def test_cards_and_validations_are_shown_and_written(copied, tmp_path, capsys):
    print_card("n1_targets", None)
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in ("NOTCH1 targets", "genecorpus 30M", "published rows 1,103", "deviation from the"):
        assert words in shown
    write_cards(tmp_path / "tasks.md", None)
    page = (tmp_path / "tasks.md").read_text()
    assert page.count("\n### ") == 75
    print_validations(None)
    assert "silver.labels" in capsys.readouterr().out
    print_validations(tmp_path / "v.html")
    html = (tmp_path / "v.html").read_text()
    assert "every_sample_has_a_label" in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


@pytest.fixture
def noise_file(paper_lake, place_of, tmp_path):
    """A CSV file of noise for all genes of the lake, by symbol; the lake is entered."""
    folder, *_ = paper_lake
    place = place_of(folder / "lake", folder / "sources", extra=paper())
    genes = place.rows("silver.entities").filter(entity_type="gene")
    genes = genes.filter(locus_group="protein-coding gene")
    path = tmp_path / "noise.csv"
    noise = np.random.default_rng(7).normal(size=(genes.height, 3))
    pl.DataFrame(noise, schema=["a", "b", "c"]).insert_column(0, genes["symbol"]).write_csv(path)
    return path


def test_vectors_stand_beside_the_published_scores_on_the_tasks_of_the_lake(noise_file):
    words = ["evaluate", str(noise_file), "--profile", "paper", "--json"]
    words += [word for task in ("pathways", "n1_targets") for word in ("--task", task)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    with gzip.open(published_file(), "rt") as file:
        scores = [
            float(row["score"])
            for row in csv.DictReader(file)
            if list(row.values())[:2] == ["Pathways", "MPNet"] and row["metric"] == "roc_auc"
        ]
    rows = {(row["scope"], row["encoder_id"]): row for row in found["means"]}
    row = rows["biological", "mpnet (published)"]
    assert row["value"] == pytest.approx(statistics.mean(scores))
    assert row["low"] is None
    assert ("biological", "GEARS (published)") in rows
    assert found["differences"] == []
    assert "paired" not in found["sentence"]
    assert any("no difference to them is tested" in note for note in found["notes"])


def test_vectors_of_a_lake_without_the_tasks_are_refused_with_the_commands_that_make_them(
    noise_file, tmp_path, place_of
):
    place_of(tmp_path / "empty", tmp_path)
    done = CliRunner().invoke(app, ["evaluate", str(noise_file), "--profile", "paper"])
    assert isinstance(done.exception, LakeError)
    assert "genebench curate" in str(done.exception)


def test_the_published_scores_are_imported_by_their_name(copied):
    from flows.release import import_results

    place, _ = copied
    import_results("published", "june_2024")
    with gzip.open(published_file(), "rt") as file:
        known = [row for row in csv.DictReader(file) if row["metric"] != "hamming"]
    rows = place.rows("gold.foreign_scores")
    assert rows.height == len(known) > 10_000
    assert rows["task_name"].n_unique() == 62
