"""Fetching one address over HTTP: resumed, retried, bounded, and never half a file.

What arrives is kept in a `.part` beside a small note of the validators that the server gave, so
that a later call, also after a kill, goes on where the last one stopped and starts again where
the file has changed meanwhile.
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


_PASSING = (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)


class Fault(Exception):
    """What is wrong with a delivery; the caller adds which source and version it is."""


class Unreachable(Fault):
    """The place did not answer as it should, in each of several tries; it may do so later."""


class _Retry(Exception):
    def __init__(self, what: str, pause: float | None = None) -> None:
        super().__init__(what)
        self.pause = pause


@dataclass(frozen=True)
class Policy:
    """How patient a download is.

    Args:
        timeout_seconds: Longest silence of the server, also while connecting.
        pauses_seconds: The pause before each further try; their count is the number of retries,
            counted anew whenever a try got further into the file than all before it.
        max_pause_seconds: Longest pause that a server may ask for by `Retry-After`.
    """

    timeout_seconds: float = 30.0
    pauses_seconds: tuple[float, ...] = (1.0, 4.0, 16.0)
    max_pause_seconds: float = 120.0


@dataclass(frozen=True)
class Download:
    """A file that arrived whole.

    Args:
        path: The `.part` file; the caller moves it to its place.
        etag: The server's validator, if it gave one.
        published_on: The day of `Last-Modified` as `YYYY-MM-DD`, if it gave one.
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
    policy: Policy | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
    is_page: bool = False,
) -> Download | None:
    """Fetch an address into a folder.

    Args:
        url: `http://` or `https://`; redirects are followed.
        folder: Where the `.part` lies; created when missing.
        max_bytes: A larger file is refused, before it is read where the server states its size.
        conditions: Headers such as `If-None-Match`; ignored while resuming.
        policy: Timeout and retries.
        on_progress: Called with bytes so far and, where known, bytes in all.
        is_page: A web page is what is wanted; otherwise one is an error in disguise.

    Returns:
        The file, or None where the server says that it has not changed.

    Raises:
        Fault: The file is not there, too large, a web page, empty, or could not be read whole in
            all tries.
    """
    if not url.startswith(("http://", "https://")):
        raise Fault("only http and https addresses can be fetched; use a mirror, GENEBENCH_SOURCES")
    policy = policy or Policy()
    folder.mkdir(parents=True, exist_ok=True)
    n_failed, n_furthest = 0, 0
    with (
        _claim(folder, url) as path,
        httpx.Client(follow_redirects=True, timeout=policy.timeout_seconds) as client,
    ):
        part = _Part(path, url, max_bytes, on_progress, is_page)
        while True:
            try:
                return part.fetch(client, conditions or {})
            except httpx.TooManyRedirects as error:
                raise Fault("the address redirects in a circle") from error
            except (httpx.TransportError, _Retry) as error:
                what = _describe(error, policy)
                # A try that got further than all before it is not held against the server.
                n_failed = 1 if part.size() > n_furthest else n_failed + 1
                n_furthest = max(n_furthest, part.size())
                if n_failed > len(policy.pauses_seconds):
                    raise Unreachable(f"{what}, in each of {n_failed} tries") from error
                pause = policy.pauses_seconds[n_failed - 1]
                wanted = error.pause if isinstance(error, _Retry) and error.pause else pause
                time.sleep(min(wanted, policy.max_pause_seconds))
            except (httpx.InvalidURL, httpx.RequestError) as error:
                raise Fault(f"cannot be fetched: {error}") from error


@contextlib.contextmanager
def _claim(folder: Path, url: str) -> Iterator[Path]:
    """Yield the part of an address, or a fresh one while another process fetches the same."""
    name = hashlib.sha256(url.encode()).hexdigest()[:32]
    with (folder / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = uuid.uuid4().hex
        yield folder / f"{name}.part"


class _Part:
    """The part of a file that has arrived, with what is needed to go on."""

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
        """Ask once, from where the last try stopped, and write what comes."""
        # Compressed on the way, the bytes would not be the file's, nor could they be resumed.
        headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
        held = self._resumable()
        headers |= held or conditions
        with client.stream("GET", self.url, headers=headers) as response:
            if response.status_code == httpx.codes.NOT_MODIFIED and not held:
                return None
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._forget()
                raise _Retry("the server cannot resume")
            self._check_status(response)
            is_resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
            if is_resumed and not _starts_at(response, self.path):
                self._forget()
                raise _Retry("the server resumed at another place than asked")
            if is_resumed and _validator(response) not in ("", held.get("If-Range")):
                self._forget()
                raise _Retry("the server resumed another file than asked")
            self._write(response, "ab" if is_resumed else "wb")
        self._check_content()
        # Under a name of its own, so that no other download of this address can touch it.
        whole = self.path.with_name(f"{uuid.uuid4().hex}.part")
        self.path.replace(whole)
        self.note.unlink(missing_ok=True)
        return Download(whole, response.headers.get("etag"), _published_on(response))

    def size(self) -> int:
        """How many bytes have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    def _resumable(self) -> dict[str, str]:
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
        if status in _PASSING or status >= 500:
            raise _Retry(
                f"the server answered {status} {response.reason_phrase}", _asked_pause(response)
            )
        if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            what = _PERMANENT.get(status, "it cannot be fetched")
            raise Fault(f"the server answered {status} {response.reason_phrase}: {what}")

    def _write(self, response: httpx.Response, mode: str) -> None:
        begun = self.path.stat().st_size if mode == "ab" else 0
        is_plain = response.headers.get("content-encoding", "identity") == "identity"
        total = _total(response, begun) if is_plain else None
        self._check_size(total or 0)
        n_bytes = begun
        with self.path.open(mode) as file:
            # Only now: a run killed before an older file's bytes are gone must not leave them
            # under this file's validator.
            self.note.write_text(json.dumps({"url": self.url, "validator": _validator(response)}))
            for chunk in response.iter_raw() if is_plain else response.iter_bytes():
                n_bytes += len(chunk)
                self._check_size(n_bytes)
                file.write(chunk)
                if self.on_progress:
                    self.on_progress(n_bytes, total)
        if total is not None and n_bytes != total:
            raise _Retry(f"the file was cut short at {n_bytes:,} of {total:,} bytes")

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self.max_bytes:
            self._forget()
            raise Fault(
                f"it is larger than the {self.max_bytes:,} bytes declared; if it is the right "
                "file, raise max_bytes in the declaration"
            )

    def _check_content(self) -> None:
        try:
            refuse_content(self.path, is_page=self.is_page)
        except Fault:
            self._forget()
            raise

    def _forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def refuse_content(path: Path, *, is_page: bool = False) -> None:
    """Refuse an empty file, and a web page where a file is wanted.

    Raises:
        Fault: The file is one of these.
    """
    with path.open("rb") as file:
        start = file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        raise Fault("the file is empty")
    if start.startswith(HTML_STARTS) and not is_page:
        raise Fault("it is a web page, not the file; the file may have moved")


def _validator(response: httpx.Response) -> str:
    # A weak etag promises the same meaning, not the same bytes, so it cannot join two halves.
    etag = str(response.headers.get("etag", ""))
    return etag if etag and not etag.startswith("W/") else response.headers.get("last-modified", "")


def _starts_at(response: httpx.Response, path: Path) -> bool:
    begun = response.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    return bool(begun == str(path.stat().st_size))


def _total(response: httpx.Response, begun: int) -> int | None:
    """The bytes of the whole file; a server may resume with fewer than are left."""
    whole = response.headers.get("content-range", "").rpartition("/")[2]
    if response.status_code == httpx.codes.PARTIAL_CONTENT and whole.isdigit():
        return int(whole)
    stated = response.headers.get("content-length", "")
    return begun + int(stated) if stated.isdigit() else None


def _asked_pause(response: httpx.Response) -> float | None:
    """The seconds that `Retry-After` asks for, as a number or as a time; None without any."""
    asked = response.headers.get("retry-after", "")
    if asked.isdecimal():
        return float(asked)
    try:
        return max(parsedate_to_datetime(asked).timestamp() - time.time(), 0.0)
    except ValueError:
        return None


def _published_on(response: httpx.Response) -> str | None:
    try:
        return parsedate_to_datetime(response.headers["last-modified"]).date().isoformat()
    except (KeyError, ValueError):
        return None


def _describe(error: Any, policy: Policy) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"the server was silent for {policy.timeout_seconds:g} s"
    if isinstance(error, httpx.RemoteProtocolError):
        return f"the connection broke before the file was whole ({error})"
    if isinstance(error, httpx.TransportError):
        return f"the server cannot be reached ({error})"
    return str(error)
