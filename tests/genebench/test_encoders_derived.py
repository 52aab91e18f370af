"""Composite, concatenation and PCA of other encoders; row counts and text lengths."""

import lzma
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import PCA

from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_reader import read_encoder
from genebench.encoders.loader import LoaderContext, LoaderInput, Vectors, load_encoder
from genebench.errors import EncoderError
from genebench.registry.loading import declarations_folder

rng = np.random.default_rng(0)
IDS = [f"hgnc:{i}" for i in range(30)]
WIDE = Vectors(IDS, rng.normal(size=(30, 6)) * [9, 5, 3, 1, 0.5, 0.1])
NARROW = Vectors(IDS[5:], rng.normal(size=(25, 2)))
BASES = {"wide": WIDE, "narrow": NARROW}


def declare(loader: str, **changes: object) -> Encoder:
    values = {"id": "made", "title": "Made", "modality": "expression", "loader": loader}
    return Encoder.model_validate(values | changes)


def encode(encoder: Encoder, entity_type: str = "gene") -> Vectors:
    reported: list[int] = []
    inputs = LoaderInput(entity_type, IDS, vectors=BASES.__getitem__)
    vectors = load_encoder(encoder).encode(inputs, reported.append)
    assert sum(reported) == len(vectors.entity_ids)
    return vectors


def test_principal_axes_equal_scikit_learns_up_to_sign() -> None:
    vectors = encode(declare("pca", base="wide", **{"with": {"components": 3}}, dimension=3))
    expected = PCA(3).fit_transform(WIDE.matrix)
    found = vectors.matrix[[vectors.entity_ids.index(i) for i in IDS]]
    assert np.allclose(np.abs(found), np.abs(expected), atol=1e-4)


def test_principal_axes_do_not_depend_on_the_order_of_entities() -> None:
    encoder = declare("pca", base="wide", **{"with": {"components": 3}})
    turned = Vectors(IDS[::-1], WIDE.matrix[::-1])
    other = load_encoder(encoder).encode(
        LoaderInput("gene", IDS, vectors=lambda _: turned), lambda n: None
    )
    straight = encode(encoder)
    assert other.entity_ids == straight.entity_ids
    assert np.allclose(other.matrix, straight.matrix, atol=1e-5)


def test_whitened_axes_have_unit_variance() -> None:
    vectors = encode(declare("pca", base="wide", **{"with": {"components": 4, "whitens": True}}))
    assert np.allclose(vectors.matrix.std(axis=0), 1, atol=1e-4)


def test_more_axes_than_columns_are_refused() -> None:
    with pytest.raises(EncoderError, match=r"lower `with\.components`"):
        encode(declare("pca", base="wide", **{"with": {"components": 7}}))


def test_concatenation_keeps_shared_entities_and_counts_the_others() -> None:
    encoder = declare("concat", base=("wide", "narrow"), **{"with": {"normalizes": False}})
    vectors = encode(encoder)
    assert sorted(vectors.entity_ids) == sorted(IDS[5:])
    assert vectors.counts["n_not_shared"] == 5
    row = vectors.entity_ids.index("hgnc:7")
    assert np.allclose(vectors.matrix[row], np.r_[WIDE.matrix[7], NARROW.matrix[2]])


def test_concatenation_brings_each_base_to_unit_length_by_default() -> None:
    matrix = encode(declare("concat", base=("wide", "narrow"), dimension=8)).matrix
    assert np.allclose(np.linalg.norm(matrix[:, :6], axis=1), 1, atol=1e-6)
    assert np.allclose(np.linalg.norm(matrix[:, 6:], axis=1), 1, atol=1e-6)


def test_concatenation_of_strangers_is_refused() -> None:
    stranger = Vectors(["hgnc:99"], np.ones((1, 2)))
    inputs = LoaderInput("gene", IDS, vectors={**BASES, "other": stranger}.__getitem__)
    with pytest.raises(EncoderError, match=r"no entity has a vector of every base \(wide, other\)"):
        load_encoder(declare("concat", base=("wide", "other"))).encode(inputs, print)


def test_a_composite_passes_on_the_base_of_each_entity_type() -> None:
    encoder = declare(
        "composite", base={"gene": "wide", "disease": "narrow"}, entities=("gene", "disease")
    )
    assert np.array_equal(encode(encoder).matrix, WIDE.matrix)
    assert np.array_equal(encode(encoder, "disease").matrix, NARROW.matrix)
    assert encoder.bases("disease") == ("narrow",)


def test_a_composite_without_a_base_for_each_type_is_refused() -> None:
    with pytest.raises(ValueError, match="exactly the types in entities"):
        declare("composite", base={"gene": "wide"}, entities=("gene", "disease"))
    with pytest.raises(EncoderError, match="a base for each entity type"):
        load_encoder(declare("composite", base="wide"))


def test_rows_of_a_file_are_counted_for_each_gene(tmp_path: Path) -> None:
    path = tmp_path / "gene2pubmed.tsv"
    rows = ["#tax_id\tGeneID\tPubMed_ID", "9606\t1\t10", "9606\t1\t11", "9606\t1\t11"]
    path.write_text("\n".join([*rows, "10090\t1\t12", "9606\t2\t10", "9606\t77\t1"]) + "\n")
    encoder = declare(
        "row_count",
        files={"table": {"name": str(path)}},
        **{"with": {"key": "GeneID", "distinct": "PubMed_ID", "where": {"#tax_id": "9606"}}},
    )
    inputs = LoaderInput("gene", ["ncbigene:1", "ncbigene:2", "ncbigene:3"])
    vectors = load_encoder(encoder).encode(inputs, lambda n: None)
    assert np.allclose(np.expm1(vectors.matrix.ravel()), [2, 1, 0])
    assert vectors.counts["n_unmapped"] == 1


def test_numbers_of_a_file_are_added_up_for_each_gene_and_other_text_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "publications.tsv"
    path.write_text("gene\tn\n1\t35\n1\t5\n2\t7\n")
    declared = {"files": {"table": {"name": str(path)}}, "with": {"key": "gene", "numbers": "n"}}
    inputs = LoaderInput("gene", ["ncbigene:1", "ncbigene:2", "ncbigene:3"])
    vectors = load_encoder(declare("row_count", **declared)).encode(inputs, lambda n: None)
    assert np.allclose(np.expm1(vectors.matrix.ravel()), [40, 7, 0])
    path.write_text("gene\tn\n1\tmany\n")
    with pytest.raises(EncoderError, match="column 'n' has values that are not integers"):
        load_encoder(declare("row_count", **declared)).encode(inputs, lambda n: None)


def test_the_publications_that_come_with_genebench_are_read_where_no_mirror_has_them(
    tmp_path: Path,
) -> None:
    declared = read_encoder(declarations_folder("encoders") / "publication_count.yaml")
    inputs = LoaderInput("gene", ["ncbigene:7157", "ncbigene:0"])
    vectors = load_encoder(declared, LoaderContext(weights=tmp_path)).encode(inputs, lambda n: None)
    assert np.expm1(vectors.matrix[0, 0]) > 1000, "TP53"
    assert vectors.matrix[1, 0] == 0
    (tmp_path / "publications.tsv.xz").write_bytes(
        lzma.compress(b"entrez_id\tn_publications\n7157\t3\n")
    )
    context = LoaderContext(weights=tmp_path, sources=tmp_path)
    assert np.expm1(
        load_encoder(declared, context).encode(inputs, print).matrix[0, 0]
    ) == pytest.approx(3)


def test_a_table_without_the_declared_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("gene\tn\n1\t2\n")
    encoder = declare(
        "row_count", files={"table": {"name": str(path)}}, **{"with": {"key": "GeneID"}}
    )
    with pytest.raises(EncoderError, match="has no column 'GeneID'; its columns are gene, n"):
        load_encoder(encoder, LoaderContext()).encode(LoaderInput("gene", ["ncbigene:1"]), print)


def test_the_length_of_a_text_is_its_only_feature() -> None:
    encoder = declare("text_length", template="{symbol}", dimension=1)
    inputs = LoaderInput("gene", ["a", "b"], [("1234567",), ("",)])
    matrix = load_encoder(encoder).encode(inputs, lambda n: None).matrix
    assert np.allclose(np.expm1(matrix), [[7], [0]], atol=1e-5)


def test_hpa_tissue_expression_of_the_real_table_reaches_its_principal_axes(
    shared: Path,
) -> None:
    folder = declarations_folder("encoders")
    path = shared / "data" / "hpa" / "expression" / "rna_tissue_consensus_v21.1_wide.tsv.gz"
    genes = pl.read_csv(path, separator="\t", columns=["Ensembl"])["Ensembl"].to_list()
    xrefs = pl.DataFrame(
        {
            "namespace": "ensembl",
            "identifier": genes,
            "entity_id": [f"hgnc:{i}" for i in range(len(genes))],
            "status": "approved",
            "is_ambiguous": False,
        }
    )
    inputs = LoaderInput("gene", xrefs["entity_id"].to_list(), xrefs=xrefs)
    context = LoaderContext(sources=shared / "data")
    declared = read_encoder(folder / "hpa_tissues.yaml")
    tissues = load_encoder(declared, context).encode(inputs, lambda n: None)
    n_whole = len(genes) - tissues.counts["n_incomplete"]
    assert tissues.matrix.shape == (n_whole, 54)
    assert 0 < tissues.counts["n_incomplete"] < 1000
    inputs = LoaderInput("gene", tissues.entity_ids, vectors=lambda _: tissues)
    axes = load_encoder(read_encoder(folder / "hpa_tissues_pca.yaml"), context).encode(
        inputs, lambda n: None
    )
    assert axes.matrix.shape == (n_whole, 32)
    explained = axes.matrix.var(axis=0).sum() / tissues.matrix.var(axis=0).sum()
    assert explained > 0.95
