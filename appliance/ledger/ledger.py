"""The ledger: people, channels, posts, questions, feedback, settings and events, in DuckDB through SQLAlchemy Core.

Blocking and thread-safe; one process owns it. A method that writes returns after the commit: what it acknowledged
survives a kill and a power cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from appliance.errors import StartupError, StoreError
from appliance.ledger import figures, protection, snapshot
from appliance.ledger.access import Access
from appliance.ledger.alerts import Alerts
from appliance.ledger.channels import Channels, titled
from appliance.ledger.chats import Chats
from appliance.ledger.community import Community
from appliance.ledger.database import Database, rewrite
from appliance.ledger.hot_posts import HotPosts
from appliance.ledger.notices import Notices
from appliance.ledger.numbers import Numbers
from appliance.ledger.order import Order
from appliance.ledger.people import People
from appliance.ledger.plans import Plans
from appliance.ledger.posts import PostChanges, Sorted, has_key, newest, pages, sort_posts, store
from appliance.ledger.questions import Questions
from appliance.ledger.rows import POST_COLUMNS, post_of, storable
from appliance.ledger.sealing import open_post, open_row, seal_row
from appliance.ledger.tables import (
    channel,
    membership,
    post,
    setting,
    unindexed,
    user,
    user_id_seq,
)
from appliance.ledger.talks import Talks
from appliance.schema import (
    Asker,
    Channel,
    ChannelStatus,
    Language,
    Post,
    PostKey,
    guarded_by,
)
from appliance.vault import Vault, person

HOT_CHARS = 24_000_000  # post text kept in memory, in characters (about 2 bytes each for Russian)
HOT_POSTS = 20_000  # newest posts loaded into memory at open
SEEN_AGAIN = timedelta(hours=1)  # how often it is written down that a person is still there


class Ledger:
    """The open ledger; make one with `Ledger.open`.

    Attributes
    ----------
    path : Path
        The DuckDB file.
    notes : tuple of str
        What opening had to repair, for the operator; empty after an orderly stop.
    questions : Questions
        The canonical row of each question, and how people rated the answers.
    people : People
        Consent, archives, erasure, opting out, retention.
    access : Access
        Roles, API keys, the audit log.
    chats : Chats
        What chats and their topics are set to.
    talks : Talks
        Dialogues, settings, visits and surveys of a person; answers held for publishing.
    notices, alerts : Notices, Alerts
        What people are to be told once; of which new posts.
    plans : Plans
        Plans on offer, who has which, payments, questions counted.
    order : Order
        Who is let in, who is banned.
    pool : Channels
        Which channels are approved, live, proposed; albums that come message by message.
    community : Community
        The queue of unanswered questions, members' answers, frequent questions, repeats, corrections.
    """

    def __init__(self, database: Database, vault: Vault | None = None) -> None:
        self.path = database.path
        self.notes = database.notes
        self._database = database
        self._vault = vault
        self.people = People(database, vault)
        self.plans = Plans(database)
        self.access = Access(database)
        self.chats = Chats(database)
        self.talks = Talks(database, vault)
        self.notices = Notices(database, vault)
        self.alerts = Alerts(database, vault, self.notices)
        self.order = Order(database, vault)
        self.pool = Channels(database, vault, self._forget_channels)
        self.community = Community(database, vault)
        self._read = database.read
        self.questions = Questions(database, vault)
        self.numbers = Numbers(database.read, self.questions.row_of)
        self._write = database.write
        self._hot = HotPosts(HOT_CHARS)
        self._channels: list[ChannelStatus] | None = None
        self._channel_changes = 0
        mark = self._hot.mark()
        recent = self._read(sa.select(*POST_COLUMNS).order_by(post.c.posted_at.desc()).limit(HOT_POSTS))
        self._hot.keep([self._post_of(row) for row in reversed(recent)], mark)

    @classmethod
    def open(cls, path: Path, vault: Vault | None = None) -> Ledger:
        """Open the ledger, creating, migrating and mending it as needed.

        Parameters
        ----------
        path : Path
            The DuckDB file; its folder is created.
        vault : Vault, optional
            Seals personal fields and texts; a ledger written without one is sealed now.

        Returns
        -------
        Ledger
            With `notes` saying what was repaired.

        Raises
        ------
        StartupError
            When another process owns the ledger, the file cannot be read, or it is sealed and no vault is given.
        """
        try:
            return cls._open(Path(path), vault)
        except StoreError as error:
            raise StartupError(error.args[0], cure=error.cure) from error

    @classmethod
    def _open(cls, path: Path, vault: Vault | None) -> Ledger:
        database = Database.open(path)
        try:
            notes = protection.protect(database, vault)
            if protection.is_rewrite_due(database):
                notes += database.notes
                database.close()
                rewrite(path)
                database = Database.open(path)
                protection.rewritten(database)
                notes.append("The ledger was written anew: what was erased is gone from its file.")
            database.notes = (*database.notes, *notes)
            return cls(database, vault)
        except BaseException:
            with suppress(StoreError):
                database.close()
            raise

    def close(self) -> None:
        """Finish waiting writes, fold the log into the file, release it. Closing twice is harmless."""
        self._database.close()

    def copy_to(self, target: Path) -> None:
        """Copy what is committed into a new file, while others read and write.

        Parameters
        ----------
        target : Path
            Not there yet.
        """
        snapshot.copy(self._database, target)

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
            title=storable(new.title),
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
            Lists the channels this asker may see, members' answers titled in their language; None lists all.

        Returns
        -------
        list of ChannelStatus
        """
        statuses = self._channels
        if statuses is None:
            mark = self._channel_changes
            statuses = figures.channels(self._read)
            if mark == self._channel_changes:
                self._channels = statuses
        if asker is None:
            return list(statuses)
        return [
            titled(s, asker.language)
            for s in statuses
            if asker.sees_everything
            or (s.state == "approved" and (s.channel.is_open or guarded_by(s.channel.id) in asker.private_channels))
        ]

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

    def _forget_channels(self, _: object = None) -> None:
        self._channel_changes += 1
        self._channels = None

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
        with self._database.reading() as connection:
            return sort_posts(connection, newest(posts), self._vault).changes

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
        latest = newest(posts)

        def remember(found: Sorted) -> None:
            self._hot.replace(found.fresh + found.stale)
            if found.changes.new or found.changes.edited:
                self._forget_channels()

        return self._write(lambda connection: store(connection, latest, self._vault), after=remember).changes

    def _post_of(self, row: Sequence[Any]) -> Post:
        return post_of(open_post(self._vault, row))

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
        for page in pages(cold):
            fetched = [self._post_of(row) for row in self._read(sa.select(*POST_COLUMNS).where(has_key(post, page)))]
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
            for page in pages(keys):
                connection.execute(sa.delete(unindexed).where(has_key(unindexed, page)))

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
            for page in pages(keys):
                removed += connection.execute(sa.delete(post).where(has_key(post, page))).rowcount
                connection.execute(sa.delete(unindexed).where(has_key(unindexed, page)))
                protection.forget_parts(connection, page)
            return removed

        def forget(_: int) -> None:
            self._hot.remove(keys)
            self._forget_channels()

        return self._write(remove, after=forget)

    def forget_channel(self, channel_id: int) -> int:
        """Delete a channel with its posts and the rights to it.

        Parameters
        ----------
        channel_id : int

        Returns
        -------
        int
            Rows deleted.
        """
        keys = [(channel_id, message_id) for message_id in self.post_ids(channel_id)]
        gone = self.people.erase_channel(channel_id)
        self._hot.remove(keys)
        self._forget_channels()
        return gone

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
        said = {
            "username": None if username is None else storable(username),
            "first_name": storable(first_name),
            "last_name": None if last_name is None else storable(last_name),
            "language": language,
        }
        columns = (user.c.user_id, user.c.seen_at, *(user.c[name] for name in said), membership.c.channel_id)
        rights = user.outerjoin(membership, membership.c.user_id == user.c.user_id)
        known = sa.select(*columns).select_from(rights).where(user.c.telegram_id == telegram_id)

        def save(connection: sa.Connection) -> int:
            found = connection.execute(known).first()
            if found is not None:
                changed = seal_row(self._vault, "user", {"user_id": found[0], "seen_at": now, **said})
                connection.execute(sa.update(user).where(user.c.user_id == found[0]).values(changed))
                return cast("int", found[0])
            user_id = self._next_user_id(connection)
            first = {"telegram_id": telegram_id, "registered_at": now, "seen_at": now, "role": "member"}
            row = seal_row(self._vault, "user", {"user_id": user_id, **first, **said})
            connection.execute(sa.insert(user).values(row))
            return user_id

        found = self._read(known)
        if found and self._said_by(found[0]) == said and now - found[0][1] < SEEN_AGAIN:
            user_id = found[0].user_id
            mine = frozenset(row.channel_id for row in found if row.channel_id is not None)
        else:
            user_id = self._write(save)
            mine = self.private_channels(user_id)
        return Asker(user_id=user_id, language=language, private_channels=mine)

    def private_channels(self, user_id: int | None) -> frozenset[int]:
        """Return the closed channels that a person may read."""
        mine = sa.select(membership.c.channel_id).where(membership.c.user_id == (user_id or 0))
        return frozenset(row[0] for row in self._read(mine))

    def _said_by(self, row: Any) -> dict[str, Any]:
        values = open_row(self._vault, "user", dict(row._mapping))
        return {name: value for name, value in values.items() if name not in {"user_id", "seen_at", "channel_id"}}

    def _next_user_id(self, connection: sa.Connection) -> int:
        """Take the next number; not one that an erased person, or one newer than a restored backup, had."""
        while True:
            user_id = int(connection.execute(sa.select(user_id_seq.next_value())).scalar_one())
            if self._vault is None or not self._vault.knows(person(user_id)):
                return user_id

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

    # Settings

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

    # Figures

    def stats(self) -> dict[str, Any]:
        """Compute the operator's figures from the questions' rows.

        Returns
        -------
        dict
            JSON-ready; see `appliance.ledger.figures.stats`.
        """
        return figures.stats(self._read, self.channels())


def _now() -> datetime:
    return datetime.now(UTC)
