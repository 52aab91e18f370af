"""Keeps the results of `genebench evaluate`, so that the same command again reads them.

A result is one zip file in the folder of the setting `cache`. Its name is the digest of the
vectors, the options and all files of the package, so a new version never reads an old result.
"""

import io
import json
import os
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.digest import digest_bytes, digest_json
from genebench.encoders.identifier_inference import IdentifierReport
from genebench.reference.comparison import Comparison
from genebench.reference.evaluate_vectors import Progress, evaluate_vectors
from genebench.settings import Settings, get_settings

# Older results are deleted; one takes one to two megabytes.
N_KEPT = 100

_FRAMES = ("scores", "differences", "scopes", "coverage", "bundle")


def result_folder(settings: Settings) -> Path:
    """The folder of the results: the setting `cache`, or `genebench` in the user's cache folder."""
    if settings.cache is not None:
        return settings.cache
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "genebench"


def result_key(names: Sequence[str], matrix: npt.NDArray[np.float32], options: Any) -> str:
    """Digest of vectors, of JSON-like options and of all files of the package."""
    packed = "\0".join(names).encode()
    vectors = digest_bytes(packed, str(matrix.shape).encode(), matrix.tobytes())
    return digest_json([vectors, options, digest_bytes(*_package_files())])


def evaluate_with_cache(
    names: Sequence[str],
    matrix: npt.NDArray[np.float32],
    *,
    name: str,
    ids: str = "auto",
    tasks: Collection[str] = (),
    against: Collection[str] = (),
    bundles: Collection[Path] = (),
    refit: bool = False,
    progress: Progress = print,
) -> Comparison:
    """Evaluate vectors, or read the result of the same vectors and options.

    Args and errors are those of `evaluate_vectors`. A result that cannot be stored is returned
    with a line of progress that says why.
    """
    folder = result_folder(get_settings())
    beside = [digest_bytes(Path(path).read_bytes()) for path in bundles]
    key = result_key(names, matrix, [name, ids, list(tasks), list(against), beside, refit])
    stored = read_result(folder, key)
    if stored is not None:
        progress(f"result of the same vectors and options, read from {folder}")
        return stored
    found = evaluate_vectors(
        names,
        matrix,
        name=name,
        ids=ids,
        tasks=tasks,
        against=against,
        bundles=bundles,
        refit=refit,
        progress=progress,
    )
    try:
        write_result(folder, key, found)
    except OSError as error:
        progress(f"the result is not kept for the next time: {error}")
    return found


def read_result(folder: Path, key: str) -> Comparison | None:
    """Read a stored result; None if there is none, or if it is damaged."""
    try:
        with zipfile.ZipFile(folder / f"{key}.zip") as archive:
            frames: dict[str, Any] = {
                name: pl.read_ipc(io.BytesIO(archive.read(f"{name}.arrow"))) for name in _FRAMES
            }
            values = json.loads(archive.read("values.json"))
            report = values.pop("identifiers")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, pl.exceptions.PolarsError):
        return None
    lists = {name: tuple(report[name]) for name in ("ambiguous", "unknown")}
    identifiers = IdentifierReport(**report | lists)
    notes = tuple(values.pop("notes"))
    return Comparison(**values, **frames, identifiers=identifiers, notes=notes)


def write_result(folder: Path, key: str, found: Comparison) -> None:
    """Store a result, through a temporary file; delete the oldest beyond `N_KEPT`.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{key}.{os.getpid()}.tmp"
    values = {
        "name": found.name,
        "profile": found.profile,
        "protocol": found.protocol,
        "identifiers": asdict(found.identifiers),
        "notes": found.notes,
    }
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("values.json", json.dumps(values))
            for name in _FRAMES:
                content = io.BytesIO()
                getattr(found, name).write_ipc(content)
                archive.writestr(f"{name}.arrow", content.getvalue())
        temporary.replace(folder / f"{key}.zip")
    finally:
        temporary.unlink(missing_ok=True)
    stored = sorted(folder.glob("*.zip"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in stored[N_KEPT:]:
        path.unlink(missing_ok=True)


def _package_files() -> Iterator[bytes]:
    """Names and contents of the files of the package, without compiled ones."""
    root = Path(str(resources.files("genebench")))
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield path.relative_to(root).as_posix().encode()
            yield path.read_bytes()
