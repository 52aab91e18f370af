"""Published results: read in each format, matched to tasks and encoders, and compared."""

import polars as pl
import pytest

from genebench.errors import LakeError
from genebench.registry.loading import load_registry
from genebench.registry.published_names import metric_of, read_published_names
from genebench.tasks.declaration import Task
from lakehouse import open_lake
from lakehouse.report.exports import csv_rows
from lakehouse.report.imports import imported_means, read_imported, require_free_name
from lakehouse.report.published_comparison import compare_published
from lakehouse.tables.commits import Commit

pytestmark = pytest.mark.slow


def declare(task_id: str, title: str, **more) -> Task:
    fields = {"profile": "synthetic", "family": "genomic", "kind": "regression", "recipe": "column"}
    return Task.model_validate({"id": task_id, "title": title, "source": "a.b", **fields, **more})


@pytest.fixture(scope="module")
def tasks(synthetic) -> dict[str, Task]:
    rows = synthetic.tasks().filter(pl.col("parent_task_id").is_null()).collect()
    return {
        task_id: declare(task_id, title)
        for task_id, title in rows.select("task_id", "title").iter_rows()
    }


def write(folder, text: str, name: str = "results.csv"):
    path = folder / name
    path.write_text(text)
    return path


LONG = """task_name,task_group,model_name,fold,metric,score,task_type,Model family,Model
TF vs non-TF,Regulatory,mpnet,0,roc_auc,0.9,binary,Text,MPNet
TF vs non-TF,Regulatory,mpnet,1,roc_auc,0.7,binary,Text,MPNet
TF vs non-TF,Regulatory,gears,0,roc_auc,0.6,binary,Network,GEARS
"""
REPORT = """task_name,sub_task,base_prediction_model,sample_size,encoder_model_name,model_name,\
test_roc_auc_ovr_weighted,mean_roc_auc_ovr_weighted,sd_roc_auc_ovr_weighted,\
test_neg_root_mean_squared_error
Chromosome,,LogisticRegression(),100,x,MPNet,"0.5,0.7",0.6,0.1,
Interactions,,LinearRegression(),50,x,MPNet,,,,"-2.0,-4.0"
"""
SUMMARY = """task,model,metric,value
TF vs non-TF,Bag of Words,roc_auc,0.93
TF vs non-TF,Bag of Words,roc_auc_sd,0.011
"""


def test_the_long_format_keeps_folds_and_display_names(tmp_path, tasks):
    rows = read_imported(write(tmp_path, LONG), "june", tasks, "run")
    assert set(rows["encoder_name"]) == {"MPNet", "GEARS"}
    means = imported_means(rows).filter(pl.col("encoder_name") == "MPNet")
    assert means["mean"].item() == pytest.approx(0.8)
    assert means["sd"].item() == pytest.approx(0.1)
    assert means["n_folds"].item() == 2


def test_the_report_format_splits_folds_and_turns_negative_errors(tmp_path, tasks):
    means = imported_means(read_imported(write(tmp_path, REPORT), "june", tasks, "run"))
    auc = means.filter(pl.col("metric") == "roc_auc").row(0, named=True)
    assert (auc["mean"], auc["sd"], auc["n_folds"], auc["n_samples"]) == (0.6, 0.1, 2, 100)
    error = means.filter(pl.col("metric") == "rmse").row(0, named=True)
    assert (error["mean"], error["sd"]) == (3.0, 1.0)


def test_a_summary_takes_sizes_from_the_file_beside_it(tmp_path, tasks):
    path = write(tmp_path, SUMMARY)
    write(tmp_path, "task,type,n_evaluated\nTF vs non-TF,binary,2581\n", "evaluated_sizes.csv")
    means = imported_means(read_imported(path, "june", tasks, "run")).row(0, named=True)
    assert (means["mean"], means["sd"], means["n_samples"]) == (0.93, 0.011, 2581)


def test_rows_with_unknown_names_are_kept(tmp_path, tasks):
    rows = read_imported(write(tmp_path, LONG), "june", tasks, "run")
    gears = rows.filter(pl.col("encoder_name") == "GEARS")
    assert gears.height == 1
    assert gears["encoder_id"].null_count() == 1
    assert rows["task_id"].null_count() == rows.height


def test_the_id_of_a_declared_encoder_is_matched_to_itself(tmp_path, tasks):
    assert read_published_names().encoder_of("tfidf") is None, "the paper has no such model"
    path = write(tmp_path, "task,model,metric,value\nAny,tfidf,roc_auc,0.7\n")
    assert read_imported(path, "june", tasks, "run")["encoder_id"].to_list() == ["tfidf"]


def test_published_names_are_matched_to_tasks_without_case():
    named = {"ccd": declare("ccd", "Cell cycle", paper={"task": "CCD Protein"})}
    assert read_published_names().task_of("ccd protein", named) == "ccd"
    assert read_published_names().encoder_of("Bag of Words") == "bag_of_words"
    assert read_published_names().encoder_of("GEARS") is None


def test_the_papers_name_of_a_task_precedes_the_title_of_another():
    swapped = {
        "network": declare("network", "N1 network", paper={"task": "N1 targets"}),
        "targets": declare("targets", "N1 targets", paper={"task": "N1 network"}),
    }
    assert read_published_names().task_of("N1 network", swapped) == "targets"
    assert read_published_names().task_of("N1 targets", swapped) == "network"


def test_every_declared_encoder_of_the_published_names_exists():
    known = load_registry("embedded").encoders
    assert set(read_published_names().encoders.values()) <= set(known)


def test_published_scorers_are_matched_to_metrics():
    assert metric_of("roc_auc_weighted") == ("roc_auc", 1.0)
    assert metric_of("f1") == ("f1", 1.0)
    assert metric_of("neg_mean_absolute_error") == ("mae", -1.0)
    assert metric_of("fit_time") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "has the columns of no known format"),
        (SUMMARY.replace("0.93", "high"), "are not numbers, the first is 'high'"),
        (LONG + LONG.splitlines()[1] + "\n", "1 duplicate rows"),
        ("task,model,metric,value\nA,B,fit_time,3\n", "no score of a known metric"),
        ("", "cannot be read as CSV"),
    ],
)
def test_an_unreadable_file_is_one_clear_error(tmp_path, tasks, text, words):
    with pytest.raises(LakeError, match=words):
        read_imported(write(tmp_path, text), "june", tasks, "run")


def test_a_missing_file_and_a_bad_name_are_refused(tmp_path, tasks):
    with pytest.raises(LakeError, match="there is no file"):
        read_imported(tmp_path / "none.csv", "june", tasks, "run")
    with pytest.raises(LakeError, match="is not a valid release name"):
        read_imported(write(tmp_path, LONG), "June 2024", tasks, "run")


def test_an_import_cannot_take_the_name_of_a_scored_release(synthetic, tmp_path):
    lake = open_lake(tmp_path / "lake")
    frozen = synthetic.release().head(1).with_columns(release_id=pl.lit("2026.1"))
    lake.delta.append("gold.releases", frozen, Commit("test", "test"))
    with pytest.raises(LakeError, match="never mix"):
        require_free_name(lake, "2026.1")
    require_free_name(lake, "june_2024")


def test_the_genebench_format_keeps_task_ids_and_skips_rows_of_labels(tmp_path):
    named = {
        "n1_network": declare("n1_network", "N1 network", paper={"task": "N1 targets"}),
        "n1_targets": declare("n1_targets", "N1 targets", paper={"task": "N1 network"}),
        "places": declare("places", "Places"),
    }
    text = """task_id,encoder_id,label,fold,metric,value
n1_network,minilm,,0,roc_auc,0.6
n1_targets,minilm,,0,roc_auc,0.7
places,minilm,,0,roc_auc,0.8
places,minilm,inner rim,0,roc_auc,0.9
places__inner_rim,minilm,,0,roc_auc,0.5
nowhere__inner_rim,minilm,,0,roc_auc,0.4
"""
    rows = read_imported(write(tmp_path, text), "twin", named, "run")
    assert set(rows.select("task_name", "label", "task_id", "value").iter_rows()) == {
        ("n1_network", "", "n1_network", 0.6),
        ("n1_targets", "", "n1_targets", 0.7),
        ("places", "", "places", 0.8),
        ("places__inner_rim", "", "places__inner_rim", 0.5),
        ("nowhere__inner_rim", "", None, 0.4),
    }


@pytest.mark.parametrize("probe", ["linear", "mlp"])
@pytest.mark.parametrize("form", ["long", "report"])
def test_exported_files_are_imported_with_the_same_means(tmp_path, synthetic, tasks, form, probe):
    csv_rows(synthetic, "current", form).write_csv(tmp_path / "ours.csv")
    foreign = read_imported(tmp_path / "ours.csv", "twin", tasks, "run").with_columns(
        pl.col("encoder_name").alias("encoder_id")
    )
    if form == "report":
        names = {row["title"]: row["encoder_id"] for row in synthetic.encoders().to_dicts()}
        foreign = foreign.with_columns(pl.col("encoder_name").replace(names).alias("encoder_id"))
    compared = compare_published(synthetic, foreign, tasks, "current", probe=probe)
    whole = compared.filter((pl.col("label") == "") & pl.col("ours").is_not_null())
    assert whole.height >= 74 * 4
    assert whole["difference"].abs().max() < 1e-9
    assert set(whole["verdict"]) == {"within 2 SD"}


def compare_one(tmp_path, synthetic, tasks, *, shift_in_sds: float, **summary):
    ours = synthetic.scores("task_3", "e0", metric="roc_auc", probe="linear").collect()
    mean = ours["value"].mean() + shift_in_sds * 0.01
    name = summary.get("task", "Task 3")
    text = f"task,model,metric,value\n{name},e0,roc_auc,{mean}\n{name},e0,roc_auc_sd,0.01\n"
    foreign = read_imported(write(tmp_path, text), "june", tasks, "run").with_columns(
        pl.lit("e0").alias("encoder_id")
    )
    return compare_published(synthetic, foreign, tasks, "current").row(0, named=True)


def test_a_difference_is_given_in_published_deviations_with_a_verdict(tmp_path, synthetic, tasks):
    near = compare_one(tmp_path, synthetic, tasks, shift_in_sds=-1.5)
    assert near["in_sds"] == pytest.approx(1.5)
    assert (near["verdict"], near["cause"]) == ("within 2 SD", None)
    far = compare_one(tmp_path, synthetic, tasks, shift_in_sds=3.0)
    assert far["in_sds"] == pytest.approx(-3.0)
    assert far["verdict"] == "outside 2 SD"
    assert "by the protocol standard" in far["cause"]


def test_a_declared_deviation_is_a_stated_cause(tmp_path, synthetic, tasks):
    changed = tasks | {"task_3": declare("task_3", "Task 3", deviation="other genes are counted")}
    far = compare_one(tmp_path, synthetic, changed, shift_in_sds=3.0)
    assert "other genes are counted" in far["cause"]


def test_a_task_that_is_not_declared_has_its_own_verdict(tmp_path, synthetic, tasks):
    row = compare_one(tmp_path, synthetic, tasks, shift_in_sds=0, task="NeXtProt evidence")
    assert row["verdict"] == "not known here"
    assert row["ours"] is None


def test_a_release_without_the_published_encoders_says_what_to_score(tmp_path, synthetic, tasks):
    foreign = read_imported(write(tmp_path, SUMMARY), "june", tasks, "run")
    with pytest.raises(LakeError, match="genebench score --protocol paper"):
        compare_published(synthetic, foreign, tasks, "current")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"metric": "rocauc"}, "did you mean 'roc_auc'"),
        ({"metric": "mcc"}, "no score by mcc with the probe linear; they have rmse, roc_auc"),
        ({"probe": "mlp"}, "no score by r2, roc_auc with the probe mlp;.* with linear"),
    ],
)
def test_a_metric_or_probe_that_was_not_published_has_its_own_error(
    tmp_path, synthetic, tasks, asked, words
):
    foreign = read_imported(write(tmp_path, REPORT), "june", tasks, "run")
    with pytest.raises(LakeError, match=words):
        compare_published(synthetic, foreign, tasks, "current", **asked)


def test_the_published_binary_tasks_are_read_completely(shared):
    tasks = load_registry("paper").tasks
    rows = read_imported(shared / "published" / "binary_tasks.csv", "june", tasks, "run")
    means = imported_means(rows).filter(pl.col("metric") == "roc_auc")
    assert means.height == 11 * 9
    assert means["sd"].null_count() == 0
    assert means["n_samples"].null_count() == 0
    tf = means.filter((pl.col("task_name") == "TF vs non-TF") & (pl.col("encoder_id") == "mpnet"))
    assert tf["mean"].item() == pytest.approx(0.92968971298241)
    assert tf["n_samples"].item() == 2581
    assert means["task_id"].null_count() == 0, means.filter(pl.col("task_id").is_null())


@pytest.mark.parametrize("name", ["current", "current_paper", "current_full"])
def test_results_are_not_imported_under_a_name_that_score_writes(tmp_path, name):
    with pytest.raises(LakeError, match="is reserved"):
        require_free_name(open_lake(tmp_path / "empty"), name)
