"""A proxy before an object store that keeps some headers of requests from it.

It is a process of its own: some calls of deltalake keep the interpreter's lock while they wait.
"""

import http.client
import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@contextmanager
def proxy(options: dict[str, str], dropped: Collection[str]) -> Iterator[dict[str, str]]:
    """Start a proxy before a store; yields the storage options that lead through it.

    Args:
        options: The storage options of the store.
        dropped: Headers, in lower case, that do not reach the store.
    """
    given = json.dumps([options["AWS_ENDPOINT_URL"], list(dropped)])
    command = [sys.executable, __file__, given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield {**options, "AWS_ENDPOINT_URL": process.stdout.readline().strip()}
        finally:
            process.kill()


def serve(endpoint: str, dropped: Collection[str]) -> None:
    """Print the address of the proxy, and serve until the process is ended."""
    host, port = urlsplit(endpoint).netloc.split(":")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            left_out = (*dropped, "connection")
            kept = {n: value for n, value in self.headers.items() if n.lower() not in left_out}
            store = http.client.HTTPConnection(host, int(port), timeout=60)
            store.request(self.command, self.path, body, kept)
            found = store.getresponse()
            content = found.read()
            self.send_response_only(found.status)
            for name, value in found.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            length = found.getheader("Content-Length", "0") if is_head else str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            if not is_head:
                self.wfile.write(content)
            store.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(*json.loads(sys.argv[1]))
