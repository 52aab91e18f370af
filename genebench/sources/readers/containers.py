"""Opens gzip, xz and zip files within a size limit."""

import fnmatch
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

DEFAULT_MAX_UNPACKED_BYTES = 4_000_000_000
CHUNK_BYTES = 1 << 20
MAX_LAYERS = 3
# A dictionary of `xz -9` takes 65 MiB to unpack; a header may ask for up to 4 GiB.
XZ_MEMORY = 100 << 20

GZIP_MAGIC = b"\x1f\x8b"
XZ_MAGIC = b"\xfd7zXZ\x00"
ZIP_MAGIC = b"PK\x03\x04"
EMPTY_ZIP_MAGIC = b"PK\x05\x06"
# What zipfile raises for offsets, sizes and names that are damaged.
BROKEN_ZIP = (
    zipfile.BadZipFile,
    ValueError,
    OSError,
    OverflowError,
    LookupError,
    struct.error,
    # Of a member that is encrypted, or that needs a newer version of the format.
    RuntimeError,
)


class FileError(Exception):
    """A file cannot be read. `read_source_file` adds the name of the file to the message.

    Args:
        what: What is wrong with the file.
        remedy: What the user should do.
    """

    def __init__(self, what: str, remedy: str = "run `genebench refresh`") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


def open_containers(
    content: bytes,
    limit: int = DEFAULT_MAX_UNPACKED_BYTES,
    member: str | None = None,
    parts: str | None = None,
) -> list[bytes]:
    """Unpack the gzip, xz and zip containers of a file.

    Args:
        content: The bytes as delivered.
        limit: Largest number of unpacked bytes, all layers and members together.
        member: Glob pattern of the file to read from a zip; required if it contains several.
        parts: Glob pattern of the files in a zip that together make one table, sorted by name.

    Returns:
        The unpacked content: one item, or one for each part.

    Raises:
        FileError: A container is truncated, corrupt, larger than `limit` when unpacked, or does
            not contain exactly one file.
    """
    contents = [content]
    for _ in range(MAX_LAYERS):
        if contents[0].startswith(GZIP_MAGIC):
            contents = [_gunzip(item, limit) for item in contents]
        elif contents[0].startswith(XZ_MAGIC):
            contents = [_unxz(item, limit) for item in contents]
        elif contents[0].startswith((ZIP_MAGIC, EMPTY_ZIP_MAGIC)) and not _is_workbook(contents[0]):
            contents = list(_unzip(contents[0], limit, member, parts))
        else:
            return contents
    raise FileError(f"it has more than {MAX_LAYERS} nested containers", "unpack it by hand")


def _gunzip(content: bytes, limit: int) -> bytes:
    pieces = []
    n_bytes = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            while piece := stream.read(CHUNK_BYTES):
                n_bytes += len(piece)
                _check_size(n_bytes, limit)
                pieces.append(piece)
    except EOFError as fault:
        raise FileError("the gzip file is truncated") from fault
    except (gzip.BadGzipFile, zlib.error) as fault:
        raise FileError(f"the gzip file is corrupt ({fault})") from fault
    return b"".join(pieces)


def _unxz(content: bytes, limit: int) -> bytes:
    pieces = []
    n_bytes = 0
    # A file may have several streams, with zeros between them.
    while content := content.lstrip(b"\x00"):
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)
        try:
            while not stream.eof:
                piece = stream.decompress(content, CHUNK_BYTES)
                content = b""
                if not piece and not stream.eof and stream.needs_input:
                    raise FileError("the xz file is truncated")
                n_bytes += len(piece)
                _check_size(n_bytes, limit)
                pieces.append(piece)
        except lzma.LZMAError as fault:
            raise FileError(f"the xz file is corrupt ({fault})") from fault
        content = stream.unused_data
    return b"".join(pieces)


def _unzip(content: bytes, limit: int, member: str | None, parts: str | None) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            n_bytes = 0
            for entry in _wanted(archive, member, parts):
                # The stated size may be wrong, so the unpacked bytes are counted as well.
                _check_size(n_bytes + entry.file_size, limit)
                pieces = []
                with archive.open(entry) as stream:
                    while piece := stream.read(CHUNK_BYTES):
                        n_bytes += len(piece)
                        _check_size(n_bytes, limit)
                        pieces.append(piece)
                yield b"".join(pieces)
    except BROKEN_ZIP as fault:
        raise FileError(f"the zip file is truncated or corrupt ({fault})") from fault
    except (zlib.error, EOFError) as fault:
        raise FileError(f"the zip file is corrupt ({fault})") from fault
    except (NotImplementedError, RuntimeError) as fault:
        raise FileError(f"the zip file cannot be opened ({fault})", "unpack it by hand") from fault


def _wanted(
    archive: zipfile.ZipFile, member: str | None, parts: str | None
) -> list[zipfile.ZipInfo]:
    entries = [
        entry
        for entry in archive.infolist()
        if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")
    ]
    names = ", ".join(entry.filename for entry in entries[:5]) or "nothing"
    if pattern := parts or member:
        entries = [
            entry for entry in entries if fnmatch.fnmatchcase(Path(entry.filename).name, pattern)
        ]
        if not entries:
            raise FileError(f"the zip file contains no {pattern!r}, but {names}")
    if parts:
        return sorted(entries, key=lambda entry: entry.filename)
    if len(entries) != 1:
        raise FileError(
            f"the zip file contains {len(entries)} files ({names}), but one is expected",
            "name the file to read under options: member in the declaration",
        )
    return entries


def _is_workbook(content: bytes) -> bool:
    """Return whether a zip file is an xlsx workbook, which `parse_xlsx` opens itself."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except BROKEN_ZIP:
        return False


def _check_size(n_bytes: int, limit: int) -> None:
    if n_bytes > limit:
        raise FileError(
            f"its unpacked size is more than {limit:,} bytes",
            "check that it is the right file; if it is, raise options: max_unpacked_bytes",
        )
