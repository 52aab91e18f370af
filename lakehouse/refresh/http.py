"""Downloads one file over HTTP, with resume, retries and a size limit.

The bytes received are in a `.part` file, with the server's ETag or Last-Modified in a JSON file
beside it. A later call, also after a killed process, resumes there, or starts again if the file
has changed.
"""

import contextlib
import fcntl
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

USER_AGENT = "genebench"
CHUNK_BYTES = 1 << 18
HTML_STARTS = (b"<!doctype html", b"<html", b"<head")

_PERMANENT = {
    401: "it needs a login",
    403: "the server refuses it",
    404: "there is no such file",
    410: "the file was removed",
}

_TRANSIENT = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)


class FetchError(Exception):
    """A file cannot be fetched; the caller adds the source, file and version."""


class Unreachable(FetchError):
    """The server was unreachable, busy or broke the connection in each try; retry later."""


class _Retry(Exception):
    def __init__(self, what: str, pause: float | None = None) -> None:
        super().__init__(what)
        self.pause = pause


@dataclass(frozen=True)
class RetryPolicy:
    """Timeout and retries of a download.

    Args:
        timeout_seconds: Longest wait for the connection and for each chunk.
        pauses_seconds: The pause before each retry; their count is the number of retries. The
            count starts again after a try that received more bytes than all before it.
        max_pause_seconds: Upper limit of a pause requested by `Retry-After`.
    """

    timeout_seconds: float = 30.0
    pauses_seconds: tuple[float, ...] = (1.0, 4.0, 16.0)
    max_pause_seconds: float = 120.0


@dataclass(frozen=True)
class Download:
    """A complete downloaded file.

    Args:
        path: The `.part` file; the caller moves it to its final path.
        etag: The ETag, if the server sent one.
        published_on: The date of `Last-Modified` as `YYYY-MM-DD`, if the server sent it.
    """

    path: Path
    etag: str | None
    published_on: str | None


def download(
    url: str,
    folder: Path,
    max_bytes: int,
    *,
    conditions: Mapping[str, str] | None = None,
    policy: RetryPolicy | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
    is_page: bool = False,
) -> Download | None:
    """Download a URL into a folder.

    Args:
        url: `http://` or `https://`. Redirects are followed, but not from https to http.
        folder: The folder of the `.part` file; created when missing.
        max_bytes: A larger file is an error, raised before the download if its size is known.
        conditions: Headers such as `If-None-Match`; ignored while resuming.
        policy: Timeout and retries.
        on_progress: Called with the bytes so far and, where known, the total.
        is_page: Whether a web page is expected. Otherwise an HTML answer is an error.

    Returns:
        The file, or None where the server answers 304 Not Modified.

    Raises:
        FetchError: The file is missing, too large, empty or a web page, or no try completed it.
    """
    if not url.startswith(("http://", "https://")):
        raise FetchError(
            "only http and https addresses can be fetched; set GENEBENCH_SOURCES to a mirror that "
            "has the file"
        )
    policy = policy or RetryPolicy()
    folder.mkdir(parents=True, exist_ok=True)
    n_failed, n_furthest = 0, 0
    with (
        _claim(folder, url) as path,
        httpx.Client(
            follow_redirects=True,
            timeout=policy.timeout_seconds,
            event_hooks={"request": [_stay_encrypted] if url.startswith("https://") else []},
        ) as client,
    ):
        part = _PartialDownload(path, url, max_bytes, on_progress, is_page)
        while True:
            try:
                return part.fetch(client, conditions or {})
            except httpx.TooManyRedirects as error:
                raise FetchError("too many redirects") from error
            except (httpx.TransportError, _Retry) as error:
                what = _describe(error, policy)
                # A try that received more bytes than all before it resets the count.
                n_failed = 1 if part.size() > n_furthest else n_failed + 1
                n_furthest = max(n_furthest, part.size())
                if n_failed > len(policy.pauses_seconds):
                    raise Unreachable(f"{what}, in each of {n_failed} tries") from error
                pause = policy.pauses_seconds[n_failed - 1]
                wanted = error.pause if isinstance(error, _Retry) and error.pause else pause
                time.sleep(min(wanted, policy.max_pause_seconds))
            except (httpx.InvalidURL, httpx.RequestError) as error:
                raise FetchError(f"cannot be fetched: {error}") from error


def _stay_encrypted(request: httpx.Request) -> None:
    """Refuse a redirect from https to http, where anybody could change the answer."""
    if request.url.scheme != "https":
        raise FetchError(f"the server redirects to {request.url}, which is not encrypted")


@contextlib.contextmanager
def _claim(folder: Path, url: str) -> Iterator[Path]:
    """Yield the `.part` path of a URL, or a new one while another process downloads the same."""
    name = hashlib.sha256(url.encode()).hexdigest()[:32]
    with (folder / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = uuid.uuid4().hex
        yield folder / f"{name}.part"


class _PartialDownload:
    """A `.part` file with the validator that is needed to resume it."""

    def __init__(
        self,
        path: Path,
        url: str,
        max_bytes: int,
        on_progress: Callable[[int, int | None], None] | None,
        is_page: bool,
    ) -> None:
        self.url = url
        self.path = path
        self.note = path.with_suffix(".json")
        self.max_bytes = max_bytes
        self.on_progress = on_progress
        self.is_page = is_page

    def fetch(self, client: httpx.Client, conditions: Mapping[str, str]) -> Download | None:
        """Send one request, for the missing bytes where it can resume, and write the answer."""
        # Without compression: byte ranges of a compressed transfer are not those of the file.
        headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
        resume = self._resume_headers()
        headers |= resume or conditions
        with client.stream("GET", self.url, headers=headers) as response:
            if response.status_code == httpx.codes.NOT_MODIFIED and not resume:
                return None
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._discard()
                raise _Retry("the server rejected the range request (416)")
            self._check_status(response)
            is_resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
            if is_resumed and not _starts_at(response, self.path):
                self._discard()
                raise _Retry("the server resumed at another byte than requested")
            if is_resumed and _validator(response) not in ("", resume.get("If-Range")):
                self._discard()
                raise _Retry("the server resumed another version of the file")
            self._write(response, "ab" if is_resumed else "wb")
        self._check_content()
        # Under a unique name, so that no other download of this URL can overwrite it.
        complete = self.path.with_name(f"{uuid.uuid4().hex}.part")
        self.path.replace(complete)
        self.note.unlink(missing_ok=True)
        return Download(complete, response.headers.get("etag"), _published_on(response))

    def size(self) -> int:
        """The number of bytes received."""
        return self.path.stat().st_size if self.path.exists() else 0

    def _resume_headers(self) -> dict[str, str]:
        if not self.path.exists() or not self.note.exists():
            return {}
        try:
            validator = json.loads(self.note.read_text())["validator"]
        except (ValueError, KeyError):
            return {}
        size = self.path.stat().st_size
        return {"Range": f"bytes={size}-", "If-Range": validator} if size and validator else {}

    def _check_status(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in _TRANSIENT or status >= 500:
            raise _Retry(
                f"the server answered {status} {response.reason_phrase}", _retry_after(response)
            )
        if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            what = _PERMANENT.get(status, "it cannot be fetched")
            raise FetchError(f"the server answered {status} {response.reason_phrase}: {what}")

    def _write(self, response: httpx.Response, mode: str) -> None:
        begun = self.path.stat().st_size if mode == "ab" else 0
        is_plain = response.headers.get("content-encoding", "identity") == "identity"
        total = _total(response, begun) if is_plain else None
        self._check_size(total or 0)
        n_bytes = begun
        with self.path.open(mode) as file:
            # Written after the old bytes are truncated: a process killed in between must not leave
            # them under the validator of the new file.
            self.note.write_text(json.dumps({"url": self.url, "validator": _validator(response)}))
            for chunk in response.iter_raw() if is_plain else response.iter_bytes():
                n_bytes += len(chunk)
                self._check_size(n_bytes)
                file.write(chunk)
                if self.on_progress:
                    self.on_progress(n_bytes, total)
        if total is not None and n_bytes != total:
            raise _Retry(f"the download ended at {n_bytes:,} of {total:,} bytes")

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self.max_bytes:
            self._discard()
            raise FetchError(
                f"it is larger than the {self.max_bytes:,} bytes declared; if the file is right, "
                "raise max_bytes in the declaration of the source"
            )

    def _check_content(self) -> None:
        try:
            check_content(self.path, is_page=self.is_page)
        except FetchError:
            self._discard()
            raise

    def _discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def check_content(path: Path, *, is_page: bool = False) -> None:
    """Check that a file is not empty and, unless a page is expected, not a web page.

    Raises:
        FetchError: The file is empty or a web page.
    """
    with path.open("rb") as file:
        start = file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        raise FetchError("the file is empty")
    if start.startswith(HTML_STARTS) and not is_page:
        raise FetchError("it is a web page, not the file; the file may have moved")


def _validator(response: httpx.Response) -> str:
    # A weak ETag does not guarantee the same bytes, so a download cannot be resumed with it.
    etag = str(response.headers.get("etag", ""))
    return etag if etag and not etag.startswith("W/") else response.headers.get("last-modified", "")


def _starts_at(response: httpx.Response, path: Path) -> bool:
    begun = response.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    return bool(begun == str(path.stat().st_size))


def _total(response: httpx.Response, begun: int) -> int | None:
    """The size of the complete file in bytes; None where unknown."""
    # Content-Length may be less than the rest: a server may answer with a part of the range.
    size = response.headers.get("content-range", "").rpartition("/")[2]
    if response.status_code == httpx.codes.PARTIAL_CONTENT and size.isdigit():
        return int(size)
    stated = response.headers.get("content-length", "")
    return begun + int(stated) if stated.isdigit() else None


def _retry_after(response: httpx.Response) -> float | None:
    """The pause in seconds requested by `Retry-After` (a number or a date); None without one."""
    header = response.headers.get("retry-after", "")
    if header.isdecimal():
        return float(header)
    try:
        return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _published_on(response: httpx.Response) -> str | None:
    try:
        return parsedate_to_datetime(response.headers["last-modified"]).date().isoformat()
    except (KeyError, ValueError):
        return None


def _describe(error: Any, policy: RetryPolicy) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"timeout: the server sent nothing for {policy.timeout_seconds:g} s"
    if isinstance(error, httpx.RemoteProtocolError):
        return f"the connection broke before the download was complete ({error})"
    if isinstance(error, httpx.TransportError):
        return f"the server cannot be reached ({error})"
    return str(error)
