"""Loading protein and DNA transformers: fair-esm's checkpoints and what transformers knows.

A checkpoint that lacks a layer is refused; transformers alone would fill it with random numbers.
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


def load_fair(path: Path) -> "PreTrainedModel":
    """Build ESM-2 from a fair-esm checkpoint, its sizes taken from the file.

    Raises:
        EncoderError: The file would run code, is no ESM-2 checkpoint, or a layer is missing or
            has another shape.
    """
    import torch

    from genebench.encoders.weights.checkpoints import read_torch

    data = read_torch(path)
    if not isinstance(data, dict) or not {"cfg", "model"} <= set(data):
        raise EncoderError(f"{path}: is no ESM-2 checkpoint of fair-esm (no `cfg` and `model`)")
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
            f"{path}: the weights do not fit ESM-2: {_second_line(error)}"
        ) from error
    check_loaded(path, found.missing_keys, found.unexpected_keys)
    return model


def build_untrained(encoder: Encoder, layers: int, heads: int, seed: int) -> "PreTrainedModel":
    """Build ESM-2's network with seeded random weights; the global seed is left as it was.

    Raises:
        EncoderError: The heads do not divide the declared dimension.
    """
    import torch

    width = encoder.dimension or 0
    if not width:
        raise EncoderError(f"{encoder.id}: an untrained network needs a declared `dimension`")
    if width % (2 * heads):
        raise EncoderError(f"{encoder.id}: {heads} heads of even width do not divide {width}")
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


def load_hub(encoder: Encoder, place: LoaderContext) -> "PreTrainedModel":
    """Load a model that transformers itself knows; remote code is never run.

    Raises:
        EncoderError: It is neither cached nor reachable, needs remote code, or lacks a layer that
            transformers would otherwise fill with random numbers.
    """
    from transformers import AutoModel

    from genebench.encoders.weights.locations import find_model, hub_error, quiet_loading

    if encoder.model is None:
        raise EncoderError(f"{encoder.id}: declare `model`, or a checkpoint under `files`")
    name, revision = find_model(encoder, place)
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
        raise hub_error(encoder, place, error) from error
    check_loaded(name, info["missing_keys"], ())
    loaded: PreTrainedModel = model
    return loaded


def check_complete(name: str, revision: str | None, model: "PreTrainedModel") -> None:
    """Refuse a model whose files lack a layer, where its library does not tell.

    Args:
        name: Local folder or hub id.
        revision: The hub's commit, None for a folder.
        model: As it was loaded; its layers are looked up in the files by the end of their names.

    Raises:
        EncoderError: A layer of the model is in no file.
    """
    from huggingface_hub import try_to_load_from_cache

    folder = Path(name)
    if revision is not None:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        folder = Path(cached).parent if isinstance(cached, str) else folder
    stored = _stored_names(folder)
    if not stored:
        return
    ends = {n[i:] for n in stored for i in range(len(n)) if i == 0 or n[i - 1] == "."}
    missing = [key for key, _ in model.named_parameters() if key not in ends]
    check_loaded(name, missing, ())


def _stored_names(folder: Path) -> set[str]:
    from safetensors import safe_open

    from genebench.encoders.weights.checkpoints import read_state

    names: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            names.update(file.keys())
    if not names:
        for path in sorted(folder.glob("pytorch_model*.bin")):
            names.update(read_state(path))
    return names


def check_loaded(name: Any, missing: Any, unexpected: Any) -> None:
    """Refuse a checkpoint that lacks a layer; heads and buffers that are not used do not count.

    Raises:
        EncoderError: A layer is missing or unknown.
    """
    absent = sorted(key for key in missing if not HEADS.search(key))
    extra = sorted(key for key in unexpected if not HEADS.search(key))
    if absent:
        raise EncoderError(
            f"{name}: the checkpoint lacks {len(absent)} layers, first {absent[0]!r}; "
            "fetch the published file again"
        )
    if extra:
        raise EncoderError(f"{name}: the checkpoint has a layer {extra[0]!r} of another model")
