"""Every reader gives a result or a typed error for bytes that reach its branches."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest
from faults.inputs import one_of_each_reader

# For each reader, after a start of some seconds.
SECONDS = os.environ.get("FAULT_FUZZ_SECONDS", "10")
# Parts of the readers, for as many workers as there are.
N_PARTS = 12


@pytest.mark.soak
@pytest.mark.parametrize("part", range(N_PARTS))
def test_every_reader_that_is_fuzzed_gives_a_result_or_a_typed_error(
    corpus, tmp_path, ledger, part
):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed (pip install atheris; Linux on x86_64 has wheels)")
    row = ledger("mutated input, guided by coverage (atheris)")
    failures = []
    for name in one_of_each_reader(corpus)[part::N_PARTS]:
        failures += fuzz_reader(name, tmp_path / name, row)
    assert not failures, "\n".join(failures)


def fuzz_reader(name, folder, row):
    """Fuzz one reader in a process of its own; give what was found, with the bytes."""
    command = [sys.executable, "-m", "faults.fuzz", name, str(folder), "--seconds", SECONDS]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    found = folder / "findings"
    told = {path: json.loads(path.read_text()) for path in found.glob("*.json")}
    row.add(
        n_untyped=sum(one["is_untyped"] for one in told.values()),
        n_executed=sum(one["n_programs"] for one in told.values()),
        n_outside=sum(one["n_written"] for one in told.values()),
        megabytes=statistic("peak_rss_mb", done.stderr),
        n=statistic("number_of_executed_units", done.stderr),
    )
    failures = [
        f"{name}: {one['what']}: {path.with_suffix('.bin').read_bytes()[:1000]!r}"
        for path, one in told.items()
    ]
    if done.returncode or not statistic("number_of_executed_units", done.stderr):
        failures.append(f"{name}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return failures


def statistic(name, printed):
    """A number that libFuzzer prints at its end; 0 if it did not come that far."""
    found = re.search(rf"stat::{name}: *(\d+)", printed)
    return int(found[1]) if found else 0
