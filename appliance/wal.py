"""DuckDB's write-ahead log, read and mended before DuckDB opens it.

A power cut can leave the end of the log torn or filled with zeros. DuckDB then either refuses to open or, where a
damaged length points beyond the file, silently drops everything after it. So the log is checked entry by entry first
and cut after its last whole transaction; the damaged original is kept beside it, and what was cut is said.

The log of DuckDB 1.5 (version 2, not encrypted) is an 8-byte header, then entries: size (8 bytes, little-endian),
checksum (8), payload. A transaction ends with a flush entry. See ``src/storage/wal_replay.cpp`` and
``src/common/checksum.cpp`` at https://github.com/duckdb/duckdb.
"""

from __future__ import annotations

import os
import shutil
import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

_HEADER = bytes.fromhex("640062650002ffff")  # entry type 98: format version; version 2
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


def whole_transactions(log: bytes) -> int:
    """Find where the last whole transaction of a log ends, whatever its header says.

    Parameters
    ----------
    log : bytes
        The log file.

    Returns
    -------
    int
        Number of bytes worth keeping: ``len(log)`` when every entry is sound, 8 or less when none is.
    """
    good = position = len(_HEADER)
    while position + _FRAME.size <= len(log):
        size, stored = _FRAME.unpack_from(log, position)
        start = position + _FRAME.size
        if size == 0 or size > len(log) - start:
            break
        payload = log[start : start + size]
        if checksum(payload) != stored:
            break
        position = start + size
        if payload == _FLUSH:
            good = position
    return min(good, len(log))


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
    head = data[: len(_HEADER)]
    if head != _HEADER and head.startswith(_HEADER[:5]):
        return []  # another version of the format: not ours to cut
    good = whole_transactions(data)
    if good == len(data) and head == _HEADER:
        return []
    empty = good <= len(_HEADER)
    kept = _aside_name(log)
    shutil.copyfile(log, kept)
    sync(kept)
    with log.open("r+b") as file:
        if not empty:
            file.write(_HEADER)
        file.truncate(0 if empty else good)
    sync(log)
    sync(log.parent)
    lost = data[good:].count(_FRAME.pack(len(_FLUSH), checksum(_FLUSH)) + _FLUSH)
    return [
        f"The ledger's log {log.name} was damaged (a power cut does this): {0 if empty else good} of its {len(data)} "
        f"bytes were sound and are kept, the original is {kept.name}. "
        + (
            f"Up to {lost} stored transaction(s) after the damage could not be read back."
            if lost
            else "What was cut off was never acknowledged."
        )
    ]


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
