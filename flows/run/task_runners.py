"""Where task runs run: threads of the flow's own process, or a Dask cluster, by setting."""

from contextlib import nullcontext
from types import TracebackType
from typing import Any

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from typing_extensions import override

from genebench.cancellation import cancel_while
from genebench.settings import get_settings


class ChosenRunner(ThreadPoolTaskRunner[Any]):
    """The task runner that the settings name.

    They are read when a flow starts, not when its module is imported, so one process can run the
    same flows in several places.
    """

    def duplicate(self) -> "TaskRunner[Any]":  # type: ignore[override]
        """A runner for one flow run: Prefect asks for it as the run starts."""
        settings = get_settings()
        if settings.runner == "threads":
            return _Threads(max_workers=settings.workers)
        from prefect_dask import DaskTaskRunner

        if settings.dask_address:
            return DaskTaskRunner(address=settings.dask_address)
        local = {
            "n_workers": settings.workers,
            "threads_per_worker": 1,
            "dashboard_address": None,
        }
        return DaskTaskRunner(cluster_kwargs=local)


class _Threads(ThreadPoolTaskRunner[Any]):
    """Threads that are told when their flow is interrupted: its end waits for theirs."""

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


def result_of(run: "PrefectFuture[Any]") -> Any:
    """What a task run gave: its result, or the exception that ended it or its worker."""
    try:
        return run.result(raise_on_failure=False)
    # A lost worker's error is Dask's own, and what fails here must not take the others along.
    except Exception as error:  # noqa: BLE001
        return error
