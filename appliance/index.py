"""The index: LanceDB on disk is the durable truth, a hot tier in RAM answers. The only importer of LanceDB.

It can always be rebuilt from the ledger. A corpus beyond the hot tier's size is searched by LanceDB itself, through
the same `Index.candidates`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import RLock
from typing import IO, Any

import lancedb
import numpy as np
import pyarrow as pa
import structlog
from lancedb.index import FTS, BTree, IvfFlat

from appliance.chunk_rows import (
    contents_of,
    distinct,
    posts_condition,
    quoted,
    rows_of,
    scope_condition,
    table_schema,
    to_arrow,
    vectors_of,
)
from appliance.dense import Vectors
from appliance.errors import StartupError, StoreError
from appliance.hot import SAMPLE, HotTier, Scope
from appliance.ranking import Candidates
from appliance.schema import Chunk, PostKey
from appliance.text import lemmas as lemmas_of
from appliance.vault import Vault
from models.ports import EmbedderInfo

__all__ = ["Index", "Scope"]

FORMAT = 2  # of the table and of the text processing behind its lemmas: another number opens an empty table
HOT_LIMIT = 200_000  # chunks kept in RAM: about 1 GB at 384 dimensions, texts included
SETTLE_EVERY = 64  # commits between compactions
ERASE = timedelta(milliseconds=1)  # age from which old versions go: all but the newest
SEAL_AT_ONCE = 10_000  # rows of an unsealed table sealed together
AUTHORS_KEPT = 256  # sets of channels whose authors are remembered
KEYS_AT_ONCE = 500  # post keys in one SQL condition

log = structlog.get_logger()


class Index:
    """Chunks with their vectors and lemmas. Blocking, thread-safe; one process owns the folder.

    Use `Index.open`.

    Attributes
    ----------
    folder : Path
    embedder : EmbedderInfo
    hot_limit : int
        Most chunks kept in RAM.
    """

    def __init__(
        self, folder: Path, embedder: EmbedderInfo, hot_limit: int, lock: IO[bytes], vault: Vault | None = None
    ) -> None:
        self.folder = folder
        self.embedder = embedder
        self.hot_limit = hot_limit
        self._owner = lock
        self._vault = vault
        self._writing = RLock()
        self._commits = 0
        self._synced: set[str] = set()
        self._changes: Counter[int] = Counter()  # by channel, since the start
        self._named: dict[frozenset[int], tuple[tuple[str, int], frozenset[str]]] = {}  # authors by channels
        kind = "sealed" if vault else "plain"  # never in one table
        name = f"chunks-{FORMAT}-{kind}-{re.sub(r'[^A-Za-z0-9_.-]', '_', embedder.card)}-{embedder.dim}"
        self._path = folder / f"{name}.lance"
        with _store_errors():
            for aside in (*folder.glob("*.torn-*"), *folder.glob("*.damaged-*")):  # of an earlier start
                shutil.rmtree(aside)
            self._set_aside_if_torn()
            try:
                self._open_table(name)
            except Exception as damaged:  # what Lance reads, or a sealed value: those of the ledger were opened before
                if _is_refused_by_the_system(damaged):  # no room, no right, no memory: nothing is set aside for it
                    raise
                self._set_aside("damaged", f"{type(damaged).__name__}: {str(damaged)[:200]}")
                self._open_table(name)
        self._sync()

    @classmethod
    def open(
        cls, folder: Path, *, embedder: EmbedderInfo, hot_limit: int = HOT_LIMIT, vault: Vault | None = None
    ) -> Index:
        """Open or create the index of an embedder and load the hot tier.

        Parameters
        ----------
        folder : Path
            Made if absent; one embedder's vectors never mix with another's.
        embedder : EmbedderInfo
            Whose vectors these are.
        hot_limit : int, optional
            Most chunks kept in RAM; a larger corpus is searched by LanceDB.
        vault : Vault, optional
            Seals texts; words and authors become names that say nothing, which LanceDB can still search.

        Returns
        -------
        Index

        Raises
        ------
        StartupError
            Another process has the folder open.
        StoreError
            LanceDB cannot read it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "LOCK").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise StartupError(
                f"The index in {folder} is in use by another process.",
                cure="Stop the other PostFinder, or talk to it over HTTP.",
            ) from None
        try:
            return cls(folder, embedder, hot_limit, lock, vault)
        except BaseException:
            lock.close()
            raise

    def close(self) -> None:
        """Release the folder; harmless twice."""
        with self._writing:
            if not self._owner.closed:
                self._table.close() if hasattr(self._table, "close") else None
                self._owner.close()

    def copy_to(self, target: Path) -> None:
        """Copy the table between two commits: links to its data, which never change, and copies of the small rest.

        Parameters
        ----------
        target : Path
            Folder to make; on another disk all is copied.
        """
        with self._writing:
            shutil.copytree(self._path, target / self._path.name, copy_function=_linked)

    def replace(self, posts: Sequence[PostKey], chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Put chunks in place of all that these posts had; durable on return. Doing it again changes nothing.

        Parameters
        ----------
        posts : sequence of (int, int)
            Posts whose old chunks go, those of `chunks` included; a post without chunks ends with none.
        chunks : sequence of Chunk
        vectors : numpy.ndarray
            ``(len(chunks), dim)`` float32 unit rows.

        Raises
        ------
        StoreError
            LanceDB could not commit; nothing changed in RAM.
        ValueError
            Shapes or posts do not match.
        """
        if vectors.shape != (len(chunks), self.embedder.dim):
            raise ValueError(f"expected vectors of shape {(len(chunks), self.embedder.dim)}, got {vectors.shape}")
        keys = set(posts)
        if not keys.issuperset((chunk.channel_id, chunk.message_id) for chunk in chunks):
            raise ValueError("a chunk's post is not among the replaced posts")
        if not posts:
            return
        lemmas = [lemmas_of(chunk.text) for chunk in chunks]
        rows = to_arrow(chunks, lemmas, vectors, self.embedder.dim, self._vault)
        with self._writing, _store_errors():
            if self._is_hot and not any(key in self._tier for key in keys):
                if len(chunks):
                    self._table.add(rows)
            else:
                # One commit takes out what the posts had and puts in what they have.
                merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
                merge.when_not_matched_by_source_delete(posts_condition(posts)).execute(rows)
            self._sync()
            if self._is_hot:
                self._tier.replace(posts, chunks, lemmas, vectors)
            self._changes.update({channel for channel, _ in keys})
            self._after_commit()

    def remove(self, posts: Sequence[PostKey]) -> None:
        """Drop the chunks of posts; durable on return, unknown posts are passed over.

        Gone from every search at once; gone from the disk after `compact`.

        Parameters
        ----------
        posts : sequence of (int, int)
        """
        with self._writing, _store_errors():
            present = [key for key in dict.fromkeys(posts) if not self._is_hot or key in self._tier]
            for start in range(0, len(present), KEYS_AT_ONCE):
                self._table.delete(posts_condition(present[start : start + KEYS_AT_ONCE]))
            self._sync()
            self._tier.remove(present)
            self._changes.update({channel for channel, _ in posts})
            if present:
                self._after_commit()

    def candidates(self, vector: Vectors, query_lemmas: Sequence[str], *, scope: Scope, n: int = 100) -> Candidates:
        """Find the best chunks by vector and by words, inside the scope.

        Parameters
        ----------
        vector : numpy.ndarray
            ``(dim,)`` float32 unit vector of the query.
        query_lemmas : sequence of str
            `appliance.text.lemmas` of the query.
        scope : Scope
            Rights and filters, applied before ranking.
        n : int, optional
            Length of each of the two lists.

        Returns
        -------
        Candidates
        """
        if self._is_hot:
            return self._tier.candidates(vector, query_lemmas, scope=scope, n=n)
        with _store_errors():
            return self._cold_candidates(vector, query_lemmas, scope, n)

    def version(self, channels: Iterable[int]) -> tuple[str, int]:
        """Tell whether anything changed: equal versions mean the same posts.

        Parameters
        ----------
        channels : iterable of int
            Whose posts matter.

        Returns
        -------
        (str, int)
            The embedder's card and the number of changes since the start.
        """
        return self.embedder.card, sum(self._changes[channel] for channel in channels)

    def rarity(self, lemma: str) -> float:
        """Inverse document frequency of a lemma, > 0; every lemma weighs the same beyond the hot tier.

        Parameters
        ----------
        lemma : str

        Returns
        -------
        float
        """
        return self._tier.rarity(lemma) if self._is_hot else 1.0

    def count(self, lemma: str, channels: Set[int]) -> int:
        """Count the chunks of these channels that have a lemma, as far as RAM holds them.

        Parameters
        ----------
        lemma : str
        channels : set of int
            The asker's; a word of other channels counts as unknown.

        Returns
        -------
        int
        """
        return self._tier.count(lemma, channels)

    def near(self, word: str, channels: Set[int]) -> list[tuple[str, float]]:
        """Find words of these channels that look like a word, as far as RAM holds them.

        Parameters
        ----------
        word : str
        channels : set of int

        Returns
        -------
        list of (str, float)
            At most four, with their likeness in [0.5, 1].
        """
        return self._tier.near(word, channels)

    def authors(self, channels: Set[int]) -> frozenset[str]:
        """Collect the authors of these channels' posts, as far as RAM holds them; remembered until a post changes.

        Parameters
        ----------
        channels : set of int

        Returns
        -------
        frozenset of str
        """
        place, version = frozenset(channels), self.version(channels)
        known = self._named.get(place)
        if known is None or known[0] != version:
            if len(self._named) >= AUTHORS_KEPT:
                self._named.clear()
            known = self._named[place] = (version, self._tier.authors(channels))
        return known[1]

    def post_counts(self) -> dict[int, int]:
        """Count posts that have chunks, by channel id (to reconcile with the ledger).

        Returns
        -------
        dict of int to int
        """
        if self._is_hot:
            return self._tier.post_counts()
        with _store_errors():
            table = self._table.search().where("ordinal = 0").select(["channel_id"]).to_arrow()
            return dict(Counter(table["channel_id"].to_pylist()))

    def posts(self) -> set[PostKey]:
        """List the posts that have chunks.

        Returns
        -------
        set of (int, int)
        """
        with _store_errors():
            table = self._table.search().where("ordinal = 0").select(["channel_id", "message_id"]).to_arrow()
        return set(zip(table["channel_id"].to_pylist(), table["message_id"].to_pylist(), strict=True))

    def __len__(self) -> int:
        """Count chunks."""
        return len(self._tier) if self._is_hot else int(self._table.count_rows())

    def compact(self) -> None:
        """Join small files, drop old versions (what was removed leaves the disk), refresh LanceDB's own indexes."""
        self._compact(ERASE)

    def _compact(self, keep: timedelta) -> None:
        with self._writing, _store_errors():
            self._index_columns()
            self._table.optimize(cleanup_older_than=keep, delete_unverified=True)
            self._sync()
            self._commits = 0

    def _take_over(self, database: Any, name: str) -> None:
        """Seal into an empty table what an unsealed one of the same embedder holds; remove every unsealed one."""
        if self._vault is None:
            return
        gone = [int(owner.split(":")[1]) for owner in self._vault.gone("channel:")]
        if gone and self._table.count_rows(condition := f"channel_id IN ({', '.join(map(str, gone))})"):
            self._table.delete(condition)
            self._table.optimize(cleanup_older_than=ERASE, delete_unverified=True)
        plain = [path for path in self.folder.glob("chunks-*") if "-sealed-" not in path.name]
        if not plain:
            return
        suffix = name.split("-sealed-")[1]
        olds = {f"chunks-{FORMAT}-plain-{suffix}.lance", f"chunks-1-{suffix}.lance"}
        for path in plain:
            if path.name in olds and not self._table.count_rows():
                old = database.open_table(path.stem)
                total = old.count_rows()
                for start in range(0, total, SEAL_AT_ONCE):
                    places = list(range(start, min(start + SEAL_AT_ONCE, total)))
                    part = old.take_offsets(places).to_arrow().combine_chunks()
                    rows = rows_of(part, None)
                    chunks, lemmas = [chunk for chunk, _ in rows], [words for _, words in rows]
                    vectors = vectors_of(part, self.embedder.dim)
                    self._table.add(to_arrow(chunks, lemmas, vectors, self.embedder.dim, self._vault))
                self._sync()
                log.info("index_sealed", chunks=total)
        for path in plain:
            shutil.rmtree(path)

    def _blind(self, kind: str, words: Sequence[str]) -> list[str]:
        return list(words) if self._vault is None else [self._vault.blind(kind, word) for word in words]

    # --- inside -----------------------------------------------------------------------------------------------------

    def _open_table(self, name: str) -> None:
        database = lancedb.connect(self.folder)
        self._table: Any = database.create_table(name, schema=table_schema(self.embedder.dim), exist_ok=True)
        self._take_over(database, name)
        self._is_hot = self._table.count_rows() <= self.hot_limit
        self._tier = self._load()

    def _load(self) -> HotTier:
        """Fill the hot tier; of a corpus beyond it, a sample that knows what is usual."""
        tier = HotTier(self.embedder.dim)
        if self._is_hot:
            _fill(tier, self._table.to_arrow(), self._vault)
        else:
            total = self._table.count_rows()
            places = np.unique(np.linspace(0, total - 1, SAMPLE).astype(np.int64)).tolist()
            _fill(tier, self._table.take_offsets(places).to_arrow(), self._vault)
        return tier

    def _after_commit(self) -> None:
        """Compact now and then; leave RAM when the corpus has outgrown it."""
        self._commits += 1
        if self._is_hot and len(self._tier) > self.hot_limit:
            log.info("index_outgrew_ram", chunks=len(self._tier), hot_limit=self.hot_limit)
            self.compact()
            self._is_hot = False
            self._tier = self._load()
        elif self._commits >= SETTLE_EVERY:
            # A search by LanceDB may still be reading the version before.
            self._compact(ERASE if self._is_hot else timedelta(minutes=10))

    def _index_columns(self) -> None:
        """Make the indexes that LanceDB needs to search by itself, once the corpus is large."""
        rows = self._table.count_rows()
        if rows <= self.hot_limit or rows < 256:
            return
        present = {column for index in self._table.list_indices() for column in index.columns}
        if "lemmas" not in present:
            words = FTS(
                language="Russian",
                base_tokenizer="whitespace",
                stem=False,
                remove_stop_words=False,
                ascii_folding=False,
            )
            self._table.create_index("lemmas", config=words)
        if "channel_id" not in present:
            self._table.create_index("channel_id", config=BTree())
        if "vector" not in present:
            self._table.create_index("vector", config=IvfFlat(distance_type="cosine"))

    def _cold_candidates(self, vector: Vectors, query_lemmas: Sequence[str], scope: Scope, n: int) -> Candidates:
        """Ask LanceDB for both lists, then for the missing scores of their union."""
        condition = scope_condition(scope, self._vault)
        near = self._table.search(vector, vector_column_name="vector").distance_type("cosine").nprobes(32)
        by_vector = near.where(condition, prefilter=True).limit(n).to_arrow()
        terms = " ".join(self._blind("lemma", list(dict.fromkeys(query_lemmas))))

        def by_words(where: str) -> pa.Table:
            query = self._table.search(terms, query_type="fts", fts_columns="lemmas")
            return query.where(where, prefilter=True).limit(n).to_arrow()

        found = by_words(condition) if terms else by_vector.slice(0, 0)
        lexical = dict(zip(found["id"].to_pylist(), found["_score"].to_pylist(), strict=True)) if terms else {}
        unscored = [key for key in by_vector["id"].to_pylist() if key not in lexical]
        if terms and unscored:
            extra = by_words(f"id IN ({', '.join(map(quoted, unscored))})")
            lexical.update(zip(extra["id"].to_pylist(), extra["_score"].to_pylist(), strict=True))
        union = distinct(pa.concat_tables([by_vector, found], promote_options="default"))
        opened = contents_of(union, self._vault)
        coverage, rarity = self._tier.judge(query_lemmas, [words for _, words, _ in opened])
        usual = self._tier.candidates(vector, query_lemmas, scope=Scope(), n=1)
        dates = union["date_us"].to_numpy()
        return Candidates(
            posts=list(zip(union["channel_id"].to_pylist(), union["message_id"].to_pylist(), strict=True)),
            ordinals=union["ordinal"].to_numpy(),
            dates=dates,
            fingerprints=union["fingerprint"].to_numpy(),
            texts=[text for text, _, _ in opened],
            dense=vectors_of(union, self.embedder.dim) @ vector,
            lexical=np.array([lexical.get(key, 0.0) for key in union["id"].to_pylist()], np.float32),
            coverage=coverage,
            rarity=rarity,
            idf=usual.idf,
            dense_mean=usual.dense_mean,
            dense_std=usual.dense_std,
            asks=usual.asks,
            n_posts=int(self._table.count_rows(f"({condition}) AND ordinal = 0")),
            newest=int(dates.max()) if len(dates) else None,
        )

    def _sync(self) -> None:
        """Force new files and their folders to disk: LanceDB does not, and a lost manifest reads as an empty table."""
        folders = set()
        for path, _, names in os.walk(self._path):
            for name in names:
                file = os.path.join(path, name)
                if file not in self._synced:
                    _fsync(file)
                    self._synced.add(file)
                    folders.add(path)
        for folder in folders:
            _fsync(folder)
        if folders:
            _fsync(str(self._path))
            _fsync(str(self.folder))

    def _set_aside_if_torn(self) -> None:
        """Move a table with a blank manifest away (a power cut's shape): it would open with no rows and no error."""
        manifests = list((self._path / "_versions").glob("*.manifest"))
        if any(not file.read_bytes().strip(b"\0") for file in manifests):
            self._set_aside("torn", "a blank manifest")

    def _set_aside(self, how: str, why: str) -> None:
        aside = self._path.with_name(f"{self._path.stem}.{how}-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        self._path.rename(aside)
        cure = "the index is rebuilt from the ledger; the next start removes what was moved"
        log.error(f"index_{how}", what=why, moved_to=aside.name, cure=cure)


def tables_in(folder: Path) -> dict[str, int]:
    """Count the chunks of an index nobody has open, by table, changing nothing.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    dict of str to int
        A table that cannot be read counts none.
    """
    found = {}
    database = lancedb.connect(folder)
    for path in sorted(folder.glob("*.lance")):
        try:
            found[path.stem] = database.open_table(path.stem).count_rows()
        except (OSError, RuntimeError, ValueError):
            found[path.stem] = 0
    return found


@contextmanager
def _store_errors() -> Iterator[None]:
    """Name LanceDB's failures as ours."""
    try:
        yield
    except (OSError, RuntimeError, pa.ArrowException) as error:
        raise StoreError(
            f"The index could not do its work: {type(error).__name__}: {str(error)[:200]}",
            cure="Check disk space and rights; if it persists, delete the index folder: it is rebuilt from the ledger.",
        ) from error


def _is_refused_by_the_system(error: Exception) -> bool:
    """Whether the operating system did not let a file be read; one that is missing counts as damage."""
    if isinstance(error, MemoryError):
        return True
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (said := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(said[1])
    return number not in (None, errno.ENOENT)


def _linked(source: str, target: str) -> None:
    if Path(source).suffix == ".lance":
        with suppress(OSError):  # another disk, or one without links
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def _fsync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fill(tier: HotTier, table: pa.Table, vault: Vault | None) -> None:
    """Add the rows of a table to a tier."""
    table = table.combine_chunks()
    if not table.num_rows:
        return
    rows = rows_of(table, vault)
    tier.add([chunk for chunk, _ in rows], [lemmas for _, lemmas in rows], vectors_of(table, tier.dim))
