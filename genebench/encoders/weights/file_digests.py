"""SHA-256 digests of weight files and model folders."""

import hashlib
from pathlib import Path

_CACHE: dict[tuple[Path, int, int], str] = {}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, cached in the process while the file is unchanged."""
    status = path.stat()
    known = (path, status.st_size, status.st_mtime_ns)
    if known not in _CACHE:
        with path.open("rb") as file:
            _CACHE[known] = hashlib.file_digest(file, "sha256").hexdigest()
    return _CACHE[known]


def folder_digest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a model folder by relative path, without hidden files."""
    paths = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return {
        name: sha256_of(path)
        for name, path in sorted(paths.items())
        if not any(part.startswith(".") for part in Path(name).parts)
    }
