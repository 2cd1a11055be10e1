"""DuckDB's write-ahead log, read and mended before DuckDB opens it.

A power cut can leave the end of the log torn or filled with zeros. DuckDB then either refuses to open or, where a
damaged length points beyond the file, silently drops everything after it. So the log is checked entry by entry first
and cut after its last whole transaction; what was cut is kept beside it and said. DuckDB's checksum is a plain XOR of
multiplied words: it misses damage that leaves that sum alone, such as two equal words turned to zeros.

The log of DuckDB 1.5 (version 2, not encrypted) is a header that names the database and its checkpoint, then entries:
size (8 bytes, little-endian), checksum (8), payload. A transaction ends with a flush entry. See
``src/storage/wal_replay.cpp`` and ``src/common/checksum.cpp`` at https://github.com/duckdb/duckdb.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

_VERSION = bytes.fromhex("640062650002")  # entry type 98, format version 2
_END = b"\xff\xff"
_HEADER = re.compile(
    re.escape(_VERSION)
    + rb"(?:\x66\x00\x10(?:[\x80-\xff]?[\x00-\x7f]){16})?"  # the database's identifier, 16 varints
    + rb"(?:\x67\x00[\x80-\xff]*[\x00-\x7f])?"  # its checkpoint's number, a varint
    + re.escape(_END),
    re.DOTALL,
)
_LONGEST_HEADER = 64
_FLUSH = bytes.fromhex("640064ffff")  # entry type 100: end of a transaction
_FRAME = struct.Struct("<QQ")
_MASK = (1 << 64) - 1
_MULTIPLIER = 0xBF58476D1CE4E5B9
_TAIL_MULTIPLIER = 0xC6A4A7935BD1E995
_TAIL_SEED = 0xE17A1465


def checksum(data: bytes) -> int:
    """Compute DuckDB's checksum of a log entry.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    int
        64 bits, unsigned.
    """
    whole = len(data) // 8 * 8
    words = np.frombuffer(data, dtype="<u8", count=whole // 8)
    result = 5381 ^ int(np.bitwise_xor.reduce(words * np.uint64(_MULTIPLIER), initial=np.uint64(0)))
    tail = data[whole:]
    if tail:
        mixed = _TAIL_SEED ^ (len(tail) * _TAIL_MULTIPLIER & _MASK)
        mixed = (mixed ^ int.from_bytes(tail, "little")) * _TAIL_MULTIPLIER & _MASK
        mixed = (mixed ^ mixed >> 47) * _TAIL_MULTIPLIER & _MASK
        result ^= mixed ^ mixed >> 47
    return result


@dataclass(frozen=True, slots=True)
class Extent:
    """What of a log is sound.

    Attributes
    ----------
    start : int
        Where its entries begin; 0 when none can be found.
    end : int
        Where its last whole transaction ends; ``start`` when there is none.
    has_header : bool
        Whether the header is sound.
    """

    start: int
    end: int
    has_header: bool


def measure(log: bytes) -> Extent:
    """Find the whole transactions of a log.

    Parameters
    ----------
    log : bytes
        The log file.

    Returns
    -------
    Extent
    """
    header = _HEADER.match(log)
    starts = [header.end()] if header else range(1, min(_LONGEST_HEADER, len(log)))
    start = next((at for at in starts if header or _entry(log, at)), 0)
    end = position = start
    while start and (payload := _entry(log, position)):
        position += _FRAME.size + len(payload)
        if payload == _FLUSH:
            end = position
    return Extent(start, end, header is not None)


def _entry(log: bytes, position: int) -> bytes:
    """Payload of the entry that begins here; empty when there is no sound one."""
    start = position + _FRAME.size
    if start > len(log):
        return b""
    size, stored = _FRAME.unpack_from(log, position)
    if size == 0 or size > len(log) - start:
        return b""
    payload = log[start : start + size]
    return payload if checksum(payload) == stored else b""


def heal(database: Path) -> list[str]:
    """Cut damaged ends off the database's logs; call before DuckDB opens the file, holding its lock.

    Parameters
    ----------
    database : Path
        The DuckDB file.

    Returns
    -------
    list of str
        What was done, for the operator; empty when nothing was needed.
    """
    notes = []
    for log in logs_of(database):
        if not database.exists():
            aside = set_aside(log)
            notes.append(
                f"{database.name} is missing but its log {log.name} was there, with rows that are not in the ledger; "
                f"the log is kept as {aside.name}. Restore the ledger from a backup."
            )
        else:
            notes += _mend(log)
    return notes


def logs_of(database: Path) -> list[Path]:
    """List the logs that hold something.

    Parameters
    ----------
    database : Path
        The DuckDB file.

    Returns
    -------
    list of Path
    """
    names = (".wal", ".wal.checkpoint", ".wal.recovery")
    logs = [database.with_name(database.name + name) for name in names]
    return [log for log in logs if log.exists() and log.stat().st_size]


def _mend(log: Path) -> list[str]:
    data = log.read_bytes()
    sound = measure(data)
    if sound.end == len(data) and sound.has_header:
        return []
    if not sound.has_header and data[: len(_VERSION) - 1] == _VERSION[:-1] and data[len(_VERSION) - 1] != _VERSION[-1]:
        return []  # another version of the format: not ours to cut
    keep = data[: sound.end] if sound.has_header else _VERSION + _END + data[sound.start : sound.end]
    if sound.end == sound.start:
        keep = b""
    lost = data[sound.end :].count(_FRAME.pack(len(_FLUSH), checksum(_FLUSH)) + _FLUSH)
    unfinished = sound.has_header and not lost  # the shape a kill or a power cut leaves
    aside = log.with_name(log.name + ".cut") if unfinished else _aside_name(log)
    aside.write_bytes(data[sound.end :] if unfinished else data)
    sync(aside)
    if sound.has_header:
        with log.open("r+b") as file:
            file.truncate(len(keep))
    else:
        fresh = log.with_name(log.name + ".mended")
        fresh.write_bytes(keep)
        sync(fresh)
        fresh.replace(log)
    sync(log)
    sync(log.parent)
    kept = f"{len(keep)} of the {len(data)} bytes of the ledger's log {log.name} are sound and kept"
    if unfinished:
        return [f"{kept}; it ended within a transaction that was never acknowledged (a kill or a power cut does this)."]
    if lost:
        return [f"{kept}; up to {lost} stored transaction(s) after the damage are lost. The original is {aside.name}."]
    if not keep:
        return [f"{kept}; what was stored since the last checkpoint is lost. The original is {aside.name}."]
    return [f"{kept}; only its header was damaged, nothing is lost. The original is {aside.name}."]


def set_aside(log: Path) -> Path:
    """Rename a log so that DuckDB does not see it.

    Parameters
    ----------
    log : Path

    Returns
    -------
    Path
        Its new name.
    """
    aside = _aside_name(log)
    log.rename(aside)
    sync(log.parent)
    return aside


def _aside_name(log: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    return log.with_name(f"{log.name}.damaged-{stamp}")


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power cut.

    Parameters
    ----------
    path : Path
        A file or a folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
