"""Tasks of the user's own stay in a lake until somebody lets them go."""

import shutil

import polars as pl
import pytest

from flows.cli.inspect import print_card, print_status
from flows.run.summary import Unfinished
from genebench.errors import LakeError

pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def placed(tmp_path, curated_folder, copy_of, monkeypatch):
    """A curated lake, a folder with a task, and a file with another; the folder is entered."""
    place, world = copy_of(curated_folder)
    genes = [g for g in world.genes if g.is_approved][:60]
    folder = tmp_path / "own" / "parity"
    folder.mkdir(parents=True)
    (folder / "entities.csv").write_text("symbol\n" + "".join(f"{g.symbol}\n" for g in genes))
    parities = "".join(f"{'even' if g.number % 2 == 0 else 'odd'}\n" for g in genes)
    (folder / "outcomes.csv").write_text("Outcomes\n" + parities)
    (tmp_path / "size.csv").write_text(
        "gene,n\n" + "".join(f"{g.symbol},{g.number}\n" for g in genes)
    )
    (tmp_path / "size.yaml").write_text(
        "size:\n  title: Size\n  kind: regression\n  file: size.csv\n  recipe: column\n"
        "  with: {id: gene, namespace: symbol, column: n}\n"
    )
    monkeypatch.chdir(tmp_path)
    return place, world


def own_tasks(place) -> list[str]:
    tasks = place.rows("silver.tasks").filter(pl.col("family") == "own")
    return sorted(tasks["task_id"])


def test_user_tasks_are_given_once_and_built_again_by_every_later_run(placed, tmp_path, capsys):
    from flows.curate import curate
    from flows.embed import embed
    from flows.refresh import refresh
    from flows.score import score

    place, world = placed
    curate(task_folders=["own"])
    curate(task_files=["size.yaml"])
    assert own_tasks(place) == ["parity", "size"]
    assert not curate().done
    print_status(None, None)
    assert "snapshots or declarations changed" not in capsys.readouterr().out
    print_card("parity", None)
    assert "task parity" in capsys.readouterr().out

    world.relabel("KYN6", "2" if world.gene("KYN6").chromosome != "2" else "1")
    world.release("bioconductor", "3.17.0")
    world.write()
    refresh()
    assert "chromosome" in curate().done
    assert own_tasks(place) == ["parity", "size"]
    embed(["random"])
    score(["random"], ["parity", "size"])
    assert set(place.rows("gold.evaluations")["task_id"]) == {"parity", "size"}
    # The release names the others too; nobody has asked for them so far.
    assert list(score(["random"], dry_run=True).done) == ["random: not evaluated yet"]

    outcomes = tmp_path / "own" / "parity" / "outcomes.csv"
    outcomes.write_text(outcomes.read_text().replace("odd", "even", 1))
    assert "1 samples changed" in curate().done["parity"]


def test_user_tasks_leave_when_they_are_forgotten_and_never_in_silence(placed, tmp_path):
    from flows.curate import curate

    place, _ = placed
    curate(task_folders=["own"], task_files=["size.yaml"])
    versions = {name: place.lake.delta.version(name) for name in place.lake.counts()}
    shutil.move(tmp_path / "own", tmp_path / "moved")
    with pytest.raises(LakeError, match=r"own is missing, .*restore it.*--forget-own-tasks"):
        curate()
    assert {name: place.lake.delta.version(name) for name in versions} == versions
    curate(task_folders=["moved"], forget_own_tasks=True)
    assert own_tasks(place) == ["parity"]
    assert not curate().done
    curate(forget_own_tasks=True)
    assert own_tasks(place) == []
    assert not curate().done


def test_a_task_that_cannot_be_built_fails_every_run_until_it_is_mended(placed, tmp_path, capsys):
    from flows.curate import curate

    place, _ = placed
    whole = (tmp_path / "size.csv").read_text()
    (tmp_path / "size.csv").write_text("gene,n\n" + "".join(f"NOGENE{n},{n}\n" for n in range(60)))
    for given in (["size.yaml"], None):
        with pytest.raises(Unfinished, match=r"size: .* 100.0% of 60 identifiers"):
            curate(task_files=given)
    capsys.readouterr()
    print_status(None, None)
    assert "100.0% of 60 identifiers" in " ".join(capsys.readouterr().out.split())
    assert own_tasks(place) == []
    (tmp_path / "size.csv").write_text(whole)
    curate()
    assert own_tasks(place) == ["size"]
    assert not curate().done
