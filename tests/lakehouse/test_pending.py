"""Embedding plans: which entities are missing a vector, and when stored vectors become invalid."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from blanks import filled

from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_digest import digest_encoder, encoders_of_same_model
from genebench.encoders.loader import LoaderContext, load_encoder
from genebench.errors import EncoderError, EncoderUnavailable
from lakehouse import open_lake
from lakehouse.embed.encoder_records import encoder_row, stored_size
from lakehouse.embed.pending import PendingEmbedding, plan_embedding
from lakehouse.embed.stored_vectors import read_stored_matrix
from lakehouse.embed.vector_rows import (
    copied_rows,
    embedding_rows,
    loader_input,
    reusable_rows,
)
from lakehouse.query.lake import Lake
from lakehouse.tables.commits import Commit

COMMIT = Commit(flow_run="r1", code="test", inputs={}, profile="embedded", extra={})


def write(lake: Lake, name: str, rows: list[dict], where: dict[str, str] | None = None) -> None:
    lake.delta.replace(name, filled(name, rows), COMMIT, where)


def sample(lake: Lake, *genes: str) -> None:
    who = {"family": "f", "entity_type": "gene"}
    rows = [who | {"sample_id": gene, "entity_id": gene} for gene in genes]
    write(lake, "silver.samples", rows, {"family": "f"})


def name_genes(lake: Lake, namespace: str = "symbol", **genes: str) -> None:
    """Make a catalogue in which each identifier is that of a gene."""
    who = {"entity_type": "gene", "namespace": namespace, "status": "approved"}
    rows = [who | {"identifier": name, "entity_id": gene} for name, gene in genes.items()]
    write(lake, "silver.xrefs", rows, {"entity_type": "gene"})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Tasks sample three genes, which the catalogue knows by their symbols."""
    opened = open_lake(tmp_path / "lake")
    sample(opened, "hgnc:1", "hgnc:2", "hgnc:3")
    name_genes(opened, A="hgnc:1", B="hgnc:2", C="hgnc:3")
    return opened


def declare(loader: str, **fields: object) -> Encoder:
    values = {"id": "mine", "title": "Mine", "modality": "expression", "loader": loader}
    return Encoder.model_validate(values | fields)


def plan(lake: Lake, encoder: Encoder, *bases: Encoder) -> PendingEmbedding:
    declared = {base.id: base for base in bases}
    digests = {base.id: digest_encoder(base) for base in bases}
    return plan_embedding(lake.delta, encoder, digest_encoder(encoder, encoders=declared), digests)


def embed(lake: Lake, encoder: Encoder, *bases: Encoder, is_complete: bool = True) -> int:
    """Embed what is missing; return the number of entities encoded."""
    planned = plan(lake, encoder, *bases)
    if planned.is_done:
        return 0
    rows = [reusable_rows(lake.delta, planned)]
    for chunk in planned.chunks():
        vectors = load_encoder(encoder).encode(
            loader_input(lake.delta, planned, chunk), lambda n: None
        )
        rows.append(embedding_rows(planned, chunk, vectors, "r1"))
    where = {"encoder_id": encoder.id}
    lake.delta.replace("silver.embeddings", pl.concat(rows), COMMIT, where)
    row = encoder_row(planned, is_complete, stored_size(lake.delta, encoder.id), "r1")
    lake.delta.replace("silver.encoders", row, COMMIT, where)
    return planned.missing.height


def vectors(lake: Lake, encoder_id: str = "mine") -> dict[str, list[float]]:
    rows = lake.table("silver.embeddings").filter(pl.col("encoder_id") == encoder_id).collect()
    return dict(rows.select("entity_id", "vector").iter_rows())


def test_vectors_of_a_table_follow_a_new_catalogue(lake: Lake, tmp_path: Path) -> None:
    table = tmp_path / "vectors.csv"
    table.write_text("symbol,0\nA,1\nB,2\nNEW,3\n")
    encoder = declare("precomputed", model=str(table))
    embed(lake, encoder)
    assert vectors(lake) == {"hgnc:1": [1.0], "hgnc:2": [2.0]}
    name_genes(lake, A="hgnc:2", B="hgnc:1", NEW="hgnc:3")
    assert embed(lake, encoder) == 3
    assert vectors(lake) == {"hgnc:1": [2.0], "hgnc:2": [1.0], "hgnc:3": [3.0]}
    assert embed(lake, encoder) == 0


@pytest.mark.parametrize(
    "encoder",
    [
        declare("random", dimension=2),
        declare("precomputed", model="vectors.csv", **{"with": {"namespace": "ensembl"}}),
    ],
    ids=["random", "a table by another namespace"],
)
def test_a_catalogue_that_an_encoder_does_not_read_changes_no_digest(
    encoder: Encoder, lake: Lake
) -> None:
    before = plan(lake, encoder).wanted_digest
    name_genes(lake, A="hgnc:2")
    assert plan(lake, encoder).wanted_digest == before


def test_a_derived_encoder_requires_a_complete_base_encoder(lake: Lake) -> None:
    base = declare("random", id="base", dimension=2)
    derived = declare("shuffled", base="base")
    with pytest.raises(
        EncoderUnavailable, match="mine: its base encoder 'base' has no vectors; run"
    ):
        plan(lake, derived, base)
    embed(lake, base, is_complete=False)
    with pytest.raises(EncoderUnavailable, match=r"'base' was interrupted .*embed base`"):
        plan(lake, derived, base)
    embed(lake, base)
    assert embed(lake, derived, base) == 3
    changed = declare("random", id="base", dimension=3)
    with pytest.raises(EncoderUnavailable, match="'base' has vectors of an earlier declaration"):
        plan(lake, derived, changed)


@pytest.mark.parametrize("namespace", ["entity", "hgnc"])
def test_new_entities_that_a_table_lacks_get_no_vector_and_no_error(
    namespace: str, lake: Lake, tmp_path: Path
) -> None:
    table = tmp_path / "vectors.csv"
    table.write_text("id,0\nhgnc:1,1\n")
    encoder = declare("precomputed", model=str(table), **{"with": {"namespace": namespace}})
    embed(lake, encoder)
    sample(lake, "hgnc:1", "hgnc:4")
    entities = [{"entity_type": "gene", "entity_id": f"hgnc:{n}"} for n in range(1, 5)]
    write(lake, "silver.entities", entities, {"entity_type": "gene"})
    embed(lake, encoder)
    assert vectors(lake) == {"hgnc:1": [1.0]}
    table.write_text("id,0\nhgnc:9,1\n")
    with pytest.raises(EncoderError, match="none of 1 identifiers is a known"):
        embed(lake, encoder)


@pytest.mark.parametrize("width", [3, 16], ids=["read by polars", "read from pages"])
def test_vectors_that_two_runs_stored_are_read_once_and_removed_by_the_next(
    width: int, lake: Lake
) -> None:
    encoder = declare("random", dimension=width)
    embed(lake, encoder)
    rows = lake.table("silver.embeddings").collect()
    before = read_stored_matrix(lake.delta, "mine")
    # The other run had vectors that differ in their last bits, so their digests are others.
    again = rows.with_columns(
        pl.lit("f" * 32).alias("vector_digest"),
        pl.col("vector").list.eval(pl.element() + pl.lit(1e-6, pl.Float32)),
    )
    lake.delta.append("silver.embeddings", again, COMMIT)
    found, matrix = read_stored_matrix(lake.delta, "mine")
    assert found.sort("entity_id").equals(before[0].sort("entity_id"))
    order, wanted = (one["entity_id"].arg_sort().to_numpy() for one in (found, before[0]))
    assert np.array_equal(matrix[order], before[1][wanted])
    assert stored_size(lake.delta, "mine")["n_entities"] == rows.height
    assert not plan(lake, encoder).is_done
    assert embed(lake, encoder) == 0
    assert lake.table("silver.embeddings").collect().height == rows.height
    assert plan(lake, encoder).is_done


def test_an_encoder_of_one_family_encodes_the_entities_of_its_tasks_alone(lake: Lake) -> None:
    temporal = {"family": "temporal", "entity_type": "gene", "sample_id": "1"}
    rows = [temporal | {"entity_id": "hgnc:2"}]
    write(lake, "silver.samples", rows, {"family": "temporal"})
    everywhere = declare("random", dimension=4)
    embed(lake, everywhere)
    of_others = everywhere.model_copy(update={"families": ("genomic", "protein")})
    with pytest.raises(EncoderUnavailable, match="scored on the family genomic or protein only"):
        plan(lake, of_others)
    embed(lake, everywhere.model_copy(update={"id": "few", "families": ("temporal",)}))
    assert set(vectors(lake)) == {"hgnc:1", "hgnc:2", "hgnc:3"}
    assert set(vectors(lake, "few")) == {"hgnc:2"}
    shares = dict(lake.coverage().select("encoder_id", "share").iter_rows())
    assert shares == {"mine": 1.0, "few": 1.0}


def test_vectors_of_the_same_contents_by_the_same_model_are_copied(lake: Lake) -> None:
    texts = {
        ("hgnc:1", "name"): "one",
        ("hgnc:1", "name_2022"): "one",
        ("hgnc:2", "name"): "new",
        ("hgnc:2", "name_2022"): "former",
        ("hgnc:3", "name"): "three",
    }
    who = {"entity_type": "gene", "modality": "text", "part": 0}
    rows = [
        who | {"entity_id": gene, "field": field, "content": text}
        for (gene, field), text in texts.items()
    ]
    write(lake, "silver.inputs", rows, {"modality": "text"})
    now = declare("text_length", id="now", modality="text", template="{name}")
    then = declare("text_length", id="then", modality="text", template="{name_2022}")
    embed(lake, now)
    planned = plan(lake, then)
    assert planned.missing["entity_id"].to_list() == ["hgnc:1", "hgnc:2"]
    known = encoders_of_same_model(then, LoaderContext(), {"now": now, "then": then})
    copied = copied_rows(lake.delta, planned, known, "r2")
    kept = ["entity_id", "encoder_id", "encoder_digest", "run_id"]
    assert copied.select(kept).rows() == [("hgnc:1", "then", planned.encoder_digest, "r2")]
    assert copied["vector"].to_list() == [vectors(lake, "now")["hgnc:1"]]
    assert planned.without(copied).missing["entity_id"].to_list() == ["hgnc:2"]
    outdated = dict.fromkeys(known, "digest of an earlier declaration")
    assert copied_rows(lake.delta, planned, outdated, "r2").is_empty()
