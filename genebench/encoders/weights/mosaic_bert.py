"""MosaicBERT, the network of DNABERT-2, so that no code of the model's repository is run.

A BERT with symmetric linear attention biases instead of position embeddings (ALiBi, Press et al.
2022) and gated feed-forward layers (MosaicBERT, Portes et al. 2023). The modules are named as in
the published checkpoint. This module imports torch and must be imported lazily.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genebench.encoders.weights.transformer_models import check_state_dict_keys
from genebench.errors import EncoderError

UNUSED = re.compile(r"^(cls\.|pooler\.|classifier\.)|position_ids$|alibi$")


def alibi_slopes(heads: int) -> list[float]:
    """Return the ALiBi slope of each head.

    For a power of two, a geometric sequence; for any other number of heads, that of the next lower
    power of two, completed with every other slope of the next higher one.
    """
    power = 2 ** math.floor(math.log2(heads))
    start = 2.0 ** (-8.0 / power)
    slopes = [start ** (i + 1) for i in range(power)]
    return slopes if power == heads else slopes + alibi_slopes(2 * power)[::2][: heads - power]


class Embeddings(nn.Module):
    """Sum of token and type embeddings, then a layer norm; no position embeddings."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], width)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, eps=config["layer_norm_eps"])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map (n, length) token ids to (n, length, width)."""
        types = self.token_type_embeddings.weight[0]
        result: torch.Tensor = self.LayerNorm(self.word_embeddings(ids) + types)
        return result


class SelfAttention(nn.Module):
    """Multi-head attention with one joint projection to query, key and value."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.heads = config["num_attention_heads"]
        self.Wqkv = nn.Linear(config["hidden_size"], 3 * config["hidden_size"])

    def forward(self, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Map (n, length, width) states, with an additive (n, heads, length, length) bias."""
        n, length, width = states.shape
        joined = self.Wqkv(states).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return mixed.transpose(1, 2).reshape(n, length, width)


class AttentionOutput(nn.Module):
    """Projection, residual connection and layer norm."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.dense = nn.Linear(config["hidden_size"], config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])

    def forward(self, mixed: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Map attention output and states, both (n, length, width), to (n, length, width)."""
        result: torch.Tensor = self.LayerNorm(self.dense(mixed) + states)
        return result


class Attention(nn.Module):
    """Self-attention and its output projection, named `self` and `output` in the checkpoint."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.add_module("self", SelfAttention(config))
        self.output = AttentionOutput(config)

    def forward(self, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(n, length, width) to (n, length, width)."""
        result: torch.Tensor = self.output(self.get_submodule("self")(states, bias), states)
        return result


class GatedUnit(nn.Module):
    """Gated feed-forward layer (GELU), then residual connection and layer norm."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gated_layers = nn.Linear(width, 2 * inner, bias=False)
        self.wo = nn.Linear(inner, width)
        self.layernorm = nn.LayerNorm(width, eps=config["layer_norm_eps"])

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, length, width) to (n, length, width)."""
        gate, value = self.gated_layers(states).chunk(2, dim=-1)
        result: torch.Tensor = self.layernorm(self.wo(nn.functional.gelu(gate) * value) + states)
        return result


class Layer(nn.Module):
    """One transformer layer: attention, then the gated feed-forward layer."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.mlp = GatedUnit(config)

    def forward(self, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """(n, length, width) to (n, length, width)."""
        result: torch.Tensor = self.mlp(self.attention(states, bias))
        return result


class MosaicBert(nn.Module):
    """The encoder: embeddings, then all layers with the ALiBi bias."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))}
        )
        slopes = torch.tensor(alibi_slopes(config["num_attention_heads"]))
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Compute the states of the last layer.

        Args:
            ids: (n, length) token ids.
            mask: (n, length) 1 for tokens and 0 for padding.

        Returns:
            (n, length, width).
        """
        states = self.embeddings(ids)
        position = torch.arange(ids.shape[1], device=ids.device)
        distance = (position[None, :] - position[:, None]).abs().to(states.dtype)
        slopes = self.get_buffer("slopes").to(states.dtype)
        bias = -slopes[:, None, None] * distance
        lowest = torch.finfo(states.dtype).min
        bias = bias[None].masked_fill(mask[:, None, None, :] == 0, lowest)
        layers = self.encoder["layer"]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            states = layer(states, bias)
        result: torch.Tensor = states
        return result


def load_mosaic(folder: Path, weights: Path) -> MosaicBert:
    """Build the network from `config.json` in a folder and a file of weights.

    Raises:
        EncoderError: A file cannot be read safely, a key is missing in the configuration, or a
            layer is missing or has another shape.
    """
    from genebench.encoders.weights.checkpoints import read_json, read_state_dict

    config = {"layer_norm_eps": 1e-12, "type_vocab_size": 2} | read_json(folder / "config.json")
    wanted = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
              "intermediate_size")  # fmt: skip
    absent = [name for name in wanted if name not in config]
    if absent:
        raise EncoderError(
            f"{folder / 'config.json'}: has no {absent[0]!r}; download the published file again"
        )
    model = MosaicBert(config)
    state = {
        bare: tensor.float()
        for name, tensor in read_state_dict(weights).items()
        if not UNUSED.search(bare := name.removeprefix("bert."))
    }
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise EncoderError(
            f"{weights}: the weights do not fit the network: {lines[-1][:200]}; "
            "download the published files again"
        ) from error
    check_state_dict_keys(weights, found.missing_keys, found.unexpected_keys)
    return model
