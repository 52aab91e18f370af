"""Protein transformers, compared with the forward pass of fair-esm."""

import argparse
import itertools
import math
from pathlib import Path

import esm
import numpy as np
import pytest
import torch
from transformers import EsmcConfig, EsmcModel, EsmConfig, EsmForMaskedLM

from genebench.encoders.declaration import Encoder
from genebench.encoders.encoder_reader import read_encoder
from genebench.encoders.loader import LoaderContext, LoaderInput, Vectors, load_encoder
from genebench.errors import EncoderError
from genebench.registry.loading import declarations_folder

FOLDER = declarations_folder("encoders")
WIDTH, LAYERS, HEADS = 24, 2, 3
rng = np.random.default_rng(0)


def protein(length: int) -> str:
    return "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), length))


GENES = [(protein(30),), (protein(75), protein(12), protein(40)), ("MKXBUZO",), (protein(200),)]
IDS = [f"hgnc:{i}" for i in range(len(GENES))]


@pytest.fixture(scope="module")
def fair_model() -> esm.model.esm2.ESM2:
    torch.manual_seed(0)
    model = esm.model.esm2.ESM2(LAYERS, WIDTH, HEADS, alphabet="ESM-1b", token_dropout=True)
    for name, values in model.named_parameters():
        if "layer_norm" in name:
            torch.nn.init.normal_(values, 1.0, 0.2)
    return model.eval()


def fair_checkpoint(model: torch.nn.Module) -> dict:
    """As published: sizes in `cfg`, layers under fairseq's names."""
    sizes = argparse.Namespace(
        encoder_layers=LAYERS,
        encoder_embed_dim=WIDTH,
        encoder_attention_heads=HEADS,
        token_dropout=True,
    )
    state = {}
    for name, tensor in model.state_dict().items():
        heads = ("lm_head", "contact_head")
        prefix = "encoder." if name.startswith(heads) else "encoder.sentence_encoder."
        if not name.startswith("contact_head"):
            state[prefix + name] = tensor
    return {"cfg": {"model": sizes}, "model": state}


@pytest.fixture
def fair_weights(fair_model: torch.nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "esm2_3b_fair" / "esm2_t36_3B_UR50D.pt"
    path.parent.mkdir()
    torch.save(fair_checkpoint(fair_model), path)
    return tmp_path


def declare(name: str, **arguments: object) -> Encoder:
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


def by_fair_esm(model: esm.model.esm2.ESM2, residues: str, layer: int) -> np.ndarray:
    _, _, tokens = esm.Alphabet.from_architecture("ESM-1b").get_batch_converter()([("p", residues)])
    with torch.no_grad():
        states = model(tokens, repr_layers=[layer])["representations"][layer]
    return states[0, 1 : len(residues) + 1].mean(dim=0).numpy()


def test_esm2_equals_fair_esm_over_residues_and_then_over_proteins(
    fair_model: esm.model.esm2.ESM2, fair_weights: Path
) -> None:
    vectors = encode(declare("esm2_3b_fair"), fair_weights)
    expected = [
        np.mean([by_fair_esm(fair_model, part, LAYERS) for part in parts], axis=0)
        for parts in GENES
    ]
    assert np.allclose(vectors.matrix, expected, atol=1e-5)
    assert vectors.n_parts.tolist() == [1, 3, 1, 1]


def test_an_inner_layer_equals_fair_esms(
    fair_model: esm.model.esm2.ESM2, fair_weights: Path
) -> None:
    vectors = encode(declare("esm2_3b_fair", layer=1), fair_weights)
    assert np.allclose(vectors.matrix[0], by_fair_esm(fair_model, GENES[0][0], 1), atol=1e-5)


def test_a_layer_that_does_not_exist_is_refused(fair_weights: Path) -> None:
    with pytest.raises(EncoderError, match="no layer 3 of 2"):
        encode(declare("esm2_3b_fair", layer=3), fair_weights)


def save_hub_form(model: torch.nn.Module, folder: Path) -> None:
    """The Hugging Face form of the same weights: EsmForMaskedLM, its own names, a config."""
    config = EsmConfig(
        vocab_size=33, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH, position_embedding_type="rotary", token_dropout=True,
        mask_token_id=32, pad_token_id=1, layer_norm_eps=1e-5, emb_layer_norm_before=False,
    )  # fmt: skip
    hub = EsmForMaskedLM(config)
    state = model.state_dict()
    pairs = {"esm.embeddings.word_embeddings.weight": state["embed_tokens.weight"]}
    inner = {
        "attention.self.query": "self_attn.q_proj",
        "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj",
        "attention.output.dense": "self_attn.out_proj",
        "attention.LayerNorm": "self_attn_layer_norm",
        "intermediate.dense": "fc1",
        "output.dense": "fc2",
        "LayerNorm": "final_layer_norm",
    }
    for kind in ("weight", "bias"):
        pairs[f"esm.encoder.emb_layer_norm_after.{kind}"] = state[f"emb_layer_norm_after.{kind}"]
        for layer in range(LAYERS):
            for theirs, ours in inner.items():
                source = state[f"layers.{layer}.{ours}.{kind}"]
                pairs[f"esm.encoder.layer.{layer}.{theirs}.{kind}"] = source
    assert not hub.load_state_dict(pairs, strict=False).unexpected_keys
    hub.save_pretrained(folder)


def test_both_forms_of_the_same_weights_give_equal_vectors(
    fair_model: torch.nn.Module, fair_weights: Path
) -> None:
    save_hub_form(fair_model, fair_weights / "esm2_3b")
    fair = encode(declare("esm2_3b_fair"), fair_weights).matrix
    hub = encode(declare("esm2_3b"), fair_weights).matrix
    assert np.abs(fair - hub).max() < 1e-6


def test_a_long_protein_is_read_in_windows_weighted_by_length(
    fair_model: esm.model.esm2.ESM2, fair_weights: Path
) -> None:
    long = protein(101)
    vectors = encode(declare("esm2_3b_fair", window=40), fair_weights, [(long,)])
    edges = [0, 33, 67, 101]
    parts = [long[a:b] for a, b in itertools.pairwise(edges)]
    states = [by_fair_esm(fair_model, part, LAYERS) * len(part) for part in parts]
    assert np.allclose(vectors.matrix[0], np.sum(states, axis=0) / 101, atol=1e-5)
    assert vectors.counts["n_windowed_proteins"] == 1


@pytest.mark.parametrize("tokens", [1, 64, 4096])
def test_the_batch_size_does_not_change_the_vectors(tokens: int, fair_weights: Path) -> None:
    encoder = declare("esm2_3b_fair")
    runtime = encoder.runtime.model_copy(update={"tokens": tokens})
    other = encode(encoder.model_copy(update={"runtime": runtime}), fair_weights).matrix
    assert np.abs(other - encode(encoder, fair_weights).matrix).max() < 1e-5


def test_white_space_case_and_stop_codons_do_not_matter(fair_weights: Path) -> None:
    encoder = declare("esm2_3b_fair")
    plain = encode(encoder, fair_weights, [("MKVLA",)]).matrix
    assert np.array_equal(plain, encode(encoder, fair_weights, [("mkv\n la*",)]).matrix)
    with pytest.raises(EncoderError, match="the sequences of 'hgnc:0' have no residues"):
        encode(encoder, fair_weights, [("*",)])


def test_bfloat16_is_close_and_not_equal(fair_weights: Path) -> None:
    exact = encode(declare("esm2_3b_fair"), fair_weights).matrix
    rough = encode(declare("esm2_3b_fair", dtype="bfloat16"), fair_weights).matrix
    cosines = (exact * rough).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rough, axis=1)
    assert cosines.min() > 0.999
    assert not np.array_equal(exact, rough)


def test_esm_c_is_read_by_the_same_loader(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS}
    model = EsmcModel(EsmcConfig(vocab_size=64, intermediate_size=48, **sizes)).eval()
    model.save_pretrained(tmp_path / "esmc_600m")
    vectors = encode(declare("esmc_600m"), tmp_path, [("MKVLA",)])
    tokens = torch.tensor([[0, 20, 15, 7, 4, 5, 2]])
    with torch.no_grad():
        expected = model(tokens).last_hidden_state[0, 1:-1].mean(dim=0).numpy()
    assert np.allclose(vectors.matrix[0], expected, atol=1e-5)


def test_an_untrained_network_is_the_same_on_every_load_and_leaves_the_seed_alone(
    tmp_path: Path,
) -> None:
    untrained = {"layers": 2, "heads": 3, "seed": 5}
    encoder = declare("esm2_untrained", untrained=untrained)
    state = torch.random.get_rng_state()
    first = encode(encoder, tmp_path).matrix
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.array_equal(first, encode(encoder, tmp_path).matrix)
    other = declare("esm2_untrained", untrained={**untrained, "seed": 6})
    assert not np.allclose(first, encode(other, tmp_path).matrix)


def test_a_hostile_checkpoint_is_refused_and_nothing_runs(
    fair_model: torch.nn.Module, fair_weights: Path
) -> None:
    executed = fair_weights / "executed"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (executed,)

    content = fair_checkpoint(fair_model) | {"extra": Hostile()}
    torch.save(content, fair_weights / "esm2_3b_fair" / "esm2_t36_3B_UR50D.pt")
    with pytest.raises(EncoderError, match="nothing was executed"):
        encode(declare("esm2_3b_fair"), fair_weights)
    assert not executed.exists()


def damage(fair_model: torch.nn.Module, kind: str) -> dict:
    content = fair_checkpoint(fair_model)
    state, name = content["model"], "encoder.sentence_encoder.layers.1.fc1.weight"
    if kind == "missing":
        del state[name]
    elif kind == "unknown":
        state["encoder.sentence_encoder.layers.1.gate.weight"] = torch.zeros(2)
    elif kind == "shape":
        state[name] = torch.zeros(5, WIDTH)
    elif kind == "other":
        return {"args": None, "weights": state}
    return content


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "lacks 1 layers, first 'encoder.layer.1.intermediate.dense.weight'"),
        ("unknown", "layers.1.gate.weight' of another model"),
        ("shape", "do not fit ESM-2: size mismatch"),
        ("other", "is not an ESM-2 checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_one_clear_error(
    kind: str, said: str, fair_model: torch.nn.Module, fair_weights: Path
) -> None:
    content = damage(fair_model, kind)
    torch.save(content, fair_weights / "esm2_3b_fair" / "esm2_t36_3B_UR50D.pt")
    with pytest.raises(EncoderError, match=said):
        encode(declare("esm2_3b_fair"), fair_weights)


def test_a_hub_form_that_lacks_a_layer_is_never_filled_with_random_numbers(
    fair_model: torch.nn.Module, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    save_hub_form(fair_model, tmp_path / "esm2_3b")
    path = tmp_path / "esm2_3b" / "model.safetensors"
    state = load_file(path)
    del state["esm.encoder.layer.0.output.dense.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="lacks 1 layers"):
        encode(declare("esm2_3b"), tmp_path)


def test_a_checkpoint_of_another_size_is_refused(fair_weights: Path) -> None:
    encoder = declare("esm2_3b_fair").model_copy(update={"dimension": 2560})
    with pytest.raises(EncoderError, match="24 wide, but 2560 is declared"):
        encode(encoder, fair_weights)


def test_a_model_that_is_not_there_gives_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError) as caught:
        encode(declare("esm2_3b"), tmp_path)
    assert "hf download facebook/esm2_t36_3B_UR50D --revision 476b6399" in str(caught.value)
    assert str(tmp_path / "esm2_3b") in str(caught.value)


def test_an_unknown_device_is_refused(fair_weights: Path) -> None:
    inputs = LoaderInput("gene", IDS, GENES)
    with pytest.raises(EncoderError, match="device 'cuda:7' cannot be used here"):
        load_encoder(declare("esm2_3b_fair"), LoaderContext(fair_weights, device="cuda:7")).encode(
            inputs, print
        )
    assert math.isfinite(encode(declare("esm2_3b_fair"), fair_weights).matrix.sum())
