"""Reads published checkpoints and vocabularies without running any code in them.

Torch files are read with `weights_only`. Pickles are read by an unpickler that allows only
dictionaries, lists, strings and numbers.
"""

import argparse
import io
import json
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from genebench.encoders.declaration import suggest_nearest
from genebench.errors import EncoderError
from genebench.pickles import has_sparse_memo

if TYPE_CHECKING:
    import torch

WRAPPERS = ("model_state_dict", "state_dict", "model")
MAX_PICKLE_BYTES = 1 << 30


def read_torch(path: Path) -> Any:
    """Read a torch file without running any code in it.

    Besides tensors and plain containers, only `argparse.Namespace` is allowed, because fair-esm
    stores the model's sizes in one.

    Raises:
        EncoderError: The file is truncated, is not a torch file, or needs code to be run.
    """
    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported operand" in str(error):
            raise EncoderError(
                f"{path}: reading the checkpoint would run code "
                f"({_first_line(error, 'GLOBAL')}); nothing was executed. Use the published file"
            ) from None
        raise EncoderError(
            f"{path}: is not a torch checkpoint ({_first_line(error)}); download it again"
        ) from None
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        struct.error,
    ) as error:
        raise EncoderError(
            f"{path}: is truncated or not a torch checkpoint ({_first_line(error)}); "
            "download it again"
        ) from error


def _first_line(error: BaseException, keyword: str = "") -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = [line for line in lines if keyword and keyword in line] or lines
    return found[0][:200] if found else type(error).__name__


def read_state_dict(path: Path) -> Mapping[str, "torch.Tensor"]:
    """Read the state dict (named tensors) of a safetensors or torch file.

    In a torch file it may be nested under `model_state_dict`, `state_dict` or `model`.

    Raises:
        EncoderError: The file cannot be read safely (see `read_torch`) or has no named tensors.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise EncoderError(
                f"{path}: is truncated or not a safetensors file ({_first_line(error)}); "
                "download it again"
            ) from error
    data = read_torch(path)
    for wrapper in WRAPPERS:
        if isinstance(data, Mapping) and isinstance(data.get(wrapper), Mapping):
            data = data[wrapper]
            break
    if not isinstance(data, Mapping) or not any(
        isinstance(value, torch.Tensor) for value in data.values()
    ):
        raise EncoderError(f"{path}: contains no named tensors; use the checkpoint of the model")
    return {str(k): v for k, v in data.items() if isinstance(v, torch.Tensor)}


def named_tensor(
    state: Mapping[str, "torch.Tensor"], layer: str, path: Path, dimensions: int = 2
) -> npt.NDArray[np.float32]:
    """Return one tensor of a state dict as float32.

    A name in the state dict may have a prefix from a wrapper, such as `module.` or `model.`.

    Raises:
        EncoderError: No tensor or several tensors match the name, or it has another number of
            dimensions.
    """
    found = [name for name in state if name == layer] or [
        name for name in state if name.endswith("." + layer)
    ]
    if len(found) != 1:
        near = suggest_nearest(layer, state)
        correction = "; correct `with.layer` or `with.norm`"
        what = "several layers match" if found else "there is no layer"
        raise EncoderError(f"{path}: {what} {layer!r}{near or correction}")
    tensor = state[found[0]]
    if tensor.dim() != dimensions:
        raise EncoderError(
            f"{path}: layer {found[0]!r} has shape {tuple(tensor.shape)}, "
            f"expected {dimensions} dimensions; correct `with.layer` or `with.norm`"
        )
    result: npt.NDArray[np.float32] = tensor.detach().float().numpy()
    return result


class _RestrictedUnpickler(pickle.Unpickler):
    """Unpickles dictionaries, lists, strings and numbers, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED_GLOBALS:
            return _ALLOWED_GLOBALS[module, name]
        raise EncoderError(
            f"reading the pickle would run {module}.{name}; nothing was executed. "
            "Use the published file"
        )


class _NumericDtype:
    """Replaces numpy's dtype while a pickle is read; allows only numeric types."""

    def __init__(self, code: str, *_flags: bool) -> None:
        if not isinstance(code, str) or code[:1] not in "biuf" or not code[1:].isdigit():
            raise EncoderError(f"the pickle contains values of type {code!r}, which is not numeric")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) > 1 and state[1] in {"<", ">"}:
            self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(dtype: _NumericDtype, content: bytes = b"") -> float | int | bool:
    """Return a number from its bytes, as numpy pickles it; never an object."""
    value: float | int | bool = np.frombuffer(content, dtype=dtype.dtype, count=1)[0].item()
    return value


_ALLOWED_GLOBALS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _NumericDtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain containers, strings and numbers, including those of numpy.

    Raises:
        EncoderError: The file is too large or truncated, asks for memory that it has no data for,
            or reading it would run code. No code of the file is run.
    """
    if path.stat().st_size > MAX_PICKLE_BYTES:
        raise EncoderError(
            f"{path}: is larger than {MAX_PICKLE_BYTES >> 30} GiB, the limit for a pickle; "
            "convert it to parquet or npz"
        )
    content = path.read_bytes()
    if has_sparse_memo(content):
        raise EncoderError(
            f"{path}: the pickle asks for more memory than it has data for, so it is damaged or "
            "malicious; download it again from its publisher"
        )
    try:
        return _RestrictedUnpickler(io.BytesIO(content)).load()
    except EncoderError as error:
        raise EncoderError(f"{path}: {error}") from None
    except Exception as error:
        raise EncoderError(
            f"{path}: is truncated or not a pickle ({_first_line(error)}); download it again"
        ) from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        EncoderError: The file is truncated or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise EncoderError(
            f"{path}: is truncated or not JSON ({_first_line(error)}); download it again"
        ) from error


def read_vocabulary(path: Path, key: str | None = None) -> dict[str, int]:
    """Read the vocabulary of an embedding table: token name to row number.

    Args:
        path: A JSON object or pickled dictionary of name to row; or a JSON list or text file with
            the names in the order of the rows, one per line.
        key: Entry of a JSON object that contains the names, such as `gene_list`; None if the file
            itself is the vocabulary.

    Raises:
        EncoderError: The file cannot be read, lacks the entry, or gives two names the same row.
    """
    data: Any
    if path.suffix in {".pkl", ".pickle"}:
        data = read_pickle(path)
    elif path.suffix == ".json":
        data = read_json(path)
    else:
        try:
            data = path.read_text().split()
        except UnicodeDecodeError as error:
            raise EncoderError(
                f"{path}: is no text with a name on each line ({error}); download it again"
            ) from error
    if key is not None:
        if not isinstance(data, dict) or key not in data:
            raise EncoderError(f"{path}: has no entry {key!r}; correct `with.vocabulary_key`")
        data = data[key]
    if isinstance(data, list) and all(isinstance(name, str) for name in data):
        data = {name: row for row, name in enumerate(data)}
    if not isinstance(data, dict) or not all(
        isinstance(name, str) and isinstance(row, int) for name, row in data.items()
    ):
        raise EncoderError(
            f"{path}: is not a mapping of name to row, or a list of names; "
            "correct `with.vocabulary_key` or the file"
        )
    if len(set(data.values())) != len(data):
        raise EncoderError(
            f"{path}: two names have the same row; download the published file again"
        )
    return data
