"""The index in service and those beside it: one being built for another embedder, one kept for going back.

A post that changes goes into the index in service and out of the others; whoever builds or goes back then finds it
missing and embeds it again. So nothing erased or edited can come back with an old index.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson
import structlog

from appliance.errors import StartupError
from appliance.index import Index
from appliance.schema import Chunk, PostKey, ReindexProgress
from appliance.vault import Vault
from models.ports import Embedder, EmbedderInfo, Vectors

CHOICE_FILE = "embedder.json"  # in the data folder
KEPT_IN_RAM = 0  # chunks of an index that answers nobody

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pair:
    """An embedder with the index of its vectors; a search reads both at once."""

    embedder: Embedder
    index: Index


@dataclass(frozen=True, slots=True)
class Choice:
    """Which embedder serves, as `postfinder reindex` left it.

    Attributes
    ----------
    configured : str
        The setting when the choice was made: a setting changed since then wins.
    card : str
        In service.
    beside : dict of str to int
        Cards of the indexes beside it, with their dimensions.
    previous : str
        Card to go back to; empty for none.
    """

    configured: str
    card: str
    beside: dict[str, int] = field(default_factory=dict)
    previous: str = ""


def read_choice(data_dir: Path, configured: str) -> Choice:
    """Read which embedder serves.

    Parameters
    ----------
    data_dir : Path
    configured : str
        Card named in the settings.

    Returns
    -------
    Choice

    Raises
    ------
    StartupError
        The file is damaged.
    """
    path = data_dir / CHOICE_FILE
    if not path.exists():
        return Choice(configured, configured)
    try:
        choice = Choice(**orjson.loads(path.read_bytes()))
    except (orjson.JSONDecodeError, TypeError) as error:
        raise StartupError(f"{path} cannot be read.", cure="Remove it: the embedder of the settings serves.") from error
    return choice if choice.configured == configured else Choice(configured, configured)


def write_choice(data_dir: Path, choice: Choice) -> None:
    """Write which embedder serves; durable on return, whole or not at all."""
    draft = data_dir / f"{CHOICE_FILE}.new"
    with draft.open("wb") as file:
        file.write(orjson.dumps(asdict(choice)))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(data_dir / CHOICE_FILE)
    folder = os.open(data_dir, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def folder_of(data_dir: Path, card: str) -> Path:
    """Return the folder of an embedder's index: its own once `reindex` made one, else the first one."""
    own = own_folder(data_dir, card)
    return own if own.exists() else data_dir / "index"


def own_folder(data_dir: Path, card: str) -> Path:
    """Return the folder that `reindex` makes for a card."""
    return data_dir / f"index-{re.sub(r'[^A-Za-z0-9_.-]', '_', card)}"


@dataclass(slots=True)
class Shelf:
    """The pair in service and the indexes beside it. Blocking, thread-safe.

    Attributes
    ----------
    now : Pair
        In service; replaced as a whole.
    beside : dict of str to Index
        By card; forget what changes, answer nobody.
    choice : Choice
        As written in the data folder.
    job : asyncio.Task, optional
        The running or last building.
    forget : callable
        Called after posts were removed: what was made of them goes too.
    """

    now: Pair
    data_dir: Path
    choice: Choice
    vault: Vault | None = None
    beside: dict[str, Index] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    stop: threading.Event = field(default_factory=threading.Event)
    job: asyncio.Task[None] | None = None
    progress: ReindexProgress | None = None
    forget: Callable[[], None] = lambda: None

    def open_beside(self) -> None:
        """Open the indexes that were beside at the last stop, so that they forget what changes."""
        for card, dim in self.choice.beside.items():
            folder = folder_of(self.data_dir, card)
            if folder.exists() and folder != self.now.index.folder:
                info = EmbedderInfo(card=card, dim=dim, max_tokens=0, engine="none")
                self.beside[card] = Index.open(folder, embedder=info, hot_limit=KEPT_IN_RAM, vault=self.vault)

    def open_for(self, embedder: Embedder) -> Index:
        """Open the index of an embedder beside, to be filled and to serve; known as such from now on."""
        card, dim = embedder.info.card, embedder.info.dim
        with self.lock:
            if (known := self.beside.pop(card, None)) is not None:
                known.close()
            folder = folder_of(self.data_dir, card)
            if folder == self.now.index.folder:
                folder = own_folder(self.data_dir, card)
            limit = self.now.index.hot_limit
            index = Index.open(folder, embedder=embedder.info, hot_limit=limit, vault=self.vault)
            self.beside[card] = index
            beside = {**self.choice.beside, card: dim}
            self.choice = Choice(self.choice.configured, self.choice.card, beside, self.choice.previous)
            write_choice(self.data_dir, self.choice)
        return index

    def switch(self, pair: Pair) -> None:
        """Put a pair in service; the one before stays beside, older ones go. The caller holds `lock`."""
        old, card = self.now.index, pair.embedder.info.card
        before = old.embedder
        choice = Choice(self.choice.configured, card, {before.card: before.dim}, before.card)
        write_choice(self.data_dir, choice)
        self.choice, self.now = choice, pair
        for name, index in list(self.beside.items()):
            del self.beside[name]
            if name not in {card, before.card}:
                index.close()
                shutil.rmtree(index.folder, ignore_errors=True)
        self.beside[before.card] = old

    def put(self, pair: Pair, posts: Sequence[PostKey], chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Put chunks in place of what these posts had.

        Parameters
        ----------
        pair : Pair
            Whose embedder made the vectors; if another serves by now, the chunks are embedded again.
        posts : sequence of (int, int)
        chunks : sequence of Chunk
        vectors : numpy.ndarray
            ``(len(chunks), dim)``.
        """
        with self.lock:
            for index in self.beside.values():
                index.remove(posts)
            now = self.now
            if now is not pair:
                vectors = now.embedder.embed_passages([chunk.text for chunk in chunks])
            now.index.replace(posts, chunks, vectors)

    def remove(self, posts: Sequence[PostKey]) -> None:
        """Drop posts from every index; gone from the disk after `compact`."""
        with self.lock:
            for index in (self.now.index, *self.beside.values()):
                index.remove(posts)
        self.forget()

    def compact(self) -> None:
        """Compact every index."""
        with self.lock:
            for index in (self.now.index, *self.beside.values()):
                index.compact()

    def version(self, channels: Iterable[int]) -> tuple[str, int]:
        """See `Index.version`, of the index in service."""
        return self.now.index.version(channels)

    def rarity(self, lemma: str) -> float:
        """Inverse document frequency of a lemma in the index in service, > 0."""
        return self.now.index.rarity(lemma)

    def authors(self, channels: Set[int]) -> frozenset[str]:
        """See `Index.authors`, of the index in service."""
        return self.now.index.authors(channels)

    def close(self) -> None:
        """Close every index."""
        with self.lock:
            for index in (self.now.index, *self.beside.values()):
                index.close()


@dataclass(frozen=True, slots=True)
class Writer:
    """What a flow that embeds writes through: the shelf, and the pair the flow began with."""

    shelf: Shelf
    pair: Pair

    def replace(self, posts: Sequence[PostKey], chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """See `Shelf.put`."""
        self.shelf.put(self.pair, posts, chunks, vectors)

    def remove(self, posts: Sequence[PostKey]) -> None:
        """See `Shelf.remove`."""
        self.shelf.remove(posts)

    def compact(self) -> None:
        """See `Shelf.compact`."""
        self.shelf.compact()

    def posts(self) -> set[PostKey]:
        """List the posts of the index in service."""
        return self.shelf.now.index.posts()

    def post_counts(self) -> dict[int, int]:
        """Count the posts of the index in service, by channel."""
        return self.shelf.now.index.post_counts()
