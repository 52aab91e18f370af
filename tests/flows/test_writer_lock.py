"""One writer a lake: two commands started at once, and a run that waits for the lake."""

import threading
import time

import pytest
from local_stacks import LocalStack, keys, until
from world import build_world

from lakehouse import open_lake


@pytest.fixture
def crowded(tmp_path):
    build_world(tmp_path / "sources")
    return LocalStack(tmp_path, tmp_path / "sources")


@pytest.mark.soak
def test_two_benchmarks_at_once_run_one_after_the_other_and_share_one_server(crowded):
    words = ("benchmark", "-e", "bag_of_words", "-e", "random", "-f", "genomic")
    both = [crowded.start(*words), crowded.start(*words)]
    until((crowded.home / "server.json").exists, 120)
    server = crowded.server()
    said = [one.communicate(timeout=400)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sorted("waiting: another run is writing" in words for words in said) == [False, True]
    # The one that waited found everything done: nothing is lost, nothing is there twice.
    found = keys(crowded.lake)
    assert found
    assert len(found) == len(set(found))
    lake = open_lake(crowded.lake)
    assert lake.table("gold.scores").collect()["run_id"].n_unique() == 1
    for table, key in (
        ("bronze.snapshots", ["snapshot_id"]),
        ("silver.embeddings", ["encoder_id", "entity_type", "entity_id"]),
        ("gold.scores", ["evaluation_key", "label", "fold", "metric"]),
    ):
        assert lake.table(table).select(key).collect().is_unique().all(), table
    # The last to finish stopped the server that they shared.
    until(lambda: not server.is_running(), 30)


@pytest.mark.usefixtures("prefect")
def test_a_run_says_that_it_waits_for_the_lake_only_while_it_waits(tmp_path, place_of):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    from flows.run.writer_lock import hold_writer_lock, with_writer_lock

    place_of(tmp_path / "lake", tmp_path)
    is_held = threading.Event()

    def hold():
        with hold_writer_lock():
            is_held.set()
            time.sleep(4)

    def told():
        with get_client(sync_client=True) as client:
            states = client.read_flow_run_states(flow_run.id)
        return [state.name for state in sorted(states, key=lambda state: state.timestamp)]

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(30)
    assert flow(with_writer_lock(told))()[-3:] == ["Running", "WaitingForLake", "Running"]
    holder.join()


def test_a_lake_has_one_writer_and_two_lakes_have_two(monkeypatch, tmp_path):
    from flows.run.writer_lock import limit_name
    from genebench.settings import get_settings

    def name_for(lake):
        monkeypatch.setenv("GENEBENCH_LAKE", lake)
        get_settings.cache_clear()
        return limit_name()

    monkeypatch.chdir(tmp_path)
    names = [name_for("./lake"), name_for(str(tmp_path / "lake")), name_for("./other")]
    names.append(name_for("s3://bucket/some%folder/lake"))
    (tmp_path / "link").symlink_to(tmp_path / "lake")
    same = [name_for("./link"), name_for("./other/../lake")]
    get_settings.cache_clear()
    assert {names[0], names[1], *same} == {names[0]}
    assert len(set(names)) == 3
    assert not any(set(name) & set("/%&><") for name in names)
