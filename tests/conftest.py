"""What tests share: real data where it is, lakes of their own, one Prefect server."""

import contextlib
import fcntl
import gc
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Work on small matrices and tables is slower with more threads, and several tests run at once.
# polars reads its number on import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKIO_WORKER_THREADS", "1")

import hypothesis
import pytest
from migrated_database import copy_database, prepare_database
from places import Place
from xdist.scheduler import LoadScopeScheduling

from genebench.settings import get_settings

# Counts the faults that tests plant, and prints their table.
pytest_plugins = ["fault_ledger"]

# A slow machine is no fault of the code under test. `HYPOTHESIS_EXAMPLES=1000` looks further.
N_EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "40"))
hypothesis.settings.register_profile("patient", deadline=None, max_examples=N_EXAMPLES)
hypothesis.settings.load_profile("patient")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

END_CERTIFICATE = "-----END CERTIFICATE-----\n"

# What a Prefect server does by itself, and flow runs of this process do not need.
IDLE_SERVICES = (
    *("SCHEDULER", "LATE_RUNS", "TRIGGERS", "EVENT_PERSISTER", "PAUSE_EXPIRATIONS", "FOREMAN"),
    "CANCELLATION_CLEANUP",
)

# Files of tests/flows that run in one worker. Those of `stack` share the running local stack of
# tests/flows/conftest.py, those of `processes` start commands or follow releases; the others run
# flows in this process.
GROUPS = {
    "stack": {"weekly", "crash", "refresh_during_score", "deployments", "server", "ui"},
    "processes": {
        *("kill", "interrupted", "killed_embedding", "dask_s3", "writer_lock"),
        *("diff", "stale_sources", "old_lake"),
    },
    "curated": {"paper_profile", "refresh", "user_tasks_flow", "embedding"},
}


class SharedFixtureScheduling(LoadScopeScheduling):
    """Runs tests that share an expensive fixture in one worker, and all others in any worker.

    A scheduler in place of the mark `xdist_group`, which pytest-xdist 3.8 loses under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.partition("::")[0])
        name = path.stem.removeprefix("test_")
        if path.parent.name == "flows":
            # Each worker that runs flows in its own process starts a server and imports torch.
            return next((group for group, names in GROUPS.items() if name in names), "flows")
        if name in ("evaluate_vectors", "board", "local_models", "hostile_names"):
            # Preparing the tasks of the reference release takes seconds in each worker.
            return "reference"
        if path.parent.name == "faults":
            return path.parent.name
        if path.parent.name == "expectations" or name.startswith("encoders"):
            # Importing Great Expectations or transformers takes seconds in each worker.
            return name.partition("_")[0] if name.startswith("encoders") else path.parent.name
        is_shared = name.startswith("report") or name == "bootstrap"
        return name if is_shared else nodeid


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Leave the objects of imported modules out of garbage collections."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> SharedFixtureScheduling:
    """Schedule tests by the expensive fixtures that they share."""
    # In the order of collection: by default groups of few tests, which take longest, come last.
    config.option.loadscopereorder = False
    return SharedFixtureScheduling(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by what it needs: a browser, a Prefect server."""
    fixtures = getattr(item, "fixturenames", ())
    if "browser" in fixtures:
        item.add_marker(pytest.mark.browser)
    if "stages" in fixtures or item.path.parent.name == "expectations":
        # All verbs run once for the lakes that these tests copy, or Great Expectations is imported.
        item.add_marker(pytest.mark.slow)
    if "prefect" in fixtures or item.path.parent.name == "flows":
        item.add_marker(pytest.mark.prefect)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real source data; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("GENEBENCH_SHARED", "../shared"))
    if not (folder / "data" / "sources.yaml").is_file():
        pytest.skip(f"no real source data at {folder} (set GENEBENCH_SHARED)")
    return folder.resolve()


@pytest.fixture(scope="session", autouse=True)
def result_folder(tmp_path_factory) -> Path:
    """A folder for the results of `genebench evaluate` of this session alone."""
    folder = tmp_path_factory.mktemp("results")
    os.environ["GENEBENCH_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def database(request) -> None:
    """A Prefect database for `copy_database`, created once and kept in pytest's cache."""
    version = importlib.metadata.version("prefect")
    prepare_database(request.config.cache.mkdir(f"prefect_database_{version}"))


@pytest.fixture(scope="session")
def prefect(tmp_path_factory, worker_id, database) -> Iterator[None]:
    """The Prefect server of all flow tests, which workers share as commands do."""
    import certifi
    from prefect.context import refresh_global_settings_context
    from prefect.settings import (
        PREFECT_API_SSL_CERT_FILE,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    from flows.server.local_server import prefect_api
    from flows.server.logs import flush_prefect

    base = tmp_path_factory.getbasetemp()
    home = (base if worker_id == "master" else base.parent) / "prefect_server"
    home.mkdir(exist_ok=True)
    certificate = base / "certificate.pem"
    certificate.write_text("".join(certifi.contents().partition(END_CERTIFICATE)[:2]))
    services = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in IDLE_SERVICES}
    with contextlib.ExitStack() as stack:
        # Only while the settings are read: commands of tests have a server of their own. Few
        # variables are touched, for a thread of a library may read the environment meanwhile, and
        # glibc does not guard it: `mock.patch.dict` writes all of them, and that has crashed.
        with pytest.MonkeyPatch.context() as patch:
            # No server or database that the developer's own settings name.
            for name in [name for name in os.environ if name.startswith("PREFECT_")]:
                patch.delenv(name)
            for name, value in {**services, "PREFECT_HOME": str(home)}.items():
                patch.setenv(name, value)
            with (home / "copy.lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                copy_database(home)
            stack.enter_context(prefect_api())
            refresh_global_settings_context()
        # Requests that no test asks for.
        fewer = {
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
            PREFECT_LOGGING_TO_API_ENABLED: False,
            # Each client reads the certificates, which a server on loopback does not need.
            PREFECT_API_SSL_CERT_FILE: str(certificate),
        }
        stack.enter_context(temporary_settings(fewer))
        yield
        flush_prefect()


@pytest.fixture(scope="module")
def browser():
    """A real browser, where one is installed. Playwright allows one at a time."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = os.environ.get("GENEBENCH_CHROMIUM") or shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium (apt-get install chromium, or set GENEBENCH_CHROMIUM)")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def place_of(monkeypatch) -> Iterator[Callable[[Path, Path], Place]]:
    """Make places: a lake folder and a folder of sources, entered at once."""

    def make(lake_folder: Path, sources: Path, **options) -> Place:
        place = Place(lake_folder, sources, monkeypatch, **options)
        place.enter()
        return place

    yield make
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory) -> Path:
    """A lake of four encoders with drawn scores on the paper's numbers of tasks; read only."""
    from benchmarks.queries import make_lake

    root = tmp_path_factory.mktemp("synthetic") / "lake"
    make_lake(root, 1)
    return root


@pytest.fixture(scope="session")
def synthetic(synthetic_root):
    """The same, opened."""
    from lakehouse import open_lake

    return open_lake(synthetic_root)


@pytest.fixture(scope="session")
def bucket():
    """Options of an object store that speaks S3, with a bucket named lakes."""
    pytest.importorskip("moto.server", reason="the S3 double is not installed")
    import boto3
    from local_stacks import until

    from flows.server.local_server import free_port, is_free

    port = free_port()
    # A process of its own: some calls of deltalake keep the interpreter's lock while they wait.
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        options = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }
        until(lambda: not is_free(port), 60)
        boto3.client(
            "s3",
            endpoint_url=options["AWS_ENDPOINT_URL"],
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        ).create_bucket(Bucket="lakes")
        yield options
        server.terminate()
