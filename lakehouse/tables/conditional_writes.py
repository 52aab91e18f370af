"""Probes whether an object store has conditional writes, without which Delta commits get lost.

AWS S3 has them. Other stores that speak S3 may ignore the header `If-None-Match`, and then write
over a commit that another process has made. Neither deltalake nor pyarrow can write one object
with this header, so the two requests of the probe are signed here.

Sources: RFC 9110, 13.1.2 (If-None-Match); Amazon S3 documentation, "Conditional requests" and
"Signature Version 4 signing process".
"""

import datetime as dt
import hashlib
import hmac
import uuid
from urllib.parse import quote, urlsplit

import httpx

from genebench.errors import LakeError
from lakehouse.tables.storage import Storage

_TIMEOUT_SECONDS = 30.0


def require_conditional_writes(storage: Storage) -> None:
    """Write a small object twice on condition that it does not exist; the second must be refused.

    Nothing is probed on AWS itself, or where no static keys are given to sign a request with.

    Raises:
        LakeError: The store wrote it twice, or does not know the condition.
    """
    options = storage.read_options()
    endpoint = options.get("AWS_ENDPOINT_URL")
    if endpoint is None or not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= options.keys():
        return
    place = storage.root.partition("://")[2]
    url = f"{endpoint.rstrip('/')}/{quote(place)}/.probe_{uuid.uuid4().hex}"
    try:
        with httpx.Client(timeout=_TIMEOUT_SECONDS) as client:
            answers = [_send(client, "PUT", url, options) for _ in range(2)]
            _send(client, "DELETE", url, options)
    except httpx.HTTPError as error:
        raise LakeError(f"cannot write to {storage.root}: {error}") from error
    is_written_twice = all(httpx.codes.is_success(status) for status in answers)
    if is_written_twice or httpx.codes.NOT_IMPLEMENTED in answers:
        raise LakeError(
            f"the object store of {storage.root} has no conditional writes (its answers to two "
            f"writes with If-None-Match were {answers[0]} and {answers[1]}), so two runs could "
            "write over each other's commits; use a store that has them, such as AWS S3, or a lake "
            "in a folder"
        )


def _send(client: httpx.Client, method: str, url: str, options: dict[str, str]) -> int:
    """Send a signed request without content; returns the status of the answer."""
    headers = sign_request(method, url, options, dt.datetime.now(dt.UTC))
    return client.request(method, url, headers=headers).status_code


def sign_request(
    method: str, url: str, options: dict[str, str], when: dt.datetime
) -> dict[str, str]:
    """Return the headers of a request without content, signed by version 4.

    Args:
        method: PUT, which gets the condition that the object does not exist, or DELETE.
        url: The address of the object, percent-encoded.
        options: Keys and region, in delta-rs's names.
        when: The time of the request, UTC.
    """
    now = when.strftime("%Y%m%dT%H%M%SZ")
    parts = urlsplit(url)
    headers = {
        "host": parts.netloc,
        "x-amz-content-sha256": hashlib.sha256(b"").hexdigest(),
        "x-amz-date": now,
    }
    if method == "PUT":
        headers["if-none-match"] = "*"
    if "AWS_SESSION_TOKEN" in options:
        headers["x-amz-security-token"] = options["AWS_SESSION_TOKEN"]
    names = ";".join(sorted(headers))
    listed = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join([method, parts.path, "", listed, names, headers["x-amz-content-sha256"]])
    scope = [now[:8], options.get("AWS_REGION", "us-east-1"), "s3", "aws4_request"]
    hashed = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", now, "/".join(scope), hashed])
    key = f"AWS4{options['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in (*scope, text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={options['AWS_ACCESS_KEY_ID']}/{'/'.join(scope)}, "
        f"SignedHeaders={names}, Signature={key.hex()}"
    )
    return headers
