"""Many machines in small: a Dask cluster of processes and an object store, both on loopback."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from places import Place
from sites import keys, results, until
from world import build_world

from flows.server import free_port, is_free
from genebench.settings import get_settings
from lakehouse.queries import Lake

ENCODERS = ["bag_of_words", "random"]
pytestmark = pytest.mark.usefixtures("prefect")


def run_all():
    from flows.benchmark import benchmark

    return {one.verb: one for one in benchmark(encoders=ENCODERS, families=["genomic"])}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    build_world(folder)
    return folder


@pytest.fixture(scope="module")
def local(tmp_path_factory, sources, prefect):
    """The lake of an ordinary run: a folder, threads."""
    lake = tmp_path_factory.mktemp("local") / "lake"
    with pytest.MonkeyPatch.context() as patch:
        Place(lake, sources, patch).enter()
        run_all()
    get_settings.cache_clear()
    return lake


@pytest.fixture
def bucket():
    """Options of an object store that speaks S3, with an empty bucket."""
    boto3 = pytest.importorskip("boto3")
    # A process of its own: deltalake keeps the interpreter's lock while it waits for some answers.
    port = free_port()
    words = ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
    until(lambda: not is_free(port), 60)
    options = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "tester",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    boto3.client(
        "s3",
        endpoint_url=options["AWS_ENDPOINT_URL"],
        aws_access_key_id="tester",
        aws_secret_access_key="tester",
        region_name="us-east-1",
    ).create_bucket(Bucket="lakes")
    yield options
    server.terminate()
    server.wait(10)


@pytest.fixture
def cluster_of():
    """Start Dask clusters of two worker processes, in the environment at hand."""
    from distributed import LocalCluster

    clusters = []

    def start():
        clusters.append(
            LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
                env={"OMP_NUM_THREADS": "1"},
            )
        )  # fmt: skip
        return clusters[-1]

    yield start
    for cluster in clusters:
        cluster.close()


def test_dask_workers_and_an_object_store_give_the_same_numbers(
    local, sources, bucket, cluster_of, monkeypatch, tmp_path
):
    import json

    settings = {"STORAGE_OPTIONS": json.dumps(bucket), "RUNNER": "dask"}
    place = Place(tmp_path, sources, monkeypatch, extra=settings)
    place.enter()
    monkeypatch.setenv("GENEBENCH_LAKE", "s3://lakes/one")
    cluster = cluster_of()
    monkeypatch.setenv("GENEBENCH_DASK_ADDRESS", cluster.scheduler_address)
    get_settings.cache_clear()
    outcomes = run_all()
    get_settings.cache_clear()
    assert set(outcomes["score"].done) == set(ENCODERS)
    remote = Lake("s3://lakes/one", bucket)
    assert results("s3://lakes/one", storage_options=bucket).equals(results(local))
    found = sorted(remote.table("gold.evaluations").collect()["evaluation_key"])
    assert found == keys(local)
    assert not (tmp_path / "lake").exists()


def test_a_killed_dask_worker_costs_only_its_task(
    local, sources, cluster_of, monkeypatch, tmp_path
):
    place = Place(tmp_path / "lake", sources, monkeypatch, extra={"RUNNER": "dask"})
    place.enter()
    cluster = cluster_of()
    monkeypatch.setenv("GENEBENCH_DASK_ADDRESS", cluster.scheduler_address)
    get_settings.cache_clear()
    killed = []
    finished = threading.Event()

    def kill_one_at_work():
        while not finished.is_set() and not killed:
            busy = [one for one in cluster.scheduler.workers.values() if one.processing]
            if busy:
                pid = next(
                    nanny.pid for nanny in cluster.workers.values()
                    if nanny.worker_address == busy[0].address
                )  # fmt: skip
                time.sleep(1.0)
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one_at_work)
    killer.start()
    try:
        run_all()
    finally:
        finished.set()
        killer.join()
        get_settings.cache_clear()
    assert killed
    assert results(tmp_path / "lake").equals(results(local))
    assert keys(tmp_path / "lake") == keys(local)


def test_a_worker_with_another_lake_refuses_to_write(tmp_path, place_of, sources):
    from flows.context import open_context
    from genebench.errors import LakeError

    place_of(tmp_path / "here", sources)
    with pytest.raises(LakeError, match="give the worker the same GENEBENCH_LAKE"):
        open_context(lake_root=str(tmp_path / "elsewhere"))


def test_an_encoder_that_fails_on_a_worker_gives_its_own_reason_back():
    import pickle

    from genebench.errors import RegistryError

    again = pickle.loads(pickle.dumps(RegistryError(["one", "two"])))
    assert again.mistakes == ["one", "two"]
