"""A local HTTP server whose answers a test writes, and snapshots that are fetched from it."""

import contextlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from genebench.sources.declaration import Source
from lakehouse.refresh.http import RetryPolicy
from lakehouse.refresh.snapshot_rows import Snapshot, to_snapshot_rows
from lakehouse.refresh.snapshots import Snapshots
from lakehouse.tables.storage import Storage

FAST = RetryPolicy(timeout_seconds=0.5, pauses_seconds=(0.01, 0.02, 0.03))
BODY = b"Gene\tValue\n" + b"\n".join(b"G%d\t%d" % (n, n) for n in range(20_000))


class Server:
    """A local HTTP server whose answers a test writes."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler, int], None]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                n = sum(path == self.path for path, _ in outer.requests)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    outer.answers[self.path](self, n)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


def answer(
    handler: BaseHTTPRequestHandler,
    body: bytes = BODY,
    status: int = 200,
    length: int | None = None,
    **headers: str,
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def serve_range(handler: BaseHTTPRequestHandler, body: bytes, etag: str) -> None:
    """Answer as a server that can resume does."""
    wanted = handler.headers.get("Range", "")
    if wanted and handler.headers.get("If-Range") == etag:
        begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        stated = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        answer(handler, body[begin:], 206, ETag=etag, Content_Range=stated)
    else:
        answer(handler, body, ETag=etag)


def cut_short(handler: BaseHTTPRequestHandler, body: bytes, n: int, **headers: str) -> None:
    answer(handler, body[:n], length=len(body), **headers)
    handler.close_connection = True


def make_source(url: str, version: str = "23.0", **rest: object) -> Source:
    file = {"url": url, "format": "tsv", **rest}
    return Source.model_validate(
        {
            "id": "hpa",
            "title": "Atlas",
            "license": "CC BY-SA 3.0",
            "cite": "uhlen2015",
            "homepage": "https://example.org",
            "version": version,
            "files": {"proteinatlas": file},
        }
    )


def keeper(storage: Storage, *found: Snapshot, **rest) -> Snapshots:
    rest.setdefault("lock", Path("/nonexistent/lock.yaml"))
    rest.setdefault("policy", FAST)
    return Snapshots(storage, to_snapshot_rows(found, "r1"), **rest)


def list_files(storage: Storage) -> list[str]:
    folder = Path(storage.uri("snapshots"))
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def list_parts(storage: Storage) -> list[Path]:
    return sorted(Path(storage.uri("snapshots", ".parts")).glob("*.part"))
