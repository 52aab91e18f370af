"""A disk that is full, and one that cannot be written to."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from faults.lakes import find_faults, lost_and_doubled
from faults.verbs import TYPED, run


@pytest.fixture
def mounted(tmp_path):
    """Mount a small disk in memory, where the machine allows it."""
    folders = []

    def mount(folder: Path, options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        folders.append(folder)

    if shutil.which("mount") is None or os.getuid():
        pytest.skip("only root can mount a small disk")
    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.soak
@pytest.mark.parametrize("kilobytes", [1, 20, 60, 150])
@pytest.mark.parametrize(
    ("verb", "before"),
    [("refresh", "start"), ("curate", "refresh"), ("embed", "curate"), ("score", "embed")],
)
def test_a_disk_that_fills_up_anywhere_is_one_typed_error(
    copied, stages, ledger, mounted, verb, before, kilobytes
):
    fill_up(verb, before, copied, stages, ledger, mounted, kilobytes)


def fill_up(verb, before, copied, stages, ledger, mounted, kilobytes):
    row = ledger("full disk")
    folder = copied(before)
    whole = folder / "lake"
    kept = folder / "kept"
    if whole.exists():
        whole.rename(kept)
    mounted(whole, "size=64m")
    if kept.exists():
        shutil.copytree(kept, whole, dirs_exist_ok=True)
    free = shutil.disk_usage(whole).free
    (whole / "ballast").write_bytes(bytes(free - kilobytes * 1024))
    ended = run(verb, folder)
    n_untyped = int(ended.code != 0 and not ended.error.startswith(TYPED))
    (whole / "ballast").unlink()
    assert find_faults(folder) == []
    again = run(verb, folder)
    assert again.code == 0, again.error
    n_lost, n_doubled = lost_and_doubled(folder, stages(verb))
    row.add(n_lost, n_doubled, n_untyped)
    assert n_untyped == 0, ended.error
    assert (n_lost, n_doubled) == (0, 0)


def test_a_disk_that_cannot_be_written_to_is_one_typed_error(copied, ledger, mounted):
    row = ledger("read-only disk")
    folder = copied("refresh")
    (folder / "lake").rename(folder / "kept")
    mounted(folder / "lake", "size=64m")
    shutil.copytree(folder / "kept", folder / "lake", dirs_exist_ok=True)
    subprocess.run(["mount", "-o", "remount,ro", str(folder / "lake")], check=True)
    assert find_faults(folder) == []
    ended = run("curate", folder)
    row.add(n_untyped=int(not ended.error.startswith(TYPED)))
    assert ended.code == 1
    assert ended.error.startswith("genebench.errors.LakeError: cannot write to")
    assert "check that the lake's folder is writable" in ended.error
