"""Chooses device, dtype and batch size, and recognises out-of-memory errors."""

import gc
from typing import TYPE_CHECKING, Literal

from genebench.encoders.declaration import Encoder
from genebench.encoders.loader import LoaderContext
from genebench.errors import EncoderError

if TYPE_CHECKING:
    import torch

DType = Literal["float32", "bfloat16", "auto"]
CPU_TOKENS = 1024
GPU_TOKENS = 32_768


def choose_device(encoder: Encoder, context: LoaderContext) -> "torch.device":
    """Return the device of the context, or the encoder's own if that is `auto`.

    If both are `auto`: CUDA if available, else MPS, else the CPU.

    Raises:
        EncoderError: This machine does not have the device.
    """
    import torch

    wanted = context.device if context.device != "auto" else encoder.runtime.device
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise EncoderError(
            f"{encoder.id}: device {wanted!r} cannot be used here "
            f"({str(error).splitlines()[0]}); set the device to `auto` or `cpu`"
        ) from error
    return device


def choose_dtype(dtype: DType, device: "torch.device") -> "torch.dtype":
    """Return the torch dtype; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    import torch

    if dtype == "auto":
        dtype = "float32" if device.type == "cpu" else "bfloat16"
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


def token_budget(encoder: Encoder, device: "torch.device") -> int:
    """Return the number of tokens per batch: as declared, else the default of the device.

    The default is small on a CPU, where larger batches only add padding, and large on a GPU.
    """
    return encoder.runtime.tokens or (CPU_TOKENS if device.type == "cpu" else GPU_TOKENS)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that a batch did not fit in memory."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in message or "can't allocate memory" in message
    )


def free_memory() -> None:
    """Free the memory of a failed batch."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
