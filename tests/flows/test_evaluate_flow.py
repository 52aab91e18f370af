"""The flow evaluate: vectors of an address, what its form offers, its files and its artifact."""

import http.server
import threading
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from genebench.errors import GenebenchError
from genebench.reference.packaged_reference import read_reference_entities


@pytest.fixture
def address(tmp_path):
    """The http address of a CSV file of noise for 3,000 genes."""
    genes = read_reference_entities().to_list()[:3000]
    names = pl.Series("entrez", [gene.removeprefix("ncbigene:") for gene in genes])
    matrix = np.random.default_rng(29).normal(size=(len(genes), 8)).astype(np.float32)
    served = tmp_path / "served"
    served.mkdir()
    frame = pl.DataFrame(matrix, schema=[f"v{n}" for n in range(8)])
    frame.insert_column(0, names).write_csv(served / "noise.csv")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(served))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/noise.csv"
        server.shutdown()


@pytest.mark.usefixtures("prefect")
def test_vectors_of_an_address_are_compared_and_the_run_keeps_the_answer(
    address, tmp_path, monkeypatch
):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    from flows.evaluate import evaluate

    monkeypatch.chdir(tmp_path)
    # What a worker sets for a run of a deployment, which may write below its folder only.
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a-deployment")
    summary = evaluate(address, ids="entrez", tasks=["hla_class", "chromosome"], folder="answer")
    assert summary.done["noise"].startswith("noise")
    assert sorted(path.name for path in Path("answer").iterdir()) == [
        "bundle.parquet", "evaluation.html", "tasks.csv",
    ]  # fmt: skip
    tasks = pl.read_csv("answer/tasks.csv")
    row = tasks.row(by_predicate=pl.col("task_id") == "chromosome", named=True)
    assert abs(row["mine"] - 0.5) < 0.05, "noise is as good as chance"
    assert row["best_rival_value"] > 0.55
    with get_client(sync_client=True) as client:
        (kept,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["evaluation"]))
        )
    assert "| chromosome |" in kept.data
    assert "against each rival" in kept.data


def test_a_run_of_a_deployment_reads_no_file_outside_of_its_folder(tmp_path, monkeypatch):
    from flows.evaluate import evaluate

    (tmp_path / "work").mkdir()
    (tmp_path / "secret.csv").write_text("gene,v\nTP53,1\n")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a-deployment")
    (tmp_path / "work" / "link.csv").symlink_to(tmp_path / "secret.csv")
    for name in (str(tmp_path / "secret.csv"), "../secret.csv", "link.csv"):
        with pytest.raises(GenebenchError, match="below its working folder"):
            evaluate.fn(name)


def test_an_address_without_a_file_is_named_with_its_reason(address):
    from flows.evaluate import evaluate

    missing = address.replace("noise", "nothing")
    with pytest.raises(GenebenchError, match=rf"{missing}: the server answered 404"):
        evaluate.fn(missing)


def test_a_comparison_as_markdown_shows_identifiers_as_text():
    from genebench.reference.comparison_text import comparison_markdown
    from genebench.reference.evaluate_vectors import evaluate_vectors

    genes = read_reference_entities().to_list()[:500]
    names = [*(gene.removeprefix("ncbigene:") for gene in genes), "<script>", "a|b"]
    matrix = np.random.default_rng(3).normal(size=(len(names), 2))
    text = comparison_markdown(
        evaluate_vectors(names, matrix, name="noise", ids="entrez", tasks=["hla_class"])
    )
    assert "2 unknown" in text
    assert "\\<script\\>" in text
    assert "a\\|b" in text
    assert "hla\\_class: no score" in text
