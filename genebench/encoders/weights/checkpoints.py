"""Reading published checkpoints safely: no file is ever allowed to run code.

Torch files are read with `weights_only`, everything else as safetensors, JSON or a pickle whose
only permitted contents are plain dictionaries, lists, strings and numbers.
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

from genebench.encoders.declaration import describe_near
from genebench.errors import EncoderError

if TYPE_CHECKING:
    import torch

WRAPPERS = ("model_state_dict", "state_dict", "model")
MAX_PICKLE_BYTES = 1 << 30


def read_torch(path: Path) -> Any:
    """Read a torch file without running any of its code.

    Besides tensors and plain containers only `argparse.Namespace` is let in: fair-esm keeps the
    model's sizes in one.

    Raises:
        EncoderError: The file is truncated, no torch file, or holds something that would have to
            be executed.
    """
    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported operand" in str(error):
            raise EncoderError(
                f"{path}: the checkpoint wants to run code when it is read "
                f"({_first_line(error, 'GLOBAL')}); nothing was executed. Use the published file"
            ) from None
        raise EncoderError(f"{path}: is no torch checkpoint ({_first_line(error)})") from None
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
            f"{path}: is truncated or no torch checkpoint ({_first_line(error)}); fetch it again"
        ) from error


def _first_line(error: BaseException, marked: str = "") -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = [line for line in lines if marked and marked in line] or lines
    return found[0][:200] if found else type(error).__name__


def read_state(path: Path) -> Mapping[str, "torch.Tensor"]:
    """Read the named tensors of a checkpoint, from safetensors or a torch file.

    A torch file may keep them under `model_state_dict`, `state_dict` or `model`.

    Raises:
        EncoderError: As `read_torch`, or there are no named tensors in it.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise EncoderError(
                f"{path}: is truncated or no safetensors file ({_first_line(error)}); "
                "fetch it again"
            ) from error
    data = read_torch(path)
    for wrapper in WRAPPERS:
        if isinstance(data, Mapping) and isinstance(data.get(wrapper), Mapping):
            data = data[wrapper]
            break
    if not isinstance(data, Mapping) or not any(
        isinstance(value, torch.Tensor) for value in data.values()
    ):
        raise EncoderError(f"{path}: holds no named tensors; is it the model's checkpoint?")
    return {str(k): v for k, v in data.items() if isinstance(v, torch.Tensor)}


def pick_layer(
    state: Mapping[str, "torch.Tensor"], layer: str, path: Path, dimensions: int = 2
) -> npt.NDArray[np.float32]:
    """One tensor of a checkpoint by its published name, as float32.

    A prefix that a wrapper added to every name (`module.`, `model.`) is seen through.

    Raises:
        EncoderError: No tensor has that name, several do, or it has another number of axes.
    """
    found = [name for name in state if name == layer] or [
        name for name in state if name.endswith("." + layer)
    ]
    if len(found) != 1:
        near = describe_near(layer, state)
        what = "several layers end" if found else "there is no layer"
        raise EncoderError(f"{path}: {what} {layer!r}{near}")
    tensor = state[found[0]]
    if tensor.dim() != dimensions:
        raise EncoderError(
            f"{path}: layer {found[0]!r} has shape {tuple(tensor.shape)}, "
            f"expected {dimensions} axes"
        )
    result: npt.NDArray[np.float32] = tensor.detach().float().numpy()
    return result


class _PlainUnpickler(pickle.Unpickler):
    """Builds dictionaries, lists, strings and numbers; refuses to look up anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        raise EncoderError(
            f"the pickle wants to run {module}.{name}; nothing was executed. Use the published file"
        )


class _PlainDtype:
    """Stands for numpy's dtype while a pickle is read: a kind of number and its byte order."""

    def __init__(self, code: str, *_flags: bool) -> None:
        if not isinstance(code, str) or code[:1] not in "biuf" or not code[1:].isdigit():
            raise EncoderError(f"the pickle holds numbers of type {code!r}, which is not plain")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) > 1 and state[1] in {"<", ">"}:
            self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(dtype: _PlainDtype, content: bytes = b"") -> float | int | bool:
    """One number as numpy pickles it; never an object."""
    value: float | int | bool = np.frombuffer(content, dtype=dtype.dtype, count=1)[0].item()
    return value


_PLAIN: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _PlainDtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain containers, strings and numbers (numpy's included).

    Raises:
        EncoderError: The file is truncated or would run code; nothing of it is executed.
    """
    if path.stat().st_size > MAX_PICKLE_BYTES:
        raise EncoderError(f"{path}: is larger than a dictionary of genes can be")
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except EncoderError as error:
        raise EncoderError(f"{path}: {error}") from None
    except Exception as error:
        raise EncoderError(
            f"{path}: is truncated or no pickle ({_first_line(error)}); fetch it again"
        ) from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        EncoderError: The file is truncated or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise EncoderError(
            f"{path}: is truncated or no JSON ({_first_line(error)}); fetch it again"
        ) from error


def read_vocabulary(path: Path, key: str | None = None) -> dict[str, int]:
    """Read which row of a table belongs to which name.

    Args:
        path: A JSON object or a pickled dictionary of name to row, a JSON list, or a text file
            with one name a line (rows in their order).
        key: Entry of a JSON object that holds the names, such as `gene_list` of a configuration.

    Raises:
        EncoderError: The file cannot be read, the entry is missing, or rows repeat.
    """
    data: Any
    if path.suffix in {".pkl", ".pickle"}:
        data = read_pickle(path)
    elif path.suffix == ".json":
        data = read_json(path)
    else:
        data = path.read_text().split()
    if key is not None:
        if not isinstance(data, dict) or key not in data:
            raise EncoderError(f"{path}: has no entry {key!r}")
        data = data[key]
    if isinstance(data, list):
        data = {name: row for row, name in enumerate(data)}
    if not isinstance(data, dict) or not all(
        isinstance(name, str) and isinstance(row, int) for name, row in data.items()
    ):
        raise EncoderError(f"{path}: does not say which row belongs to which name")
    if len(set(data.values())) != len(data):
        raise EncoderError(f"{path}: two names share one row")
    return data
