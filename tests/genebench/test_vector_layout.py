"""Files of vectors in ten forms are read without a declaration; faults are one clear message."""

import gzip

import numpy as np
import polars as pl
import pytest

from genebench.encoders.vector_files.layout import load_vectors
from genebench.errors import EncoderError

NAMES = ["TP53", "NA", "BRCA1"]
MATRIX = np.array([[0.5, -1.25], [2.0, 3.5], [-0.125, 8.0]], dtype=np.float32)


def table(header: str = "gene,a,b") -> str:
    rows = [f"{name},{x},{y}" for name, (x, y) in zip(NAMES, MATRIX.tolist(), strict=True)]
    return "\n".join([header, *rows]) + "\n"


def write_csv(folder):
    (folder / "v.csv").write_text(table())
    return folder / "v.csv", {}


def write_csv_with_index(folder):
    rows = table().splitlines()
    text = "\n".join([f",{rows[0]}", *(f"{n},{row}" for n, row in enumerate(rows[1:]))])
    (folder / "v.csv").write_text(text)
    return folder / "v.csv", {}


def write_numbered_columns(folder):
    (folder / "v.csv").write_text(table("gene,0,1"))
    return folder / "v.csv", {}


def write_csv_without_header(folder):
    (folder / "v.csv").write_text(table().partition("\n")[2])
    return folder / "v.csv", {"has_header": False}


def write_tsv_gz(folder):
    with gzip.open(folder / "v.tsv.gz", "wt") as file:
        file.write(table().replace(",", "\t"))
    return folder / "v.tsv.gz", {}


def frame() -> pl.DataFrame:
    return pl.DataFrame({"gene": NAMES, "a": MATRIX[:, 0], "b": MATRIX[:, 1]})


def write_parquet(folder):
    frame().write_parquet(folder / "v.parquet")
    return folder / "v.parquet", {}


def write_parquet_lists(folder):
    lists = pl.DataFrame({"gene": NAMES, "title": ["x", "y", "z"], "vector": MATRIX.tolist()})
    lists.write_parquet(folder / "v.parquet")
    return folder / "v.parquet", {"id_column": "gene"}


def write_npz(folder):
    np.savez(folder / "v.npz", genes=np.array(NAMES), vectors=MATRIX)
    return folder / "v.npz", {}


def write_ids(folder):
    (folder / "ids.txt").write_text("\n".join(NAMES) + "\n")
    return {"id_file": folder / "ids.txt"}


def write_npy(folder):
    np.save(folder / "v.npy", MATRIX.astype(np.float64))
    return folder / "v.npy", write_ids(folder)


def write_safetensors(folder):
    import torch
    from safetensors.torch import save_file

    tensors = {"emb": torch.from_numpy(MATRIX).to(torch.bfloat16), "bias": torch.zeros(2)}
    save_file(tensors, folder / "v.safetensors")
    return folder / "v.safetensors", write_ids(folder)


def write_word2vec(folder):
    lines = [f"{n} {x} {y}" for n, (x, y) in zip(NAMES, MATRIX.tolist(), strict=True)]
    (folder / "v.txt").write_text("3 2\n" + "\n".join(lines) + "\n")
    return folder / "v.txt", {}


def write_h5ad(folder, array="obsm/X_gene", with_names=True):
    import h5py

    with h5py.File(folder / "v.h5ad", "w") as file:
        obs = file.create_group("obs")
        if with_names:
            obs.attrs["_index"] = "index"
            obs["index"] = NAMES
        file.create_group("var")
        file[array] = MATRIX
    return folder / "v.h5ad", {}


def write_h5ad_x(folder):
    return write_h5ad(folder, "X")


FORMS = [
    write_csv, write_csv_with_index, write_numbered_columns, write_csv_without_header, write_tsv_gz,
    write_parquet, write_parquet_lists, write_npz, write_npy, write_safetensors, write_word2vec,
    write_h5ad, write_h5ad_x,
]  # fmt: skip


@pytest.mark.parametrize("write", FORMS, ids=lambda one: one.__name__.removeprefix("write_"))
def test_every_form_gives_the_same_names_and_numbers(tmp_path, write):
    path, options = write(tmp_path)
    names, matrix = load_vectors(path, **options)
    assert names == NAMES
    assert matrix.dtype == np.float32
    assert np.array_equal(matrix, MATRIX)


BAD = {
    "a NaN": ("v.csv", "gene,a,b\nTP53,1,2\nBRCA1,NaN,2\n", "1 of 2 vectors .* that of 'BRCA1'"),
    "an infinite number": ("v.csv", "gene,a,b\nTP53,inf,2\n", "infinite, first that of 'TP53'"),
    "a missing cell": ("v.csv", "gene,a,b\nTP53,1,2\nEGFR,,2\n", "first that of 'EGFR'"),
    "text in a cell": ("v.csv", "gene,a,b\nTP53,1,2\nEGFR,x,2\nKRAS,1,3\n", "cannot be read"),
    "no header": ("v.csv", "TP53,0.5,2\nEGFR,1,2\n", "--no-header"),
    "another delimiter": ("v.csv", "gene\ta\tb\nTP53\t1\t2\n", "separated by tabs"),
    "one column": ("v.csv", "gene\nTP53\n", "a column of identifiers and columns of numbers"),
    "an empty file": ("v.csv", "", "the file is empty"),
    "a header alone": ("v.csv", "gene,a,b\n", "there are no vectors"),
    "two columns of text": ("v.csv", "a,b,c\nx,y,1\nz,w,2\n", "--id-column"),
    "an unknown ending": ("v.xyz", "gene,a\nTP53,1\n", "must end in one of"),
    "no numbers": ("v.npy", "garbage", "--id-file"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_one_clear_message(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(EncoderError, match=message) as error:
        load_vectors(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_an_absent_file_a_h5ad_without_names_and_a_wrong_id_file_are_named(tmp_path):
    with pytest.raises(EncoderError, match="no such file"):
        load_vectors(tmp_path / "absent.csv")
    path, _ = write_h5ad(tmp_path, with_names=False)
    with pytest.raises(EncoderError, match="obs has no column"):
        load_vectors(path)
    path, options = write_npy(tmp_path)
    options["id_file"].write_text("TP53\n")
    with pytest.raises(EncoderError, match="1 names"):
        load_vectors(path, **options)


def test_one_of_several_arrays_has_to_be_named(tmp_path):
    import h5py

    path, _ = write_h5ad(tmp_path)
    with h5py.File(path, "a") as file:
        file["obsm/other"] = MATRIX
    with pytest.raises(EncoderError, match=r"obsm/X_gene, obsm/other.*--vectors"):
        load_vectors(path)
    assert np.array_equal(load_vectors(path, vectors="obsm/X_gene")[1], MATRIX)
