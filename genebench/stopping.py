"""A wish to stop, for work in threads: Ctrl-C reaches the main thread only."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

_wish = Event()


def ask_to_stop() -> None:
    """Let all long work of this process end at its next `heed_stop`, for good."""
    _wish.set()


@contextmanager
def asking_to_stop() -> Iterator[None]:
    """Let long work end that meets `heed_stop` while the block runs."""
    was_asked = _wish.is_set()
    _wish.set()
    try:
        yield
    finally:
        if not was_asked:
            _wish.clear()


def heed_stop() -> None:
    """Called between the steps of long work.

    Raises:
        KeyboardInterrupt: The process was asked to stop.
    """
    if _wish.is_set():
        raise KeyboardInterrupt
