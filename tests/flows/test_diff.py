"""From one release of a source to the next: what changed in the lake, and why scores moved."""

import gzip
import hashlib
import json
import math
import re
import shutil

import polars as pl
import pytest
from places import Place
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from typer.testing import CliRunner
from world import Gene, build_world

from flows.cli.app import app
from flows.run.gate import save_changes
from genebench.errors import LakeError
from genebench.evaluation.statistics.means import task_means
from genebench.registry.loading import load_registry
from genebench.settings import get_settings
from lakehouse import open_lake
from lakehouse.report.diff.diff_summary import diff_markdown, summarise_diff
from lakehouse.report.diff.lake_diff import diff_states
from lakehouse.report.diff.lake_states import (
    choose_states,
    default_states,
    find_state,
    state_before,
)
from lakehouse.report.diff.score_causes import CAUSES
from lakehouse.report.diff.score_changes import ADDED, KEPT, REMOVED, select_changed
from lakehouse.report.lineage import read_lineage, verify_bytes
from lakehouse.report.page.contents import read_contents
from lakehouse.report.page.payload import to_payload
from lakehouse.report.page.write import write_report
from lakehouse.score.evidence import read_evidence
from lakehouse.score.scores import read_scores
from lakehouse.tables.commits import Commit
from lakehouse.tables.maintenance import remove_rows

ENCODERS = ["bag_of_words", "random", "oracle"]
FAMILIES = ["biological", "genomic"]
RELEASE = "current_paper"
pytestmark = pytest.mark.usefixtures("prefect")


def edit_terms(world, replaced):
    """Replace lines of the file of terms; an empty line removes the term."""
    path = world.path_of("bioconductor.go_terms")
    text = gzip.decompress(path.read_bytes()).decode()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def release_next(world):
    """Write the next release with one change of each kind."""
    withdrawn = world.gene("KYN3")
    heir = world.gene("KYN4")
    world.genes.remove(withdrawn)
    heir.proteins.extend(withdrawn.proteins)
    world.genes.append(
        Gene(number=900, symbol="NEW1", name="brand new protein 1", family="kinase",
             chromosome="1", proteins=["X00900"])
    )  # fmt: skip
    world.rename("KYN5", "KYN5LATER")
    moved = next(gene for gene in world.genes if gene.chromosome == "1" and gene.symbol != "KYN5")
    world.relabel(moved.symbol, "2")
    # Without a name it had no text, so it was outside of the universe.
    world.gene("GRX3").name = "coupled receptor 3"
    world.release("bioconductor", "3.17.0")
    world.write()
    edit_terms(
        world,
        {
            "GO:9200021\tphosphate transfer\tMF\n": "",
            "GO:9200031\tion passage": "GO:9200031\tpassage of ions",
        },
    )
    return moved


@pytest.fixture(scope="module")
def lakes(tmp_path_factory, prefect):
    """A lake with two frozen releases of two versions of a world, and the gene that moved."""
    from flows.benchmark import benchmark
    from flows.release import release

    folder = tmp_path_factory.mktemp("diff")
    world = build_world(folder / "sources")
    with pytest.MonkeyPatch.context() as patch:
        Place(folder / "lake", folder / "sources", patch).enter()
        benchmark(encoders=ENCODERS, families=FAMILIES)
        release("2022", RELEASE, allow_pending=True)
        moved = release_next(world)
        benchmark(encoders=ENCODERS, families=FAMILIES)
        release("2024", RELEASE, allow_pending=True)
    get_settings.cache_clear()
    return folder / "lake", moved


@pytest.fixture(scope="module")
def lake(lakes):
    return open_lake(lakes[0])


@pytest.fixture(scope="module")
def diff(lake):
    states = [find_state(lake, name, RELEASE) for name in ("2022", "2024")]
    return diff_states(*states, load_registry("embedded").tasks.values())


def one(frame, **where):
    return frame.filter(**where).row(0, named=True)


def test_added_withdrawn_and_renamed_entities_are_listed_with_their_symbols(diff):
    found = diff.entities.filter(pl.col("change") != "new name")
    assert dict(found.group_by("change").len().iter_rows()) == {
        "added": 1,
        "withdrawn": 1,
        "renamed": 1,
    }
    assert one(found, change="added")["now"] == "NEW1"
    withdrawn = one(found, change="withdrawn")
    assert (withdrawn["before"], withdrawn["now"]) == ("KYN3", None)
    assert withdrawn["successor"] == f"ncbigene:{9_000_004}"
    assert withdrawn["n_tasks"] > 0
    renamed = one(found, change="renamed")
    assert (renamed["before"], renamed["now"]) == ("KYN5", "KYN5LATER")


def test_gone_and_renamed_terms_are_listed_with_their_names(diff):
    found = {row["term_id"]: row for row in diff.terms.iter_rows(named=True)}
    assert set(found) == {"GO:9200021", "GO:9200031"}
    assert found["GO:9200021"]["change"] == "gone"
    assert found["GO:9200021"]["before"] == "phosphate transfer"
    renamed = found["GO:9200031"]
    assert (renamed["change"], renamed["now"]) == ("renamed", "passage of ions")


def test_the_source_is_listed_with_both_versions(diff):
    assert diff.versions.row(0)[:3] == ("bioconductor", "3.16.0", "3.17.0")


def test_the_samples_of_a_changed_task_are_those_of_the_planted_changes(diff, lakes):
    row = one(diff.samples, task_id="chromosome")
    # NEW1 came, KYN3 went, one gene lies elsewhere.
    planted = {"n_added": 1, "n_gone": 1, "n_relabelled": 1}
    planted |= {"n_labels_gained": 1, "n_labels_lost": 1}
    assert {name: row[name] for name in planted} == planted
    assert row["n_now"] - row["n_before"] == row["n_added"] - row["n_gone"]


def test_changed_labels_and_changed_samples_are_the_same_tasks(diff, lake):
    tables = [lake.at(when) for when in times(lake)]
    digests = [
        dict(
            one.table("silver.tasks")
            .filter(pl.col("parent_task_id").is_null())
            .select("task_id", "label_digest")
            .collect()
            .iter_rows()
        )
        for one in tables
    ]
    changed = {task for task, digest in digests[1].items() if digests[0].get(task) != digest}
    assert set(diff.samples["task_id"]) == changed
    for row in diff.samples.iter_rows(named=True):
        assert row["n_added"] + row["n_gone"] + row["n_relabelled"] > 0


def times(lake):
    return [find_state(lake, name, RELEASE).tables.as_of for name in ("2022", "2024")]


def test_the_universe_gains_the_new_gene_and_the_named_one_and_loses_the_withdrawn(diff, lake):
    sizes = [
        lake.table("gold.universes").filter(release_id=name).collect().height
        for name in ("2022", "2024")
    ]
    assert diff.universes.rows() == [("gene", *sizes, 2, 1)]
    assert sizes[1] - sizes[0] == 1


def test_every_moved_score_is_explained_and_the_counts_add_up(diff, lake):
    scores, counts = diff.scores, diff.counts
    assert counts["unexplained"] == 0
    assert counts["moved"] > 0
    changed = scores.filter(pl.col("keys") != "")
    assert changed["why"].str.len_chars().min() > 0
    assert {word for why in changed["why"] for word in why.split(" and ")} <= set(CAUSES)
    assert "declaration" not in set(changed["why"])
    before, after = (lake.release(name).height for name in ("2022", "2024"))
    assert after == counts["kept"] + counts["computed"] + counts["without_score"]
    n_added, n_removed = ((scores["why"] == why).sum() for why in (ADDED, REMOVED))
    assert before - n_removed == after - n_added
    moved = scores.filter(pl.col("change") != 0)
    assert moved.height == counts["moved"]
    assert moved.filter(pl.col("keys") == "").is_empty()


def test_the_causes_of_a_score_are_those_that_were_planted(diff):
    why = dict(diff.scores.filter(task_id="chromosome").select("encoder_id", "why").iter_rows())
    # Noise depends on ids alone; bag of words reads names, which one gene has anew.
    assert why["random"] == "labels and samples and universe"
    assert why["bag_of_words"] == "labels and samples and universe and inputs"
    assert why["oracle"] == "labels and samples and universe and inputs"
    # The samples of this task are the same genes with the same classes.
    kept = diff.scores.filter(task_id="hla_class")
    assert dict(kept.select("encoder_id", "why").iter_rows()) == {
        "random": "kept",
        "oracle": "inputs",
        "bag_of_words": "inputs",
    }


def test_the_means_are_those_of_both_releases(diff, lake):
    row = one(diff.scores, task_id="chromosome", encoder_id="random")
    errors = []
    for name, column in (("2022", "mean_before"), ("2024", "mean_after")):
        scores = read_scores(lake, "chromosome", "random", metric=row["metric"], release=name)
        assert task_means(scores.collect())["mean"].item() == pytest.approx(row[column])
        item = lake.release(name).filter(task_id="chromosome", encoder_id="random")
        metric = {"metric": row["metric"]}
        errors.append(read_evidence(lake, "gold.intervals", item).filter(**metric).collect())
    assert row["change"] == pytest.approx(row["mean_after"] - row["mean_before"])
    both = [one["standard_error"].item() for one in errors if one.height]
    assert row["noise"] == (pytest.approx(1.96 * math.hypot(*both), rel=1e-4) if both else None)


def test_what_was_computed_is_what_the_second_run_recorded(diff, lake):
    second = (
        lake.table("audit.runs").filter(verb="score").collect().sort("finished_at")["run_id"][-1]
    )
    computed = lake.table("gold.evaluations").filter(run_id=second, status="ok").collect()
    keys = set(computed["evaluation_key"])
    new = lake.release("2024").filter(pl.col("evaluation_key").is_in(list(keys)))
    assert new.height == diff.counts["computed"]


def test_a_score_that_moved_under_an_equal_key_is_unexplained(lakes, tmp_path):
    shutil.copytree(lakes[0], tmp_path / "lake")
    lake = open_lake(tmp_path / "lake")
    frozen = find_state(lake, "2024", RELEASE)
    key = lake.release("2024").filter(task_id="chromosome", encoder_id="random")[0]
    where = {"family": key["family"].item(), "encoder_id": "random"}
    rows = lake.table("gold.scores").collect()
    is_of_key = pl.col("evaluation_key") == key["evaluation_key"].item()
    other = rows.filter(is_of_key).with_columns(pl.col("value") * 0.5)
    commit = Commit("tamper", "test")
    chosen = {"evaluation_key": [key["evaluation_key"].item()]}
    remove_rows(lake.delta, "gold.scores", where, chosen, commit)
    lake.delta.append("gold.scores", other, commit)
    found = diff_states(frozen, find_state(lake, RELEASE, RELEASE), [])
    assert found.counts["unexplained"] == 1
    row = one(found.scores, why="unexplained")
    assert (row["task_id"], row["encoder_id"], row["keys"]) == ("chromosome", "random", "")


def test_the_newest_release_is_compared_with_the_one_before(lake):
    before, after = default_states(lake, RELEASE)
    assert (before.name, after.name) == ("2022", "2024")
    assert state_before(lake, RELEASE).name == "2022"
    assert state_before(lake, "2024").name == "2022"
    assert state_before(lake, "2022") is None


def test_runs_and_times_are_compared_like_releases(diff, lake):
    runs = lake.table("audit.runs").filter(verb="score").collect().sort("finished_at")
    ids = [row[:8] for row in runs["run_id"]]
    for names in (ids, [str(when) for when in times(lake)]):
        found = diff_states(
            *(find_state(lake, name, RELEASE) for name in names),
            load_registry("embedded").tasks.values(),
        )
        assert found.scores.drop("mean_before").equals(diff.scores.drop("mean_before"))
        assert found.entities.equals(diff.entities)
        assert found.terms.equals(diff.terms)


def test_an_unknown_name_is_refused_with_the_choices(lake):
    with pytest.raises(LakeError, match=r"did you mean '2024'.*releases: 2022, 2024, current_pap"):
        find_state(lake, "2042", RELEASE)
    with pytest.raises(LakeError, match=r"had no tasks on 2001-01-01 .*runs of score: "):
        find_state(lake, "2001-01-01", RELEASE)


def test_releases_in_the_wrong_order_are_refused_with_the_right_one(lake):
    for first in ("2024", RELEASE):
        with pytest.raises(LakeError, match=rf"{first} is later than 2022; .*diff 2022 {first}`"):
            choose_states(lake, RELEASE, first, "2022")


def test_the_summary_has_a_table_for_each_kind_of_change(diff):
    titles = [table.title for table in summarise_diff(diff)]
    assert [title.split()[0] for title in titles] == [
        "sources", "entities", "terms", "samples", "universe:", "scores",
    ]  # fmt: skip
    text = diff_markdown(diff)
    assert "0 of them unexplained" in text
    assert "KYN5 → KYN5LATER (ncbigene:9000005)" in text
    assert "KYN3 (ncbigene:9000003, now ncbigene:9000004)" in text


def test_the_command_compares_the_newest_releases_and_writes_what_it_shows(
    lakes, diff, place_of, tmp_path
):
    place_of(lakes[0], tmp_path)
    shown = CliRunner().invoke(app, ["diff"])
    assert shown.exit_code == 0, shown.output
    assert "2022 → 2024" in shown.output
    assert "labels and samples" in shown.output
    for part, frame in (
        ("entities", diff.entities),
        ("terms", diff.terms),
        ("samples", diff.samples),
        ("scores", select_changed(diff.scores)),
    ):
        path = tmp_path / f"{part}.csv"
        words = ["diff", "2022", "2024", "--show", part, "--csv", str(path)]
        assert CliRunner().invoke(app, words).exit_code == 0
        assert pl.read_csv(path).height == frame.height > 0
    written = json.loads(CliRunner().invoke(app, ["diff", "--json"]).stdout)
    assert written["counts"] == diff.counts
    assert len(written["entities"]) == diff.entities.height


def test_the_page_of_a_release_shows_what_changed_since_the_one_before(diff, lake, tmp_path):
    page = write_report(lake, "2024", tmp_path / "2024", with_files=False).read_text()
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    changes = json.loads(block[1])["changes"]
    assert (changes["before"], changes["after"]) == ("2022", "2024")
    assert [one["title"] for one in changes["tables"]] == [
        table.title for table in summarise_diff(diff)
    ]
    assert (
        len(changes["scores"])
        == diff.scores.drop_nulls("change").filter(pl.col("why") != KEPT).height
    )
    assert to_payload(lake, read_contents(lake, "2022"), "")["changes"] is None


@pytest.mark.parametrize("width", [1280, 390])
def test_the_changes_are_read_in_a_browser(browser, lake, tmp_path, width):
    path = write_report(lake, "2024", tmp_path, with_files=False)
    page = browser.new_page(viewport={"width": width, "height": 800})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    shown = page.locator("#changes").inner_text()
    assert "KYN5 → KYN5LATER" in shown
    assert "labels and samples" in shown
    page.goto(f"{path.as_uri()}#task=chromosome")
    page.locator("#task summary", has_text="Lineage").click()
    key = one(lake.release("2024"), task_id="chromosome", encoder_id="random")["evaluation_key"]
    assert page.locator("#task code", has_text=key).is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not wrong
    page.close()


@pytest.mark.parametrize(("release", "version"), [("2022", "3.16.0"), ("2024", "3.17.0")])
def test_a_score_is_followed_back_to_the_bytes_of_its_sources(lakes, lake, release, version):
    found = read_lineage(lake, "chromosome", "bag_of_words", release)
    item = one(lake.release(release), task_id="chromosome", encoder_id="bag_of_words")
    for name in ("evaluation_key", "label_digest", "feature_digest"):
        assert found.score[name] == item[name]
    (row,) = found.snapshots.iter_rows(named=True)
    assert (row["file"], row["version"]) == ("bioconductor.genes", version)
    assert row["used_for"] == "labels, entities, text of the encoder"
    source = lakes[0].parent / "sources" / "bioconductor" / version / "genes.tsv.gz"
    assert row["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert verify_bytes(lake, found.snapshots)["bytes"].to_list() == ["verified"]
    versions = dict(found.tables.select("table", "version").iter_rows())
    samples = lake.table("silver.samples", versions["silver.samples"]).filter(task_id="chromosome")
    assert found.labels["n_samples"] == samples.collect().height
    # In the first release one gene has no text, so it is outside of the universe.
    n_outside = {"2022": 1, "2024": 0}[release]
    assert found.score["n_samples"] == found.labels["n_samples"] - n_outside
    scores = read_scores(lake, "chromosome", "bag_of_words", metric="roc_auc", release=release)
    assert found.score["roc_auc"] == pytest.approx(
        scores.filter(label="").collect()["value"].mean()
    )
    json.dumps(found.to_dict())


def test_bytes_that_changed_in_the_lake_are_told(lakes, tmp_path):
    shutil.copytree(lakes[0], tmp_path / "lake")
    lake = open_lake(tmp_path / "lake")
    found = read_lineage(lake, "chromosome", "random", "2022").snapshots
    path = tmp_path / "lake" / "snapshots" / found["sha256"][0]
    path.chmod(0o644)
    path.write_bytes(b"other bytes")
    assert "verified" not in verify_bytes(lake, found)["bytes"][0]


def test_the_lineage_of_a_score_that_does_not_exist_suggests_the_nearest(lake):
    with pytest.raises(LakeError, match="did you mean 'chromosome'"):
        read_lineage(lake, "chromosom", "random", "2022")
    with pytest.raises(LakeError, match="no encoder in release '2022' named 'minilm'"):
        read_lineage(lake, "chromosome", "minilm", "2022")


def test_curate_and_benchmark_save_what_changed_as_an_artifact(lakes):
    with get_client(sync_client=True) as client:
        asked = ArtifactFilter(key=ArtifactFilterKey(any_=["changes"]))
        texts = [one.data for one in client.read_artifacts(artifact_filter=asked)]
    # Tests of other files use the server too, and rename no gene to this.
    mine = [text for text in texts if "KYN5 → KYN5LATER (ncbigene:9000005)" in text]
    assert len(mine) == 2
    assert all("| bioconductor | 3.16.0 | 3.17.0 |" in text for text in mine)
    (scored,) = [text for text in mine if "scores by cause" in text]
    assert "0 of them unexplained" in scored


def test_rows_that_are_gone_are_one_error_and_no_end_of_a_run(lakes, tmp_path):
    shutil.copytree(lakes[0], tmp_path / "lake")
    shutil.rmtree(tmp_path / "lake" / "bronze" / "bioconductor_go_terms")
    lake = open_lake(tmp_path / "lake")
    states = [find_state(lake, name, RELEASE) for name in ("2022", "2024")]
    tasks = load_registry("embedded").tasks.values()

    @flow
    def compare_in_a_flow():
        save_changes(lambda: diff_states(*states, tasks))

    with pytest.raises(LakeError, match="rows of an earlier table are gone"):
        diff_states(*states, tasks)
    compare_in_a_flow()


def test_equal_states_differ_in_nothing(lake):
    state = find_state(lake, "2024", RELEASE)
    found = diff_states(state, state, load_registry("embedded").tasks.values())
    assert found.is_empty
    assert set(found.scores["why"]) == {KEPT}
    assert "no difference" in diff_markdown(found)
