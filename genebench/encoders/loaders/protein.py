"""Protein language models: mean over residues, then over a gene's proteins.

ESM-2 is read from fair-esm's checkpoints or from the Hugging Face form of the same weights; both
give the same vectors, because both are run by the same attention (SDPA of transformers). ESM-C and
other models that transformers knows are read by the hub form.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from genebench.encoders.declaration import Arguments, Encoder
from genebench.encoders.inference.windows import Window, encode_parts, pad
from genebench.encoders.loader import DeclaredLoader, LoaderContext, LoaderInput, Vectors
from genebench.errors import EncoderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The alphabet of ESM-1b, ESM-2 and ESM-C (their tokens 4 to 30 are equal).
RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO.-"
CLS, PAD, EOS, UNKNOWN, FIRST_RESIDUE = 0, 1, 2, 3, 4
TOKEN_OF = np.full(256, UNKNOWN, np.int64)
TOKEN_OF[np.frombuffer(RESIDUES.encode(), np.uint8)] = FIRST_RESIDUE + np.arange(len(RESIDUES))


class Untrained(Arguments):
    """A network of ESM-2's form with random weights, a baseline for the trained ones.

    Args:
        layers: Number of layers.
        heads: Attention heads; they divide the declared dimension.
        seed: Of the weights.
    """

    layers: Annotated[int, Field(gt=0)]
    heads: Annotated[int, Field(gt=0)]
    seed: int = 0


class ProteinArguments(Arguments):
    """Arguments of `esm`.

    Args:
        window: Most residues read at once; the context of ESM-2 is 1,024 tokens, two of them
            special.
        layer: Whose states are averaged; -1 is the last, with the model's final layer norm.
        dtype: Of weights and arithmetic. `auto` is bfloat16 on a GPU and float32 on a CPU.
        untrained: Take random weights in place of published ones.
    """

    untrained: Untrained | None = None
    window: Annotated[int, Field(gt=0)] = 1022
    layer: int = -1
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"


class ProteinTransformer(DeclaredLoader[ProteinArguments]):
    """A gene's vector: the mean over its proteins of each protein's mean over its residues."""

    Arguments: ClassVar[type[Arguments]] = ProteinArguments

    def __init__(self, encoder: Encoder, place: LoaderContext) -> None:
        super().__init__(encoder, place)
        self._model: PreTrainedModel | None = None

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Encode proteins: (n, dimension) float32; equal sequences are encoded once.

        Raises:
            EncoderError: Weights are missing or do not fit, or an entity has no residue at all.
        """
        proteins = [
            [clean for part in parts if (clean := clean_protein(part))]
            for parts in reading.contents
        ]
        empty = [i for i, p in zip(reading.entity_ids, proteins, strict=True) if not p]
        if empty:
            raise EncoderError(f"{self.encoder.id}: {empty[0]!r} has a sequence without residues")
        model = self._loaded()

        def forward(unique: list[str], windows: list[Window]) -> npt.NDArray[np.float32]:
            return self._forward(model, [unique[w.sequence][w.start : w.stop] for w in windows])

        means = encode_parts(
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
        return Vectors(list(reading.entity_ids), means.matrix, means.n_parts, counts)

    def _forward(self, model: "PreTrainedModel", residues: list[str]) -> npt.NDArray[np.float32]:
        import torch

        from genebench.matmul import quick_products

        tokens = pad([tokenize(window) for window in residues], PAD)
        sizes = torch.tensor([len(window) for window in residues], device=model.device)
        run: Any = model
        with torch.inference_mode(), quick_products():
            ids = torch.from_numpy(tokens).to(model.device)
            wants_layer = self.arguments.layer != -1
            output = run(
                input_ids=ids, attention_mask=(ids != PAD).long(), output_hidden_states=wants_layer
            )
            states = (
                output.hidden_states[self.arguments.layer]
                if wants_layer
                else output.last_hidden_state
            )
            position = torch.arange(ids.shape[1], device=model.device)[None, :]
            inside = (position >= 1) & (position <= sizes[:, None])
            sums = (states.float() * inside[:, :, None]).sum(dim=1)
            result: npt.NDArray[np.float32] = (sums / sizes[:, None]).cpu().numpy()
        return result

    def _loaded(self) -> "PreTrainedModel":
        if self._model is None:
            self._model = self._load()
        return self._model

    def _load(self) -> "PreTrainedModel":
        from genebench.encoders.inference.devices import choose_device, choose_dtype
        from genebench.encoders.weights.locations import find_file
        from genebench.encoders.weights.transformer_models import (
            build_untrained,
            load_fair,
            load_hub,
        )

        device = choose_device(self.encoder, self.place)
        dtype = choose_dtype(self.arguments.dtype, device)
        if self.arguments.untrained is not None:
            model = build_untrained(self.encoder, **self.arguments.untrained.model_dump())
        elif "checkpoint" in self.encoder.files:
            model = load_fair(find_file(self.encoder, self.place, "checkpoint"))
        else:
            model = load_hub(self.encoder, self.place)
        width = int(model.config.hidden_size)
        if self.encoder.dimension not in {None, width}:
            raise EncoderError(
                f"{self.encoder.id}: the weights are of a model {width} wide, but "
                f"{self.encoder.dimension} is declared"
            )
        n_layers = int(model.config.num_hidden_layers)
        if not -1 <= self.arguments.layer <= n_layers:
            raise EncoderError(
                f"{self.encoder.id}: there is no layer {self.arguments.layer} of {n_layers}"
            )
        placed: PreTrainedModel = model.to(device=device, dtype=dtype).eval()  # type: ignore[call-arg]
        return placed


def clean_protein(sequence: str) -> str:
    """Upper case, without white space and stop codons."""
    return "".join(sequence.split()).upper().replace("*", "")


def tokenize(residues: str) -> npt.NDArray[np.int64]:
    """Tokens of a sequence between its two special ones; an unknown letter is `<unk>`."""
    tokens = np.empty(len(residues) + 2, np.int64)
    tokens[0], tokens[-1] = CLS, EOS
    tokens[1:-1] = TOKEN_OF[np.frombuffer(residues.encode("latin-1", "replace"), np.uint8)]
    return tokens
