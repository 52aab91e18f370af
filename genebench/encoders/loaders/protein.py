"""Loader of protein language models: mean over residues, then over the proteins of a gene.

ESM-2 is loaded from a fair-esm checkpoint or from Hugging Face. Both give the same vectors, because
both run in transformers with the same attention (SDPA). ESM-C and other models that are part of
transformers are loaded from Hugging Face.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from genebench.encoders.declaration import Arguments, Encoder
from genebench.encoders.inference.windows import Window, encode_sequences, pad_rows
from genebench.encoders.loader import DeclaredLoader, LoaderContext, LoaderInput, Vectors
from genebench.errors import EncoderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The residues of ESM-1b, ESM-2 and ESM-C in the order of their tokens, 4 to 30.
RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO.-"
CLS, PAD, EOS, UNKNOWN, FIRST_RESIDUE = 0, 1, 2, 3, 4
TOKEN_OF = np.full(256, UNKNOWN, np.int64)
TOKEN_OF[np.frombuffer(RESIDUES.encode(), np.uint8)] = FIRST_RESIDUE + np.arange(len(RESIDUES))


class Untrained(Arguments):
    """Sizes of an ESM-2 network with random weights, a baseline for the trained models.

    Args:
        layers: Number of layers.
        heads: Number of attention heads; the declared dimension is a multiple of 2 x heads.
        seed: Seed of the weights.
    """

    layers: Annotated[int, Field(gt=0)]
    heads: Annotated[int, Field(gt=0)]
    seed: int = 0


class ProteinArguments(Arguments):
    """Arguments of `esm`.

    Args:
        window: Maximum number of residues in a window. The context of ESM-2 is 1,024 tokens,
            including two special tokens.
        layer: Layer whose states are averaged; -1 is the last one, after the final layer norm.
        dtype: Type of weights and arithmetic. `auto` is bfloat16 on a GPU, float32 on a CPU.
        untrained: Sizes of a network with random weights, used instead of a published model.
    """

    untrained: Untrained | None = None
    window: Annotated[int, Field(gt=0)] = 1022
    layer: int = -1
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"


class ProteinTransformer(DeclaredLoader[ProteinArguments]):
    """Averages residue states over each protein, then over the proteins of a gene."""

    Arguments: ClassVar[type[Arguments]] = ProteinArguments

    def __init__(self, encoder: Encoder, context: LoaderContext) -> None:
        super().__init__(encoder, context)
        self._model: PreTrainedModel | None = None

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Encode proteins: (n, dimension) float32; equal sequences are encoded once.

        Raises:
            EncoderError: Weights are missing or do not fit, or an entity has no residues.
        """
        proteins = [
            [clean for part in parts if (clean := normalise_protein(part))]
            for parts in inputs.contents
        ]
        empty = [i for i, p in zip(inputs.entity_ids, proteins, strict=True) if not p]
        if empty:
            raise EncoderError(
                f"{self.encoder.id}: the sequences of {empty[0]!r} have no residues; "
                "correct the input"
            )
        model = self._loaded()

        def forward(unique: list[str], windows: list[Window]) -> npt.NDArray[np.float32]:
            return self._forward(model, [unique[w.sequence][w.start : w.stop] for w in windows])

        means = encode_sequences(
            self.encoder,
            model.device,
            proteins,
            measure=lambda unique: [len(sequence) for sequence in unique],
            forward=forward,
            window=self.arguments.window,
            n_special=2,
            width=int(model.config.hidden_size),
            progress=progress,
        )
        counts = {"n_windowed_proteins": means.n_windowed}
        return Vectors(list(inputs.entity_ids), means.matrix, means.n_parts, counts)

    def _forward(self, model: "PreTrainedModel", residues: list[str]) -> npt.NDArray[np.float32]:
        import torch

        from genebench.matmul import fastest_matmul

        tokens = pad_rows([tokenize(window) for window in residues], PAD)
        sizes = torch.tensor([len(window) for window in residues], device=model.device)
        run: Any = model
        with torch.inference_mode(), fastest_matmul():
            ids = torch.from_numpy(tokens).to(model.device)
            is_inner_layer = self.arguments.layer != -1
            output = run(
                input_ids=ids,
                attention_mask=(ids != PAD).long(),
                output_hidden_states=is_inner_layer,
            )
            states = (
                output.hidden_states[self.arguments.layer]
                if is_inner_layer
                else output.last_hidden_state
            )
            position = torch.arange(ids.shape[1], device=model.device)[None, :]
            is_residue = (position >= 1) & (position <= sizes[:, None])
            sums = (states.float() * is_residue[:, :, None]).sum(dim=1)
            result: npt.NDArray[np.float32] = (sums / sizes[:, None]).cpu().numpy()
        return result

    def _loaded(self) -> "PreTrainedModel":
        if self._model is None:
            self._model = self._load()
        return self._model

    def _load(self) -> "PreTrainedModel":
        from genebench.encoders.inference.devices import choose_device, choose_dtype
        from genebench.encoders.weights.locations import find_weight_file
        from genebench.encoders.weights.transformer_models import (
            build_untrained_esm2,
            load_fair_esm,
            load_hub_model,
        )

        device = choose_device(self.encoder, self.context)
        dtype = choose_dtype(self.arguments.dtype, device)
        if self.arguments.untrained is not None:
            model = build_untrained_esm2(self.encoder, **self.arguments.untrained.model_dump())
        elif "checkpoint" in self.encoder.files:
            model = load_fair_esm(find_weight_file(self.encoder, self.context, "checkpoint"))
        else:
            model = load_hub_model(self.encoder, self.context)
        width = int(model.config.hidden_size)
        if self.encoder.dimension not in {None, width}:
            raise EncoderError(
                f"{self.encoder.id}: the model is {width} wide, but "
                f"{self.encoder.dimension} is declared; correct `dimension` or the weights"
            )
        n_layers = int(model.config.num_hidden_layers)
        if not -1 <= self.arguments.layer <= n_layers:
            raise EncoderError(
                f"{self.encoder.id}: there is no layer {self.arguments.layer} of {n_layers}; "
                "correct `with.layer`"
            )
        ready: PreTrainedModel = model.to(device=device, dtype=dtype).eval()  # type: ignore[call-arg]
        return ready


def normalise_protein(sequence: str) -> str:
    """Return the sequence in upper case, without white space and stop codons."""
    return "".join(sequence.split()).upper().replace("*", "")


def tokenize(residues: str) -> npt.NDArray[np.int64]:
    """Return the tokens of a sequence, with start and end token; unknown letters are `<unk>`."""
    tokens = np.empty(len(residues) + 2, np.int64)
    tokens[0], tokens[-1] = CLS, EOS
    tokens[1:-1] = TOKEN_OF[np.frombuffer(residues.encode("latin-1", "replace"), np.uint8)]
    return tokens
