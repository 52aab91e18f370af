"""Runs the verbs in a process of their own, without a Prefect server, and ends it at a commit.

The process is forked from one that has imported everything, so a run of a verb costs what the verb
costs. Prefect's tasks are called directly: what is tested is what the verbs commit, and when.
"""

import contextlib
import functools
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.watch import WATCH, begin_watch

# Errors that say what happened: those of genebench, and of the operating system.
TYPED = (
    "genebench.errors.",
    "flows.run.summary.",
    "lakehouse.",
    "builtins.OSError",
    "builtins.Perm",
)
ENCODERS = ["bag_of_words", "random"]
RELEASE = "r1"
# The verbs in the order in which they fill a lake.
VERBS = ("refresh", "curate", "embed", "score", "report", "release", "tidy")
# No module that uses polars or deltalake: their threads do not survive a fork.
_PRELOADED = [
    *("torch", "great_expectations", "sklearn.linear_model", "sklearn.neural_network"),
    *("prefect", "prefect.artifacts", "prefect.deployments", "prefect.automations", "typer"),
]
# All verbs one after the other; the lake after each is copied into a folder of its name.
ALL = "all"
# The lake before it is tidied, with work to do.
UNTIDY = "untidy"
PATIENCE_SECONDS = 300
# A writer may wait for all others.
PATIENCE_AT_ONCE_SECONDS = 900
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_PRELOADED)


@dataclass(frozen=True)
class Kill:
    """Where a run is killed.

    Attributes:
        number: The commit, counted from 1; 0 for none.
        is_after: Whether the commit is made first.
        signal: The signal that the process sends itself.
    """

    number: int = 0
    is_after: bool = False
    signal: int = signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        code: The exit code; negative for a signal.
        n_commits: The commits that it made, or began.
        error: The type and message of the error that ended it.
        cpu_seconds: The processor time of the run.
        megabytes: The largest memory of its process.
        programs: The programs that it started.
        outside: The files that it wrote outside of its folder.
    """

    code: int | None
    n_commits: int
    error: str
    cpu_seconds: float = 0.0
    megabytes: float = 0.0
    programs: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()


class DirectTask:
    """Calls the function of a Prefect task at once, in this process."""

    def __init__(self, task: Any) -> None:
        self.function = task.fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def with_options(self, **_: Any) -> "DirectTask":
        return self

    def submit(self, *args: Any, wait_for: Any = None, return_state: bool = False) -> Any:
        try:
            value = self.function(*args)
        except Exception as error:  # noqa: BLE001 - as Prefect does
            value = error
        return Finished(value)


@dataclass
class Finished:
    """The future of a task run that has ended."""

    value: Any

    def result(self, raise_on_failure: bool = True) -> Any:
        return self.value


def run(
    verb: str,
    folder: Path,
    kill: Kill = Kill(),
    *,
    megabytes: int = 0,
    patience: int = PATIENCE_SECONDS,
    **settings: str,
) -> Ended:
    """Run a verb on the lake of a folder, and wait for its end.

    The source files are in the folder `sources` beside it.

    Args:
        verb: The verb.
        folder: The folder with the lake.
        kill: Where the run is killed.
        megabytes: How much address space it may take more than it has at its start; 0 for any.
        patience: After how many seconds without a commit the run is killed.
        settings: Settings of genebench.
    """
    receiver, sender = _context.Pipe(duplex=False)
    process = start(verb, folder, kill, sender, megabytes=megabytes, **settings)
    sender.close()
    return _wait(process, receiver, patience)


def run_at_once(verb: str, folder: Path, n_writers: int, *, has_lock: bool) -> list[Ended]:
    """Run a verb in several processes on the lake of one folder, and wait for their ends."""
    started = []
    for _ in range(n_writers):
        receiver, sender = _context.Pipe(duplex=False)
        started.append((start(verb, folder, sender=sender, has_lock=has_lock), receiver))
        sender.close()
    return [_wait(process, receiver, PATIENCE_AT_ONCE_SECONDS) for process, receiver in started]


def _wait(process: Any, receiver: Any, patience: int) -> Ended:
    told = (0, "", 0.0, 0.0, (), ())
    try:
        while receiver.poll(patience):
            told = receiver.recv()
        process.kill()
    except EOFError:
        pass
    process.join()
    return Ended(process.exitcode, *told)


def start(
    verb: str,
    folder: Path,
    kill: Kill = Kill(),
    sender: Any = None,
    *,
    has_lock: bool = True,
    megabytes: int = 0,
    **settings: str,
) -> Any:
    """Start a verb on the lake of a folder; without the writer lock if it has none."""
    environment = {
        "GENEBENCH_LAKE": str(folder / "lake"),
        "GENEBENCH_SOURCES": str(folder.parent / "sources"),
        "GENEBENCH_PROTOCOL": "paper",
        "GENEBENCH_PROFILE": "embedded",
        "PREFECT__RUNTIME__FLOW_RUN__ID": "",
        **{f"GENEBENCH_{name}": value for name, value in settings.items()},
    }
    given = (verb, environment, kill, sender, has_lock, megabytes)
    process = _context.Process(target=_run, args=given)
    process.start()
    return process


def _run(
    verb: str,
    environment: dict[str, str],
    kill: Kill,
    sender: Any,
    has_lock: bool,
    megabytes: int,
) -> None:
    os.environ.update(environment, PREFECT__RUNTIME__FLOW_RUN__ID=str(uuid.uuid4()))
    logging.disable(logging.ERROR)
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for the process
    from genebench.settings import get_settings

    get_settings.cache_clear()
    state = {"n": 0, "error": ""}
    _call_directly(has_lock)
    _count_commits(kill, state, sender)
    code = 0
    if megabytes:
        _limit_memory(megabytes)
    if verb != ALL:
        begin_watch(Path(environment["GENEBENCH_LAKE"]).parent)
    try:
        _call(verb)
    except BaseException as error:  # noqa: BLE001 - reported to the parent
        code = getattr(error, "exit_code", 1) or 1
        state["error"] = f"{type(error).__module__}.{type(error).__name__}: {error}"
    if sender is not None:
        sender.send(_measure(state))
        sender.close()
    # Without the clean-up of libraries whose threads the fork left behind.
    os._exit(code)


def _limit_memory(megabytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    # jemalloc writes a line for each thread that it cannot start.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _measure(state: dict[str, Any]) -> tuple[Any, ...]:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seen = (tuple(WATCH.programs), tuple(WATCH.written))
    return state["n"], state["error"], time.process_time(), memory, *seen


def _call(verb: str) -> None:
    from flows.curate import curate
    from flows.embed import embed
    from flows.refresh import refresh
    from flows.release import release
    from flows.report import report
    from flows.score import score
    from lakehouse import open_lake
    from lakehouse.score.tidy import tidy_lake
    from lakehouse.tables.commits import Commit

    calls: dict[str, Callable[[], Any]] = {
        "refresh": refresh.fn,
        "curate": functools.partial(curate.fn, force=True),
        "curate again": curate.fn,
        "embed": functools.partial(embed.fn, encoders=ENCODERS),
        "score": functools.partial(score.fn, encoders=ENCODERS),
        "report": report.fn,
        "release": functools.partial(release.fn, RELEASE),
        "tidy": lambda: tidy_lake(open_lake(), Commit("tidy", "test"), is_dry=False),
    }
    if verb != ALL:
        calls[verb]()
        return
    lake = Path(os.environ["GENEBENCH_LAKE"])
    for name in VERBS:
        if name == "tidy":
            _leave_work_for_tidy(open_lake())
            shutil.copytree(lake, lake.parent.parent / UNTIDY / "lake")
        calls[name]()
        shutil.copytree(lake, lake.parent.parent / name / "lake")


def _leave_work_for_tidy(lake: Any) -> None:
    """Write what readers do not see: rows of an interrupted run, and many small files."""
    import polars as pl

    from lakehouse.tables.commits import Commit
    from lakehouse.tables.maintenance import MAX_FILES

    scores = lake.table("gold.scores").head(3).collect()
    rows = scores.with_columns(
        run_id=pl.lit("dead"),
        batch_id=pl.lit("dead"),
        evaluated_at=pl.col("evaluated_at").dt.offset_by("-7d"),
    )
    lake.delta.append("gold.scores", rows, Commit("dead", "test"))
    row = lake.table("audit.validations").head(1).collect()
    for _ in range(MAX_FILES + 1):
        lake.delta.append("audit.validations", row, Commit("test", "test"))


def _call_directly(has_lock: bool) -> None:
    """Replace the tasks of the flows by their functions, and what names states on a server."""
    import flows.curate
    import flows.embed
    import flows.refresh
    import flows.run.writer_lock
    import flows.score

    flows.run.writer_lock._name_state = lambda *_: None
    if not has_lock:
        flows.run.writer_lock.hold_writer_lock = contextlib.nullcontext
        flows.refresh.hold_writer_lock = contextlib.nullcontext
    flows.refresh.refresh_file = DirectTask(flows.refresh.refresh_file)
    # Without a server, the client of events starts one.
    flows.refresh.emit_stale = lambda *_: None
    flows.refresh.get_run_logger = lambda: logging.getLogger("test")
    flows.curate.curate_silver = DirectTask(flows.curate.curate_silver)
    flows.embed.embed_encoder = DirectTask(flows.embed.embed_encoder)
    flows.score.score_encoder = DirectTask(flows.score.score_encoder)


def _count_commits(kill: Kill, state: dict[str, Any], sender: Any) -> None:
    """Count every call that commits to a table or stores a file; kill the process at one."""
    import deltalake.table

    import lakehouse.tables.delta
    from lakehouse.refresh.blobs import Blobs

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            state["n"] += 1
            if sender is not None:
                sender.send(_measure(state))
            is_here = state["n"] == kill.number
            if is_here and not kill.is_after:
                os.kill(os.getpid(), kill.signal)
            result = function(*args, **kwargs)
            if is_here and kill.is_after:
                os.kill(os.getpid(), kill.signal)
            return result

        return call

    delta = deltalake.table
    lakehouse.tables.delta.write_deltalake = counted(lakehouse.tables.delta.write_deltalake)
    delta.DeltaTable.create = counted(delta.DeltaTable.create)
    delta.DeltaTable.delete = counted(delta.DeltaTable.delete)
    delta.TableAlterer.set_table_properties = counted(delta.TableAlterer.set_table_properties)
    delta.TableOptimizer.compact = counted(delta.TableOptimizer.compact)
    Blobs.store = counted(Blobs.store)
