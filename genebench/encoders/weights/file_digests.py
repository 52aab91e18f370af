"""SHA-256 digests of weight files and model folders."""

import hashlib
from pathlib import Path

_KNOWN_HASHES: dict[tuple[Path, int, int], str] = {}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file; of unchanged files it is computed once a process."""
    status = path.stat()
    known = (path, status.st_size, status.st_mtime_ns)
    if known not in _KNOWN_HASHES:
        with path.open("rb") as file:
            _KNOWN_HASHES[known] = hashlib.file_digest(file, "sha256").hexdigest()
    return _KNOWN_HASHES[known]


def folder_digest(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a model folder by its relative name, hidden files left out."""
    paths = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {
        name: sha256_of(path)
        for name, path in sorted(paths.items())
        if not any(part.startswith(".") for part in Path(name).parts)
    }
