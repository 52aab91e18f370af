"""A wish to stop, for work in threads: signals reach the main thread only.

What a signal raises there may be lost besides: Python drops exceptions in destructors and in the
callbacks of weak references, imports among them. So a signal is remembered apart from what it
raises.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event

# A terminal that is closed, Ctrl-C, and what supervisors send.
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

_wish = Event()
_ears: list[int] = []
_heard: list[int] = []


def watch_signals() -> None:
    """Take signals that ask a process to end as a wish to stop, for good.

    Their handlers are as before; a signal that is ignored stays so. For the main thread.
    """
    if _ears:
        return
    ear, mouth = os.pipe()
    os.set_blocking(ear, False)
    os.set_blocking(mouth, False)
    signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    # A forked child would tell its parent of its own signals.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    _ears.append(ear)


def received_signal() -> int | None:
    """The first signal that asked this process to end since `watch_signals`."""
    for ear in _ears:
        with suppress(BlockingIOError):
            _heard.extend(number for number in os.read(ear, 4096) if number in ENDING)
    return _heard[0] if _heard else None


@contextmanager
def cancel_while() -> Iterator[None]:
    """Let long work end that meets `raise_if_cancelled` while the block runs."""
    was_asked = _wish.is_set()
    _wish.set()
    try:
        yield
    finally:
        if not was_asked:
            _wish.clear()


def raise_if_cancelled() -> None:
    """Called between the steps of long work.

    Raises:
        KeyboardInterrupt: The process was asked to stop.
    """
    if _wish.is_set() or received_signal() is not None:
        raise KeyboardInterrupt
