"""The whole road on the miniature world, twice, and what runs again when something changes."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from places import Place
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.exceptions import PrefectHTTPStatusError
from world import build_world

from flows.run.summary import Unfinished
from genebench.errors import GenebenchError, LakeError, RegistryError
from lakehouse.tables.catalogue import TABLES
from lakehouse.tables.commits import Commit
from lakehouse.tables.maintenance import MAX_FILES, remove_rows
from lakehouse.tables.record_tables import RECORD_TABLES

ENCODERS = ["bag_of_words", "minilm", "random", "shuffled", "oracle", "degree"]
pytestmark = pytest.mark.usefixtures("prefect")


def run_all(**options):
    from flows.benchmark import benchmark

    return {outcome.verb: outcome for outcome in benchmark(encoders=ENCODERS, **options)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, prefect):
    """A world and the lake of one whole run on it; tests copy both before they change them."""
    folder = tmp_path_factory.mktemp("finished")
    world = build_world(folder / "sources")
    with pytest.MonkeyPatch.context() as patch:
        place = Place(folder / "lake", folder / "sources", patch)
        place.enter()
        outcomes = run_all()
    return folder, world, outcomes


@pytest.fixture
def copied(finished, tmp_path, place_of):
    """A copy of the finished world and lake, entered."""
    folder, _, _ = finished
    shutil.copytree(folder, tmp_path / "copy")
    world = build_world(tmp_path / "copy" / "sources")
    return place_of(tmp_path / "copy" / "lake", tmp_path / "copy" / "sources"), world


def names(rows):
    """The runs and keys of some evaluations."""
    return {column: {*rows[column]} for column in ("run_id", "evaluation_key")}


def evaluated_since(place, before):
    """(task, encoder) of the evaluations that a run added."""
    added = place.rows("gold.evaluations").join(before, on=["evaluation_key", "run_id"], how="anti")
    return set(added.select("task_id", "encoder_id").iter_rows())


def test_the_first_run_fills_every_layer(finished, place_of):
    folder, _, outcomes = finished
    place = place_of(folder / "lake", folder / "sources")
    counts = place.lake.counts()
    expected = set(TABLES) - {"audit.quarantine", "gold.predictions", "gold.foreign_scores"}
    assert expected <= set(counts)
    assert all(counts[name] > 0 for name in expected)
    assert set(outcomes["score"].done) == set(ENCODERS)


def test_every_score_is_a_number_within_its_metrics_range(finished, place_of):
    folder, _, _ = finished
    scores = place_of(folder / "lake", folder / "sources").rows("gold.scores")
    assert scores["value"].is_finite().all()
    auc = scores.filter(pl.col("metric") == "roc_auc")["value"]
    assert auc.is_between(0, 1).all()
    assert auc.n_unique() > 10


def test_every_evaluation_says_what_computed_it_and_how_far(finished, place_of):
    folder, _, _ = finished
    done = place_of(folder / "lake", folder / "sources").rows("gold.evaluations")
    done = done.filter(pl.col("status") == "ok")
    assert done["solver"].null_count() == 0
    iterated = done.filter(pl.col("gradient_norm").is_not_null())
    assert iterated.height > 10
    assert iterated["solver"].str.contains(r"^lbfgs float(32|64)").all()
    assert iterated["gradient_norm"].is_between(0, 1e-6).all()


def test_every_written_frame_was_validated(finished, place_of):
    folder, _, _ = finished
    place = place_of(folder / "lake", folder / "sources")
    validated = set(place.rows("audit.validations")["table_name"])
    records = {declared.name for declared in RECORD_TABLES}
    assert {*place.lake.counts()} - records <= validated


def test_a_second_run_computes_nothing_and_joins_the_small_files_of_evidence(copied):
    place, _ = copied
    delta, name, where = place.lake.delta, "audit.validations", {"table_name": "gold.scores"}
    rows, results = place.rows(name).filter(table_name="gold.scores").head(1), place.results()
    for _ in range(MAX_FILES):
        delta.append(name, rows, Commit("test", "test"))
    n_before = len(delta.partition_files(name, where) or [])
    assert n_before > MAX_FILES
    outcomes = run_all()
    assert not any(outcome.done for outcome in outcomes.values())
    assert 0 < len(delta.partition_files(name, where) or []) < 10
    kept = place.rows(name).filter(table_name="gold.scores", run_id=rows["run_id"][0])
    assert kept.height >= MAX_FILES
    assert place.results().equals(results)
    before = place.lake.counts()
    again = run_all()
    assert not any(outcome.done for outcome in again.values())
    after = place.lake.counts()
    assert {table for table in after if after[table] != before[table]} <= {name}


def test_deleting_an_encoders_vectors_and_results_computes_them_again_to_the_same_values(copied):
    place, _ = copied
    results = place.results()
    delta = place.lake.delta
    commit = Commit("test", "test")
    delta.delete("silver.embeddings", {"encoder_id": "bag_of_words"}, commit)
    gone = place.rows("gold.evaluations").filter(encoder_id="bag_of_words")
    for (family,), rows in gone.partition_by("family", as_dict=True).items():
        where = {"family": family, "encoder_id": "bag_of_words"}
        for table in ("gold.evaluations", "gold.scores"):
            remove_rows(delta, table, where, names(rows), commit)
    before = place.rows("gold.evaluations")
    outcomes = run_all()
    assert set(outcomes["embed"].done) == {"bag_of_words"}
    assert {encoder for _, encoder in evaluated_since(place, before)} == {"bag_of_words"}
    assert place.results().equals(results)


def test_a_run_that_begins_between_the_two_commits_of_another_takes_nothing_from_it(copied):
    from flows.score import score

    place, _ = copied
    results, commit = place.results(), Commit("test", "test")
    family = place.rows("gold.evaluations")["family"].min()
    where = {"family": family, "encoder_id": "bag_of_words"}
    mine = place.rows("gold.evaluations").filter(**where)
    # The other run has committed its scores and is about to commit their evaluations.
    remove_rows(place.lake.delta, "gold.evaluations", where, names(mine), commit)
    score(families=[place.rows("gold.evaluations")["family"].max()])
    place.lake.delta.append("gold.evaluations", mine, commit)
    assert place.results().equals(results)


def test_one_changed_label_evaluates_its_task_again_and_no_other(copied):
    place, world = copied
    gene = next(g for g in world.genes if g.chromosome == "1" and g.locus == "protein-coding")
    world.relabel(gene.symbol, "2")
    world.release("bioconductor", "3.17.0")
    world.write()
    before = place.rows("gold.evaluations")
    run_all()
    again = evaluated_since(place, before)
    readers = {(task, encoder) for task, encoder in again if encoder != "oracle"}
    # Degree is a control of pairs alone.
    others = set(ENCODERS) - {"oracle", "degree"}
    assert readers == {("chromosome", encoder) for encoder in others}
    # The oracle is made of labels, so its vectors of this gene moved with the label.
    assert ("chromosome", "oracle") in again


def test_a_renamed_symbol_is_read_again_by_text_encoders_only(copied):
    place, world = copied
    world.rename("KYN5", "KYN5NEW")
    world.release("bioconductor", "3.17.0")
    world.write()
    before = place.rows("gold.evaluations")
    vectors = place.rows("silver.embeddings").select("encoder_id", "entity_id", "vector_digest")
    outcomes = run_all()
    again = {encoder for _, encoder in evaluated_since(place, before)}
    assert again <= {"bag_of_words", "minilm", "shuffled"}
    assert "random" in outcomes["score"].skipped
    assert "oracle" in outcomes["score"].skipped
    now = place.rows("silver.embeddings").select("encoder_id", "entity_id", "vector_digest")
    moved = now.join(vectors, on=now.columns, how="anti")
    assert moved.filter(pl.col("encoder_id") == "minilm").height == 1


def test_the_same_bytes_under_a_new_version_evaluate_nothing(copied):
    place, world = copied
    world.release("bioconductor", "3.17.0")
    world.write()
    before = place.rows("gold.evaluations")
    outcomes = run_all()
    assert outcomes["refresh"].done
    assert evaluated_since(place, before) == set()


@pytest.mark.soak
def test_controls_behave(tmp_path, place_of, prefect):
    """On the facts that genebench carries: many rows, so chance is near one half."""
    from flows.benchmark import benchmark

    place = place_of(tmp_path / "lake", tmp_path, extra={})
    place.monkeypatch.delenv("GENEBENCH_SOURCES")
    from genebench.settings import get_settings

    get_settings.cache_clear()
    benchmark(encoders=["random", "oracle"], families=["biological", "genomic"])
    scores = place.rows("gold.scores").filter(
        (pl.col("metric") == "roc_auc") & (pl.col("label") == "")
    )
    means = scores.group_by("task_id", "kind", "encoder_id").agg(
        pl.col("value").mean(), pl.col("n_test").sum()
    )
    large = means.filter((pl.col("kind") == "binary") & (pl.col("n_test") >= 1000))
    assert large["task_id"].n_unique() >= 10
    noise = large.filter(pl.col("encoder_id") == "random")["value"]
    assert noise.is_between(0.45, 0.55).all(), noise
    truth = large.filter(pl.col("encoder_id") == "oracle")["value"]
    assert (truth > 0.99).all(), truth


def test_gold_scores_are_readable_with_nothing_but_polars(finished):
    folder, _, _ = finished
    means = (
        pl.scan_delta(str(folder / "lake" / "gold" / "scores"))
        .filter(pl.col("metric") == "roc_auc")
        .group_by("family", "encoder_id")
        .agg(pl.col("value").mean())
        .collect()
    )
    assert set(means["encoder_id"]) == set(ENCODERS)


def test_commits_say_which_run_and_which_snapshots_they_are_from(finished, place_of):
    folder, _, _ = finished
    place = place_of(folder / "lake", folder / "sources")
    last = place.lake.delta.history("silver.tasks", 1)[0]
    assert last["flow_run"]
    assert last["code"].startswith("0.")
    assert "bioconductor.genes" in last["inputs"]


def test_folds_in_the_lake_are_those_that_were_scored(finished, place_of):
    folder, _, _ = finished
    place = place_of(folder / "lake", folder / "sources")
    folds = place.rows("gold.folds").filter(pl.col("task_id") == "chromosome")
    held_out = folds.group_by("fold").len().sort("fold")["len"].to_list()
    scores = place.rows("gold.scores").filter(
        (pl.col("task_id") == "chromosome") & (pl.col("metric") == "accuracy")
    )
    assert scores.select("fold", "n_test").unique().sort("fold")["n_test"].to_list() == held_out


def test_an_unknown_encoder_is_refused_with_a_suggestion(copied):
    from flows.embed import embed

    with pytest.raises(RegistryError, match="did you mean 'minilm'"):
        embed(encoders=["minilmm"])


def test_what_nobody_has_heard_of_is_refused_before_anything_is_done(copied):
    from flows.benchmark import benchmark
    from flows.score import score

    place, world = copied
    world.release("bioconductor", "3.17.0")
    world.write()
    before = place.lake.counts()
    for wrong in ({"families": ["genmic"]}, {"protocol": "papr"}):
        with pytest.raises(RegistryError, match="did you mean"):
            benchmark(encoders=["random"], **wrong)
    for wrong in ({"families": ["genomic", "genmic"]}, {"tasks": ["chromosome", "chromosom"]}):
        with pytest.raises(RegistryError, match="did you mean"):
            score(["random"], **wrong)
    with pytest.raises(LakeError, match="no universe 'ful'"):
        score(["random"], universe="ful")
    assert place.lake.counts() == before


def test_scoring_an_encoder_without_vectors_fails_by_its_name_and_does_the_others(copied):
    from flows.score import score

    with pytest.raises(Unfinished, match="name_length: it has no vectors") as error:
        score(["random", "name_length"])
    assert list(error.value.summary.skipped) == ["random"]
    outcome = score(["r*", "name*"])
    assert "genebench embed name_length" in outcome.refused["name_length"]


def test_a_benchmark_with_a_failed_encoder_does_all_verbs_for_the_others_and_fails(copied):
    from flows.benchmark import benchmark

    place, _ = copied
    # The miniature world has fewer genes than tfidf has components.
    with pytest.raises(Unfinished, match="embed tfidf: ") as error:
        benchmark(encoders=["name_length", "tfidf"], families=["genomic"])
    assert set(error.value.failures) == {"embed tfidf", "score tfidf"}
    assert "name_length" in set(place.rows("gold.scores")["encoder_id"])
    assert "name_length" in set(place.lake.leaderboard_rows("current_paper")["encoder_id"])
    with get_client(sync_client=True) as client:
        asked = {"key": ArtifactFilterKey(any_=["embed"])}
        told = client.read_artifacts(artifact_filter=ArtifactFilter(**asked))
    assert any("| `tfidf` | refused |" in str(artifact.data) for artifact in told)


def test_a_batch_whose_evaluations_break_an_expectation_leaves_no_scores(copied, monkeypatch):
    from flows import score as module

    place, _ = copied
    build = module.evaluation_rows
    monkeypatch.setattr(
        module, "evaluation_rows", lambda *given: build(*given).with_columns(revision=pl.lit(0))
    )
    before = place.lake.counts()
    with pytest.raises(Unfinished, match="revision_counts_from_one"):
        module.score(["random"], protocol="standard", families=["genomic"])
    after = place.lake.counts()
    evidence = ("gold.scores", "gold.intervals", "gold.evaluations")
    assert [after[name] for name in evidence] == [before[name] for name in evidence]
    assert set(place.rows("audit.quarantine")["table_name"]) == {"gold.evaluations"}


def test_artifacts_that_the_server_refuses_are_warnings_and_the_run_completes(copied, monkeypatch):
    from flows.run import gate
    from flows.score import score

    place, _ = copied

    def refuse(*_args, **_options):
        raise PrefectHTTPStatusError("503", request=None, response=None)

    monkeypatch.setattr(gate, "create_markdown_artifact", refuse)
    assert set(score(["random"], tasks=["chromosome"], probes=["knn"]).done) == {"random"}
    assert "knn" in set(place.rows("gold.scores")["probe_id"])


def test_a_lake_of_one_profile_refuses_another(copied):
    from flows.curate import curate

    with pytest.raises(LakeError, match="serves the profile 'embedded', not 'paper'"):
        curate(profile="paper")


def test_scoring_an_empty_lake_says_what_to_run_first(tmp_path, place_of):
    from flows.score import score

    place_of(tmp_path / "lake", tmp_path)
    with pytest.raises(LakeError, match="genebench refresh"):
        score()


def test_a_corrupt_source_leaves_every_table_as_it_was(copied):
    from flows.refresh import refresh

    place, world = copied
    before = place.lake.counts()
    world.release("bioconductor", "3.18.0")
    world.write()
    path = Path(world.path_of("bioconductor.genes"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(GenebenchError, match=r"bioconductor\.genes"):
        refresh(["bioconductor.genes"])
    assert place.lake.counts() == before


def test_a_duplicate_gene_is_refused_and_the_catalogue_stays(copied):
    from flows.curate import curate
    from flows.refresh import refresh

    place, world = copied
    entities = place.rows("silver.entities")
    twin = world.genes[0]
    world.genes.append(twin)
    world.release("bioconductor", "3.19.0")
    world.write()
    refresh(["bioconductor.genes"])
    with pytest.raises(GenebenchError, match="1 values of entity_id are duplicated: ncbigene"):
        curate()
    assert place.rows("silver.entities").equals(entities)
