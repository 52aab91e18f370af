"""Termination signals are recorded even if their exception is lost; one process per test."""

import signal
import subprocess
import sys

import pytest

BEGIN = """
import os, signal
from genebench.cancellation import received_signal, raise_if_cancelled, watch_signals

def send_signal(number):
    try:
        os.kill(os.getpid(), number)
    except BaseException:
        pass

watch_signals()
"""


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_signal_is_recorded_even_if_its_exception_is_swallowed():
    printed = run("""
print(received_signal())
raise_if_cancelled()
send_signal(signal.SIGINT)
print(received_signal())
try:
    raise_if_cancelled()
except KeyboardInterrupt:
    print("stops")
""")
    assert printed == ["None", str(int(signal.SIGINT)), "stops"]


def test_the_first_of_several_signals_counts():
    printed = run("""
signal.signal(signal.SIGTERM, signal.default_int_handler)
send_signal(signal.SIGTERM)
send_signal(signal.SIGINT)
print(received_signal(), received_signal())
""")
    assert printed == [str(int(signal.SIGTERM))] * 2


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
def test_an_ignored_signal_is_not_recorded(name):
    printed = run(f"""
signal.signal(signal.{name}, signal.SIG_IGN)
send_signal(signal.{name})
print(received_signal())
""")
    assert printed == ["None"]


def test_other_signals_are_not_recorded():
    printed = run("""
signal.signal(signal.SIGUSR1, lambda *_: None)
send_signal(signal.SIGUSR1)
print(received_signal())
""")
    assert printed == ["None"]


def test_the_signals_of_a_forked_child_are_not_recorded():
    printed = run("""
child = os.fork()
if not child:
    send_signal(signal.SIGINT)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), received_signal())
""")
    assert printed == ["7", "None"]
