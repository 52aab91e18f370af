"""An encoder of the user's own takes the whole road, and stays in the release of its lake."""

import pytest
from typer.testing import CliRunner

from flows.cli import verbs
from flows.cli.app import app
from flows.cli.inspect import print_status
from genebench.errors import RegistryError
from genebench.registry.loading import load_registry
from lakehouse.embed.encoder_records import encoder_probes

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def placed(tmp_path, curated_folder, copy_of, monkeypatch):
    """A curated lake, and a file that declares an encoder; the file's folder is entered."""
    place, world = copy_of(curated_folder)
    (tmp_path / "mine.yaml").write_text(
        "id: mine\ntitle: Mine\nmodality: control\nloader: random\ndimension: 8\nprobe: knn\n"
    )
    monkeypatch.chdir(tmp_path)
    return place, world


def read_by(place) -> dict[str, set[str]]:
    """Encoder to the digests of the probes that read it in the release."""
    rows = place.rows("gold.releases").select("encoder_id", "probe_digest").unique()
    return {name: set(of["probe_digest"]) for (name,), of in rows.group_by("encoder_id")}


def test_a_user_encoder_is_scored_again_without_its_file_and_by_its_own_probe(
    placed, tmp_path, capsys
):
    from flows.curate import curate
    from flows.embed import embed
    from flows.refresh import refresh
    from flows.report import report
    from flows.score import score

    place, world = placed
    embed(["random"], encoder_files=["mine.yaml"])
    score(encoder_files=["mine.yaml"], tasks=["chromosome"])
    before = read_by(place)
    assert before["mine"] != before["random"]

    (tmp_path / "mine.yaml").unlink()
    world.relabel("KYN6", "2" if world.gene("KYN6").chromosome != "2" else "1")
    world.release("bioconductor", "3.17.0")
    world.write()
    refresh()
    curate()
    assert set(score(tasks=["chromosome"]).done) == {"mine", "random"}
    assert read_by(place) == before
    report()
    board = place.lake.leaderboard_rows("current_paper")
    assert set(board["encoder_id"]) == {"mine", "random"}
    print_status(None, None)
    assert "rules" not in capsys.readouterr().out


def test_another_probe_of_a_user_encoder_is_remembered_though_nothing_is_encoded(placed, tmp_path):
    from flows.embed import embed

    place, _ = placed
    embed(encoder_files=["mine.yaml"])
    embedded = place.rows("silver.embeddings")
    mine = tmp_path / "mine.yaml"
    mine.write_text(mine.read_text().replace("knn", "mlp"))
    assert not embed(encoder_files=["mine.yaml"]).done
    assert encoder_probes(place.lake.delta, load_registry())["mine"].id == "mlp"
    assert place.rows("silver.embeddings").equals(embedded)
    version = place.lake.delta.version("silver.encoders")
    assert not embed(encoder_files=["mine.yaml"]).done
    assert place.lake.delta.version("silver.encoders") == version


def test_a_benchmark_takes_a_user_encoder_by_its_file(placed, monkeypatch):
    place, _ = placed
    monkeypatch.setattr(verbs, "run_flows", lambda verb, *_: verb())
    words = ["benchmark", "-e", "random", "-e", "mine.yaml", "-f", "genomic"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "page: report/index.html" in done.stdout
    assert "genebench show" in done.stdout
    assert set(place.rows("gold.evaluations")["encoder_id"]) == {"mine", "random"}


@pytest.mark.parametrize(
    "wrong", [{"encoder_files": ["absent.yaml"]}, {"encoders": ["randomm"]}], ids=str
)
def test_a_benchmark_of_an_unknown_encoder_is_refused_before_anything_is_fetched(placed, wrong):
    from flows.benchmark import benchmark

    place, _ = placed
    before = place.lake.counts()
    with pytest.raises(RegistryError, match=r"absent\.yaml|did you mean 'random'"):
        benchmark(**wrong)
    assert place.lake.counts() == before
