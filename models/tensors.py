"""Reads weights without torch: safetensors mapped from disk, and torch files through an unpickler that runs no code.

Formats: https://huggingface.co/docs/safetensors (u64 length, JSON header, raw tensors, little-endian) and torch's zip
of ``data.pkl`` with one raw file per storage.
"""

from __future__ import annotations

import collections
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import WeightsError

Array = NDArray[Any]
MAX_HEADER_BYTES = 100_000_000  # the format's own limit

_SAFE_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1"}
_TORCH_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


def read_safetensors(path: Path) -> dict[str, Array]:
    """Map a safetensors file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        Name → array. Arrays are read-only views of the file, but bfloat16 ones, which become float32 copies.

    Raises
    ------
    WeightsError
        If it is not a whole safetensors file.
    """
    try:
        whole: Array = np.memmap(path, np.uint8, "r")
        length = int.from_bytes(whole[:8].tobytes(), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, whole.size - 8):
            raise ValueError("no header")
        header = json.loads(whole[8 : 8 + length].tobytes())
        data = whole[8 + length :]
        return {name: _safe_tensor(data, entry) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """Write arrays (float32, float16, integers) as a safetensors file, names sorted."""
    kinds = {np.dtype(v): k for k, v in _SAFE_TYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in sorted(tensors):
        array = tensors[name]
        header[name] = {
            "dtype": kinds[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(tensors):
            file.write(np.ascontiguousarray(tensors[name]).data)


def read_torch(path: Path) -> dict[str, Array]:
    """Read the tensors of a torch file (``.pt``, ``.bin``) without torch and without running anything it names.

    Parameters
    ----------
    path : Path
        A zip written by ``torch.save`` of a state dict.

    Returns
    -------
    dict
        Name → array.

    Raises
    ------
    WeightsError
        If it is damaged, or its pickle asks for anything but plain tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
            folder = index.removesuffix("data.pkl")
            order = f"{folder}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise ValueError("big-endian")
            state = _TensorUnpickler(io.BytesIO(archive.read(index)), lambda key: archive.read(f"{folder}data/{key}"))
            loaded = state.load()
        if not isinstance(loaded, dict) or not all(isinstance(v, np.ndarray) for v in loaded.values()):
            raise ValueError("not a state dict")
        return {str(k): v for k, v in loaded.items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, StopIteration, EOFError, AttributeError) as error:
        raise _damaged(path, error) from error
    except (zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise _damaged(path, error) from error


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that knows three names and nothing else."""

    def __init__(self, file: io.BytesIO, storage: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Give stand-ins for the names a state dict needs; refuse the rest."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _TORCH_TYPES:
            return _TORCH_TYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Array:
        """Read one storage: ``('storage', type, key, device, size)``."""
        _, kind, key, _, _ = pid
        if not isinstance(kind, str) or not str(key).isdigit():
            raise pickle.UnpicklingError("a storage of another kind")
        raw = self._storage(str(key))
        return _widen(np.frombuffer(raw, "<u2")) if kind == "bf16" else np.frombuffer(raw, kind)


def _rebuild(storage: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Array:
    if len(size) != len(stride) or min((offset, *size, *stride), default=0) < 0:
        raise ValueError("a tensor of impossible shape")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.size:
        raise ValueError("a tensor longer than its storage")
    steps = tuple(s * storage.itemsize for s in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def _safe_tensor(data: Array, entry: dict[str, Any]) -> Array:
    start, stop = entry["data_offsets"]
    raw = data[start:stop]
    if raw.size != stop - start or start < 0:
        raise ValueError("a tensor outside the file")
    if entry["dtype"] == "BF16":
        return _widen(raw.view("<u2")).reshape(entry["shape"])
    return raw.view(_SAFE_TYPES[entry["dtype"]]).reshape(entry["shape"])


def _widen(halves: Array) -> Array:
    """Turn bfloat16 bits into float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path.name} cannot be used as weights: {error}.", cure="Fetch the model again and verify it.")
