"""Object stores that do not do what a lake needs, or fail now and then."""

import datetime as dt
import json

import pytest
from faults.lakes import lost_and_doubled
from faults.store_proxy import StoreFaults, count_failures, proxy
from faults.verbs import VERBS, run

from genebench.errors import LakeError
from lakehouse.query.lake import Lake
from lakehouse.tables.conditional_writes import sign_request
from lakehouse.tables.lake_lock import StoreLease, open_lock
from lakehouse.tables.storage import Storage


def test_a_store_without_conditional_writes_is_refused_at_the_first_write(bucket, tmp_path):
    faults = StoreFaults(dropped_headers=("if-none-match", "if-match"))
    with proxy(bucket, faults) as options:
        lock = open_lock(Storage(f"s3://lakes/{tmp_path.name}", options))
        with pytest.raises(LakeError, match="has no conditional writes"):
            lock.try_acquire()


def test_a_store_with_conditional_writes_is_taken_and_its_lease_is_kept(bucket, tmp_path):
    with proxy(bucket, StoreFaults()) as options:
        storage = Storage(f"s3://lakes/{tmp_path.name}", options)
        lock = open_lock(storage)
        assert lock.try_acquire()
        assert not StoreLease(storage).try_acquire()
        lock.release()


def test_the_probe_is_signed_as_the_store_expects():
    auth = pytest.importorskip("botocore.auth")
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    options = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_REGION": "eu-central-1",
    }
    url = "http://127.0.0.1:9000/lakes/a%20b/.probe_1"
    headers = sign_request("PUT", url, options, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC))
    signer = auth.S3SigV4Auth(Credentials("key", "secret", "token"), "s3", "eu-central-1")
    ours = {name: value for name, value in headers.items() if name != "authorization"}
    request = AWSRequest("PUT", url, headers=ours, data=b"")
    request.context["timestamp"] = headers["x-amz-date"]
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert headers["authorization"].endswith("Signature=" + signer.signature(text, request))


@pytest.mark.soak
def test_verbs_on_a_store_that_fails_now_and_then_lose_nothing(
    bucket, copied, stages, ledger, tmp_path
):
    row = ledger("500, 503 or dropped connection of an object store")
    folder, address = copied("start"), f"s3://lakes/{tmp_path.name}"
    with proxy(bucket, StoreFaults(share=0.02)) as options:
        given = {"LAKE": address, "STORAGE_OPTIONS": json.dumps(options)}
        for verb in VERBS[:4]:
            for _ in range(5):
                ended = run(verb, folder, **given)
                if ended.code == 0:
                    break
                is_typed = ended.error.startswith(("genebench.errors.", "flows.run.summary."))
                row.add(n_untyped=int(not is_typed), n=1)
                assert is_typed, ended.error
            assert ended.code == 0, ended.error
        n_failed = count_failures(options)
    n_lost, n_doubled = lost_and_doubled(Lake(address, bucket), stages("score"))
    row.add(n_lost, n_doubled, n=n_failed)
    assert (n_lost, n_doubled) == (0, 0)
