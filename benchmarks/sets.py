"""Search sets of the shared data, their chunks in a real index, and vectors remembered between runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
from numpy.typing import NDArray

from appliance.chunking import chunks_of
from appliance.index import Index
from appliance.ranking import Ranked
from appliance.schema import Post, PostKey
from appliance.text import clean, fingerprint, words
from benchmarks.results import ROOT, SHARED
from models.load import load_embedder
from models.ports import Embedder, Vectors

CACHE = ROOT / "weights" / "bench-cache"
SETS = ("telegram-search", "wiki-qa")
SAVE_EVERY = 512  # texts


@dataclass(frozen=True, slots=True)
class SearchSet:
    """Posts, questions and which posts answer them.

    Attributes
    ----------
    names : dict of (int, int) to str
        Document id of each post.
    queries : dict of str to str
        Text by query id.
    relevant : dict of str to frozenset of str
        Document ids by query id.
    """

    name: str
    posts: tuple[Post, ...]
    names: dict[PostKey, str]
    queries: dict[str, str]
    relevant: dict[str, frozenset[str]]


def documents_of(hits: Sequence[Ranked], search_set: SearchSet, query: str) -> list[str]:
    """Name the documents that ranked posts stand for.

    A folded group of reposts is one result: it stands for its relevant members, else for its first.

    Parameters
    ----------
    hits : sequence of Ranked
        Best first.
    search_set : SearchSet
    query : str
        Query id.

    Returns
    -------
    list of str
    """
    relevant = search_set.relevant[query]
    groups = [[search_set.names[key] for key in (hit.post, *hit.copies)] for hit in hits]
    return [name for group in groups for name in ([n for n in group if n in relevant] or group[:1])]


def read_lines(path: Path) -> list[dict[str, str]]:
    """Read a file of one JSON object a line."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def read_set(name: str, *, folder: Path = SHARED) -> SearchSet:
    """Read a search set.

    Parameters
    ----------
    name : str
        Folder of ``corpus.jsonl``, ``queries.jsonl`` and ``qrels.tsv``.
    folder : Path, optional

    Returns
    -------
    SearchSet
    """
    channels: dict[str, int] = {}
    posts: list[Post] = []
    names: dict[PostKey, str] = {}
    for number, line in enumerate(read_lines(folder / name / "corpus.jsonl"), start=1):
        _, _, message = line["id"].partition("/")
        post = Post(
            channel_id=channels.setdefault(line["channel"], len(channels) + 1),
            message_id=int(message) if message else number,
            date=datetime.fromisoformat(line["date"]) if "date" in line else datetime(2024, 1, 1, tzinfo=UTC),
            text=line["text"],
        )
        posts.append(post)
        names[post.key] = line["id"]
    relevant: dict[str, set[str]] = {}
    for row in (folder / name / "qrels.tsv").read_text("utf-8").splitlines():
        query, document, grade = row.split("\t")
        if int(grade) > 0:
            relevant.setdefault(query, set()).add(document)
    return SearchSet(
        name=name,
        posts=tuple(posts),
        names=names,
        queries={line["id"]: line["text"] for line in read_lines(folder / name / "queries.jsonl")},
        relevant={query: frozenset(documents) for query, documents in relevant.items()},
    )


def title_set(count: int = 600, *, folder: Path = SHARED, seed: int = 0) -> SearchSet:
    """Cut title → post pairs from the channels: the first line is the query, the rest of the post answers it.

    Parameters
    ----------
    count : int, optional
        Queries, drawn by `seed`.
    folder : Path, optional
    seed : int, optional

    Returns
    -------
    SearchSet
        Named ``titles``. Posts with equal rests count as one answer; posts without a title line stay whole.
    """
    whole = read_set("telegram-search", folder=folder)
    posts: list[Post] = []
    titles: dict[PostKey, str] = {}
    for post in whole.posts:
        text = clean(post.text)
        title, _, rest = text.partition("\n")
        letters = sum(letter.isalpha() for letter in title)
        if letters >= 20 and len(title) <= 150 and len(rest) >= 150 and len(words(title)) >= 4:
            posts.append(replace(post, text=rest.strip()))
            titles[post.key] = " ".join(_PLAIN_TITLE.sub(" ", title).split())
        else:
            posts.append(replace(post, text=text))
    copies: dict[int, set[str]] = {}
    for post in posts:
        copies.setdefault(fingerprint(post.text), set()).add(whole.names[post.key])
    marks = {post.key: fingerprint(post.text) for post in posts}
    # A title used many times ("Digest of the week") asks for nothing in particular.
    uses = Counter(title.casefold() for title in titles.values())
    eligible = [key for key, title in titles.items() if uses[title.casefold()] == 1]
    chosen = np.random.default_rng(seed).permutation(len(eligible))[:count]
    keys = [eligible[place] for place in sorted(chosen.tolist())]
    return SearchSet(
        name="titles",
        posts=tuple(posts),
        names=whole.names,
        queries={whole.names[key]: titles[key] for key in keys},
        relevant={whole.names[key]: frozenset(copies[marks[key]]) for key in keys},
    )


_PLAIN_TITLE = re.compile(r"[^\w\s.,:;?!«»\"'()/+#&%–—-]|#\w+|https?://\S+")


def open_questions(count: int, *, folder: Path = SHARED) -> list[str]:
    """Read questions that no set answers.

    Parameters
    ----------
    count : int
        At most this many of each of the two files.
    folder : Path, optional

    Returns
    -------
    list of str
    """
    files = ("rubq_dev.jsonl", "miracl_ru_train.jsonl")
    return [line["text"] for file in files for line in read_lines(folder / "questions-open" / file)[:count]]


class RememberingEmbedder:
    """An embedder that keeps its vectors in files, by text; the files go stale with the embedder and are then redone.

    Parameters
    ----------
    embedder : Embedder
    folder : Path, optional
    """

    def __init__(self, embedder: Embedder, folder: Path = CACHE) -> None:
        self._embedder = embedder
        self._folder = folder
        self.info = embedder.info
        folder.mkdir(parents=True, exist_ok=True)
        self._known = {kind: self._read(kind) for kind in ("queries", "passages")}

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions; returns ``(len(texts), dim)`` float32 rows of unit length."""
        return self._vectors("queries", texts)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed chunks of posts; returns ``(len(texts), dim)`` float32 rows of unit length."""
        return self._vectors("passages", texts)

    def _compute(self, kind: str, texts: Sequence[str]) -> Vectors:
        return self._embedder.embed_queries(texts) if kind == "queries" else self._embedder.embed_passages(texts)

    def _vectors(self, kind: str, texts: Sequence[str]) -> Vectors:
        known = self._known[kind]
        keys = [_key(text) for text in texts]
        unknown = sorted({key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items())
        unknown.sort(key=lambda pair: len(pair[1]))
        for start in range(0, len(unknown), SAVE_EVERY):
            part = unknown[start : start + SAVE_EVERY]
            known.update(zip([key for key, _ in part], self._compute(kind, [text for _, text in part]), strict=True))
            self._write(kind)
        return np.stack([known[key] for key in keys]) if keys else np.zeros((0, self.info.dim), np.float32)

    def _path(self, kind: str) -> Path:
        return self._folder / f"{self.info.card}-{self.info.engine}-{kind}.npz"

    def _read(self, kind: str) -> dict[bytes, NDArray[np.float32]]:
        """Read a file of vectors; nothing where it is absent or the embedder now says otherwise."""
        if not self._path(kind).exists():
            return {}
        with np.load(self._path(kind)) as stored:
            probe = str(stored["probe"])
            vectors = dict(zip((bytes(key) for key in stored["keys"]), stored["vectors"], strict=True))
        fresh = self._compute(kind, [probe])[0]
        return vectors if float(fresh @ vectors[_key(probe)]) > 0.9995 else {}

    def _write(self, kind: str) -> None:
        probe = "Как работает сборщик мусора?"
        known = self._known[kind]
        if _key(probe) not in known:
            known[_key(probe)] = self._compute(kind, [probe])[0]
        part = self._path(kind).with_suffix(".part.npz")
        keys = np.frombuffer(b"".join(known), np.uint8).reshape(len(known), 16)
        np.savez(part, probe=probe, keys=keys, vectors=np.stack(list(known.values())))
        part.replace(self._path(kind))


def _key(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def default_embedder() -> RememberingEmbedder:
    """Load the product's default embedder, remembering its vectors in ``weights/bench-cache``."""
    return RememberingEmbedder(load_embedder("multilingual-e5-small", weights_dir=ROOT / "weights"))


@contextmanager
def indexed(posts: Sequence[Post], embedder: Embedder) -> Iterator[Index]:
    """Put posts into a real index in a temporary folder.

    Parameters
    ----------
    posts : sequence of Post
    embedder : Embedder

    Yields
    ------
    Index
    """
    chunks = [chunk for post in posts for chunk in chunks_of(post)]
    vectors = embedder.embed_passages([chunk.text for chunk in chunks])
    with TemporaryDirectory() as folder:
        index = Index.open(Path(folder), embedder=embedder.info)
        try:
            index.replace([post.key for post in posts], chunks, vectors)
            yield index
        finally:
            index.close()
