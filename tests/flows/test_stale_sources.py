"""A refresh tells how old the sources are, and emits an event for each that is stale."""

from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.events.clients import AssertingEventsClient
from prefect.events.schemas.automations import AutomationCore
from prefect.events.worker import EventsWorker
from typer.testing import CliRunner
from world import build_world

from flows.cli.app import app
from flows.server.hooks import STALE

EXAMPLE = Path(__file__).parents[2] / "deployments" / "automations" / "stale-source.yaml"
pytestmark = pytest.mark.usefixtures("prefect")


def test_a_stale_source_is_in_the_artifact_the_status_and_an_event(tmp_path, place_of, monkeypatch):
    from flows.refresh import refresh

    build_world(tmp_path / "sources")
    place_of(tmp_path / "lake", tmp_path / "sources")
    worker = EventsWorker.instance(AssertingEventsClient)
    monkeypatch.setattr(EventsWorker, "instance", lambda *_: worker)
    refresh()
    worker.drain()
    (event,) = [one for one in worker._client.events if one.event == STALE]
    # The world's version is the one that the packages had in September 2022.
    assert event.resource.id == "genebench.source.bioconductor"
    assert event.payload["age_days"] > event.payload["fresh_within_days"] == 300
    with get_client(sync_client=True) as client:
        asked = ArtifactFilter(key=ArtifactFilterKey(any_=["freshness"]))
        found = client.read_artifacts(artifact_filter=asked)
    assert any("| bioconductor | 3.16.0 | 2022-09-12 | release |" in one.data for one in found)
    shown = CliRunner().invoke(app, ["status"])
    assert "stale" in shown.output
    assert "2022-09-12" in shown.output
    earlier = CliRunner().invoke(app, ["status", "--at", "2001-01-01"])
    assert earlier.exit_code != 0
    assert "had no rows at 2001-01-01" in str(earlier.exception)


def test_the_automations_of_the_example_are_created_by_a_server():
    declared = yaml.safe_load(EXAMPLE.read_text())["automations"]
    assert declared[0]["trigger"]["expect"] == [STALE]
    with get_client(sync_client=True) as client:
        for one in declared:
            automation = AutomationCore.model_validate(one)
            created = client.create_automation(automation)
            assert client.read_automation(created).name == one["name"]
            client.delete_automation(created)
