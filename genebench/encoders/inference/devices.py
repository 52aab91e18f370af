"""Device, number format and memory errors: one setting, with the CPU to fall back on."""

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


def choose_device(encoder: Encoder, place: LoaderContext) -> "torch.device":
    """The device to run on: the place's setting, else the encoder's; `auto` takes a GPU if any.

    Raises:
        EncoderError: A device is named that this machine does not have.
    """
    import torch

    wanted = place.device if place.device != "auto" else encoder.runtime.device
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
            f"({str(error).splitlines()[0]}); use `auto` or `cpu`"
        ) from error
    return device


def choose_dtype(dtype: DType, device: "torch.device") -> "torch.dtype":
    """`auto` is bfloat16 on a GPU and float32 on a CPU; any other is what it says."""
    import torch

    if dtype == "auto":
        dtype = "float32" if device.type == "cpu" else "bfloat16"
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


def token_budget(encoder: Encoder, device: "torch.device") -> int:
    """Tokens of one batch: the declared number, else what suits the device.

    On a CPU a batch gains nothing and padding costs, so it is small; a GPU wants it large.
    """
    return encoder.runtime.tokens or (CPU_TOKENS if device.type == "cpu" else GPU_TOKENS)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that a batch was too large for the memory."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in message or "can't allocate memory" in message
    )


def free_memory() -> None:
    """Give back what a failed batch left behind."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
