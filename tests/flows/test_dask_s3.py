"""Many machines in small: a Dask cluster of processes and an object store, both on loopback."""

import json
import os
import signal
import threading
from dataclasses import replace

import polars as pl
import pyarrow.fs
import pytest
from local_stacks import ENCODERS, LocalStack, keys, results
from migrated_database import copy_database
from world import build_world

from lakehouse.query.lake import Lake
from lakehouse.tables.storage import Storage

BENCHMARK = ("benchmark", *(word for name in ENCODERS for word in ("-e", name)), "-f", "genomic")


@pytest.fixture
def cluster_of():
    """Start clusters of two workers: processes with the settings of a stack, or threads."""
    from distributed import LocalCluster

    clusters = []

    def start(stack, processes):
        kept = {k: v for k, v in stack.environment.items() if k.startswith(("GENEBENCH_", "OMP_"))}
        own = {"env": kept} if processes else {}
        clusters.append(
            LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                dashboard_address=None,
                processes=processes,
                **own,
            )
        )
        return clusters[-1]

    yield start
    for cluster in clusters:
        cluster.close()


def on_dask(stack, cluster_of, processes=True, **settings):
    """The stack with other settings, its encoders on a cluster of their own; and the cluster."""
    names = {f"GENEBENCH_{name}": value for name, value in settings.items()}
    elsewhere = replace(stack, more={**names, "GENEBENCH_RUNNER": "dask"})
    cluster = cluster_of(elsewhere, processes)
    elsewhere.more["GENEBENCH_DASK_ADDRESS"] = cluster.scheduler_address
    return elsewhere, cluster


@pytest.fixture
def small(tmp_path):
    """A folder with a world, whose commands start a server of their own."""
    build_world(tmp_path / "sources")
    one = LocalStack(tmp_path, tmp_path / "sources")
    copy_database(one.home)
    return one


def copy_lake(folder, address, options):
    """Copy the files of a lake from a folder to an object store."""
    store, root = Storage(address, options).open_filesystem()
    pyarrow.fs.copy_files(str(folder), root, destination_filesystem=store, use_threads=False)


@pytest.mark.parametrize(
    "processes", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["threads", "processes"]
)
def test_dask_workers_and_an_object_store_give_the_same_numbers(
    small, ordinary, curated_folder, bucket, cluster_of, place_of, processes
):
    from flows.embed import embed
    from flows.score import score

    address = "s3://lakes/stack"
    remote, _ = on_dask(
        small, cluster_of, processes, LAKE=address, STORAGE_OPTIONS=json.dumps(bucket)
    )
    names = ("LAKE", "STORAGE_OPTIONS", "RUNNER", "DASK_ADDRESS")
    place_of(
        small.folder / "unused",
        small.sources,
        extra={name: remote.more[f"GENEBENCH_{name}"] for name in names},
    )
    copy_lake(curated_folder / "lake", address, bucket)
    encoders = ENCODERS if processes else ENCODERS[:1]
    embed(encoders)
    score(encoders, families=["genomic"])
    expected = results(ordinary).filter(pl.col("encoder_id").is_in(encoders))
    assert set(expected["encoder_id"]) == set(encoders)
    assert results(address, storage_options=bucket).equals(expected)


@pytest.mark.soak
def test_a_killed_dask_worker_costs_only_its_task(small, ordinary, cluster_of, tmp_path):
    lake = tmp_path / "lake"
    busy, cluster = on_dask(small, cluster_of, LAKE=str(lake))
    killed = []
    is_over = threading.Event()

    def kill_one_at_work():
        """Kill the worker that scores, as soon as its first numbers are in the lake."""
        while not killed and not is_over.wait(0.02):
            if not Lake(lake).delta.exists("gold.scores"):
                continue
            at_work = [one for one in cluster.scheduler.workers.values() if one.processing]
            if at_work:
                killed.append(
                    next(
                        nanny.pid
                        for nanny in cluster.workers.values()
                        if nanny.worker_address == at_work[0].address
                    )
                )
                os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one_at_work)
    killer.start()
    try:
        busy.run(*BENCHMARK, timeout=500)
    finally:
        is_over.set()
        killer.join()
    assert killed
    assert keys(lake) == keys(ordinary)
    assert results(lake).equals(results(ordinary))


def test_a_worker_with_another_lake_refuses_to_write(tmp_path, place_of):
    from flows.run.context import open_context
    from genebench.errors import LakeError

    build_world(tmp_path / "sources")
    place_of(tmp_path / "here", tmp_path / "sources")
    with pytest.raises(
        LakeError, match="set GENEBENCH_LAKE of the worker to the lake of the flow run"
    ):
        open_context(lake_root=str(tmp_path / "elsewhere"))


def test_an_encoder_that_fails_on_a_worker_gives_its_reason_back():
    import pickle

    from genebench.errors import RegistryError

    again = pickle.loads(pickle.dumps(RegistryError(["one", "two"])))
    assert again.mistakes == ["one", "two"]
