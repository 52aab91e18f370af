"""Sentence transformers: any model of that library, at a pinned commit, without remote code."""

import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from genebench.encoders.declaration import Arguments, Encoder
from genebench.encoders.inference.batching import Indices, batches, keep_memory, run_batches
from genebench.encoders.loader import (
    DeclaredLoader,
    LoaderContext,
    LoaderInput,
    Vectors,
    check_dimension,
)
from genebench.encoders.loaders.words import joined_texts
from genebench.errors import EncoderError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Pooling = Literal["cls", "max", "mean", "lasttoken", "weightedmean"]


class SentenceArguments(Arguments):
    """Arguments of `sentence_transformer`.

    Args:
        prompt: Put before each text, for models that want an instruction.
        pooling: In place of the model's own.
        max_tokens: Longest text in tokens, special ones included; None is the model's own.
        normalizes: Unit vectors, whatever the model does.
        dtype: Of weights and arithmetic. `auto` is bfloat16 on a GPU and float32 on a CPU.
        word_order: `shuffled` deals the words of each text anew: an ablation that keeps the
            words and loses the sentence.
    """

    prompt: str = ""
    pooling: Pooling | None = None
    max_tokens: Annotated[int, Field(gt=2)] | None = None
    normalizes: bool = False
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    word_order: Literal["kept", "shuffled"] = "kept"


class SentenceTransformerLoader(DeclaredLoader[SentenceArguments]):
    """Text to vector by a sentence transformer.

    The vectors are those of `SentenceTransformer.encode`; only the batching is ours: texts are
    sorted by their number of tokens and dealt by a token budget. With bfloat16 weights the
    pooling is still done in float32.
    """

    Arguments: ClassVar[type[Arguments]] = SentenceArguments

    def __init__(self, encoder: Encoder, place: LoaderContext) -> None:
        super().__init__(encoder, place)
        self._model: SentenceTransformer | None = None

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Encode texts: (n, dimension) float32; equal texts are encoded once.

        Raises:
            EncoderError: The model cannot be loaded, or its width is not the declared one.
        """
        from genebench.encoders.inference.devices import free_memory, is_out_of_memory, token_budget

        texts = [self._prepared(text) for text in joined_texts(self.encoder, reading)]
        unique = list(dict.fromkeys(texts))
        rows = {text: row for row, text in enumerate(unique)}
        copies = np.bincount([rows[text] for text in texts], minlength=len(unique))
        model = self._loaded()
        if self.encoder.runtime.keeps_memory:
            keep_memory()
        lengths = self._token_counts(model, unique)
        dealt = batches(lengths, token_budget(self.encoder, model.device))
        width = model.get_embedding_dimension() or self.encoder.dimension or 0
        matrix = np.empty((len(unique), width), np.float32)
        for batch, vectors in run_batches(
            dealt,
            lambda batch: self._forward(model, unique, batch),
            is_out_of_memory,
            free_memory,
        ):
            matrix[batch] = vectors
            progress(int(copies[batch].sum()))
        spread = matrix[[rows[text] for text in texts]] if texts else matrix
        return check_dimension(self.encoder, Vectors(list(reading.entity_ids), spread))

    def _prepared(self, text: str) -> str:
        if self.arguments.word_order == "shuffled":
            return shuffle_words(text)
        return text

    def _loaded(self) -> "SentenceTransformer":
        if self._model is None:
            self._model = self._load()
        return self._model

    def _load(self) -> "SentenceTransformer":
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from sentence_transformers import SentenceTransformer

        from genebench.encoders.inference.devices import choose_device, choose_dtype
        from genebench.encoders.weights.locations import find_model, hub_error, quiet_loading

        name, revision = find_model(self.encoder, self.place)
        device = choose_device(self.encoder, self.place)
        dtype = choose_dtype(self.arguments.dtype, device)
        try:
            with quiet_loading():
                model = SentenceTransformer(
                    name,
                    device=str(device),
                    trust_remote_code=False,
                    local_files_only=revision is None,
                    model_kwargs={"dtype": dtype},
                    revision=revision,
                )
        except Exception as error:
            raise hub_error(self.encoder, self.place, error) from error
        self._check_complete(model, name, revision)
        if self.arguments.max_tokens is not None:
            model.max_seq_length = self.arguments.max_tokens
        if self.arguments.pooling is not None:
            self._replace_pooling(model, self.arguments.pooling)
        return model.eval()

    def _check_complete(
        self, model: "SentenceTransformer", name: str, revision: str | None
    ) -> None:
        from genebench.encoders.weights.transformer_models import check_complete

        network = getattr(model[0], "auto_model", None)
        if network is not None:
            check_complete(name, revision, network)

    def _replace_pooling(self, model: "SentenceTransformer", pooling: Pooling) -> None:
        from sentence_transformers.sentence_transformer.modules import (
            Pooling as PoolingModule,
        )

        for name, module in model.named_children():
            if isinstance(module, PoolingModule):
                width = module.embedding_dimension
                setattr(model, name, PoolingModule(width, pooling_mode=pooling))
                return
        raise EncoderError(f"{self.encoder.id}: the model has no pooling that could be replaced")

    def _token_counts(self, model: "SentenceTransformer", texts: list[str]) -> list[int]:
        if not texts:
            return []
        prompted = [self.arguments.prompt + text for text in texts]
        limit: dict[str, Any] = {"truncation": True, "max_length": model.max_seq_length}
        found = model.tokenizer(prompted, **(limit if model.max_seq_length else {}))
        return [len(ids) for ids in found["input_ids"]]

    def _forward(
        self, model: "SentenceTransformer", texts: list[str], batch: Indices
    ) -> npt.NDArray[np.float32]:
        import torch

        from genebench.matmul import quick_products

        prompt = self.arguments.prompt
        with torch.inference_mode(), quick_products():
            features = model.preprocess([texts[row] for row in batch], prompt=prompt or None)
            moved = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in features.items()}
            for position, module in enumerate(model):
                moved = module(moved)
                rest = list(model)[position + 1 :]
                if not any(True for later in rest for _ in later.parameters()):
                    moved = {k: _widened(v) for k, v in moved.items()}
            vectors = moved["sentence_embedding"]
            if self.arguments.normalizes:
                vectors = torch.nn.functional.normalize(vectors.float(), dim=1)
            result: npt.NDArray[np.float32] = vectors.float().cpu().numpy()
        return result


def _widened(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.float()
    return value


def shuffle_words(text: str) -> str:
    """Deal the words of a text in an order that the text itself decides."""
    words = text.split()
    random.Random(text).shuffle(words)
    return " ".join(words)
