"""DNA transformers: DNABERT-2 compared with its equations in numpy."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import EsmConfig, EsmForMaskedLM, EsmTokenizer

from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_digest import digest_encoder
from genebench.encoders.encoder_reader import read_encoder
from genebench.encoders.loader import LoaderContext, LoaderInput, Vectors, load_encoder
from genebench.encoders.loaders.dna import reverse_complement
from genebench.errors import EncoderError
from genebench.registry.loading import declarations_folder

FOLDER = declarations_folder("encoders")
WIDTH, LAYERS, HEADS, INNER, VOCABULARY = 24, 2, 6, 32, 64
SPECIALS = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
rng = np.random.default_rng(0)


def dna(length: int) -> str:
    return "".join(rng.choice(list("ACGT"), length))


GENES = [(dna(60),), (dna(300),), (dna(150), dna(90))]
IDS = [f"hgnc:{i}" for i in range(len(GENES))]
Weights = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Byte-pair merges learnt from DNA, special tokens as DNABERT-2 has them."""
    made = Tokenizer(models.BPE(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIALS, show_progress=False
    )
    made.train_from_iterator([dna(2000) for _ in range(5)], trainer)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return made


@pytest.fixture(scope="module")
def state() -> Weights:
    """The published names and shapes, filled with numbers."""
    torch.manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape) * 0.3

    weights = {
        "bert.embeddings.word_embeddings.weight": numbers(VOCABULARY, WIDTH),
        "bert.embeddings.token_type_embeddings.weight": numbers(2, WIDTH),
        "bert.pooler.dense.weight": numbers(WIDTH, WIDTH),
        "bert.pooler.dense.bias": numbers(WIDTH),
        "cls.predictions.decoder.weight": numbers(VOCABULARY, WIDTH),
    }
    norms = ["bert.embeddings.LayerNorm"]
    for i in range(LAYERS):
        layer = f"bert.encoder.layer.{i}"
        weights[f"{layer}.attention.self.Wqkv.weight"] = numbers(3 * WIDTH, WIDTH)
        weights[f"{layer}.attention.self.Wqkv.bias"] = numbers(3 * WIDTH)
        weights[f"{layer}.attention.output.dense.weight"] = numbers(WIDTH, WIDTH)
        weights[f"{layer}.attention.output.dense.bias"] = numbers(WIDTH)
        weights[f"{layer}.mlp.gated_layers.weight"] = numbers(2 * INNER, WIDTH)
        weights[f"{layer}.mlp.wo.weight"] = numbers(WIDTH, INNER)
        weights[f"{layer}.mlp.wo.bias"] = numbers(WIDTH)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.mlp.layernorm"]
    for norm in norms:
        weights[f"{norm}.weight"] = 1 + numbers(WIDTH)
        weights[f"{norm}.bias"] = numbers(WIDTH)
    return weights


@pytest.fixture
def weights(tokenizer: Tokenizer, state: Weights, tmp_path: Path) -> Path:
    folder = tmp_path / "dnabert2"
    folder.mkdir()
    torch.save(state, folder / "pytorch_model.bin")
    config = {
        "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER,
        "layer_norm_eps": 1e-12, "type_vocab_size": 2, "alibi_starting_size": 512,
        "auto_map": {"AutoModel": "bert_layers.BertModel"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names |= {"pad_token": "[PAD]", "mask_token": "[MASK]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def declare(name: str = "dnabert2", **arguments: object) -> Encoder:
    encoder = read_encoder(FOLDER / f"{name}.yaml")
    merged = {**encoder.arguments, "dtype": "float32", **arguments}
    return encoder.model_copy(update={"dimension": WIDTH, "arguments": merged})


def encode(encoder: Encoder, weights: Path, genes: list[tuple[str, ...]] | None = None) -> Vectors:
    reported: list[int] = []
    genes = GENES if genes is None else genes
    inputs = LoaderInput("gene", IDS[: len(genes)], genes)
    vectors = load_encoder(encoder, LoaderContext(weights=weights, device="cpu")).encode(
        inputs, reported.append
    )
    assert sum(reported) == len(genes)
    return vectors


def normalise(rows: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = rows - rows.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def by_hand(ids: list[int], state: Weights) -> np.ndarray:
    """States of the last layer for one sequence, by the equations and without padding."""
    s = {name.removeprefix("bert."): t.double().numpy() for name, t in state.items()}
    # Six heads: the slopes of four, then every other one of eight.
    slopes = [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
    x = (
        s["embeddings.word_embeddings.weight"][ids]
        + s["embeddings.token_type_embeddings.weight"][0]
    )
    x = normalise(x, s, "embeddings.LayerNorm")
    far = np.abs(np.subtract.outer(np.arange(len(ids)), np.arange(len(ids))))
    depth = WIDTH // HEADS
    for i in range(LAYERS):
        name = f"encoder.layer.{i}"
        joined = (
            x @ s[f"{name}.attention.self.Wqkv.weight"].T + s[f"{name}.attention.self.Wqkv.bias"]
        )
        q, k, v = np.split(joined, 3, axis=1)
        mixed = []
        for head, slope in enumerate(slopes):
            columns = slice(head * depth, (head + 1) * depth)
            scores = q[:, columns] @ k[:, columns].T / math.sqrt(depth) - slope * far
            mixed.append(softmax(scores, axis=1) @ v[:, columns])
        out = f"{name}.attention.output"
        x = normalise(
            np.hstack(mixed) @ s[f"{out}.dense.weight"].T + s[f"{out}.dense.bias"] + x,
            s,
            f"{out}.LayerNorm",
        )
        gate, value = np.split(x @ s[f"{name}.mlp.gated_layers.weight"].T, 2, axis=1)
        gelu = gate * (1 + erf(gate / math.sqrt(2))) / 2
        inner = (gelu * value) @ s[f"{name}.mlp.wo.weight"].T + s[f"{name}.mlp.wo.bias"]
        x = normalise(inner + x, s, f"{name}.mlp.layernorm")
    return x


def expected_vector(
    sequence: str, tokenizer: Tokenizer, state: Weights, counts_special: bool
) -> np.ndarray:
    states = by_hand(tokenizer.encode(sequence).ids, state)
    return (states if counts_special else states[1:-1]).mean(axis=0)


@pytest.mark.parametrize("counts_special", [True, False])
def test_dnabert2_equals_its_equations(
    counts_special: bool, weights: Path, tokenizer: Tokenizer, state: Weights
) -> None:
    vectors = encode(declare(counts_special=counts_special), weights)
    expected = [
        np.mean([expected_vector(p, tokenizer, state, counts_special) for p in parts], axis=0)
        for parts in GENES
    ]
    assert np.allclose(vectors.matrix, expected, atol=1e-5)
    assert vectors.n_parts.tolist() == [1, 1, 2]


def test_a_long_gene_is_read_in_token_windows_weighted_by_length(
    weights: Path, tokenizer: Tokenizer, state: Weights
) -> None:
    ids = tokenizer.encode(GENES[1][0], add_special_tokens=False).ids
    vectors = encode(declare(window=len(ids) // 2, counts_special=False), weights, [GENES[1]])
    edges = [len(ids) * i // 3 for i in range(4)]
    sums = [
        by_hand([1, *ids[a:b], 2], state)[1:-1].sum(axis=0) for a, b in itertools.pairwise(edges)
    ]
    assert np.allclose(vectors.matrix[0], np.sum(sums, axis=0) / len(ids), atol=1e-5)
    assert vectors.counts["n_windowed_sequences"] == 1


def test_both_strands_are_averaged(weights: Path) -> None:
    sequence = GENES[0][0]
    both = encode(declare(strand="both"), weights, [(sequence,)])
    forward = encode(declare(), weights, [(sequence,), (reverse_complement(sequence),)])
    assert np.allclose(both.matrix[0], forward.matrix.mean(axis=0), atol=1e-6)
    assert both.n_parts.tolist() == [1]
    turned = encode(declare(strand="both"), weights, [(reverse_complement(sequence),)])
    assert np.allclose(both.matrix, turned.matrix, atol=1e-6)


def test_the_reverse_complement_keeps_ambiguity_codes() -> None:
    assert reverse_complement("AACGTNRK") == "MYNACGTT"
    assert reverse_complement(reverse_complement("ACGTRYKMSWBDHVN")) == "ACGTRYKMSWBDHVN"


@pytest.mark.parametrize("tokens", [1, 100, 10_000])
def test_padding_and_batch_size_do_not_change_the_vectors(tokens: int, weights: Path) -> None:
    encoder = declare()
    runtime = encoder.runtime.model_copy(update={"tokens": tokens})
    other = encode(encoder.model_copy(update={"runtime": runtime}), weights).matrix
    alone = np.vstack([encode(encoder, weights, [parts]).matrix for parts in GENES])
    assert np.abs(other - alone).max() < 1e-5


def test_cdna_and_genomic_input_are_two_encoders() -> None:
    genomic, cdna = read_encoder(FOLDER / "dnabert2.yaml"), declare("dnabert2_cdna")
    assert (genomic.field, cdna.field) == ("genomic", "cdna")
    same = cdna.model_copy(update={"dimension": 768, "arguments": genomic.arguments})
    assert digest_encoder(genomic) != digest_encoder(same)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("bert.encoder.layer.1.mlp.wo.weight", None, "lacks 1 layers"),
        ("bert.encoder.layer.1.mlp.wo.weight", torch.zeros(3, 3), "do not fit"),
        ("bert.encoder.layer.2.mlp.wo.weight", torch.zeros(3, 3), "of another model"),
    ],
)
def test_damaged_weights_are_one_clear_error(
    name: str, value: torch.Tensor | None, said: str, weights: Path, state: Weights
) -> None:
    damaged = {k: v for k, v in state.items() if k != name}
    damaged |= {} if value is None else {name: value}
    torch.save(damaged, weights / "dnabert2" / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=said):
        encode(declare(), weights)


def test_remote_code_beside_the_weights_is_never_run(weights: Path) -> None:
    executed = weights / "executed"
    (weights / "dnabert2" / "bert_layers.py").write_text(
        f"from pathlib import Path\nPath({str(executed)!r}).touch()\n"
    )
    encode(declare(), weights)
    assert not executed.exists()


def test_a_tokenizer_of_another_model_and_missing_weights_are_refused(
    weights: Path, state: Weights
) -> None:
    path = weights / "dnabert2" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"vocab_size": 32}))
    small = {k: v[:32] if "word_embeddings" in k else v for k, v in state.items()}
    torch.save(small, weights / "dnabert2" / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="tokenizer has 64 tokens, but the model only 32"):
        encode(declare(), weights)
    (weights / "dnabert2" / "pytorch_model.bin").unlink()
    with pytest.raises(EncoderError, match="no weights in"):
        encode(declare(), weights)


def test_a_sequence_without_a_token_is_refused(weights: Path) -> None:
    with pytest.raises(EncoderError, match="returns no tokens"):
        encode(declare(), weights, [(" \n",)])


def test_a_model_that_transformers_knows_is_read_too(tmp_path: Path) -> None:
    """The Nucleotide Transformer's form: an ESM network over six-letter words."""
    folder = tmp_path / "nucleotide"
    folder.mkdir()
    words = ["<unk>", "<pad>", "<mask>", "<cls>", "ACGTAC", "GTTACA", "A", "C", "G", "T"]
    (folder / "vocab.txt").write_text("\n".join(words))
    EsmTokenizer(str(folder / "vocab.txt"), eos_token=None).save_pretrained(folder)
    torch.manual_seed(0)
    config = EsmConfig(
        vocab_size=len(words), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=3,
        intermediate_size=32, position_embedding_type="absolute", pad_token_id=1, mask_token_id=2,
        max_position_embeddings=64,
    )  # fmt: skip
    model = EsmForMaskedLM(config).eval()
    model.save_pretrained(folder)
    encoder = Encoder.model_validate(
        {
            "id": "nucleotide", "title": "NT", "modality": "dna", "loader": "dna_transformer",
            "model": str(folder), "dimension": WIDTH, "with": {"window": 40},
        }
    )  # fmt: skip
    sequence = "ACGTACGTTACAA"
    tokens = EsmTokenizer.from_pretrained(folder)(sequence, return_tensors="pt")
    assert tokens["input_ids"].shape[1] > 2
    with torch.no_grad():
        states = model.esm(**tokens).last_hidden_state[0]
    vectors = encode(encoder, tmp_path, [(sequence,)])
    assert np.allclose(vectors.matrix[0], states[1:].mean(dim=0).numpy(), atol=1e-5)
