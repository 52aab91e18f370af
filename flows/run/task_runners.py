"""Task runner by setting: Prefect 3.8.8 binds one at import, and stops no threads at Ctrl-C."""

from contextlib import nullcontext
from types import TracebackType
from typing import Any, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from typing_extensions import override

from genebench.cancellation import cancel_while
from genebench.settings import get_settings


class SettingsTaskRunner(ThreadPoolTaskRunner[Any]):
    """The task runner that the setting `GENEBENCH_RUNNER` names.

    The settings are read when a flow run starts, not at import, so one process can run the same
    flows with different settings.
    """

    def duplicate(self) -> "TaskRunner[Any]":  # type: ignore[override]  # Self
        """Return the task runner of one flow run. Prefect calls this when the run starts."""
        settings = get_settings()
        if settings.runner == "threads":
            return InterruptibleThreads(max_workers=settings.workers)
        from prefect_dask.task_runners import DaskTaskRunner

        if settings.dask_address:
            return DaskTaskRunner(address=settings.dask_address)
        local = {
            "n_workers": settings.workers,
            "threads_per_worker": 1,
            "dashboard_address": None,
        }
        return DaskTaskRunner(cluster_kwargs=local)


class InterruptibleThreads(ThreadPoolTaskRunner[Any]):
    """A thread pool that sets the cancellation flag when its flow is interrupted.

    The flow waits for its threads before it ends; without the flag they would run to their end.
    """

    @override
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        is_interrupted = error is not None and not isinstance(error, Exception)
        with cancel_while() if is_interrupted else nullcontext():
            super().__exit__(kind, error, traceback)


# Prefect's TaskRunner is invariant in its type of futures; Prefect casts its own default likewise.
TASK_RUNNER = cast("TaskRunner[PrefectFuture[Any]]", SettingsTaskRunner())
THREADS = cast("TaskRunner[PrefectFuture[Any]]", InterruptibleThreads())


def task_result(run: "PrefectFuture[Any]") -> Any:
    """Return the result of a task run, or the exception that ended it or its worker."""
    try:
        return run.result(raise_on_failure=False)
    # Dask raises errors of its own for a lost worker; one lost task run must not end the others.
    except Exception as error:  # noqa: BLE001
        return error
