"""A proxy before an object store that drops headers, answers errors and breaks connections.

It is a process of its own: some calls of deltalake keep the interpreter's lock while they wait.
"""

import http.client
import json
import random
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

import httpx

# What happens to a request: an error before or after the store has done it, or a connection that
# breaks before or after that.
FAULTS = ("500", "503", "break", "500 after", "break after")
_COUNTED = "/.n_faults"


@contextmanager
def proxy(
    options: dict[str, str],
    dropped: Collection[str] = (),
    faults: Collection[str] = (),
    share: float = 0.0,
) -> Iterator[dict[str, str]]:
    """Start a proxy before a store; yields the storage options that lead through it.

    Args:
        options: The storage options of the store.
        dropped: Headers, in lower case, that do not reach the store.
        faults: Some of `FAULTS`.
        share: The share of requests that one of the faults happens to.
    """
    given = json.dumps([options["AWS_ENDPOINT_URL"], list(dropped), list(faults), share])
    command = [sys.executable, __file__, given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield {**options, "AWS_ENDPOINT_URL": process.stdout.readline().strip()}
        finally:
            process.kill()


def count_faults(options: dict[str, str]) -> int:
    """The number of requests that a fault happened to."""
    return int(httpx.get(options["AWS_ENDPOINT_URL"] + _COUNTED).text)


class Handler(BaseHTTPRequestHandler):
    """Passes requests on to the store, but for those that a fault happens to."""

    protocol_version = "HTTP/1.1"
    endpoint: tuple[str, int]
    dropped: Collection[str]
    faults: Sequence[str]
    share: float
    draw = random.Random(0)
    happened: ClassVar[list[str]] = []

    def answer(self) -> None:
        body = self.read_body()
        if self.path == _COUNTED:
            self.respond(200, {}, str(len(self.happened)).encode())
            return
        fault, _, when = self.choose_fault().partition(" ")
        if when == "after" or not fault:
            told = self.forward(body)
        if fault == "break":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault:
            self.respond(int(fault), {"Content-Type": "application/xml"}, b"<Error/>")
        else:
            self.respond(*told)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # pyarrow sends the parts of an upload so.
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def choose_fault(self) -> str:
        if self.draw.random() >= self.share:
            return ""
        self.happened.append(self.draw.choice(self.faults))
        return self.happened[-1]

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        left_out = (*self.dropped, "connection", "transfer-encoding")
        kept = {n: value for n, value in self.headers.items() if n.lower() not in left_out}
        store = http.client.HTTPConnection(*self.endpoint, timeout=60)
        store.request(self.command, self.path, body, kept)
        found = store.getresponse()
        content = found.read()
        store.close()
        return found.status, dict(found.getheaders()), content

    def respond(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers.items():
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - names of http.server

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def serve(endpoint: str, dropped: Collection[str], faults: Sequence[str], share: float) -> None:
    """Print the address of the proxy, and serve until the process is ended."""
    host, port = urlsplit(endpoint).netloc.split(":")
    Handler.endpoint = (host, int(port))
    Handler.dropped, Handler.faults, Handler.share = dropped, faults, share
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(*json.loads(sys.argv[1]))
