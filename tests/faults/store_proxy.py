"""A proxy before an object store that drops headers, answers with errors, or hangs up.

It is a process of its own: some calls of deltalake keep the interpreter's lock while they wait.
"""

import http.client
import json
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx

COUNT = "/failures"


@dataclass(frozen=True)
class StoreFaults:
    """What the proxy does to requests.

    Attributes:
        dropped_headers: Headers, in lower case, that do not reach the store.
        share: The share of requests that fail.
        kinds: How they fail: a status code, or 0 for a connection that ends without an answer.
        seed: The seed of the draw.
    """

    dropped_headers: tuple[str, ...] = ()
    share: float = 0.0
    kinds: tuple[int, ...] = (500, 503, 0)
    seed: int = 0


@contextmanager
def proxy(options: dict[str, str], faults: StoreFaults) -> Iterator[dict[str, str]]:
    """Start a proxy before a store; yields the storage options that lead through it."""
    given = json.dumps([options["AWS_ENDPOINT_URL"], asdict(faults)])
    command = [sys.executable, __file__, given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield {**options, "AWS_ENDPOINT_URL": process.stdout.readline().strip()}
        finally:
            process.kill()


def count_failures(options: dict[str, str]) -> int:
    """The number of requests that a proxy has let fail."""
    return int(httpx.get(options["AWS_ENDPOINT_URL"] + COUNT).text)


def serve(endpoint: str, faults: StoreFaults) -> None:  # noqa: C901 - one handler
    """Print the address of the proxy, and serve until the process is ended."""
    host, port = urlsplit(endpoint).netloc.split(":")
    draw, lock, failed = random.Random(faults.seed), threading.Lock(), []

    def next_failure() -> int | None:
        with lock:
            if draw.random() >= faults.share:
                return None
            failed.append(draw.choice(faults.kinds))
            return failed[-1]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == COUNT:
                self.give(200, str(len(failed)).encode(), [])
                return
            failure = next_failure()
            if failure == 0:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if failure is not None:
                self.give(failure, b"", [])
                return
            kept = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in (*faults.dropped_headers, "connection")
            }
            store = http.client.HTTPConnection(host, int(port), timeout=60)
            store.request(self.command, self.path, body, kept)
            found = store.getresponse()
            content = found.read()
            self.give(found.status, content, found.getheaders())
            store.close()

        def give(self, status: int, content: bytes, headers: list[tuple[str, str]]) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            given = dict(headers).get("Content-Length", "0")
            self.send_header("Content-Length", given if is_head else str(len(content)))
            self.end_headers()
            if not is_head:
                self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    address, entries = json.loads(sys.argv[1])
    entries["dropped_headers"] = tuple(entries["dropped_headers"])
    serve(address, StoreFaults(**entries))
