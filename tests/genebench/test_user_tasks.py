"""User tasks: folders in the published format, and YAML entries with a file."""

from pathlib import Path

import polars as pl
import pytest

from genebench.errors import RegistryError
from genebench.registry.loading import load_registry


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_csv", ".csv").replace("_yaml", ".yaml")).write_text(text)
    return folder


def load(path: Path, profile: str = "paper"):
    return load_registry(profile, task_paths=[path]).user_tasks


def mistakes_of(path: Path, profile: str = "paper") -> str:
    with pytest.raises(RegistryError) as error:
        load(path, profile)
    return "\n".join(error.value.mistakes)


def test_a_folder_is_read_as_the_published_package_writes_it(tmp_path):
    write(
        tmp_path / "My task",
        entities_csv="symbol\nNA\nTP53\nBRCA1\n",
        outcomes_csv="Outcomes\na\nb\na\n",
    )
    user_task = load(tmp_path)["my_task"]
    assert user_task.task.kind == "binary"
    assert user_task.task.positive == "b"
    assert user_task.task.family == "own"
    assert user_task.table.rows() == [("NA", "a"), ("TP53", "b"), ("BRCA1", "a")]


def test_nested_folders_share_the_entities_of_the_folder_above(tmp_path):
    root = write(tmp_path / "all", entities_csv="symbol\nA\nB\nC\n")
    write(root / "deep" / "one", outcomes_csv="x\n1.5\n2\n3\n")
    write(root / "deep" / "two", outcomes_csv="x\na\nb\nc\n", entities_csv="symbol\nD\nE\nF\n")
    found = load(root)
    assert set(found) == {"deep_one", "deep_two"}
    assert found["deep_one"].task.kind == "regression"
    assert found["deep_one"].table["entity_0"].to_list() == ["A", "B", "C"]
    assert found["deep_two"].task.kind == "multiclass"
    assert found["deep_two"].table["entity_0"].to_list() == ["D", "E", "F"]


def test_several_outcome_columns_are_labels(tmp_path):
    write(tmp_path / "m", entities_csv="symbol\nA\nB\n", outcomes_csv="x,y\n1,0\nFalse,True\n")
    task = load(tmp_path)["m"].task
    assert (task.kind, task.recipe) == ("multilabel", "flags")
    assert task.arguments["columns"] == ["x", "y"]


def test_two_entity_columns_are_pairs(tmp_path):
    write(tmp_path / "p", entities_csv="symbol,symbol\nA,B\nA,C\n", outcomes_csv="o\n0\n1\n")
    write(tmp_path / "d", entities_csv="symbol,diseaseId\nA,EFO_1\nB,EFO_2\nB,EFO_1\n",
          outcomes_csv="o\n0.1\n0.5\n0.9\n")  # fmt: skip
    found = load(tmp_path)
    assert found["p"].task.entity == ("gene", "gene")
    assert found["p"].task.recipe == "pairs"
    assert found["d"].task.entity == ("gene", "disease")
    assert found["d"].task.recipe == "association"


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        ("1,0,NA,1", "binary", ["1", "0", None, "1"]),
        ("1.5,0.2,NaN,1", "regression", ["1.5", "0.2", None, "1"]),
        ("a,#N/A,nan,null", "multiclass", ["a", None, None, None]),
    ],
)
def test_an_outcome_that_says_it_is_missing_is_no_class(tmp_path, cells, kind, expected):
    write(tmp_path / "t", entities_csv="symbol\nNA\nnull\nA\nB\n",
          outcomes_csv="\n".join(["o", *cells.split(",")]),
          task_yaml="kind: multiclass\n" if kind == "multiclass" else "")  # fmt: skip
    user_task = load(tmp_path)["t"]
    assert user_task.task.kind == kind
    assert user_task.table["o"].to_list() == expected
    assert user_task.table["entity_0"].to_list() == ["NA", "null", "A", "B"]


def test_labels_that_say_they_are_missing_stay_to_be_refused(tmp_path):
    """An empty cell of labels is a no, which a missing one is not."""
    write(tmp_path / "m", entities_csv="symbol\nA\nB\n", outcomes_csv="x,y\n1,0\nNA,1\n")
    assert load(tmp_path)["m"].table["x"].to_list() == ["1", "NA"]


def test_a_blank_line_among_the_rows_is_an_empty_cell(tmp_path):
    write(tmp_path / "t", entities_csv="symbol\nA\n\nB\nC\nD\n\n",
          outcomes_csv="o\nx\ny\n\nz\nz\n\n\n")  # fmt: skip
    rows = load(tmp_path)["t"].table.rows()
    assert rows == [("A", "x"), (None, "y"), ("B", None), ("C", "z"), ("D", "z")]


def test_a_file_that_cannot_be_read_is_not_said_to_have_no_rows(tmp_path):
    write(tmp_path / "t", entities_csv="symbol\n", outcomes_csv="o\n1\n2\n")
    assert "correspond" not in mistakes_of(tmp_path)


def test_each_entity_of_a_pair_is_read_as_its_own_column_says(tmp_path):
    write(tmp_path / "p", entities_csv="hgnc_id,entrez_id\nHGNC:1,2\nHGNC:1,3\n",
          outcomes_csv="o\n0\n1\n")  # fmt: skip
    write(tmp_path / "d", entities_csv="symbol,diseaseId\nA,EFO_1\nB,EFO_2\n",
          outcomes_csv="o\n0\n1\n")  # fmt: skip
    found = load(tmp_path)
    namespaces = {
        name: (user_task.task.arguments["namespace"], user_task.task.arguments["second_namespace"])
        for name, user_task in found.items()
    }
    assert namespaces == {"p": ("hgnc", "entrez"), "d": ("symbol", "efo")}
    assert (found["d"].task.recipe, found["d"].task.entity) == ("pairs", ("gene", "disease"))


def test_a_task_yaml_says_what_the_folder_does_not(tmp_path):
    words = "title: Ours\nkind: multiclass\nfamily: genomic\ndescription: Made by us.\n"
    write(tmp_path / "t", entities_csv="symbol\nA\nB\n", outcomes_csv="o\n1\n2\n", task_yaml=words)
    task = load(tmp_path)["t"].task
    assert (task.title, task.kind, task.family) == ("Ours", "multiclass", "genomic")


def test_a_yaml_entry_with_a_file_is_a_task(tmp_path):
    (tmp_path / "mine.csv").write_text('gene,is\n"TP53",yes\nBRCA1,no\n')
    entry = tmp_path / "mine.yaml"
    entry.write_text(
        "mine:\n  title: Mine\n  kind: binary\n  positive: 'yes'\n  file: mine.csv\n"
        "  family: biological\n  recipe: column\n"
        "  with: {id: gene, namespace: symbol, column: is}\n"
    )
    registry = load_registry("paper", task_paths=[entry])
    user_task = registry.user_tasks["mine"]
    assert registry.tasks["mine"] is user_task.task
    assert (user_task.task.family, user_task.task.source) == ("biological", ("own.mine",))
    assert user_task.table.rows() == [("TP53", "yes"), ("BRCA1", "no")]
    assert "own.mine" not in registry.source_files


def test_the_content_names_the_snapshot(tmp_path):
    folder = write(tmp_path / "t", entities_csv="symbol\nA\nB\n", outcomes_csv="o\n1\n2\n")
    first = load(tmp_path)["t"].snapshot_id
    assert load(tmp_path)["t"].snapshot_id == first
    write(folder, outcomes_csv="o\n1\n3\n")
    assert load(tmp_path)["t"].snapshot_id != first


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"outcomes_csv": "o\n1\n"}, "no entities.csv beside outcomes.csv"),
        (
            {"entities_csv": "symbol\nA\nB\n", "outcomes_csv": "o\n1\n"},
            "2 rows of entities .* but 1 of outcomes",
        ),
        (
            {"entities_csv": "symbol\nA\nB\nC\n", "outcomes_csv": "o\n1\n\n2\n3\n"},
            "3 rows of entities .* but 4 of outcomes",
        ),
        (
            {
                "entities_csv": "symbol\nA\nB\n",
                "outcomes_csv": "o\nNA\nNA\n",
                "task_yaml": "kind: binary\n",
            },
            "outcomes.csv: no row has an outcome",
        ),
        (
            {"entities_csv": "symbl\nA\n", "outcomes_csv": "o\n1\n"},
            "column 'symbl' is not one of .* did you mean 'symbol'",
        ),
        ({"entities_csv": "symbol\nA\n", "outcomes_csv": "o\n"}, "a header and at least one row"),
        (
            {"entities_csv": "symbol\nA\nB\n", "outcomes_csv": "o,p\n1,0\n1\n"},
            "line 3 does not have 2 cells",
        ),
        (
            {"entities_csv": "symbol\nA\n", "outcomes_csv": "o\n1\n", "task_yaml": "knd: binary\n"},
            "unknown key 'knd', did you mean 'kind'",
        ),
        (
            {"entities_csv": "symbol,hgnc_id,symbol\nA,HGNC:1,B\n", "outcomes_csv": "o\n1\n"},
            r"entities.csv: 3 columns \(symbol, hgnc_id, symbol\); .* keep one column or two",
        ),
        (
            {"entities_csv": "symbol\nA\n", "outcomes_csv": "o,p,o\n1,0,1\n"},
            "outcomes.csv: the column name 'o' is already used",
        ),
        (
            {"entities_csv": "symbol\nA\n", "outcomes_csv": "entity_0\n1\n"},
            "outcomes.csv: the column name 'entity_0' is already used",
        ),
        (
            {"entities_csv": "symbol,symbol\nA,B\nA,C\nA,D\n", "outcomes_csv": "o\nx\ny\nz\n"},
            "recipe 'pairs' builds binary tasks, not multiclass",
        ),
    ],
)
def test_mistakes_name_the_folder_and_the_remedy(tmp_path, files, expected):
    write(tmp_path / "wrong", **files)
    with pytest.raises(RegistryError, match=expected):
        load(tmp_path)


def test_a_disease_column_needs_a_profile_with_diseases(tmp_path):
    write(tmp_path / "d", entities_csv="symbol,diseaseId\nA,EFO_1\n", outcomes_csv="o\n0.1\n")
    assert "no catalogue for entity type 'disease'" in mistakes_of(tmp_path, "embedded")


def test_an_entry_without_a_file_and_a_name_that_is_taken_are_refused(tmp_path):
    entry = tmp_path / "own.yaml"
    entry.write_text("mine:\n  title: Mine\n")
    assert "the key 'file' is missing" in mistakes_of(entry)
    folder = write(tmp_path / "x" / "chromosome")
    write(folder, entities_csv="symbol\nA\nB\n", outcomes_csv="o\n1\n2\n")
    assert "another task has this id" in mistakes_of(tmp_path / "x")
    assert "no such folder" in mistakes_of(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no outcomes.csv" in mistakes_of(empty)


def test_an_entry_whose_file_repeats_a_column_is_refused(tmp_path):
    (tmp_path / "mine.csv").write_text("gene,is,is\nTP53,yes,no\n")
    entry = tmp_path / "mine.yaml"
    entry.write_text(
        "mine:\n  title: Mine\n  kind: multiclass\n  file: mine.csv\n  recipe: column\n"
        "  with: {id: gene, namespace: symbol, column: is}\n"
    )
    assert "mine.csv: the column name 'is' is already used" in mistakes_of(entry)


def test_an_entry_with_one_file_is_refused_a_recipe_that_reads_several(tmp_path):
    (tmp_path / "mine.csv").write_text("gene,node\nTP53,x\n")
    entry = tmp_path / "mine.yaml"
    entry.write_text(
        "mine:\n  title: Mine\n  kind: multilabel\n  file: mine.csv\n  recipe: membership\n"
        "  with: {id: gene, namespace: symbol, node: node, node_id: id, node_name: name}\n"
        "ours:\n  title: Ours\n  kind: binary\n  positive: both\n  file: mine.csv\n"
        "  recipe: co_membership\n"
        "  with: {id: gene, namespace: symbol, group: node, under: x}\n"
    )
    found = mistakes_of(entry)
    assert "mine: recipe 'membership' reads 3 source files (annotations, edges, names)" in found
    assert "ours: recipe 'co_membership' reads 2 source files (annotations, edges)" in found


def test_the_published_resource_of_the_long_range_task_is_a_task(tmp_path):
    """Three folders deep, as the published package keeps it."""
    folder = tmp_path / "t" / "level1" / "level2" / "level3_with_data_local"
    symbols = "\n".join(["symbol", *(f"GENE{n}" for n in range(8))])
    outcomes = "\n".join(["Outcomes", *["long_range"] * 3, *["short_range"] * 5])
    write(folder, entities_csv=symbols + "\n", outcomes_csv=outcomes + "\n")
    user_task = load(tmp_path / "t")["level1_level2_level3_with_data_local"]
    assert user_task.task.kind == "binary"
    assert user_task.table["Outcomes"].value_counts().sort("count")["count"].to_list() == [3, 5]
    assert user_task.table.schema == pl.Schema({"entity_0": pl.String, "Outcomes": pl.String})
