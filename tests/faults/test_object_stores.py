"""Object stores that do not do what a lake needs, or fail in between."""

import datetime as dt
import json

import polars as pl
import pytest
from faults.lakes import find_faults, lost_and_doubled
from faults.store_proxy import FAULTS, count_faults, proxy
from faults.verbs import TYPED, run

from genebench.errors import LakeError
from lakehouse.query.lake import Lake
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.conditional_writes import sign_request
from lakehouse.tables.delta import Delta
from lakehouse.tables.lake_lock import StoreLease, open_lock
from lakehouse.tables.storage import Storage

pytestmark = pytest.mark.slow

FAILING_SHARE = 0.01
MAX_RUNS = 12


def test_a_store_without_conditional_writes_is_refused_at_the_first_write(bucket, tmp_path):
    with proxy(bucket, ("if-none-match", "if-match")) as options:
        lock = open_lock(Storage(f"s3://lakes/{tmp_path.name}", options))
        with pytest.raises(LakeError, match="has no conditional writes"):
            lock.try_acquire()


def test_a_store_with_conditional_writes_is_taken_and_its_lease_is_kept(bucket, tmp_path):
    with proxy(bucket, ()) as options:
        storage = Storage(f"s3://lakes/{tmp_path.name}", options)
        lock = open_lock(storage)
        assert lock.try_acquire()
        assert not StoreLease(storage).try_acquire()
        lock.release()


def test_rows_that_are_appended_through_a_failing_store_are_there_once(bucket, tmp_path, ledger):
    row = ledger("fault of an object store, at an append")
    root, schema = f"s3://lakes/{tmp_path.name}", table("gold.folds").schema
    values = {name: "a" if dtype == pl.String else 0 for name, dtype in schema.items()}
    with proxy(bucket, faults=FAULTS, share=0.1) as options:
        written = []
        for number in range(6):
            name = f"split {number}"
            one = pl.DataFrame({**values, "split_key": name}, schema)
            try:
                Delta(root, options).append("gold.folds", one, Commit("run", "test"))
            except LakeError:
                continue
            written.append(name)
        n_faults = count_faults(options)
    found = Delta(root, bucket).scan("gold.folds").collect()["split_key"]
    n_doubled, n_lost = found.len() - found.n_unique(), len(set(written) - set(found))
    row.add(n_lost, n_doubled, n=n_faults)
    assert n_faults > 0
    assert (n_lost, n_doubled) == (0, 0)


@pytest.mark.soak
def test_verbs_through_a_failing_store_are_run_again_until_nothing_is_missing(
    bucket, stages, ledger
):
    row = ledger("fault of an object store, at a verb")
    address = "s3://lakes/failing"
    with proxy(bucket, faults=FAULTS, share=FAILING_SHARE) as options:
        place = {"LAKE": address, "STORAGE_OPTIONS": json.dumps(options)}
        for verb in ("refresh", "curate", "embed", "score"):
            for _ in range(MAX_RUNS):
                ended = run(verb, stages("start"), **place)
                if not ended.code:
                    break
                assert ended.error.startswith(TYPED), ended.error
            assert not ended.code, ended.error
        n_faults = count_faults(options)
    lake = Lake(address, bucket)
    n_lost, n_doubled = lost_and_doubled(lake, stages("score"))
    row.add(n_lost, n_doubled, n=n_faults)
    assert n_faults > 0
    assert (n_lost, n_doubled) == (0, 0)
    assert not find_faults(lake)


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
