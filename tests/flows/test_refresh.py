"""Faults of deliveries, through the whole of refresh: one named error, and tables as they were."""

import functools
import gzip
import io
import pickle
import shutil
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from places import Place
from world import build_world

from genebench.errors import GenebenchError
from genebench.settings import get_settings
from lakehouse.refresh import http

pytestmark = pytest.mark.usefixtures("prefect")
ATLAS, CATALOGUE = "hpa.proteinatlas", "hgnc.complete_set"


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """A world and a lake that holds two of its files."""
    from flows.refresh import fetch_and_commit
    from flows.run.context import open_context

    folder = tmp_path_factory.mktemp("fetched")
    build_world(folder / "sources")
    with pytest.MonkeyPatch.context() as patch:
        Place(folder / "lake", folder / "sources", patch, extra={"PROFILE": "paper"}).enter()
        for file_id in (ATLAS, CATALOGUE, "genecorpus.n1_network"):
            fetch_and_commit(open_context(), file_id)
    return folder


@pytest.fixture
def copied(fetched, tmp_path, place_of):
    """A copy of it, entered, with new versions of the sources to spoil."""
    shutil.copytree(fetched, tmp_path / "copy")
    world = build_world(tmp_path / "copy" / "sources")
    for source in ("hpa", "hgnc", "genecorpus"):
        world.release(source, "99.0")
    world.write()
    extra = {"PROFILE": "paper"}
    return place_of(tmp_path / "copy" / "lake", world.folder, extra=extra), world


def spoil_zip(path: Path, change) -> None:
    """Change the text inside a zip."""
    with zipfile.ZipFile(path) as archive:
        name = archive.namelist()[0]
        content = archive.read(name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, change(content))
    path.write_bytes(buffer.getvalue())


def without_column(content: bytes) -> bytes:
    return content.replace(b"Protein class", b"Protein klass", 1)


def with_header_twice(content: bytes) -> bytes:
    header, _, rest = content.partition(b"\n")
    return header.replace(b"Protein class", b"Chromosome", 1) + b"\n" + rest


class Hostile:
    """Would write a file if a reader executed it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


FAULTS = {
    "a truncated zip": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "a web page": lambda path: path.write_text("<!DOCTYPE html><html>Not found</html>"),
    "an empty file": lambda path: path.write_bytes(b""),
    "a missing column": lambda path: spoil_zip(path, without_column),
    "a header that repeats": lambda path: spoil_zip(path, with_header_twice),
    "another delimiter": lambda path: spoil_zip(path, lambda text: text.replace(b"\t", b";")),
    "NUL bytes": lambda path: spoil_zip(path, lambda text: text[:500] + b"\0" * 9 + text[500:]),
}


def versions_of(place: Place) -> dict[str, int]:
    return {name: place.lake.delta.version(name) for name in place.lake.counts()}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_spoilt_delivery_gives_one_named_error_and_changes_no_table(copied, fault):
    from flows.refresh import refresh

    place, world = copied
    before = versions_of(place)
    FAULTS[fault](world.path_of(ATLAS))
    with pytest.raises(GenebenchError) as error:
        refresh([ATLAS])
    message = str(error.value)
    assert message.startswith("refresh: 1 failed")
    assert ATLAS in message
    assert "99.0" in message
    assert versions_of(place) == before


def test_the_last_good_snapshot_stays_current(copied):
    from flows.refresh import refresh

    place, world = copied
    good = place.lake.current_snapshots([ATLAS])
    world.path_of(ATLAS).write_bytes(b"")
    with pytest.raises(GenebenchError, match="stays current"):
        refresh([ATLAS])
    assert place.lake.current_snapshots([ATLAS]) == good


def test_a_hostile_pickle_runs_nothing_and_is_refused(copied, tmp_path):
    from flows.refresh import refresh

    place, world = copied
    before = versions_of(place)
    target = tmp_path / "executed"
    world.path_of("genecorpus.n1_network").write_bytes(pickle.dumps(Hostile(target)))
    with pytest.raises(GenebenchError, match=r"genecorpus\.n1_network"):
        refresh(["genecorpus.n1_network"])
    assert not target.exists()
    assert versions_of(place) == before


def test_a_zip_that_unpacks_beyond_its_limit_is_refused(copied):
    from flows.refresh import refresh

    place, world = copied
    before = versions_of(place)
    path = world.path_of("hgnc.group_588_hla")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("group.tsv", path.name + "\tApproved name\n" * 1_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(GenebenchError, match=r"hgnc\.group_588_hla"):
        refresh(["hgnc.group_588_hla"])
    assert versions_of(place) == before


def test_one_bad_file_does_not_keep_the_others_out(copied):
    from flows.refresh import refresh

    place, world = copied
    world.path_of(ATLAS).write_bytes(b"")
    with pytest.raises(GenebenchError, match="1 failed, the rest is done and kept"):
        refresh([ATLAS, CATALOGUE])
    assert "hgnc_99_0" in place.lake.current_snapshots([CATALOGUE])[CATALOGUE]
    assert "hpa_23_0" in place.lake.current_snapshots([ATLAS])[ATLAS]


@pytest.mark.parametrize("is_scheduled", [True, False])
def test_a_run_of_a_deployment_asks_a_silent_server_again(copied, monkeypatch, is_scheduled):
    from flows import refresh as module
    from flows.refresh import refresh

    place, world = copied
    wanted = {name: world.path_of(name).name for name in (CATALOGUE, ATLAS)}
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path.rpartition("/")[2])
            # All tries of the first attempt, and those of no other.
            n_tries = 1 + len(http.RetryPolicy().pauses_seconds)
            if asked[-1] == wanted[CATALOGUE] and asked.count(asked[-1]) <= n_tries:
                self.send_error(503)
            else:
                super().do_GET()

    served = functools.partial(Handler, directory=str(world.folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("GENEBENCH_SOURCES", f"http://127.0.0.1:{server.server_port}")
        get_settings.cache_clear()
        monkeypatch.setattr(module, "RETRY_DELAYS_SECONDS", [0.5])
        monkeypatch.setattr(http, "time", SimpleNamespace(sleep=lambda seconds: None))
        if is_scheduled:
            monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a-deployment")
            assert set(refresh([CATALOGUE, ATLAS]).done) == {CATALOGUE, ATLAS}
        else:
            with pytest.raises(GenebenchError, match="1 failed, the rest is done and kept"):
                refresh([CATALOGUE, ATLAS])
        server.shutdown()
    assert "hpa_99_0" in place.lake.current_snapshots([ATLAS])[ATLAS]


def test_a_file_that_lost_most_of_its_rows_is_taken_with_a_warning_on_record(copied):
    from flows.refresh import refresh

    place, world = copied
    path = world.path_of(CATALOGUE)
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:40])))
    refresh([CATALOGUE])
    unmet = place.rows("audit.validations").filter(is_met=False)
    assert "number_of_rows_drifts_little" in set(unmet["expectation_id"])
    assert set(unmet["severity"]) == {"warning"}


def test_a_file_that_comes_back_whole_after_a_cut_is_current_again(copied):
    from flows.refresh import refresh

    place, world = copied
    path = world.path_of(CATALOGUE)
    whole = path.read_bytes()
    refresh([CATALOGUE])
    good = place.lake.current_snapshots([CATALOGUE])
    lines = gzip.decompress(whole).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:40])))
    refresh([CATALOGUE])
    assert place.lake.current_snapshots([CATALOGUE]) != good
    path.write_bytes(whole)
    assert list(refresh([CATALOGUE]).done) == [CATALOGUE]
    assert place.lake.current_snapshots([CATALOGUE]) == good
    assert place.lake.raw(CATALOGUE, good[CATALOGUE]).height == len(lines) - 1
    before = versions_of(place)
    assert not refresh([CATALOGUE]).done
    assert versions_of(place) == before


def test_an_older_version_fetched_by_name_is_current_again(copied):
    from flows.curate import curate
    from flows.refresh import refresh
    from lakehouse.report.exports import used_snapshots

    place, _ = copied
    older = place.lake.current_snapshots([ATLAS])
    refresh()
    assert place.lake.current_snapshots([ATLAS]) != older
    refresh([ATLAS], version="23.0")
    assert place.lake.current_snapshots([ATLAS]) == older
    curate()
    rows = used_snapshots(place.lake).filter(source="hpa", file="proteinatlas")
    assert rows["version"].to_list() == ["23.0"]
    assert rows["retrieved_at"].item() == place.rows("bronze.snapshots")["retrieved_at"].max()


def test_bytes_in_the_lake_are_read_again_where_their_declaration_has_changed(copied):
    from flows.refresh import fetch_and_commit
    from flows.run.context import open_context
    from lakehouse.curate.state import curation_key

    place, _ = copied
    context = open_context()
    snapshot = fetch_and_commit(context, ATLAS)
    before = place.lake.raw(ATLAS, snapshot.snapshot_id).columns
    key = curation_key(context.lake, context.registry, {ATLAS: snapshot.snapshot_id})
    retrievals = place.rows("bronze.snapshots").height
    assert not fetch_and_commit(context, ATLAS).is_new

    source = context.registry.sources["hpa"]
    file = source.files["proteinatlas"]
    aliases = {**file.options.get("aliases", {}), "Position on the chromosome": ["Position"]}
    other = file.model_copy(update={"options": {**file.options, "aliases": aliases}})
    files = {**source.files, "proteinatlas": other}
    context.registry.sources["hpa"] = source.model_copy(update={"files": files})
    again = fetch_and_commit(context, ATLAS)
    assert again.is_new
    assert again.snapshot_id == snapshot.snapshot_id
    after = place.lake.raw(ATLAS, snapshot.snapshot_id).columns
    assert set(after) - set(before) == {"Position on the chromosome"}
    assert curation_key(context.lake, context.registry, {ATLAS: snapshot.snapshot_id}) != key
    assert place.rows("bronze.snapshots").height == retrievals
    assert not fetch_and_commit(context, ATLAS).is_new
