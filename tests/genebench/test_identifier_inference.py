"""The namespace of identifiers is inferred, and what did not resolve is counted with examples."""

import numpy as np
import polars as pl
import pytest

from genebench.encoders.identifier_inference import infer_namespace, map_vectors
from genebench.encoders.loader import LoaderInput
from genebench.errors import EncoderError

IDS = [f"ncbigene:{number}" for number in range(1, 41)]


def xrefs() -> pl.DataFrame:
    rows = []
    for number, entity_id in enumerate(IDS, start=1):
        rows += [
            ("symbol", f"GENA{number}", entity_id, "approved"),
            ("symbol", f"OLD{number}", entity_id, "alias"),
            ("ensembl", f"ENSG{number:011d}", entity_id, "approved"),
            ("entrez", str(number), entity_id, "approved"),
            ("uniprot", f"P{number:05d}", entity_id, "approved"),
            ("hgnc", str(1000 + number), entity_id, "approved"),
        ]
    rows += [("symbol", "TWICE", IDS[0], "alias"), ("symbol", "TWICE", IDS[1], "alias")]
    return pl.DataFrame(
        rows, schema=["namespace", "identifier", "entity_id", "status"], orient="row"
    )


@pytest.fixture
def inputs() -> LoaderInput:
    return LoaderInput("gene", IDS, xrefs=xrefs(), known_ids=IDS)


def names_in(namespace: str) -> list[str]:
    return (
        xrefs()
        .filter(pl.col("namespace") == namespace, pl.col("status") == "approved")["identifier"]
        .to_list()
    )


@pytest.mark.parametrize("namespace", ["symbol", "ensembl", "entrez", "uniprot", "hgnc"])
def test_a_column_of_one_namespace_is_recognised_and_mapped(inputs, namespace):
    names = names_in(namespace)
    matrix = np.arange(len(names), dtype=np.float32)[:, None]
    vectors, report = map_vectors(names, matrix, "auto", inputs)
    assert list(report.namespaces) == [namespace]
    assert len(vectors.entity_ids) == report.n_entities == 40
    place = {name: row for row, name in enumerate(vectors.entity_ids)}
    assert vectors.matrix[[place[i] for i in IDS], 0].tolist() == list(range(40))


def test_versions_of_ensembl_ids_are_removed(inputs):
    names = [f"{name}.7" for name in names_in("ensembl")]
    _, report = map_vectors(names, np.ones((40, 2), np.float32), "auto", inputs)
    assert report.namespaces == {"ensembl": 40}


def test_lower_case_symbols_are_mapped(inputs):
    names = [name.lower() for name in names_in("symbol")]
    _, report = map_vectors(names, np.ones((40, 2), np.float32), "auto", inputs)
    assert report.n_entities == 40
    assert report.namespaces == {"symbol": 40}


def test_mixed_identifiers_are_mapped_by_several_namespaces(inputs):
    names = names_in("symbol")[:25] + names_in("ensembl")[25:]
    _, report = map_vectors(names, np.ones((40, 2), np.float32), "auto", inputs)
    assert report.namespaces == {"symbol": 25, "ensembl": 15}
    assert report.n_entities == 40
    assert "25 read as symbol, 15 as ensembl" in report.lines()[0]


def test_what_is_lost_is_counted_and_shown(inputs):
    names = ["GENA1", "GENA1", "OLD2", "GENA3", "OLD3", "TWICE", "nothing", "nobody"]
    vectors, report = map_vectors(names, np.eye(8, dtype=np.float32), "auto", inputs)
    assert report.n_entities == 3
    assert report.n_averaged == 1
    assert report.n_outranked == 1
    assert report.ambiguous == ("TWICE",)
    assert report.unknown == ("nothing", "nobody")
    first = vectors.matrix[vectors.entity_ids.index(IDS[0])]
    assert first.tolist() == [0.5, 0.5, 0, 0, 0, 0, 0, 0]
    said = "\n".join(report.lines())
    assert "1 ambiguous and left out: 'TWICE'" in said
    assert "2 unknown and left out: 'nothing', 'nobody'" in said


def test_an_alias_of_a_gene_that_has_its_symbol_takes_no_part(inputs):
    vectors, _ = map_vectors(["OLD1", "GENA1"], np.eye(2, dtype=np.float32), "auto", inputs)
    assert vectors.matrix.tolist() == [[0, 1]]


def test_a_near_tie_is_asked_back():
    rows = [("entrez", str(n), f"ncbigene:{n}", "approved") for n in range(40)]
    rows += [("hgnc", str(n), f"ncbigene:{n + 1}", "approved") for n in range(39)]
    table = pl.DataFrame(
        rows, schema=["namespace", "identifier", "entity_id", "status"], orient="row"
    )
    ids = [f"ncbigene:{n}" for n in range(40)]
    inputs = LoaderInput("gene", ids, xrefs=table, known_ids=ids)
    names = [str(n) for n in range(39)]
    with pytest.raises(EncoderError, match=r"--ids entrez or --ids hgnc"):
        infer_namespace(names, inputs)
    _, report = map_vectors(names, np.ones((39, 1), np.float32), "entrez", inputs)
    assert report.namespaces == {"entrez": 39}


def test_names_of_nothing_are_refused_with_examples(inputs):
    with pytest.raises(EncoderError, match=r"none of the 2 identifiers .'what', 'ever'"):
        map_vectors(["what", "ever"], np.ones((2, 1), np.float32), "auto", inputs)
    with pytest.raises(EncoderError, match="unknown namespace 'symbols'"):
        map_vectors(["GENA1"], np.ones((1, 1), np.float32), "symbols", inputs)
    with pytest.raises(EncoderError, match="known ensembl of a gene"):
        map_vectors(["GENA1"], np.ones((1, 1), np.float32), "ensembl", inputs)
