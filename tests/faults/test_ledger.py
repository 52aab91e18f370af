"""The table of faults, counted in one process or in several."""

import os
import subprocess
import sys

import pytest

PLANTED = """
import pytest


@pytest.mark.parametrize("n", range(6))
def test_a_fault(ledger, n):
    ledger("full disk").add(n_lost=n, n_untyped=1, megabytes=100 * (n + 1))
    ledger(f"disk {n % 2}").add(n=2, n_doubled=1, megabytes=10)
"""
TABLE = """
| disk 0 | 6 | 0 | 3 | 0 | 0 | 0 | 10 |
| disk 1 | 6 | 0 | 3 | 0 | 0 | 0 | 10 |
| full disk | 6 | 15 | 0 | 6 | 0 | 0 | 600 |
| all | 18 | 15 | 6 | 6 | 0 | 0 | 600 |
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", ["0", "3"])
def test_workers_print_one_table_with_the_faults_of_all(tmp_path, n_workers):
    (tmp_path / "test_planted.py").write_text(PLANTED)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "fault_ledger", "-n", n_workers],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    # Without the last cell, the worst time.
    cells = [f"{row.rsplit(' | ', 1)[0]} |" for row in rows[2:]]
    assert cells == TABLE.split("\n")[1:-1]
