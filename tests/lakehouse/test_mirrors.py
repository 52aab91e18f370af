"""Source files from a folder or an address that mirrors them, and files in parts."""

import hashlib
import zipfile
from pathlib import Path

import pytest
from file_server import BODY, answer, keeper, make_source

from expectations import check_frame
from genebench.errors import ChecksumMismatch, SnapshotDrift, SourceError
from genebench.sources.declaration import EMBEDDED_FOLDER
from lakehouse.refresh.pins import lock_snapshots, write_lock
from lakehouse.refresh.snapshot_rows import to_snapshot_rows


def write_mirror(folder: Path, text: str) -> None:
    (folder / "sources.yaml").write_text(text)


MIRROR = """
hpa.proteinatlas:
  - {version: "18.1", path: old.tsv}
  - {version: "23.0", path: new.tsv, complete: false}
  - {version: "23.0-composite", path: mixed.tsv, complete: false, composite: true}
hpa.pathology:
  - {version: "1", path: missing.tsv}
"""


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    write_mirror(folder, MIRROR)
    for name in ("old", "new", "mixed"):
        (folder / f"{name}.tsv").write_text(f"Gene\n{name}")
    return folder


def test_a_mirror_gives_its_last_version_that_is_not_composite(storage, mirror):
    snapshots = keeper(storage, mirror=str(mirror))
    source = make_source("https://example.org/{version}")
    found = snapshots.fetch(source, "proteinatlas")
    assert (found.version, found.is_complete, found.is_composite) == ("23.0", False, False)
    assert snapshots.path(found).read_text() == "Gene\nnew"
    assert found.url == (mirror / "new.tsv").as_uri()
    mixed = snapshots.fetch(source, "proteinatlas", "23.0-composite")
    assert mixed.is_composite
    assert mixed.snapshot_id.startswith("hpa_23_0_composite_proteinatlas_")
    assert snapshots.fetch(source, "proteinatlas", "18.1").is_complete


def test_a_mirror_over_http_is_the_same(server, storage, mirror):
    for name in ("sources.yaml", "new.tsv"):
        server.answers[f"/m/{name}"] = lambda h, _, name=name: answer(
            h, (mirror / name).read_bytes()
        )
    snapshots = keeper(storage, mirror=server.url + "/m")
    found = snapshots.fetch(make_source("https://example.org/{version}"), "proteinatlas")
    assert (found.version, found.url) == ("23.0", server.url + "/m/new.tsv")


@pytest.mark.slow
def test_names_with_blanks_in_a_mirror_make_addresses_without(server, storage):
    listed = b"hpa.proteinatlas:\n  - {version: '23.0', path: all genes/new file.tsv}\n"
    server.answers["/m/sources.yaml"] = lambda h, _: answer(h, listed)
    server.answers["/m/all%20genes/new%20file.tsv"] = lambda h, _: answer(h)
    snapshots = keeper(storage, mirror=server.url + "/m")
    found = snapshots.fetch(make_source("https://example.org/{version}"), "proteinatlas")
    assert found.url == server.url + "/m/all%20genes/new%20file.tsv"
    assert check_frame("bronze.snapshots", to_snapshot_rows([found], "r")).is_met


@pytest.mark.parametrize(
    ("file", "version", "words"),
    [
        ("proteinatlas", "22.0", r"not list version '22\.0' .*, but 18\.1, 23\.0, 23\.0-composite"),
        ("pathology", None, "there is no such file"),
        ("tissue", None, r"does not list the file hpa\.tissue"),
    ],
)
def test_what_a_mirror_does_not_hold_is_a_clear_error(storage, mirror, file, version, words):
    source = make_source("https://example.org/{version}")
    files = dict.fromkeys(("proteinatlas", "pathology", "tissue"), source.files["proteinatlas"])
    source = source.model_copy(update={"files": files})
    with pytest.raises(SourceError, match=words) as caught:
        keeper(storage, mirror=str(mirror)).fetch(source, file, version)
    assert "source hpa" in str(caught.value)


def test_a_version_that_yaml_reads_as_a_fraction_is_refused(storage, tmp_path):
    text = "hpa.proteinatlas:\n  - {version: 22.10, path: a.tsv}\n"
    (tmp_path / "sources.yaml").write_text(text)
    (tmp_path / "a.tsv").write_bytes(BODY)
    source = make_source("https://example.org/{version}")
    with pytest.raises(SourceError, match=r"version 22\.1 .*write it in quotes"):
        keeper(storage, mirror=str(tmp_path)).fetch(source, "proteinatlas")


def test_a_mirror_without_its_list_is_a_clear_error(storage, tmp_path):
    with pytest.raises(SourceError, match=r"mirror cannot be used: .*sources\.yaml: no such file"):
        keeper(storage, mirror=str(tmp_path)).fetch(make_source("https://x.org/a"), "proteinatlas")


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"  <html>login</html>", "web page")]
)
def test_a_bad_file_in_a_mirror_is_refused(storage, mirror, content, words):
    (mirror / "new.tsv").write_bytes(content)
    with pytest.raises(SourceError, match=words):
        keeper(storage, mirror=str(mirror)).fetch(make_source("https://x.org/a"), "proteinatlas")


def test_a_file_with_a_companion_changes_when_the_companion_does(storage, tmp_path):
    (tmp_path / "pairs.txt").write_text("A B\nC D\n")
    labels = tmp_path / "labels.txt"
    labels.write_text("1\n0\n")
    write_mirror(
        tmp_path, "hpa.proteinatlas: [{version: '1', path: pairs.txt, labels: labels.txt}]"
    )
    source = make_source(
        "https://example.org/pairs", companions={"labels": "https://example.org/labels"}
    )
    place = str(tmp_path)
    first = keeper(storage, mirror=place).fetch(source, "proteinatlas")
    assert first.companions["labels"].size_bytes == 4
    assert to_snapshot_rows([first], "r1")["file"].to_list() == [
        "proteinatlas_labels",
        "proteinatlas",
    ]
    labels.write_text("0\n0\n")
    known = [first, *first.companions.values()]
    with pytest.warns(SnapshotDrift):
        second = keeper(storage, *known, mirror=place).fetch(source, "proteinatlas")
    assert second.snapshot_id != first.snapshot_id
    assert second.sha256 == first.sha256
    assert second.is_new
    labels.write_text("1\n0\n")
    known += [second, second.companions["labels"]]
    with pytest.warns(SnapshotDrift):
        back = keeper(storage, *known, mirror=place).fetch(source, "proteinatlas")
    assert back.snapshot_id == first.snapshot_id
    assert back.is_new
    assert back.companions["labels"].snapshot_id == first.companions["labels"].snapshot_id
    known += [back, back.companions["labels"]]
    again = keeper(storage, *known, mirror=place).fetch(source, "proteinatlas")
    assert to_snapshot_rows([again], "r4").is_empty()


def test_a_folder_of_parts_is_kept_as_one_file_always_the_same(server, storage, mirror):
    folder = mirror / "parts"
    folder.mkdir()
    for name in ("part-1.tsv", "part-0.tsv", "readme.txt"):
        (folder / name).write_text(name)
    write_mirror(mirror, "hpa.proteinatlas: [{version: '1', path: parts}]")
    source = make_source(server.url + "/x/", options={"parts": "part-*.tsv"})
    snapshots = keeper(storage, mirror=str(mirror))
    local = snapshots.fetch(source, "proteinatlas")
    with zipfile.ZipFile(snapshots.path(local)) as archive:
        assert archive.namelist() == ["part-0.tsv", "part-1.tsv"]
        assert archive.read("part-1.tsv") == b"part-1.tsv"
    page = b"".join(
        b'<a href="%s">%s</a>' % (link, link)
        for link in (b"../", b"readme.txt", b"part-1.tsv", b"part-0.tsv")
    )
    server.answers["/x/"] = lambda h, _: answer(h, b"<html>" + page)
    for name in ("part-0.tsv", "part-1.tsv"):
        server.answers[f"/x/{name}"] = lambda h, _, name=name: answer(h, name.encode())
    remote = keeper(storage).fetch(source, "proteinatlas")
    assert remote.sha256 == local.sha256


def test_a_folder_without_parts_is_a_clear_error(server, storage):
    server.answers["/x/"] = lambda h, _: answer(h, b"<html>empty</html>")
    source = make_source(server.url + "/x/", options={"parts": "*.parquet"})
    with pytest.raises(SourceError, match="no file that matches"):
        keeper(storage).fetch(source, "proteinatlas")


def test_a_copy_in_a_mirror_goes_before_the_embedded_file(storage, mirror):
    source = make_source("embedded:3.16.0/go_terms.tsv.xz", version="3.16.0")
    snapshots = keeper(storage, mirror=str(mirror))
    assert snapshots.fetch(source, "proteinatlas").url.endswith("new.tsv")
    write_mirror(mirror, "hpa.pathology: [{version: '1', path: old.tsv}]")
    snapshots = keeper(storage, mirror=str(mirror))
    assert snapshots.fetch(source, "proteinatlas").url == "embedded:3.16.0/go_terms.tsv.xz"


def test_an_embedded_file_is_held_to_the_lock(storage, tmp_path):
    source = make_source("embedded:3.16.0/go_terms.tsv.xz", version="3.16.0")
    found = keeper(storage).fetch(source, "proteinatlas")
    assert (
        found.sha256
        == hashlib.sha256((EMBEDDED_FOLDER / "3.16.0" / "go_terms.tsv.xz").read_bytes()).hexdigest()
    )
    assert found.url == "embedded:3.16.0/go_terms.tsv.xz"
    lock = tmp_path / "snapshots.lock.yaml"
    lock_snapshots([found], lock)
    assert keeper(storage, lock=lock).fetch(source, "proteinatlas").sha256 == found.sha256
    write_lock({"hpa.proteinatlas": {"version": "3.16.0", "sha256": "0", "size_bytes": 1}}, lock)
    with pytest.raises(ChecksumMismatch):
        keeper(storage, lock=lock).fetch(source, "proteinatlas")
    with pytest.raises(SourceError, match=r"contains version 3\.16\.0, not 2"):
        keeper(storage).fetch(source, "proteinatlas", "2")
