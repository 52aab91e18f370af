"""Loader of DNA language models: mean over tokens; long genes are read in windows."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from genebench.encoders.declaration import Arguments, Encoder
from genebench.encoders.inference.windows import Window, encode_sequences, pad_rows
from genebench.encoders.loader import DeclaredLoader, LoaderContext, LoaderInput, Vectors
from genebench.errors import EncoderError

COMPLEMENT = str.maketrans("ACGTURYKMSWBDHVN", "TGCAAYRMKSWVHDBN")
WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin")


class DnaArguments(Arguments):
    """Arguments of `dna_transformer`.

    Args:
        architecture: `mosaic_bert` is DNABERT-2, run without the code of its repository; `known`
            is any architecture that is part of transformers.
        window: Maximum number of tokens in a window, without special tokens.
        strand: `both` averages the vectors of the sequence and of its reverse complement.
        counts_special: Whether the mean of a window includes its special tokens.
        dtype: Type of weights and arithmetic. `auto` is bfloat16 on a GPU, float32 on a CPU.
    """

    architecture: Literal["mosaic_bert", "known"] = "known"
    window: Annotated[int, Field(gt=0)] = 510
    strand: Literal["forward", "both"] = "forward"
    counts_special: bool = False
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"


class DnaTransformer(DeclaredLoader[DnaArguments]):
    """Averages token states over the sequence of an entity, then over its sequences.

    `field` of the declaration selects cDNA or genomic sequences.
    """

    Arguments: ClassVar[type[Arguments]] = DnaArguments

    def __init__(self, encoder: Encoder, context: LoaderContext) -> None:
        super().__init__(encoder, context)
        self._model: Any = None
        self._tokenizer: Any = None
        self._device: Any = None
        self._special_tokens: tuple[list[int], list[int]] = ([], [])
        self._width = 0

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Encode sequences: (n, dimension) float32; equal sequences are encoded once.

        Raises:
            EncoderError: Weights are missing or do not fit, or a sequence gives no tokens.
        """
        self._load()
        strands = [[normalise_dna(part) for part in parts] for parts in inputs.contents]
        if self.arguments.strand == "both":
            strands = [[*parts, *(reverse_complement(s) for s in parts)] for parts in strands]
        tokens: dict[str, list[int]] = {}

        def measure(unique: list[str]) -> list[int]:
            tokens.update(zip(unique, self._tokens(unique), strict=True))
            return [len(tokens[sequence]) for sequence in unique]

        def forward(unique: list[str], windows: list[Window]) -> npt.NDArray[np.float32]:
            return self._forward([tokens[unique[w.sequence]][w.start : w.stop] for w in windows])

        before, after = self._special_tokens
        means = encode_sequences(
            self.encoder,
            self._device,
            strands,
            measure,
            forward,
            window=self.arguments.window,
            n_special=len(before) + len(after),
            width=self._width,
            progress=progress,
        )
        n_parts = np.array([len(parts) for parts in inputs.contents], np.int32)
        counts = {"n_windowed_sequences": means.n_windowed}
        return Vectors(list(inputs.entity_ids), means.matrix, n_parts, counts)

    def _tokens(self, sequences: list[str]) -> list[list[int]]:
        found = (
            self._tokenizer(sequences, add_special_tokens=False)["input_ids"] if sequences else []
        )
        for sequence, tokens in zip(sequences, found, strict=True):
            if not tokens:
                raise EncoderError(
                    f"{self.encoder.id}: the tokenizer returns no tokens for sequence "
                    f"{sequence[:20]!r}; correct the input, or the tokenizer of the model"
                )
        return list(found)

    def _forward(self, windows: list[list[int]]) -> npt.NDArray[np.float32]:
        import torch

        from genebench.matmul import fastest_matmul

        before, after = self._special_tokens
        rows = [np.array([*before, *window, *after], np.int64) for window in windows]
        sizes = torch.tensor([len(row) for row in rows], device=self._device)[:, None]
        with torch.inference_mode(), fastest_matmul():
            ids = torch.from_numpy(pad_rows(rows, self._tokenizer.pad_token_id)).to(self._device)
            position = torch.arange(ids.shape[1], device=self._device)[None, :]
            mask = (position < sizes).long()
            if self.arguments.architecture == "mosaic_bert":
                states = self._model(ids, mask)
            else:
                states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            included = mask.bool()
            if not self.arguments.counts_special:
                included = (position >= len(before)) & (position < sizes - len(after))
            sums = (states.float() * included[:, :, None]).sum(dim=1)
            means = sums / included.sum(dim=1, keepdim=True)
            result: npt.NDArray[np.float32] = means.cpu().numpy()
        return result

    def _load(self) -> None:
        if self._model is not None:
            return
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        from genebench.encoders.inference.devices import choose_device, choose_dtype
        from genebench.encoders.weights.locations import find_model_folder, model_load_error
        from genebench.encoders.weights.transformer_models import load_hub_model

        folder = find_model_folder(self.encoder, self.context, (*WEIGHT_NAMES, "*.json", "*.txt"))
        try:
            if self.arguments.architecture == "mosaic_bert":
                tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
            else:
                tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:
            raise model_load_error(self.encoder, self.context, error) from error
        model: Any
        if self.arguments.architecture == "mosaic_bert":
            from genebench.encoders.weights.mosaic_bert import load_mosaic

            model = load_mosaic(folder, _weight_file(self.encoder, folder))
            width = model.embeddings.word_embeddings.embedding_dim
        else:
            model = load_hub_model(self.encoder, self.context)
            width = int(model.config.hidden_size)
        if self.encoder.dimension not in {None, width}:
            raise EncoderError(
                f"{self.encoder.id}: the model is {width} wide, but "
                f"{self.encoder.dimension} is declared; correct `dimension` or the weights"
            )
        self._check_vocabulary(tokenizer, model)
        self._device = choose_device(self.encoder, self.context)
        dtype = choose_dtype(self.arguments.dtype, self._device)
        self._model = model.to(device=self._device, dtype=dtype).eval()
        self._tokenizer = tokenizer
        self._special_tokens = special_tokens(tokenizer)
        self._width = width

    def _check_vocabulary(self, tokenizer: Any, model: Any) -> None:
        if self.arguments.architecture == "mosaic_bert":
            rows = model.embeddings.word_embeddings.num_embeddings
        else:
            rows = model.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise EncoderError(
                f"{self.encoder.id}: the tokenizer has {len(tokenizer)} tokens, but the model only "
                f"{rows}; use the tokenizer of the same model"
            )


def _weight_file(encoder: Encoder, folder: Path) -> Path:
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise EncoderError(
        f"{encoder.id}: no weights in {folder}; put {' or '.join(WEIGHT_NAMES)} there"
    )


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts before and after a sequence."""
    plain = tokenizer("ACGT", add_special_tokens=False)["input_ids"]
    whole = tokenizer("ACGT")["input_ids"]
    start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return whole[:start], whole[start + len(plain) :]


def normalise_dna(sequence: str) -> str:
    """Return the sequence in upper case, without white space."""
    return "".join(sequence.split()).upper()


def reverse_complement(sequence: str) -> str:
    """Return the reverse complement of a sequence, including its IUPAC ambiguity codes."""
    return sequence.translate(COMPLEMENT)[::-1]
