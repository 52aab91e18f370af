"""A wish to stop, for work in threads: Ctrl-C reaches the main thread only."""

from threading import Event

_wish = Event()


def ask_to_stop() -> None:
    """Let all long work of this process end at its next `heed_stop`."""
    _wish.set()


def forget_stop() -> None:
    """Let work begin again."""
    _wish.clear()


def heed_stop() -> None:
    """Called between the steps of long work.

    Raises:
        KeyboardInterrupt: The process was asked to stop.
    """
    if _wish.is_set():
        raise KeyboardInterrupt
