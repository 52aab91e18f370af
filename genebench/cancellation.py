"""Cancellation of long work, which polls it: by a signal, for the process, or for one thread.

Python delivers signals to the main thread only, and the exception that a handler raises can be
lost: Python drops exceptions in destructors and in weak-reference callbacks, including those of
imports. So signals are also recorded through a wake-up pipe, which any thread can read.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from threading import Event

# Closed terminal, Ctrl-C, and the signal of process supervisors.
TERMINATION_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

_cancelled = Event()
# Set by whoever waits for the work of a thread.
_own_stop: ContextVar[Event | None] = ContextVar("own_stop", default=None)
# The read end of the wake-up pipe, once `watch_signals` has opened it.
_signal_pipes: list[int] = []
_received_signals: list[int] = []


def watch_signals() -> None:
    """Record termination signals until the process ends. Call it in the main thread.

    Installed signal handlers stay in place; a signal that the process ignores is not recorded.
    """
    if _signal_pipes:
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # A forked child would write its own signals into its parent's pipe.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    _signal_pipes.append(reader)


def received_signal() -> int | None:
    """Return the first termination signal since `watch_signals`, or None."""
    for reader in _signal_pipes:
        with suppress(BlockingIOError):
            numbers = os.read(reader, 4096)
            _received_signals.extend(n for n in numbers if n in TERMINATION_SIGNALS)
    return _received_signals[0] if _received_signals else None


@contextmanager
def cancel_while() -> Iterator[None]:
    """Cancel work in all threads that polls `raise_if_cancelled` while the block runs."""
    was_cancelled = _cancelled.is_set()
    _cancelled.set()
    try:
        yield
    finally:
        if not was_cancelled:
            _cancelled.clear()


@contextmanager
def cancelled_by(stop: Event) -> Iterator[None]:
    """Let an event cancel the work that this thread does in the block."""
    token = _own_stop.set(stop)
    try:
        yield
    finally:
        _own_stop.reset(token)


def raise_if_cancelled() -> None:
    """Stop long work that calls this between its steps.

    Raises:
        KeyboardInterrupt: The process received a termination signal, `cancel_while` is active, or
            the event of `cancelled_by` is set.
    """
    stop = _own_stop.get()
    is_stopped = stop is not None and stop.is_set()
    if is_stopped or _cancelled.is_set() or received_signal() is not None:
        raise KeyboardInterrupt
