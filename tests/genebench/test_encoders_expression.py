"""Embedding tables in published, hostile and damaged checkpoints."""

import json
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_reader import read_encoder
from genebench.encoders.loader import LoaderContext, LoaderInput, Vectors, load_encoder
from genebench.encoders.weights.checkpoints import (
    read_pickle,
    read_state_dict,
    read_torch,
    read_vocabulary,
)
from genebench.errors import EncoderError
from genebench.registry.loading import declarations_folder

FOLDER = declarations_folder("encoders")
GENES = ["ENSG00000141510", "ENSG00000012048", "ENSG00000146648", "ENSG00000284662"]
SYMBOLS = ["TP53", "BRCA1", "EGFR", "OR4F16"]
IDS = ["hgnc:11998", "hgnc:1100", "hgnc:3236", "hgnc:15079"]
WIDTH = 8


@pytest.fixture
def vocabularies(shared: Path) -> Path:
    return shared / "data" / "vocab"


def registered(name: str, width: int = WIDTH) -> Encoder:
    return read_encoder(FOLDER / f"{name}.yaml").model_copy(update={"dimension": width})


def xrefs(namespace: str, identifiers: list[str], ids: list[str] | None = None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "namespace": namespace,
            "identifier": identifiers,
            "entity_id": ids or [f"hgnc:{i}" for i in range(len(identifiers))],
            "status": "approved",
            "is_ambiguous": False,
        }
    )


def encode(encoder: Encoder, weights: Path, inputs: LoaderInput) -> Vectors:
    return load_encoder(encoder, LoaderContext(weights=weights)).encode(inputs, lambda count: None)


def place_file(weights: Path, encoder: str, name: str) -> Path:
    path = weights / encoder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def geneformer_model(n_tokens: int) -> BertForMaskedLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 16}
    return BertForMaskedLM(BertConfig(vocab_size=n_tokens, num_hidden_layers=1, **sizes))


def write_geneformer(weights: Path, tokens: dict[str, int]) -> BertForMaskedLM:
    """As published: `pytorch_model.bin` of the whole model, a pickled token dictionary."""
    model = geneformer_model(len(tokens))
    torch.save(model.state_dict(), place_file(weights, "geneformer", "pytorch_model.bin"))
    path = place_file(weights, "geneformer", "token_dictionary.pkl")
    path.write_bytes(pickle.dumps(tokens))
    return model


def test_geneformer_gives_its_word_embeddings_and_averages_ensembl_duplicates(
    tmp_path: Path,
) -> None:
    names = ["<pad>", "<mask>", *GENES, "ENSG00000999999"]
    # The published dictionary holds numpy numbers, as a data frame's columns gave them.
    tokens = {name: np.int64(i) if i % 2 else i for i, name in enumerate(names)}
    model = write_geneformer(tmp_path, tokens)
    ids = ["hgnc:11998", "hgnc:1100", "hgnc:1100", "hgnc:15079"]
    inputs = LoaderInput("gene", sorted(set(ids)), xrefs=xrefs("ensembl", GENES, ids))
    vectors = encode(registered("geneformer"), tmp_path, inputs)
    embed = model.get_input_embeddings()
    with torch.no_grad():
        table = embed(torch.arange(len(names))).numpy()
    rows = dict(zip(vectors.entity_ids, vectors.matrix, strict=True))
    assert np.allclose(rows["hgnc:11998"], table[2])
    assert np.allclose(rows["hgnc:1100"], (table[3] + table[4]) / 2)
    assert vectors.n_parts.tolist() == [2, 1, 1]
    assert vectors.counts["n_unmapped"] == 3
    assert vectors.counts["n_averaged"] == 1


class GeneEncoder(nn.Module):
    """scGPT's gene encoder as its paper describes it: an embedding and a layer norm."""

    def __init__(self, n_tokens: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, WIDTH)
        self.enc_norm = nn.LayerNorm(WIDTH)
        nn.init.normal_(self.enc_norm.weight)
        nn.init.normal_(self.enc_norm.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.enc_norm(self.embedding(tokens))


def write_scgpt(
    weights: Path, name: str, vocabulary: dict[str, int], prefix: str = ""
) -> nn.Module:
    """As published: `best_model.pt`, a plain state of the whole model, and `vocab.json`."""
    torch.manual_seed(1)
    module = GeneEncoder(len(vocabulary))
    state = OrderedDict((f"{prefix}encoder.{k}", v) for k, v in module.state_dict().items())
    state[f"{prefix}value_encoder.linear1.weight"] = torch.zeros(WIDTH, 1)
    state[f"{prefix}transformer_encoder.layers.0.self_attn.Wqkv.weight"] = torch.zeros(24, WIDTH)
    torch.save(state, place_file(weights, name, "best_model.pt"))
    place_file(weights, name, "vocab.json").write_text(json.dumps(vocabulary))
    return module


@pytest.mark.parametrize("name", ["scgpt_human", "scgpt_blood"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_scgpt_gives_the_output_of_its_gene_encoder(name: str, prefix: str, tmp_path: Path) -> None:
    # The published vocabulary is in no order.
    vocabulary = {"<pad>": 5, "EGFR": 0, "TP53": 3, "<cls>": 2, "BRCA1": 1, "OR4F16": 4}
    module = write_scgpt(tmp_path, name, vocabulary, prefix)
    inputs = LoaderInput("gene", IDS, xrefs=xrefs("symbol", SYMBOLS, IDS))
    vectors = encode(registered(name), tmp_path, inputs)
    with torch.no_grad():
        expected = module(torch.tensor([vocabulary[s] for s in SYMBOLS])).numpy()
    rows = dict(zip(vectors.entity_ids, vectors.matrix, strict=True))
    assert np.allclose([rows[i] for i in IDS], expected, atol=1e-6)


def write_cellplm(weights: Path, genes: list[str], width: int = WIDTH) -> torch.Tensor:
    """As published: a checkpoint with `model_state_dict` and a configuration with `gene_list`."""
    torch.manual_seed(2)
    table = torch.randn(len(genes), width)
    state = {
        "embedder.feat_enc.emb": table,
        "encoder.layers.0.weight": torch.zeros(4, width),
        "decoder.out.weight": torch.zeros(len(genes), width),
    }
    target = place_file(weights, "cellplm", "20230926_85M.best.ckpt")
    torch.save({"epoch": 3, "model_state_dict": state}, target)
    config = {"name": "20230926_75M_50M", "enc_hid": width, "gene_list": genes}
    place_file(weights, "cellplm", "20230926_85M.config.json").write_text(json.dumps(config))
    return table


def test_cellplm_gives_its_gene_embeddings_in_the_order_of_its_gene_list(tmp_path: Path) -> None:
    table = write_cellplm(tmp_path, GENES)
    inputs = LoaderInput("gene", IDS, xrefs=xrefs("ensembl", GENES, IDS))
    vectors = encode(registered("cellplm"), tmp_path, inputs)
    rows = dict(zip(vectors.entity_ids, vectors.matrix, strict=True))
    assert np.array_equal([rows[i] for i in IDS], table.numpy())


def test_gene2vec_is_read_from_its_published_text(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(size=(4, WIDTH)).astype(np.float32)
    lines = ["\t".join([s, " ".join(map(str, r))]) for s, r in zip(SYMBOLS, matrix, strict=True)]
    path = place_file(tmp_path, "gene2vec", "gene2vec_dim_200_iter_9_w2v.txt")
    path.write_text(f"4 {WIDTH}\n" + " \n".join(lines) + " \n")
    inputs = LoaderInput("gene", IDS, xrefs=xrefs("symbol", SYMBOLS, IDS))
    vectors = encode(registered("gene2vec"), tmp_path, inputs)
    rows = dict(zip(vectors.entity_ids, vectors.matrix, strict=True))
    assert np.allclose([rows[i] for i in IDS], matrix)


def test_the_real_geneformer_dictionary_labels_every_row(
    tmp_path: Path, vocabularies: Path
) -> None:
    path = vocabularies / "geneformer_token_dictionary.pkl"
    tokens = read_vocabulary(path)
    assert tokens == read_vocabulary(vocabularies / "geneformer_token_dictionary.json")
    model = geneformer_model(len(tokens))
    torch.save(model.state_dict(), place_file(tmp_path, "geneformer", "pytorch_model.bin"))
    place_file(tmp_path, "geneformer", "token_dictionary.pkl").write_bytes(path.read_bytes())
    genes = [name for name in tokens if name.startswith("ENSG")]
    known = xrefs("ensembl", genes)
    inputs = LoaderInput("gene", known["entity_id"].to_list(), xrefs=known)
    vectors = encode(registered("geneformer"), tmp_path, inputs)
    assert len(vectors.entity_ids) == len(genes) == len(tokens) - 2
    table = model.get_input_embeddings().weight.detach().numpy()
    row_of = dict(zip(known["entity_id"], known["identifier"], strict=True))
    expected = table[[tokens[row_of[i]] for i in vectors.entity_ids]]
    assert np.array_equal(vectors.matrix, expected)


def test_the_real_scgpt_vocabulary_labels_every_row(tmp_path: Path, vocabularies: Path) -> None:
    vocabulary = read_vocabulary(vocabularies / "scgpt_default_gene_vocab.json")
    module = write_scgpt(tmp_path, "scgpt_human", vocabulary)
    known = xrefs("symbol", sorted(vocabulary)[::40])
    inputs = LoaderInput("gene", known["entity_id"].to_list(), xrefs=known)
    vectors = encode(registered("scgpt_human"), tmp_path, inputs)
    name_of = dict(zip(known["entity_id"], known["identifier"], strict=True))
    tokens = torch.tensor([vocabulary[name_of[i]] for i in vectors.entity_ids])
    with torch.no_grad():
        assert np.allclose(vectors.matrix, module(tokens).numpy(), atol=1e-5)
    assert len(vectors.entity_ids) == known.height


def test_the_real_cellplm_configuration_names_every_row(tmp_path: Path, vocabularies: Path) -> None:
    source = vocabularies / "cellplm_20230926_85M.config.json"
    genes = json.loads(source.read_text())["gene_list"]
    table = write_cellplm(tmp_path, genes)
    place_file(tmp_path, "cellplm", "20230926_85M.config.json").write_bytes(source.read_bytes())
    known = xrefs("ensembl", genes)
    inputs = LoaderInput("gene", known["entity_id"].to_list(), xrefs=known)
    vectors = encode(registered("cellplm"), tmp_path, inputs)
    assert len(vectors.entity_ids) == 19_374
    rows = [int(i.removeprefix("hgnc:")) for i in vectors.entity_ids]
    assert np.array_equal(vectors.matrix, table.numpy()[rows])


def touch_on_load(target: Path) -> object:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (target,)

    return Hostile()


READING = LoaderInput("gene", IDS, xrefs=xrefs("ensembl", GENES, IDS))


def test_a_checkpoint_that_would_run_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    write_cellplm(tmp_path, GENES)
    executed = tmp_path / "executed"
    path = tmp_path / "cellplm" / "20230926_85M.best.ckpt"
    torch.save({"model_state_dict": {"emb": touch_on_load(executed)}}, path)
    with pytest.raises(EncoderError, match="nothing was executed"):
        encode(registered("cellplm"), tmp_path, READING)
    assert not executed.exists()


def test_a_dictionary_that_would_run_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    write_geneformer(tmp_path, {"<pad>": 0, **{g: i + 1 for i, g in enumerate(GENES)}})
    executed = tmp_path / "executed"
    path = tmp_path / "geneformer" / "token_dictionary.pkl"
    path.write_bytes(pickle.dumps({"<pad>": touch_on_load(executed)}))
    with pytest.raises(EncoderError, match="nothing was executed"):
        encode(registered("geneformer"), tmp_path, READING)
    assert not executed.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        pickle.dumps(np.dtype("O")),
        pickle.dumps(np.array([1, 2])),
        pickle.dumps(np.datetime64("2020-01-01")),
    ],
)
def test_a_pickle_may_hold_plain_values_only(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "dictionary.pkl"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"dictionary\.pkl"):
        read_pickle(path)


@pytest.mark.parametrize("value", [np.int64(5), np.float32(2.5), np.bool_(True), np.int16(-3)])
def test_plain_numpy_numbers_are_read_from_a_pickle(value: np.generic, tmp_path: Path) -> None:
    path = tmp_path / "dictionary.pkl"
    path.write_bytes(pickle.dumps({"a": value, "b": [1, "x", None]}))
    assert read_pickle(path) == {"a": value.item(), "b": [1, "x", None]}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_checkpoint_is_one_clear_error(share: float, tmp_path: Path) -> None:
    write_cellplm(tmp_path, GENES)
    path = tmp_path / "cellplm" / "20230926_85M.best.ckpt"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(EncoderError, match=r"truncated|is empty"):
        encode(registered("cellplm"), tmp_path, READING)


def test_a_checkpoint_of_the_old_format_is_a_clear_error_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"layer": torch.zeros(2, 3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(EncoderError, match=r"old\.pt: "):
            read_torch(path)


def test_a_truncated_dictionary_and_configuration_are_clear_errors(tmp_path: Path) -> None:
    write_geneformer(tmp_path, {g: i for i, g in enumerate(GENES)})
    path = tmp_path / "geneformer" / "token_dictionary.pkl"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(EncoderError, match="truncated or not a pickle"):
        encode(registered("geneformer"), tmp_path, READING)
    write_cellplm(tmp_path, GENES)
    path = tmp_path / "cellplm" / "20230926_85M.config.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(EncoderError, match="truncated or not JSON"):
        encode(registered("cellplm"), tmp_path, READING)


def test_a_missing_layer_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    write_cellplm(tmp_path, GENES)
    state = {"model_state_dict": {"embedder.feature_enc.emb": torch.zeros(4, WIDTH)}}
    torch.save(state, tmp_path / "cellplm" / "20230926_85M.best.ckpt")
    with pytest.raises(EncoderError, match=r"'embedder.feat_enc.emb', did you mean"):
        encode(registered("cellplm"), tmp_path, READING)


def test_a_layer_of_another_width_is_refused(tmp_path: Path) -> None:
    write_cellplm(tmp_path, GENES, width=4)
    with pytest.raises(EncoderError, match="4 wide, but 8 is declared"):
        encode(registered("cellplm"), tmp_path, READING)


@pytest.mark.parametrize("genes", [GENES[:3], [*GENES, "ENSG00000000001"]])
def test_a_vocabulary_of_another_model_is_refused(genes: list[str], tmp_path: Path) -> None:
    write_cellplm(tmp_path, GENES)
    path = tmp_path / "cellplm" / "20230926_85M.config.json"
    path.write_text(json.dumps({"gene_list": genes}))
    with pytest.raises(EncoderError, match="the table has 4 rows, but the vocabulary names"):
        encode(registered("cellplm"), tmp_path, READING)


def test_a_vocabulary_with_rows_out_of_range_or_twice_is_refused(tmp_path: Path) -> None:
    write_scgpt(tmp_path, "scgpt_human", {s: i for i, s in enumerate(SYMBOLS)})
    path = tmp_path / "scgpt_human" / "vocab.json"
    path.write_text(json.dumps({s: i + 1 for i, s in enumerate(SYMBOLS)}))
    with pytest.raises(EncoderError, match="highest row 4"):
        encode(registered("scgpt_human"), tmp_path, READING)
    path.write_text(json.dumps(dict.fromkeys(SYMBOLS, 0)))
    with pytest.raises(EncoderError, match="two names have the same row"):
        encode(registered("scgpt_human"), tmp_path, READING)
    path.write_text(json.dumps({"genes": SYMBOLS}))
    with pytest.raises(EncoderError, match="is not a mapping of name to row"):
        encode(registered("scgpt_human"), tmp_path, READING)


def test_identifiers_of_another_kind_are_refused_rather_than_lost(tmp_path: Path) -> None:
    write_cellplm(tmp_path, GENES)
    inputs = LoaderInput("gene", IDS, xrefs=xrefs("symbol", SYMBOLS, IDS))
    with pytest.raises(EncoderError, match="none of 4 identifiers is a known ensembl"):
        encode(registered("cellplm"), tmp_path, inputs)


def test_a_missing_weight_file_gives_the_one_command_or_the_page(tmp_path: Path) -> None:
    with pytest.raises(EncoderError) as caught:
        encode(registered("geneformer"), tmp_path, READING)
    expected = tmp_path / "geneformer" / "token_dictionary.pkl"
    assert f"curl --create-dirs -L -o '{expected}' 'https://" in str(caught.value)
    with pytest.raises(EncoderError, match="downloaded by hand") as caught:
        encode(registered("scgpt_human"), tmp_path, READING)
    assert str(tmp_path / "scgpt_human" / "vocab.json") in str(caught.value)


def test_bytes_other_than_the_published_ones_are_refused(tmp_path: Path) -> None:
    write_cellplm(tmp_path, GENES)
    encoder = registered("cellplm")
    checked = encoder.files["checkpoint"].model_copy(update={"sha256": "0" * 64})
    encoder = encoder.model_copy(update={"files": {**encoder.files, "checkpoint": checked}})
    with pytest.raises(EncoderError, match="not the published 0000"):
        encode(encoder, tmp_path, READING)


def test_safetensors_are_read_and_a_truncated_one_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"a.weight": torch.ones(2, 3)}, path)
    assert read_state_dict(path)["a.weight"].shape == (2, 3)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(EncoderError, match="truncated"):
        read_state_dict(path)
