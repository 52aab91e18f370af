"""A lake that an earlier version of genebench wrote opens, scores on and reports.

`lake_0_1_0.tar.gz` was written on the miniature world by commit e034901:
`genebench benchmark -e bag_of_words -e random -f genomic` with GENEBENCH_PROTOCOL=paper.
"""

import tarfile
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from world import build_world

from genebench.errors import LakeError
from genebench.evaluation.evaluate import REVISION

ARCHIVE = Path(__file__).with_name("lake_0_1_0.tar.gz")
RELEASE = "current_paper"
pytestmark = pytest.mark.usefixtures("prefect")


@pytest.fixture
def old(tmp_path, place_of):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    build_world(tmp_path / "sources")
    return place_of(tmp_path / "lake", tmp_path / "sources")


def test_an_old_lake_is_read_with_its_scores(old):
    board = old.lake.leaderboard(RELEASE)
    assert dict(board.select("encoder_id", pl.col("genomic").round(3)).iter_rows()) == {
        "bag_of_words": 0.910,
        "random": 0.540,
    }
    assert set(old.lake.scores(release=RELEASE).collect()["family"]) == {"genomic"}
    with pytest.raises(LakeError, match="there is no release"):
        old.lake.release("current")


def test_an_old_lake_keeps_its_scores_is_scored_by_todays_arithmetic_and_reports_on(old):
    from flows.report import report
    from flows.score import score

    before = old.rows("gold.evaluations")
    score(families=["genomic", "biological"])
    after = old.rows("gold.evaluations")
    # The key of an evaluation names the revision of the arithmetic, so nothing old is mixed in.
    stored = after.filter(pl.col("evaluation_key").is_in(before["evaluation_key"].implode()))
    columns = before.columns
    assert_frame_equal(stored.select(columns), before, check_row_order=False)
    assert set(after["revision"]) == {*before["revision"], REVISION}
    assert set(after["family"]) == {"genomic", "biological"}
    assert score(families=["genomic", "biological"]).done == {}
    report(RELEASE)
    board = old.lake.leaderboard(RELEASE)
    assert {"genomic", "biological"} <= set(board.columns)
    # Genes whose words no training gene has are ties; the last bits decide which is ranked first.
    assert board.filter(encoder_id="bag_of_words")["genomic"].item() == pytest.approx(
        0.912, abs=5e-3
    )
