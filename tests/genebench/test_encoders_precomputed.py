"""Files of precomputed vectors: all formats, all namespaces, and invalid files."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from genebench.encoders.declaration import Encoder
from genebench.encoders.loader import LoaderContext, LoaderInput, Vectors, load_encoder
from genebench.errors import EncoderError

NAMES = ["TP53", "BRCA1", "NA", "EGFR"]
IDS = ["hgnc:11998", "hgnc:1100", "hgnc:5", "hgnc:3236"]
MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
XREFS = pl.DataFrame(
    [
        ("symbol", "TP53", "hgnc:11998", "approved", False),
        ("symbol", "BRCA1", "hgnc:1100", "approved", False),
        ("symbol", "NA", "hgnc:5", "approved", False),
        ("symbol", "EGFR", "hgnc:3236", "approved", False),
        ("symbol", "P53", "hgnc:11998", "alias", False),
        ("symbol", "ERBB", "hgnc:3236", "previous", False),
        ("symbol", "SHARED", "hgnc:5", "alias", True),
        ("symbol", "SHARED", "hgnc:1100", "alias", True),
        ("symbol", "BRCA1", "hgnc:5", "alias", True),
        ("ensembl", "ENSG00000141510", "hgnc:11998", "approved", False),
        ("ensembl", "ENSG00000012048", "hgnc:1100", "approved", False),
        ("entrez", "7157", "hgnc:11998", "approved", False),
        ("uniprot", "P04637", "hgnc:11998", "approved", False),
    ],
    schema=["namespace", "identifier", "entity_id", "status", "is_ambiguous"],
    orient="row",
)
GENES = LoaderInput("gene", IDS, xrefs=XREFS)


def silent(count: int) -> None:
    assert count >= 0


def encode(path: Path, inputs: LoaderInput = GENES, **arguments: object) -> Vectors:
    encoder = Encoder.model_validate(
        {
            "id": "mine",
            "title": "Mine",
            "modality": "expression",
            "loader": "precomputed",
            "model": str(path),
            "with": arguments,
        }
    )
    return load_encoder(encoder, LoaderContext(weights=path.parent / "weights")).encode(
        inputs, silent
    )


def write_csv(path: Path, separator: str = ",") -> None:
    lines = [separator.join(["symbol", "0", "1", "2"])]
    for name, row in zip(NAMES, MATRIX, strict=True):
        lines.append(separator.join([name, *map(repr, map(float, row))]))
    path.write_text("\n".join(lines) + "\n")


def write_word2vec(path: Path) -> None:
    lines = [f"{n}\t{' '.join(map(str, row))} " for n, row in zip(NAMES, MATRIX, strict=True)]
    path.write_text(f"{len(NAMES)} 3\n" + "\n".join(lines) + "\n")


def write_word2vec_binary(path: Path) -> None:
    rows = [n.encode() + b" " + struct.pack("<3f", *r) for n, r in zip(NAMES, MATRIX, strict=True)]
    path.write_bytes(f"{len(NAMES)} 3\n".encode() + b"\n".join(rows) + b"\n")


def write_dataset(path: Path, ending: str) -> None:
    path.mkdir()
    (path / "dataset_info.json").write_text("{}")
    table = pa.table({"symbol": NAMES, "vector": MATRIX.tolist()})
    for shard, part in enumerate((table.slice(0, 2), table.slice(2))):
        target = path / f"data-{shard:05}-of-00002.{ending}"
        if ending == "parquet":
            pl.DataFrame(part).write_parquet(target)
        else:
            with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_stream(sink, part.schema) as out:
                out.write_table(part)


def write(path: Path, kind: str) -> dict[str, object]:
    match kind:
        case "csv" | "tsv":
            write_csv(path, "," if kind == "csv" else "\t")
        case "parquet":
            frame = pl.DataFrame({"symbol": NAMES}).hstack(pl.DataFrame(MATRIX))
            frame.write_parquet(path)
        case "npz":
            np.savez(path, genes=np.array(NAMES), table=MATRIX)
        case "word2vec":
            write_word2vec(path)
        case "word2vec_binary":
            write_word2vec_binary(path)
        case "json":
            rows = zip(NAMES, MATRIX.tolist(), strict=True)
            path.write_text(json.dumps(dict(rows)))
        case "pickle":
            path.write_bytes(pickle.dumps(dict(zip(NAMES, MATRIX.tolist(), strict=True))))
        case "arrow_dataset":
            write_dataset(path, "arrow")
            return {"format": "dataset", "vectors": "vector"}
        case "parquet_dataset":
            write_dataset(path, "parquet")
            return {"format": "dataset", "vectors": "vector"}
    return {"format": kind}


@pytest.mark.parametrize(
    "kind",
    [
        "csv", "tsv", "parquet", "npz", "word2vec", "word2vec_binary", "json", "pickle",
        "arrow_dataset", "parquet_dataset",
    ],
)  # fmt: skip
def test_every_format_gives_the_same_vectors_even_of_the_gene_na(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("vectors.npz" if kind == "npz" else "vectors")
    vectors = encode(path, **write(path, kind))
    rows = dict(zip(vectors.entity_ids, vectors.matrix, strict=True))
    assert set(rows) == set(IDS)
    assert np.allclose([rows[i] for i in IDS], MATRIX, atol=1e-6)


@pytest.mark.parametrize("array", ["varm/gene_vectors", "obsm/X_vectors"])
def test_an_h5ad_file_gives_vectors_of_its_genes_or_observations(
    array: str, tmp_path: Path
) -> None:
    h5py = pytest.importorskip("h5py", reason="h5ad needs the extra `h5ad`")
    path = tmp_path / "cells.h5ad"
    axis = {"varm": "var", "obsm": "obs"}[array.split("/", maxsplit=1)[0]]
    with h5py.File(path, "w") as file:
        table = file.create_group(axis)
        table.attrs["_index"] = "_index"
        table["_index"] = NAMES
        table["feature/categories"] = ["b", "a"]
        table["feature/codes"] = [0, 1, 1, 0]
        file[array] = MATRIX
    vectors = encode(path, vectors=array)
    assert np.allclose(vectors.matrix[vectors.entity_ids.index("hgnc:5")], MATRIX[2])
    with pytest.raises(EncoderError, match=f"there are {array}"):
        encode(path, vectors=array.split("/", maxsplit=1)[0] + "/absent")


def test_a_row_of_an_h5ad_file_without_a_name_is_of_no_gene(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5ad needs the extra `h5ad`")
    path = tmp_path / "cells.h5ad"
    with h5py.File(path, "w") as file:
        file["var/name/categories"] = ["BRCA1", "TP53"]
        file["var/name/codes"] = np.array([0, 1, -1], np.int8)
        file["varm/x"] = np.array([[1.0], [2.0], [100.0]])
    vectors = encode(path, key="name", vectors="varm/x")
    assert dict(zip(vectors.entity_ids, vectors.matrix.ravel(), strict=True)) == {
        "hgnc:1100": 1.0,
        "hgnc:11998": 2.0,
    }
    assert vectors.counts["n_unmapped"] == 1


def test_numbers_are_read_as_identifiers(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5ad needs the extra `h5ad`")
    pickled, cells = tmp_path / "vectors.pkl", tmp_path / "cells.h5ad"
    pickled.write_bytes(pickle.dumps({7157: [1.0, 2.0], 1: [3.0, 4.0]}))
    with h5py.File(cells, "w") as file:
        file["var/entrez"] = [7157, 1]
        file["varm/x"] = np.array([[1.0, 2.0], [3.0, 4.0]])
    for vectors in (
        encode(pickled, namespace="entrez"),
        encode(cells, namespace="entrez", key="entrez", vectors="varm/x"),
    ):
        assert vectors.entity_ids == ["hgnc:11998"]
        assert vectors.matrix.tolist() == [[1.0, 2.0]]


def test_an_array_of_an_h5ad_file_that_is_no_table_is_one_clear_error(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5ad needs the extra `h5ad`")
    path = tmp_path / "cells.h5ad"
    with h5py.File(path, "w") as file:
        file["var/_index"] = NAMES
        file["varm/sparse/data"] = [1.0]
    with pytest.raises(EncoderError, match=f"{path}: cannot be read as h5ad"):
        encode(path, vectors="varm/sparse")


@pytest.mark.parametrize("how", ["a link", "a linked table", "outside storage", "a virtual array"])
def test_an_h5ad_file_that_names_another_file_is_not_followed(how: str, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5ad needs the extra `h5ad`")
    path, other = tmp_path / "cells.h5ad", tmp_path / "private.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = MATRIX
        file["var/_index"] = NAMES
    with h5py.File(path, "w") as file:
        if how == "a linked table":
            file["var"] = h5py.ExternalLink(str(other), "var")
            file["varm/x"] = MATRIX
        else:
            file["var/_index"] = NAMES
        if how == "a link":
            file["varm/x"] = h5py.ExternalLink(str(other), "secret")
        elif how == "outside storage":
            outside = [(str(other), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("varm/x", MATRIX.shape, MATRIX.dtype, external=outside)
        elif how == "a virtual array":
            layout = h5py.VirtualLayout(MATRIX.shape, MATRIX.dtype)
            layout[:] = h5py.VirtualSource(str(other), "secret", MATRIX.shape)
            file.create_virtual_dataset("varm/x", layout)
    with pytest.raises(EncoderError, match=f"{path}: .* is stored in another file; write one that"):
        encode(path, vectors="varm/x")


@pytest.mark.parametrize(
    ("namespace", "names", "found"),
    [
        ("ensembl", ["ENSG00000141510.18", "ENSG00000012048"], ["hgnc:1100", "hgnc:11998"]),
        ("entrez", ["7157", "1"], ["hgnc:11998"]),
        ("uniprot", ["P04637-2", "Q1"], ["hgnc:11998"]),
        ("hgnc", ["HGNC:1100", "hgnc:5"], ["hgnc:1100", "hgnc:5"]),
        ("hgnc", ["1100", "7"], ["hgnc:1100"]),
        ("entity", ["hgnc:3236", "hgnc:0"], ["hgnc:3236"]),
    ],
)
def test_identifiers_of_each_namespace_are_mapped(
    namespace: str, names: list[str], found: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "vectors.csv"
    path.write_text("key,0\n" + "".join(f"{name},1.5\n" for name in names))
    assert sorted(encode(path, namespace=namespace).entity_ids) == found


def test_entrez_identifiers_map_to_entities_that_are_named_by_them(tmp_path: Path) -> None:
    path = tmp_path / "vectors.csv"
    path.write_text("entrez,0\n7157,1\n")
    inputs = LoaderInput("gene", ["ncbigene:7157", "ncbigene:672"])
    assert encode(path, inputs, namespace="entrez").entity_ids == ["ncbigene:7157"]


def test_rows_of_one_gene_are_averaged_and_everything_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "vectors.csv"
    path.write_text("symbol,0\nTP53,1\nTP53,3\nP53,100\nERBB,7\nSHARED,5\nNOSUCH,9\nBRCA1,2\n")
    inputs = LoaderInput("gene", ["hgnc:11998", "hgnc:3236", "hgnc:5"], xrefs=XREFS)
    vectors = encode(path, inputs)
    assert vectors.entity_ids == ["hgnc:11998", "hgnc:3236"]
    assert vectors.matrix.ravel().tolist() == [2.0, 7.0]
    assert vectors.n_parts.tolist() == [2, 1]
    assert dict(vectors.counts) == {
        "n_rows": 7,
        "n_incomplete": 0,
        "n_unmapped": 1,
        "n_ambiguous": 1,
        "n_outside": 1,
        "n_outranked": 1,
        "n_averaged": 1,
    }


def test_an_approved_symbol_wins_over_the_same_word_as_an_alias(tmp_path: Path) -> None:
    path = tmp_path / "vectors.csv"
    path.write_text("symbol,0\nBRCA1,2\n")
    assert encode(path).entity_ids == ["hgnc:1100"]


def test_numbers_are_transformed_before_genes_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "vectors.csv"
    path.write_text("symbol,0\nTP53,0\nTP53,3\n")
    vectors = encode(path, transform="log1p")
    assert vectors.matrix[0, 0] == pytest.approx(np.log1p([0, 3]).mean())


def test_an_incomplete_row_is_dropped_and_counted_where_that_is_declared(tmp_path: Path) -> None:
    path = tmp_path / "vectors.csv"
    path.write_text("symbol,0,1\nTP53,1,2\nEGFR,,4\nBRCA1,nan,1\n")
    vectors = encode(path, incomplete="drop")
    assert vectors.entity_ids == ["hgnc:11998"]
    assert vectors.counts["n_incomplete"] == 2


def test_columns_can_be_skipped_and_a_header_can_be_absent(tmp_path: Path) -> None:
    path = tmp_path / "vectors.csv"
    path.write_text("symbol,note,0\nTP53,hello,1\n")
    assert encode(path, skip=["note"]).matrix.tolist() == [[1.0]]
    path.write_text("TP53,1,2\nEGFR,3,4\n")
    assert encode(path, has_header=False).matrix.shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "cannot be read as csv"),
        ("a.csv", "symbol,0\n", "no vectors"),
        ("a.csv", "symbol,0\nTP53,\n", "holds no numbers"),
        ("a.csv", "symbol,0\nTP53,1\nEGFR,\n", "1 of 2 vectors .* first that of 'EGFR'"),
        ("a.csv", "symbol,0\nTP53,nan\n", "missing or infinite number, first that of 'TP53'"),
        ("a.csv", "symbol,0\nTP53,inf\n", "missing or infinite"),
        ("a.csv", "symbol,0\nTP53,abc\n", "cannot be read as csv"),
        ("a.csv", "symbol,0\nTP53,1,2\n", "cannot be read as csv"),
        ("a.csv", "symbol,0\nNOSUCH,1\nNORTHIS,2\n", "none of 2 identifiers is a known symbol"),
        ("a.txt", "3 2\nTP53 1 2\nEGFR 3 4\n", "declares 3 vectors"),
        ("a.txt", "TP53 1 2\nEGFR 3\n", "line 2 has 1 numbers, not 2"),
        ("a.txt", "TP53 1 2\nEGFR x y\n", "line 2 holds no vector"),
        ("a.bin", "2 3\nTP53 ", "is truncated"),
        ("a.bin", "hello", "count and width"),
        ("a.json", '{"TP53": [1, 2', "truncated or not JSON"),
        ("a.json", '{"TP53": [1, 2], "EGFR": [1]}', "different widths"),
        ("a.npz", "not a zip", "cannot be read as npz"),
        ("a.parquet", "not parquet", "cannot be read as parquet"),
        ("a.xyz", "x", "unknown format"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_one_clear_error(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(EncoderError, match=said) as caught:
        encode(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_says_where_to_put_it(tmp_path: Path) -> None:
    encoder = Encoder.model_validate(
        {
            "id": "mine", "title": "Mine", "modality": "text", "loader": "precomputed",
            "model": "vectors.csv",
        }
    )  # fmt: skip
    expected = tmp_path / "mine" / "vectors.csv"
    with pytest.raises(EncoderError, match=f"Put it at {expected}"):
        load_encoder(encoder, LoaderContext(weights=tmp_path)).encode(GENES, silent)


def test_a_data_set_folder_is_found_among_the_sources(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    write_dataset(tmp_path / "sources" / "vectors", "parquet")
    encoder = Encoder.model_validate(
        {
            "id": "mine", "title": "Mine", "modality": "text", "loader": "precomputed",
            "model": "vectors", "with": {"vectors": "vector"},
        }
    )  # fmt: skip
    context = LoaderContext(tmp_path / "weights", tmp_path / "sources")
    assert set(load_encoder(encoder, context).encode(GENES, silent).entity_ids) == set(IDS)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "vectors.pkl"
    path.write_bytes(pickle.dumps({"TP53": Hostile()}))
    with pytest.raises(EncoderError, match="nothing was executed"):
        encode(path)
    assert not (tmp_path / "executed").exists()


def test_an_npz_with_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npz"
    np.savez(path, genes=np.array(NAMES, dtype=object), table=MATRIX)
    with pytest.raises(EncoderError, match="cannot be read as npz"):
        encode(path)


def test_a_wrong_width_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors.csv"
    write_csv(path)
    encoder = Encoder.model_validate(
        {
            "id": "mine", "title": "Mine", "modality": "text", "loader": "precomputed",
            "model": str(path), "dimension": 200,
        }
    )  # fmt: skip
    with pytest.raises(EncoderError, match="3 wide but 200 is declared"):
        load_encoder(encoder).encode(GENES, silent)
