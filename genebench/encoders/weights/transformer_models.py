"""Loads transformers for proteins and DNA, from fair-esm checkpoints or Hugging Face models.

A checkpoint that lacks a layer is refused, whereas the library transformers would initialise the
layer with random numbers.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genebench.encoders.declaration import Encoder
from genebench.encoders.loader import LoaderContext
from genebench.errors import EncoderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FAIR_PREFIX = re.compile(r"^(encoder\.sentence_encoder\.|encoder\.)")
FAIR_NAMES = (
    (r"^embed_tokens\.", "embeddings.word_embeddings."),
    (r"^layers\.(\d+)\.self_attn\.q_proj\.", r"encoder.layer.\1.attention.self.query."),
    (r"^layers\.(\d+)\.self_attn\.k_proj\.", r"encoder.layer.\1.attention.self.key."),
    (r"^layers\.(\d+)\.self_attn\.v_proj\.", r"encoder.layer.\1.attention.self.value."),
    (r"^layers\.(\d+)\.self_attn\.out_proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"^layers\.(\d+)\.self_attn_layer_norm\.", r"encoder.layer.\1.attention.LayerNorm."),
    (r"^layers\.(\d+)\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
    (r"^layers\.(\d+)\.fc2\.", r"encoder.layer.\1.output.dense."),
    (r"^layers\.(\d+)\.final_layer_norm\.", r"encoder.layer.\1.LayerNorm."),
    (r"^emb_layer_norm_after\.", "encoder.emb_layer_norm_after."),
)
FAIR_UNUSED = re.compile(r"^(lm_head\.|contact_head\.)|\.rot_emb\.")
HEADS = re.compile(r"(^|\.)(pooler|contact_head|lm_head|position_ids|inv_freq|rotary_embeddings)")


def load_fair_esm(path: Path) -> "PreTrainedModel":
    """Build ESM-2 from a fair-esm checkpoint, which also contains the model's sizes.

    Raises:
        EncoderError: Reading the file would run code, the file is not an ESM-2 checkpoint, or a
            layer is missing or has another shape.
    """
    import torch

    from genebench.encoders.weights.checkpoints import read_torch

    data = read_torch(path)
    if not isinstance(data, dict) or not {"cfg", "model"} <= set(data):
        raise EncoderError(
            f"{path}: is not an ESM-2 checkpoint of fair-esm (it lacks `cfg` or `model`); "
            "download the published file"
        )
    sizes = data["cfg"]["model"]
    state = {}
    for name, tensor in data["model"].items():
        bare = FAIR_PREFIX.sub("", name)
        if isinstance(tensor, torch.Tensor) and not FAIR_UNUSED.search(bare):
            state[_hub_name(bare)] = tensor.float()
    model = _esm2(
        sizes.encoder_embed_dim,
        sizes.encoder_layers,
        sizes.encoder_attention_heads,
        sizes.token_dropout,
    )
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise EncoderError(
            f"{path}: the weights do not fit ESM-2: {_second_line(error)}; "
            "download the published file"
        ) from error
    check_state_dict_keys(path, found.missing_keys, found.unexpected_keys)
    return model


def build_untrained_esm2(encoder: Encoder, layers: int, heads: int, seed: int) -> "PreTrainedModel":
    """Build ESM-2 with random weights from a seed; does not change torch's global generator.

    Raises:
        EncoderError: No dimension is declared, or the heads do not divide it.
    """
    import torch

    width = encoder.dimension or 0
    if not width:
        raise EncoderError(
            f"{encoder.id}: an untrained network needs `dimension` in the declaration"
        )
    if width % (2 * heads):
        raise EncoderError(
            f"{encoder.id}: `dimension` is {width}, but must be a multiple of 2 x {heads} heads"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _esm2(width, layers, heads, token_dropout=True)


def _esm2(width: int, layers: int, heads: int, token_dropout: bool) -> "PreTrainedModel":
    from transformers import EsmConfig, EsmModel

    config = EsmConfig(
        vocab_size=33,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        position_embedding_type="rotary",
        token_dropout=token_dropout,
        mask_token_id=32,
        pad_token_id=1,
        layer_norm_eps=1e-5,
        emb_layer_norm_before=False,
    )
    config._attn_implementation = "sdpa"
    model: PreTrainedModel = EsmModel(config, add_pooling_layer=False)
    return model


def _hub_name(name: str) -> str:
    for pattern, replacement in FAIR_NAMES:
        renamed, n = re.subn(pattern, replacement, name)
        if n:
            return renamed
    return name


def _second_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)][:200]


def load_hub_model(encoder: Encoder, context: LoaderContext) -> "PreTrainedModel":
    """Load a model whose architecture is part of transformers; never runs remote code.

    Raises:
        EncoderError: The model cannot be downloaded, needs remote code, or lacks a layer.
    """
    from transformers import AutoModel

    from genebench.encoders.weights.locations import find_model, model_load_error, quiet_loading

    if encoder.model is None:
        raise EncoderError(f"{encoder.id}: declare `model`, or a checkpoint under `files`")
    name, revision = find_model(encoder, context)
    options: dict[str, Any] = {"revision": revision} if revision else {"local_files_only": True}
    try:
        with quiet_loading():
            model, info = AutoModel.from_pretrained(
                name,
                trust_remote_code=False,
                attn_implementation="sdpa",
                output_loading_info=True,
                **options,
            )
    except Exception as error:
        raise model_load_error(encoder, context, error) from error
    check_state_dict_keys(name, info["missing_keys"], ())
    loaded: PreTrainedModel = model
    return loaded


def check_layers_stored(name: str, revision: str | None, model: "PreTrainedModel") -> None:
    """Check that each layer of a loaded model is in its files, for libraries that do not check.

    Args:
        name: Local folder or Hugging Face id.
        revision: Commit of the Hugging Face model, None for a folder.
        model: The loaded model. The name of a stored tensor may have a prefix.

    Raises:
        EncoderError: A layer of the model is in none of its files.
    """
    from huggingface_hub import try_to_load_from_cache

    folder = Path(name)
    if revision is not None:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        folder = Path(cached).parent if isinstance(cached, str) else folder
    stored = _stored_names(folder)
    if not stored:
        return
    suffixes = {n[i:] for n in stored for i in range(len(n)) if i == 0 or n[i - 1] == "."}
    missing = [key for key, _ in model.named_parameters() if key not in suffixes]
    check_state_dict_keys(name, missing, ())


def _stored_names(folder: Path) -> set[str]:
    from safetensors import safe_open

    from genebench.encoders.weights.checkpoints import read_state_dict

    names: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            names.update(file.keys())
    if not names:
        for path in sorted(folder.glob("pytorch_model*.bin")):
            names.update(read_state_dict(path))
    return names


def check_state_dict_keys(name: Any, missing: Any, unexpected: Any) -> None:
    """Check the result of `load_state_dict`, ignoring buffers and heads that are not used.

    Raises:
        EncoderError: A layer is missing or unknown.
    """
    absent = sorted(key for key in missing if not HEADS.search(key))
    extra = sorted(key for key in unexpected if not HEADS.search(key))
    if absent:
        raise EncoderError(
            f"{name}: the checkpoint lacks {len(absent)} layers, first {absent[0]!r}; "
            "download the published file again"
        )
    if extra:
        raise EncoderError(
            f"{name}: the checkpoint has a layer {extra[0]!r} of another model; correct `model` or "
            "`files`"
        )
