"""The paper profile on real source files: exact sizes, derived sub-tasks, and two real versions."""

import json

import polars as pl
import pytest
from places import Place

from flows.cli.inspect import open_registry
from genebench.entities.identifiers import Resolver
from genebench.errors import SourceError
from genebench.evaluation.problems import prepare_task
from genebench.registry.loading import load_registry
from lakehouse.curate.state import choose_snapshots, curation_key
from lakehouse.report.task_cards import read_task_cards, render_task_cards

pytestmark = pytest.mark.soak
REGISTRY = load_registry("paper")
COMPOSITE = "23.0-composite"
EXACT = {
    # task: rows, rows of the positive class
    "dosage_sensitivity": (487, 122),
    "bivalent_vs_non_methylated": (133, 95),
    "bivalent_vs_lys4_only": (171, 95),
    "long_vs_short_range_tf": (174, 46),
    "n1_targets": (1126, 563),
    "n1_network": (290, 98),
    "tf_vs_non_tf": (2765, 1639),
    "hla_class": (44, 20),
    "gene2gene": (290_032, 144_148),
}


def fill(place: Place, version: str | None = None) -> tuple[dict, dict, dict]:
    """Fetch what the profile reads, as the refresh flow does, and curate."""
    from flows.curate import curate_silver
    from flows.refresh import fetch_and_commit
    from flows.run.context import open_context

    context = open_context()
    for file_id in ["hpa.proteinatlas"] if version else context.registry.source_files:
        try:
            fetch_and_commit(context, file_id, version=version)
        except SourceError:
            assert file_id in context.registry.profile.optional
    snapshots = choose_snapshots(context.lake, context.registry)
    return curate_silver.fn(
        "paper", snapshots, curation_key(context.lake, context.registry, snapshots)
    )


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """A lake of the real files; then the same with a second version of the Human Protein Atlas."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        place = Place(folder / "lake", shared / "data", patch, extra={"PROFILE": "paper"})
        place.enter()
        account = fill(place)
        first = {n: place.rows(f"silver.{n}") for n in ("tasks", "samples", "labels", "entities")}
        first["page"] = render_task_cards(read_task_cards(place.lake, open_registry(None)))
        first["xrefs"] = place.rows("silver.xrefs")
        again = fill(place, COMPOSITE)
        second = {n: place.rows(f"silver.{n}") for n in ("tasks", "samples", "labels")}
        yield first, second, account, again


def leaves(tasks: pl.DataFrame) -> dict[str, dict]:
    rows = tasks.filter(pl.col("parent_task_id").is_null()).iter_rows(named=True)
    return {row["task_id"]: row for row in rows}


def common_labels(state: dict, task_id: str, universe: pl.Series) -> set[str]:
    """The labels above 1 % of a task over a universe."""
    mine = pl.col("task_id") == task_id
    row = leaves(state["tasks"])[task_id]
    rows = (state["samples"].filter(mine), state["labels"].filter(mine))
    return set(prepare_task(row, *rows, universe, REGISTRY.protocols["paper"]).labels)


@pytest.fixture(scope="module")
def universe(real, shared) -> pl.Series:
    """The 16,217 genes of the paper."""
    symbols = pl.Series((shared / "published" / "gene_universe.txt").read_text().split())
    found = Resolver(real[0]["xrefs"]).resolve(symbols, "symbol").entity_ids
    assert found.null_count() == 0
    assert found.n_unique() > 16_200
    return found.unique().sort()


def test_all_74_tasks_are_built_from_the_first_version(real):
    first, _, (_, left_out, failed), _ = real
    assert set(leaves(first["tasks"])) == set(REGISTRY.tasks)
    assert failed == {}
    assert set(left_out) <= {"input gene cdna"}


def test_sizes_are_exact_before_any_universe(real):
    first = real[0]
    rows = leaves(first["tasks"])
    for task_id, (size, positives) in EXACT.items():
        row = rows[task_id]
        found = round(row["label_density"] * row["n_samples"])
        assert (row["n_samples"], found) == (size, positives), task_id
    assert rows["subcellular_location"]["n_samples"] == 13_147
    prognoses = [r["n_samples"] for name, r in rows.items() if name.startswith("pathology_")]
    assert (len(prognoses), min(prognoses), max(prognoses)) == (17, 16_791, 18_099)
    assert rows["pathways"]["n_labels"] == 29


def test_prognoses_have_three_classes_and_clusters_no_class_for_missing(real):
    for state in real[:2]:
        rows = leaves(state["tasks"])
        for name, row in rows.items():
            if name.startswith("pathology_"):
                assert row["label_names"] == [
                    "prognostic favorable", "prognostic unfavorable", "unprognostic",
                ]  # fmt: skip
        assert "nan" not in rows["cell_line_expression_cluster"]["label_names"]


def test_the_mended_pair_task_has_each_pair_once_and_with_one_label(real):
    first = real[0]
    samples = first["samples"].filter(pl.col("task_id") == "gene2gene_distinct")
    pairs = samples.sort("position").group_by("sample_id").agg(pl.col("entity_id"))
    unordered = pairs["entity_id"].list.sort().list.join("|")
    assert not unordered.is_duplicated().any()
    assert (pairs["entity_id"].list.n_unique() == 2).all()
    counts = json.loads(leaves(first["tasks"])["gene2gene_distinct"]["counts"])
    assert counts["self pairs"] > 0
    assert counts["contradictory pairs"] > 0
    assert counts["repeated pairs"] > 0


def test_what_does_not_resolve_is_little_and_listed(real):
    entities = real[0]["entities"]
    outside = entities.filter(pl.col("locus_group") == "not in the catalogue")
    assert 0 < outside.height < 0.01 * entities.height


def test_derived_sub_tasks_are_the_published_ones_where_the_data_exist(real, shared, universe):
    published = pl.read_csv(shared / "tasks.csv", infer_schema=False).filter(
        pl.col("parent").is_not_null()
    )
    of = {
        parent: set(rows["label"])
        for (parent,), rows in published.partition_by("parent", as_dict=True).items()
    }
    first, second, *_ = real
    pathways = common_labels(first, "pathways", universe)
    assert len(pathways) == 25
    assert pathways == of["Pathways"]
    locations = common_labels(first, "subcellular_location", universe)
    assert locations == of["Subcellular location"]
    assert common_labels(second, "protein_class", universe) == of["Protein class"]
    ptm = common_labels(first, "uniprot_keyword_ptm", universe)
    # The file at hand leaves out the one keyword that it cannot vouch for.
    assert of["UniProt keyword PTM"] - ptm == {"Glycoprotein"}
    assert ptm <= of["UniProt keyword PTM"]


def test_a_second_real_version_changes_its_own_tasks_and_says_how_many_samples(real):
    first, second, _, (done, _, failed) = real
    assert failed == {}
    before, after = leaves(first["tasks"]), leaves(second["tasks"])
    changed = {n for n in after if after[n]["label_digest"] != before[n]["label_digest"]}
    assert changed == {name for name in done if not name.startswith("silver.")}
    assert 30 < len(changed) < 60
    assert all(REGISTRY.tasks[name].source == ("hpa.proteinatlas",) for name in changed)
    assert "16,622 samples changed (hpa 23.0 → 23.0-composite)" in done["chromosome"]
    # These columns are whole in both files.
    assert "subcellular_location" not in changed
    assert not any(name.startswith("pathology_") for name in changed)


def test_a_composite_is_never_mixed_in_silently(real):
    first, second, *_ = real
    for state, version in ((first, "hpa_23_0_protein"), (second, "hpa_23_0_composite_")):
        atlas = [r for r in leaves(state["tasks"]).values() if r["source"] == "hpa.proteinatlas"]
        assert len(atlas) == 60
        assert len({row["snapshot_id"] for row in atlas}) == 1
        assert atlas[0]["snapshot_id"].startswith(version)


def test_the_page_of_tasks_is_current(real, pytestconfig):
    page = pytestconfig.rootpath / "docs" / "tasks.md"
    remedy = "run `genebench cards docs/tasks.md` in a curated lake of the real sources"
    assert page.read_text(encoding="utf-8") == real[0]["page"], remedy
