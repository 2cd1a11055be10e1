"""One backup in one file: a sealed tar that begins with the list of its files, their sizes and digests."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import orjson

from appliance.errors import BadInput, StoreError
from appliance.sealed_file import OTHER_COPY, SealedReader, SealedWriter

SUFFIX = ".pfbackup"
MANIFEST = "manifest.json"
MOST_MANIFEST = 64 << 20  # bytes
BLOCK = 1 << 20


def pack(files: Mapping[str, Path], about: Mapping[str, Any], target: Path, *, key: bytes, vault_id: bytes) -> int:
    """Write a backup, whole and on disk or not at all.

    Parameters
    ----------
    files : mapping of str to Path
        Files by their name in the backup, with ``/``.
    about : mapping
        JSON-ready; kept in the manifest.
    target : Path
        The file to write.
    key, vault_id : bytes
        See `SealedWriter`.

    Returns
    -------
    int
        Bytes written.
    """
    listed: dict[str, dict[str, Any]] = {
        name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for name, path in sorted(files.items())
    }
    manifest = orjson.dumps({**about, "files": listed}, option=orjson.OPT_NON_STR_KEYS)
    draft = target.with_name(f"{target.name}.new")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            sealed = SealedWriter(file, key, vault_id)
            with tarfile.open(fileobj=cast("IO[bytes]", sealed), mode="w|", bufsize=BLOCK) as tar:
                tar.addfile(_entry(MANIFEST, len(manifest)), io.BytesIO(manifest))
                for name, entry in listed.items():
                    with files[name].open("rb") as content:
                        tar.addfile(_entry(name, entry["bytes"]), content)
            sealed.finish()
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
    return target.stat().st_size


def unpack(backup: Path, folder: Path | None, *, key: bytes, vault_id: bytes) -> dict[str, Any]:
    """Read a backup whole, comparing every digest.

    Parameters
    ----------
    backup : Path
    folder : Path, optional
        An empty folder for its files, made as needed; each is on disk on return. None only compares.
    key, vault_id : bytes
        See `SealedReader`.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    StoreError
        Another vault's, damaged, cut off, or not what its list says.
    """
    try:
        with backup.open("rb") as file:
            sealed = SealedReader(file, key, vault_id)
            with tarfile.open(fileobj=cast("IO[bytes]", sealed), mode="r|", bufsize=BLOCK) as tar:
                manifest = _manifest(tar)
                missing = dict(manifest["files"])
                while (entry := tar.next()) is not None:
                    _take(tar, entry, missing, folder)
            while sealed.read(BLOCK):
                pass  # to the end: a file that was cut off says so only there
    except tarfile.TarError as error:
        raise StoreError("The backup holds no readable list of files.", cure=OTHER_COPY) from error
    except FileNotFoundError as error:
        raise BadInput(f"There is no backup {backup}.", cure="Name an existing file.") from error
    if missing:
        raise StoreError(f"The backup lacks {len(missing)} of its files.", cure=OTHER_COPY)
    return manifest


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _manifest(tar: tarfile.TarFile) -> dict[str, Any]:
    first = tar.next()
    content = tar.extractfile(first) if first is not None and first.isreg() and first.size <= MOST_MANIFEST else None
    if first is None or content is None or first.name != MANIFEST:
        raise StoreError("The backup does not begin with its list of files.", cure=OTHER_COPY)
    manifest: dict[str, Any] = orjson.loads(content.read())
    for name in manifest["files"]:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise StoreError(f"The backup names a file outside of its folder: {name[:80]!r}.", cure=OTHER_COPY)
    return manifest


def _take(tar: tarfile.TarFile, entry: tarfile.TarInfo, missing: dict[str, Any], folder: Path | None) -> None:
    expected = missing.pop(entry.name, None)
    content = tar.extractfile(entry) if entry.isreg() else None
    if expected is None or content is None or entry.size != expected["bytes"]:
        raise StoreError(f"The backup's file {entry.name[:80]!r} is not the one of its list.", cure=OTHER_COPY)
    digest = hashlib.sha256()
    target: IO[bytes] | None = None
    if folder is not None:
        path = folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    try:
        while block := content.read(BLOCK):
            digest.update(block)
            if target is not None:
                target.write(block)
        if target is not None:
            target.flush()
            os.fsync(target.fileno())
    finally:
        if target is not None:
            target.close()
    if digest.hexdigest() != expected["sha256"]:
        raise StoreError(f"The backup's file {entry.name[:80]!r} has another digest than listed.", cure=OTHER_COPY)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
