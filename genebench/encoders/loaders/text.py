"""Loader of sentence transformers: any model of that library, without remote code."""

import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from genebench.encoders.declaration import Arguments, Encoder
from genebench.encoders.inference.batching import (
    Indices,
    make_batches,
    retain_freed_memory,
    run_batches,
)
from genebench.encoders.loader import (
    DeclaredLoader,
    LoaderContext,
    LoaderInput,
    Vectors,
    check_dimension,
)
from genebench.encoders.loaders.bag_of_words import joined_texts
from genebench.errors import EncoderError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Pooling = Literal["cls", "max", "mean", "lasttoken", "weightedmean"]


class SentenceArguments(Arguments):
    """Arguments of `sentence_transformer`.

    Args:
        prompt: Text put before each text, for models that need an instruction.
        pooling: Pooling that replaces the pooling of the model.
        max_tokens: Number of tokens after which a text is truncated, special tokens included;
            None uses the limit of the model.
        normalizes: Scale the vectors to unit length.
        dtype: Type of weights and arithmetic. `auto` is bfloat16 on a GPU, float32 on a CPU.
        word_order: `shuffled` shuffles the words of each text, an ablation of word order.
    """

    prompt: str = ""
    pooling: Pooling | None = None
    max_tokens: Annotated[int, Field(gt=2)] | None = None
    normalizes: bool = False
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    word_order: Literal["kept", "shuffled"] = "kept"


class SentenceTransformerLoader(DeclaredLoader[SentenceArguments]):
    """Encodes texts with a sentence transformer.

    The vectors equal those of `SentenceTransformer.encode`. The batches differ: texts are sorted by
    their number of tokens and batched with a token budget. Pooling is always done in float32, also
    with bfloat16 weights.
    """

    Arguments: ClassVar[type[Arguments]] = SentenceArguments

    def __init__(self, encoder: Encoder, context: LoaderContext) -> None:
        super().__init__(encoder, context)
        self._model: SentenceTransformer | None = None

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Encode texts: (n, dimension) float32; equal texts are encoded once.

        Raises:
            EncoderError: The model cannot be loaded, or its width is not the declared dimension.
        """
        from genebench.encoders.inference.devices import free_memory, is_out_of_memory, token_budget

        texts = [self._preprocess(text) for text in joined_texts(self.encoder, inputs)]
        unique = list(dict.fromkeys(texts))
        rows = {text: row for row, text in enumerate(unique)}
        copies = np.bincount([rows[text] for text in texts], minlength=len(unique))
        model = self._loaded()
        if self.encoder.runtime.keeps_memory:
            retain_freed_memory()
        lengths = self._token_counts(model, unique)
        batches = make_batches(lengths, token_budget(self.encoder, model.device))
        width = model.get_embedding_dimension() or self.encoder.dimension or 0
        matrix = np.empty((len(unique), width), np.float32)
        for batch, vectors in run_batches(
            batches,
            lambda batch: self._forward(model, unique, batch),
            is_out_of_memory,
            free_memory,
        ):
            matrix[batch] = vectors
            progress(int(copies[batch].sum()))
        by_entity = matrix[[rows[text] for text in texts]] if texts else matrix
        return check_dimension(self.encoder, Vectors(list(inputs.entity_ids), by_entity))

    def _preprocess(self, text: str) -> str:
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
        from genebench.encoders.weights.locations import find_model, model_load_error, quiet_loading

        name, revision = find_model(self.encoder, self.context)
        device = choose_device(self.encoder, self.context)
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
            raise model_load_error(self.encoder, self.context, error) from error
        self._check_complete(model, name, revision)
        if self.arguments.max_tokens is not None:
            model.max_seq_length = self.arguments.max_tokens
        if self.arguments.pooling is not None:
            self._replace_pooling(model, self.arguments.pooling)
        return model.eval()

    def _check_complete(
        self, model: "SentenceTransformer", name: str, revision: str | None
    ) -> None:
        from genebench.encoders.weights.transformer_models import check_layers_stored

        network = getattr(model[0], "auto_model", None)
        if network is not None:
            check_layers_stored(name, revision, network)

    def _replace_pooling(self, model: "SentenceTransformer", pooling: Pooling) -> None:
        from sentence_transformers.sentence_transformer.modules import (
            Pooling as PoolingModule,
        )

        for name, module in model.named_children():
            if isinstance(module, PoolingModule):
                width = module.embedding_dimension
                setattr(model, name, PoolingModule(width, pooling_mode=pooling))
                return
        raise EncoderError(
            f"{self.encoder.id}: the model has no pooling layer; remove `with.pooling`"
        )

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

        from genebench.matmul import fastest_matmul

        prompt = self.arguments.prompt
        with torch.inference_mode(), fastest_matmul():
            features = model.preprocess([texts[row] for row in batch], prompt=prompt or None)
            state = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in features.items()}
            for position, module in enumerate(model):
                state = module(state)
                rest = list(model)[position + 1 :]
                if not any(True for later in rest for _ in later.parameters()):
                    state = {k: _to_float32(v) for k, v in state.items()}
            vectors = state["sentence_embedding"]
            if self.arguments.normalizes:
                vectors = torch.nn.functional.normalize(vectors.float(), dim=1)
            result: npt.NDArray[np.float32] = vectors.float().cpu().numpy()
        return result


def _to_float32(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.float()
    return value


def shuffle_words(text: str) -> str:
    """Shuffle the words of a text, with the text as the seed."""
    words = text.split()
    random.Random(text).shuffle(words)
    return " ".join(words)
