"""The ledger: people, channels, posts, questions, feedback, settings and events, in DuckDB through SQLAlchemy Core.

Blocking and thread-safe. One process owns the file, one thread inside writes (waiting writes share a transaction, so a
busy appliance pays one disk sync for many rows), any thread reads. A method that writes returns after the commit: what
it acknowledged survives a kill and a power cut.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

import orjson
import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy.dialects.postgresql import insert

from appliance.errors import StartupError, StoreError
from appliance.schema import Asker, Channel, ChannelStatus, Language, Post, PostKey, QuestionRow, Vote
from appliance.tables import channel, event, feedback, membership, post, question, setting, unindexed, user

Result = TypeVar("Result")

ANONYMOUS = 0  # rater of an unregistered web visitor
HOT_CHARS = 24_000_000  # post text kept in memory, in characters (about 2 bytes each for Russian)
HOT_POSTS = 20_000  # newest posts loaded into memory at open
WRITES_TOGETHER = 256  # waiting writes that may share one transaction
BULK_ROWS = 64  # from this many rows an insert goes through Arrow
MEMORY_LIMIT = "512MB"


@dataclass(frozen=True, slots=True)
class PostChanges:
    """What a batch of posts changes; each key stands in exactly one list, in the order given."""

    new: list[PostKey]
    edited: list[PostKey]
    same: list[PostKey]  # nothing to index: unchanged, older than what is stored, or only its reactions moved


def content_hash(post: Post) -> str:
    """Digest of everything in a post but its edit time and reactions (32 hexadecimal digits).

    Parameters
    ----------
    post : Post

    Returns
    -------
    str
        BLAKE2b-128. With ``edited_at`` it is the version of the post.
    """
    fields = (
        post.date.astimezone(UTC).isoformat(),
        post.text,
        post.author,
        post.author_id,
        post.topic_id,
        post.reply_to_id,
        post.forwarded_from,
        post.media,
        post.album_ids,
        post.links,
    )
    return hashlib.blake2b(orjson.dumps(fields), digest_size=16).hexdigest()


class Ledger:
    """The open ledger; make one with `Ledger.open`.

    Attributes
    ----------
    path : Path
        The DuckDB file.
    notes : tuple of str
        What opening had to repair, for the operator; empty after an orderly stop.
    """

    def __init__(self, path: Path, engine: sa.Engine, lock: int, notes: Sequence[str]) -> None:
        self.path = path
        self.notes = tuple(notes)
        self._engine = engine
        self._lock = lock
        self._hot = _HotPosts(HOT_CHARS)
        self._channels: list[ChannelStatus] | None = None
        self._generation = 0  # grows with every committed transaction
        self._watchers: list[Callable[[QuestionRow], None]] = []
        self._waiting: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._write_forever, name="ledger-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Open the ledger, creating, migrating and healing it as needed.

        Parameters
        ----------
        path : Path
            The DuckDB file; its folder is created.

        Returns
        -------
        Ledger
            With `notes` saying what was repaired.

        Raises
        ------
        StartupError
            When another process owns the ledger, or the file cannot be read.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _own(path)
        try:
            notes: list[str] = []
            engine = _connect(path)
            with engine.begin() as connection:
                _migrate(connection)
            ledger = cls(path, engine, lock, notes)
        except BaseException:
            os.close(lock)
            raise
        ledger._warm()
        return ledger

    def close(self) -> None:
        """Finish waiting writes, fold the log into the file, release it. Closing twice is harmless."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._waiting.put(None)
        self._writer.join()
        if self._engine.dialect.name == "duckdb":
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("CHECKPOINT")
        self._engine.dispose()
        os.close(self._lock)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Channels and rights

    def save_channel(self, new: Channel) -> None:
        """Create or rename a channel.

        A known username outlives an export without one, and a closed channel stays closed: only `set_open` opens it.

        Parameters
        ----------
        new : Channel
        """
        row = insert(channel).values(
            channel_id=new.id,
            title=_storable(new.title),
            username=new.username,
            kind=new.kind,
            is_open=new.is_open,
            added_at=_now(),
        )
        statement = row.on_conflict_do_update(
            index_elements=["channel_id"],
            set_={
                "title": row.excluded.title,
                "username": sa.func.coalesce(row.excluded.username, channel.c.username),
                "kind": row.excluded.kind,
                "is_open": sa.and_(channel.c.is_open, row.excluded.is_open),
            },
        )
        self._write(lambda connection: connection.execute(statement), after=self._forget_channels)

    def set_open(self, channel_id: int, is_open: bool) -> None:
        """Open a channel to everyone, or close it to all but its members.

        Parameters
        ----------
        channel_id : int
        is_open : bool
        """
        statement = sa.update(channel).where(channel.c.channel_id == channel_id).values(is_open=is_open)
        self._write(lambda connection: connection.execute(statement), after=self._forget_channels)

    def channels(self, asker: Asker | None = None) -> list[ChannelStatus]:
        """List channels with their counts, by title.

        Parameters
        ----------
        asker : Asker, optional
            Lists the channels this asker may see; None lists all.

        Returns
        -------
        list of ChannelStatus
        """
        statuses = self._channels
        if statuses is None:
            generation = self._generation
            statuses = self._count_channels()
            if generation == self._generation:
                self._channels = statuses
        if asker is None or asker.sees_everything:
            return list(statuses)
        return [s for s in statuses if s.channel.is_open or s.channel.id in asker.private_channels]

    def visible_channels(self, asker: Asker) -> frozenset[int]:
        """Ids of the channels this asker may search: the open ones and their own closed ones.

        Parameters
        ----------
        asker : Asker

        Returns
        -------
        frozenset of int
        """
        return frozenset(status.channel.id for status in self.channels(asker))

    def _forget_channels(self, _: object) -> None:
        self._channels = None

    def _count_channels(self) -> list[ChannelStatus]:
        counts = (
            sa.select(
                post.c.channel_id,
                sa.func.count().label("posts"),
                sa.func.min(post.c.posted_at, type_=post.c.posted_at.type).label("first"),
                sa.func.max(post.c.posted_at, type_=post.c.posted_at.type).label("last"),
            )
            .group_by(post.c.channel_id)
            .subquery()
        )
        columns = (channel.c.channel_id, channel.c.title, channel.c.username, channel.c.kind, channel.c.is_open)
        statement = (
            sa.select(*columns, sa.func.coalesce(counts.c.posts, 0), counts.c.first, counts.c.last)
            .select_from(channel.outerjoin(counts, counts.c.channel_id == channel.c.channel_id))
            .order_by(channel.c.title, channel.c.channel_id)
        )
        return [ChannelStatus(Channel(*row[:5]), *row[5:]) for row in self._read(statement)]

    # Posts

    def classify(self, posts: Sequence[Post]) -> PostChanges:
        """Say what `save_posts` would change, without writing.

        Parameters
        ----------
        posts : sequence of Post

        Returns
        -------
        PostChanges
        """
        with self._reading() as connection:
            return _sort_posts(connection, _newest(posts)).changes

    def save_posts(self, posts: Sequence[Post]) -> PostChanges:
        """Store new and edited posts; unchanged and outdated ones are left alone.

        New and edited posts are remembered as not yet indexed until `mark_indexed`.

        Parameters
        ----------
        posts : sequence of Post
            Of one key, the copy with the newest edit counts.

        Returns
        -------
        PostChanges
        """
        latest = _newest(posts)

        def save(connection: sa.Connection) -> _Sorted:
            sorted_ = _sort_posts(connection, latest)
            if sorted_.insert:
                connection.execute(sa.insert(post), [_post_values(item) for item in sorted_.insert])
            if sorted_.update:
                _update_posts(connection, sorted_.update)
            changed = sorted_.changes.new + sorted_.changes.edited
            if changed:
                rows = [{"channel_id": channel_id, "message_id": message_id} for channel_id, message_id in changed]
                connection.execute(sa.insert(unindexed), rows)
            return sorted_

        def remember(sorted_: _Sorted) -> None:
            self._hot.replace(sorted_.insert + sorted_.update)
            if sorted_.changes.new or sorted_.changes.edited:
                self._channels = None

        return self._write(save, after=remember).changes

    def posts(self, keys: Iterable[PostKey]) -> dict[PostKey, Post]:
        """Fetch posts; unknown keys are left out.

        Parameters
        ----------
        keys : iterable of PostKey

        Returns
        -------
        dict of PostKey to Post
            In the order asked.
        """
        wanted = list(dict.fromkeys(keys))
        found = self._hot.get(wanted)
        cold = [key for key in wanted if key not in found]
        if not cold:
            return found
        mark = self._hot.mark()
        for page in _pages(cold, 500):
            rows = self._read(sa.select(*_POST_COLUMNS).where(_has_key(post, page)))
            fetched = [_post_of(row) for row in rows]
            self._hot.keep(fetched, mark)
            found.update((item.key, item) for item in fetched)
        return {key: found[key] for key in wanted if key in found}

    def post_ids(self, channel_id: int) -> list[int]:
        """Message ids of a channel's posts, ascending; for reconciliation with the index.

        Parameters
        ----------
        channel_id : int

        Returns
        -------
        list of int
        """
        statement = sa.select(post.c.message_id).where(post.c.channel_id == channel_id).order_by(post.c.message_id)
        return [row[0] for row in self._read(statement)]

    def post_counts(self) -> dict[int, int]:
        """Count posts by channel id, channels without posts left out.

        Returns
        -------
        dict of int to int
        """
        statement = sa.select(post.c.channel_id, sa.func.count()).group_by(post.c.channel_id)
        return {row[0]: row[1] for row in self._read(statement)}

    def unindexed(self, limit: int = 500) -> list[Post]:
        """List posts saved but not marked as indexed: what a crash left for the index to catch up on.

        Parameters
        ----------
        limit : int
            At most this many.

        Returns
        -------
        list of Post
        """
        keys = (unindexed.c.channel_id, unindexed.c.message_id)
        rows = self._read(sa.select(*keys).distinct().order_by(*keys).limit(limit))
        return list(self.posts([(row[0], row[1]) for row in rows]).values())

    def mark_indexed(self, keys: Sequence[PostKey]) -> None:
        """Say that the index holds these posts durably.

        Parameters
        ----------
        keys : sequence of PostKey
        """

        def mark(connection: sa.Connection) -> None:
            for page in _pages(keys, 2000):
                connection.execute(sa.delete(unindexed).where(_has_key(unindexed, page)))

        self._write(mark)

    def remove_posts(self, keys: Sequence[PostKey]) -> int:
        """Delete posts.

        Parameters
        ----------
        keys : sequence of PostKey

        Returns
        -------
        int
            How many there were.
        """

        def remove(connection: sa.Connection) -> int:
            removed = 0
            for page in _pages(keys, 2000):
                removed += connection.execute(sa.delete(post).where(_has_key(post, page))).rowcount
                connection.execute(sa.delete(unindexed).where(_has_key(unindexed, page)))
            return removed

        def forget(_: int) -> None:
            self._hot.remove(keys)
            self._channels = None

        return self._write(remove, after=forget)

    def _warm(self) -> None:
        """Load the newest posts into memory, so that the first questions find them there."""
        mark = self._hot.mark()
        statement = sa.select(*_POST_COLUMNS).order_by(post.c.posted_at.desc()).limit(HOT_POSTS)
        self._hot.keep([_post_of(row) for row in self._read(statement)], mark)

    # People

    def save_user(
        self,
        *,
        telegram_id: int,
        username: str | None,
        first_name: str,
        last_name: str | None = None,
        language: Language = "ru",
    ) -> Asker:
        """Create or update a person from what Telegram says of them.

        Parameters
        ----------
        telegram_id : int
            Telegram's user id; one row each.
        username : str or None
            Without ``@``.
        first_name : str
        last_name : str or None
        language : {'ru', 'en'}
            Language of the interface's words.

        Returns
        -------
        Asker
            With their rights.
        """
        now = _now()
        seen = {
            "username": username,
            "first_name": _storable(first_name),
            "last_name": None if last_name is None else _storable(last_name),
            "seen_at": now,
            "language": language,
        }

        def save(connection: sa.Connection) -> int:
            known = sa.select(user.c.user_id).where(user.c.telegram_id == telegram_id)
            user_id = connection.execute(known).scalar()
            if user_id is not None:
                connection.execute(sa.update(user).where(user.c.user_id == user_id).values(seen))
                return cast("int", user_id)
            row = {"telegram_id": telegram_id, "registered_at": now, "role": "member", **seen}
            return cast("int", connection.execute(sa.insert(user).values(row).returning(user.c.user_id)).scalar_one())

        user_id = self._write(save)
        mine = self._read(sa.select(membership.c.channel_id).where(membership.c.user_id == user_id))
        return Asker(user_id=user_id, language=language, private_channels=frozenset(row[0] for row in mine))

    def grant(self, user_id: int, channel_id: int) -> None:
        """Let a person read a closed channel.

        Parameters
        ----------
        user_id, channel_id : int
        """
        row = insert(membership).values(user_id=user_id, channel_id=channel_id).on_conflict_do_nothing()
        self._write(lambda connection: connection.execute(row))

    def revoke(self, user_id: int, channel_id: int) -> None:
        """Take that right away.

        Parameters
        ----------
        user_id, channel_id : int
        """
        row = sa.delete(membership).where(membership.c.user_id == user_id, membership.c.channel_id == channel_id)
        self._write(lambda connection: connection.execute(row))

    # Questions and ratings

    def save_question(self, row: QuestionRow) -> None:
        """Store the canonical row of a question; storing it again replaces it.

        Parameters
        ----------
        row : QuestionRow
        """
        values = _question_values(row)
        upsert = insert(question).values(values)
        changed = {name: upsert.excluded[name] for name in values if name != "question_id"}
        statement = upsert.on_conflict_do_update(index_elements=["question_id"], set_=changed)

        def tell(_: object) -> None:
            for watcher in self._watchers:
                watcher(row)

        self._write(lambda connection: connection.execute(statement), after=tell)

    def question(self, question_id: str) -> QuestionRow | None:
        """Fetch a question's row.

        Parameters
        ----------
        question_id : str

        Returns
        -------
        QuestionRow or None
        """
        rows = self._read(sa.select(*_QUESTION_COLUMNS).where(question.c.question_id == question_id))
        return _question_of(rows[0]) if rows else None

    def turns(self, dialogue_id: str, limit: int = 6) -> list[QuestionRow]:
        """Fetch the last turns of a dialogue, oldest first.

        Parameters
        ----------
        dialogue_id : str
        limit : int
            At most this many.

        Returns
        -------
        list of QuestionRow
        """
        statement = (
            sa.select(*_QUESTION_COLUMNS)
            .where(question.c.dialogue_id == dialogue_id)
            .order_by(question.c.asked_at.desc(), question.c.question_id.desc())
            .limit(limit)
        )
        return [_question_of(row) for row in reversed(self._read(statement))]

    def questions(self, *, since: datetime | None = None, limit: int = 10_000) -> list[QuestionRow]:
        """Fetch the newest questions, oldest first.

        Parameters
        ----------
        since : datetime, optional
            Asked at or after this time.
        limit : int
            At most this many.

        Returns
        -------
        list of QuestionRow
        """
        statement = sa.select(*_QUESTION_COLUMNS).order_by(question.c.asked_at.desc()).limit(limit)
        if since is not None:
            statement = statement.where(question.c.asked_at >= since)
        return [_question_of(row) for row in reversed(self._read(statement))]

    def watch(self, watcher: Callable[[QuestionRow], None]) -> None:
        """Call ``watcher`` with every question's row from now on, after it is stored, on the writer's thread.

        Parameters
        ----------
        watcher : callable
            Quick; must not call the ledger.
        """
        self._watchers.append(watcher)

    def rate(self, question_id: str, user_id: int | None, vote: Vote, reason: str = "") -> bool:
        """Store a rating; the last one of a person counts.

        Parameters
        ----------
        question_id : str
        user_id : int or None
            None for unregistered visitors, who share one vote on a question.
        vote : {'up', 'down'}
        reason : str

        Returns
        -------
        bool
            False when there is no such question.
        """
        rater = ANONYMOUS if user_id is None else user_id

        def save(connection: sa.Connection) -> bool:
            known = sa.select(question.c.question_id).where(question.c.question_id == question_id)
            if connection.execute(known).first() is None:
                return False
            upsert = insert(feedback).values(
                question_id=question_id, user_id=rater, vote=vote, reason=_storable(reason), rated_at=_now()
            )
            changed = {name: upsert.excluded[name] for name in ("vote", "reason", "rated_at")}
            connection.execute(
                upsert.on_conflict_do_update(index_elements=["question_id", "user_id"], set_=changed),
            )
            return True

        return self._write(save)

    # Settings and events

    def setting(self, name: str) -> Any:
        """Fetch a setting.

        Parameters
        ----------
        name : str

        Returns
        -------
        object
            As stored, or None.
        """
        rows = self._read(sa.select(setting.c.value).where(setting.c.name == name))
        return rows[0][0] if rows else None

    def set_setting(self, name: str, value: Any) -> None:
        """Store a setting.

        Parameters
        ----------
        name : str
        value : object
            Anything JSON holds but null.
        """
        upsert = insert(setting).values(name=name, value=value, updated_at=_now())
        changed = {key: upsert.excluded[key] for key in ("value", "updated_at")}
        statement = upsert.on_conflict_do_update(index_elements=["name"], set_=changed)
        self._write(lambda connection: connection.execute(statement))

    def record(
        self, kind: str, *, actor_id: int | None = None, subject: str = "", detail: dict[str, Any] | None = None
    ) -> None:
        """Append an administrative act or an error to the log of events.

        Parameters
        ----------
        kind : str
            ``"ban"``, ``"error.telegram"``, …
        actor_id : int, optional
            Who did it.
        subject : str
            Whom or what it concerns; never a message's text.
        detail : dict, optional
            JSON-ready.
        """
        row = {
            "happened_at": _now(),
            "kind": kind,
            "actor_id": actor_id,
            "subject": _storable(subject),
            "detail": detail or {},
        }
        self._write(lambda connection: connection.execute(sa.insert(event).values(row)))

    # Reading and writing

    def _reading(self) -> sa.Connection:
        if self._closed:
            raise StoreError("The ledger is closed.", cure="Start the appliance again.")
        return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def _read(self, statement: sa.Executable) -> Sequence[Any]:
        with self._reading() as connection:
            return connection.execute(statement).all()

    def _write(self, act: Callable[[sa.Connection], Result], after: Callable[[Result], None] | None = None) -> Result:
        """Run ``act`` in the writer's transaction and wait for its commit; then ``after`` on the writer's thread."""
        write = _Write(act, after, Future())
        with self._closing:
            if self._closed:
                raise StoreError("The ledger is closed.", cure="Start the appliance again.")
            self._waiting.put(write)
        return cast("Result", write.done.result())

    def _write_forever(self) -> None:
        stop = False
        while not stop:
            batch: list[_Write] = []
            item = self._waiting.get()
            while item is not None:
                batch.append(item)
                if len(batch) == WRITES_TOGETHER or self._waiting.empty():
                    break
                item = self._waiting.get()
            stop = item is None
            if batch and not self._commit(batch, alone=len(batch) == 1):
                for write in batch:  # one of them failed: each on its own, so that only the culprit does
                    self._commit([write], alone=True)

    def _commit(self, batch: list[_Write], *, alone: bool) -> bool:
        try:
            with self._engine.begin() as connection:
                results = [write.act(connection) for write in batch]
        except BaseException as error:
            if alone:
                batch[0].done.set_exception(error)
            return alone
        self._generation += 1
        for write, result in zip(batch, results, strict=True):
            try:
                if write.after is not None:
                    write.after(result)
            except BaseException as error:
                write.done.set_exception(error)
            else:
                write.done.set_result(result)
        return True


@dataclass(frozen=True, slots=True)
class _Write:
    """A write waiting for its commit."""

    act: Callable[[sa.Connection], Any]
    after: Callable[[Any], None] | None
    done: Future[Any]


class _HotPosts:
    """Recently saved or read posts in memory, least recently used dropped first; thread-safe.

    A reader takes `mark` before it asks the database and hands it to `keep`: posts changed in between are not kept, so
    that an older version never outlives a newer one.
    """

    def __init__(self, max_chars: int) -> None:
        self._max_chars = max_chars
        self._chars = 0
        self._posts: OrderedDict[PostKey, Post] = OrderedDict()
        self._changes = 0
        self._guard = threading.Lock()

    def get(self, keys: Sequence[PostKey]) -> dict[PostKey, Post]:
        with self._guard:
            found = {key: self._posts[key] for key in keys if key in self._posts}
            for key in found:
                self._posts.move_to_end(key)
        return found

    def mark(self) -> int:
        return self._changes

    def keep(self, posts: Iterable[Post], mark: int) -> None:
        with self._guard:
            if mark == self._changes:
                for item in posts:
                    self._put(item)

    def replace(self, posts: Iterable[Post]) -> None:
        with self._guard:
            self._changes += 1
            for item in posts:
                self._put(item)

    def remove(self, keys: Iterable[PostKey]) -> None:
        with self._guard:
            self._changes += 1
            for key in keys:
                self._drop(key)

    def _put(self, item: Post) -> None:
        self._drop(item.key)
        self._posts[item.key] = item
        self._chars += len(item.text)
        while self._chars > self._max_chars:
            self._drop(next(iter(self._posts)))

    def _drop(self, key: PostKey) -> None:
        dropped = self._posts.pop(key, None)
        if dropped is not None:
            self._chars -= len(dropped.text)


@dataclass(frozen=True, slots=True)
class _Sorted:
    """A batch against what is stored."""

    changes: PostChanges
    insert: list[Post]
    update: list[Post]  # edited, or only other reactions


_POST_COLUMNS = [column for column in post.c if column.name != "content_hash"]
_QUESTION_COLUMNS = list(question.c)


def _now() -> datetime:
    return datetime.now(UTC)


def _storable(text: str) -> str:
    """Text without what UTF-8 (lone surrogates) and PostgreSQL (NUL) cannot hold."""
    text = text.replace("\x00", "")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _own(path: Path) -> int:
    """Take the ledger's lock file; returns its descriptor."""
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise StartupError(
            f"The ledger {path} is in use by process {owner}.",
            cure="Use the running appliance, or stop it first.",
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _connect(path: Path) -> sa.Engine:
    config = {
        "threads": 2,
        "memory_limit": MEMORY_LIMIT,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    return sa.create_engine(
        sa.URL.create("duckdb", database=str(path)),
        connect_args={"config": config},
        pool_size=8,
        max_overflow=-1,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        execution_options={"duckdb_copy_threshold": BULK_ROWS},
    )


def _migrate(connection: sa.Connection) -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(resources.files("appliance") / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _pages(items: Sequence[PostKey], size: int) -> Iterable[Sequence[PostKey]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _has_key(table: sa.Table, keys: Sequence[PostKey]) -> sa.ColumnElement[bool]:
    """Condition: the row's (channel id, message id) is among ``keys``."""
    by_channel: dict[int, list[int]] = {}
    for channel_id, message_id in keys:
        by_channel.setdefault(channel_id, []).append(message_id)
    return sa.or_(
        sa.false(),
        *(
            sa.and_(table.c.channel_id == channel_id, table.c.message_id.in_(message_ids))
            for channel_id, message_ids in by_channel.items()
        ),
    )


def _newest(posts: Iterable[Post]) -> dict[PostKey, Post]:
    """Each key once: of several copies, the one with the newest edit, the later one among equals."""
    latest: dict[PostKey, Post] = {}
    for item in posts:
        known = latest.get(item.key)
        if known is None or not _older(item.edited_at, known.edited_at):
            latest[item.key] = item
    return latest


def _older(edited_at: datetime | None, than: datetime | None) -> bool:
    return than is not None and (edited_at is None or edited_at < than)


def _sort_posts(connection: sa.Connection, latest: dict[PostKey, Post]) -> _Sorted:
    spans: dict[int, tuple[int, int]] = {}
    for channel_id, message_id in latest:
        low, high = spans.get(channel_id, (message_id, message_id))
        spans[channel_id] = (min(low, message_id), max(high, message_id))
    stored: dict[PostKey, tuple[str, datetime | None, int]] = {}
    for channel_id, (low, high) in spans.items():
        statement = sa.select(post.c.message_id, post.c.content_hash, post.c.edited_at, post.c.reactions).where(
            post.c.channel_id == channel_id, post.c.message_id.between(low, high)
        )
        for message_id, digest, edited_at, reactions in connection.execute(statement):
            stored[channel_id, message_id] = (digest, edited_at, reactions)
    changes = PostChanges([], [], [])
    to_insert: list[Post] = []
    to_update: list[Post] = []
    for key, item in latest.items():
        known = stored.get(key)
        if known is None:
            changes.new.append(key)
            to_insert.append(item)
            continue
        digest, edited_at, reactions = known
        if _older(item.edited_at, edited_at):
            changes.same.append(key)
        elif digest != content_hash(item):
            changes.edited.append(key)
            to_update.append(item)
        else:
            changes.same.append(key)
            if item.reactions != reactions or item.edited_at != edited_at:
                to_update.append(item)
    return _Sorted(changes, to_insert, to_update)


def _update_posts(connection: sa.Connection, posts: Sequence[Post]) -> None:
    for start in range(0, len(posts), 200):
        upsert = insert(post).values([_post_values(item) for item in posts[start : start + 200]])
        changed = {c.name: upsert.excluded[c.name] for c in post.c if not c.primary_key}
        connection.execute(
            upsert.on_conflict_do_update(index_elements=["channel_id", "message_id"], set_=changed),
        )


def _post_values(item: Post) -> dict[str, Any]:
    return {
        "channel_id": item.channel_id,
        "message_id": item.message_id,
        "posted_at": item.date,
        "text": item.text,
        "edited_at": item.edited_at,
        "author": item.author,
        "author_id": item.author_id,
        "topic_id": item.topic_id,
        "reply_to_id": item.reply_to_id,
        "forwarded_from": item.forwarded_from,
        "media": item.media,
        "album_ids": list(item.album_ids),
        "links": list(item.links),
        "reactions": item.reactions,
        "content_hash": content_hash(item),
    }


def _post_of(row: Sequence[Any]) -> Post:
    *fields, album_ids, links, reactions = row
    return Post(*fields, tuple(album_ids), tuple(links), reactions)


def _question_values(row: QuestionRow) -> dict[str, Any]:
    return {
        "question_id": row.id,
        "dialogue_id": row.dialogue_id,
        "user_id": row.user_id,
        "door": row.door,
        "asked_at": row.asked_at,
        "text": _storable(row.text),
        "query": _storable(row.query),
        "language": row.language,
        "outcome": row.outcome,
        "model": row.model,
        "posts": row.posts,
        "answer_text": _storable(row.answer_text),
        "relevance": float(row.relevance),
        "tokens": row.tokens,
        "times_ms": {name: float(value) for name, value in row.times_ms.items()},
    }


def _question_of(row: Sequence[Any]) -> QuestionRow:
    values = list(row)
    values[10] = tuple((pair[0], pair[1]) for pair in values[10])
    return QuestionRow(*values)
