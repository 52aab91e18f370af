"""A lake of one test, and where its sources come from."""

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from genebench.settings import get_settings
from lakehouse import open_lake
from lakehouse.query.lake import Lake
from lakehouse.score.evidence import read_evidence


def recorded_scores(lake: Lake) -> pl.DataFrame:
    """All scores of the evaluations on record, of any release."""
    evaluations = lake.table("gold.evaluations").collect()
    return read_evidence(lake, "gold.scores", evaluations).collect()


@dataclass
class Place:
    """A lake of one test, and where its sources come from."""

    lake_folder: Path
    sources: Path
    monkeypatch: pytest.MonkeyPatch
    protocol: str = "paper"
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def lake(self) -> Lake:
        """The lake as it is now."""
        return open_lake(self.lake_folder)

    def enter(self) -> None:
        """Let the settings of this process point here."""
        values = {
            "LAKE": str(self.lake_folder),
            "SOURCES": str(self.sources),
            "PROTOCOL": self.protocol,
            "PROFILE": "embedded",
            **self.extra,
        }
        for name, value in values.items():
            self.monkeypatch.setenv(f"GENEBENCH_{name}", value)
        get_settings.cache_clear()

    def rows(self, table: str) -> pl.DataFrame:
        """All rows of a table."""
        return self.lake.table(table).collect()

    def results(self) -> pl.DataFrame:
        """What a run computed, without when and by which run: to compare two lakes."""
        scores = recorded_scores(self.lake).drop("run_id", "evaluated_at", "batch_id")
        return scores.sort(scores.columns)
