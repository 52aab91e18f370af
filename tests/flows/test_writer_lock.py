"""One writer a lake: two commands started at once, and a run that waits for the lake."""

import logging
import threading
import time

import pytest
from local_stacks import LocalStack, keys, until
from world import build_world

from lakehouse import open_lake
from lakehouse.tables.lake_lock import open_lock


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
    assert any("waiting: another run is writing" in words for words in said)
    # The run that waited found everything done: nothing is lost, nothing is there twice.
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
    until(lambda: not server.is_running(), 120)


@pytest.mark.soak
def test_two_commands_from_two_folders_write_to_one_lake_one_after_the_other(crowded):
    elsewhere = crowded.folder / "elsewhere"
    more = {"GENEBENCH_LAKE": str(crowded.lake)}
    words = ("benchmark", "-e", "bag_of_words", "-e", "random", "-f", "genomic")
    stacks = [crowded, LocalStack(elsewhere, crowded.sources, more=more)]
    both = [one.start(*words) for one in stacks]
    said = [one.communicate(timeout=400)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert any("waiting: another run is writing" in words for words in said)
    # They had a server each, and nothing was computed twice.
    found = keys(crowded.lake)
    assert found
    assert len(found) == len(set(found))
    scores = open_lake(crowded.lake).table("gold.scores").collect()
    assert scores.select("evaluation_key", "label", "fold", "metric").is_unique().all()


@pytest.mark.usefixtures("prefect")
def test_a_run_says_that_it_waits_for_the_lake_only_while_it_waits(tmp_path, place_of):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.logging import get_logger
    from prefect.runtime import flow_run

    from flows.run.writer_lock import hold_writer_lock, with_writer_lock

    place_of(tmp_path / "lake", tmp_path)
    is_held, is_waiting = threading.Event(), threading.Event()

    class Listener(logging.Handler):
        def emit(self, record):
            if "waiting: another run" in record.getMessage():
                is_waiting.set()

    def hold():
        with hold_writer_lock():
            is_held.set()
            is_waiting.wait(60)

    def told():
        with get_client(sync_client=True) as client:
            states = client.read_flow_run_states(flow_run.id)
        return [state.name for state in sorted(states, key=lambda state: state.timestamp)]

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(120)
    logger, listener = get_logger("genebench.writer_lock"), Listener()
    logger.addHandler(listener)
    try:
        assert flow(with_writer_lock(told))()[-3:] == ["Running", "WaitingForLake", "Running"]
    finally:
        logger.removeHandler(listener)
    holder.join()
    # Nobody holds the lock now, so the next run does not say that it waits.
    assert flow(with_writer_lock(told))()[-1] == "Running"


@pytest.mark.usefixtures("prefect")
def test_the_next_writer_begins_when_the_threads_of_a_cancelled_run_have_ended(tmp_path, place_of):
    from prefect import flow, task

    from flows.run.task_runners import SettingsTaskRunner
    from flows.run.writer_lock import with_writer_lock

    place = place_of(tmp_path / "lake", tmp_path)
    is_writing = threading.Event()
    ended = {}

    @task
    def write():
        is_writing.set()
        # A commit cannot be interrupted.
        time.sleep(2)
        ended["thread"] = time.monotonic()

    def cancelled():
        write.submit()
        assert is_writing.wait(120)
        raise KeyboardInterrupt

    def wait_for_lake():
        lock = open_lock(place.lake.delta.storage)
        assert is_writing.wait(120)
        while not lock.try_acquire():
            time.sleep(0.02)
        ended["next writer waits"] = time.monotonic()
        lock.release()

    waiting = threading.Thread(target=wait_for_lake)
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        flow(task_runner=SettingsTaskRunner())(with_writer_lock(cancelled))()
    waiting.join(120)
    assert list(ended) == ["thread", "next writer waits"]
