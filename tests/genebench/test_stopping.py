"""Signals are heard apart from what they raise; each in a process of its own."""

import signal
import subprocess
import sys

import pytest

BEGIN = """
import os, signal
from genebench.cancellation import heard_signal, heed_stop, hear_signals

def hit(number):
    try:
        os.kill(os.getpid(), number)
    except BaseException:
        pass

hear_signals()
"""


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_signal_is_heard_whatever_becomes_of_what_it_raises():
    said = run("""
print(heard_signal())
heed_stop()
hit(signal.SIGINT)
print(heard_signal())
try:
    heed_stop()
except KeyboardInterrupt:
    print("stops")
""")
    assert said == ["None", str(int(signal.SIGINT)), "stops"]


def test_the_first_of_several_signals_counts():
    said = run("""
signal.signal(signal.SIGTERM, signal.default_int_handler)
hit(signal.SIGTERM)
hit(signal.SIGINT)
print(heard_signal(), heard_signal())
""")
    assert said == [str(int(signal.SIGTERM))] * 2


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
def test_a_signal_that_is_ignored_is_not_heard(name):
    said = run(f"""
signal.signal(signal.{name}, signal.SIG_IGN)
hit(signal.{name})
print(heard_signal())
""")
    assert said == ["None"]


def test_signals_that_ask_for_no_end_are_not_heard():
    said = run("""
signal.signal(signal.SIGUSR1, lambda *_: None)
hit(signal.SIGUSR1)
print(heard_signal())
""")
    assert said == ["None"]


def test_a_forked_child_keeps_its_signals_to_itself():
    said = run("""
child = os.fork()
if not child:
    hit(signal.SIGINT)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), heard_signal())
""")
    assert said == ["7", "None"]
