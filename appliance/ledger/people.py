"""People in the ledger: consent, everything about one person, erasure, opting out, what is too old to keep."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from appliance.ledger.database import Database
from appliance.ledger.protection import REWRITE_DUE, buried, erase_channel, erase_people, remember
from appliance.ledger.sealing import SEALED, open_row
from appliance.ledger.tables import (
    chat_tables,
    consent,
    event,
    feedback,
    opt_out,
    personal_tables,
    post,
    question,
    receipt,
    user,
)
from appliance.schema import Post, PostKey
from appliance.vault import Vault

PAGE = 1000  # rows opened together


@dataclass(frozen=True, slots=True)
class Person:
    """A person, as the operator and they themselves may see them."""

    user_id: int
    telegram_id: int
    username: str | None
    first_name: str
    last_name: str | None
    role: str
    registered_at: datetime
    seen_at: datetime


class People:
    """What the ledger holds of people; blocking, thread-safe.

    Parameters
    ----------
    database : Database
    vault : Vault or None
    """

    def __init__(self, database: Database, vault: Vault | None) -> None:
        self._database = database
        self._vault = vault
        self._buried = set(buried(vault)) if vault else set()
        self._opted_out = {row[0] for row in database.read(sa.select(opt_out.c.author))}

    def find(self, who: str) -> Person | None:
        """Find a person.

        Parameters
        ----------
        who : str
            ``@username``, the ledger's user id, or ``telegram:`` and Telegram's id.

        Returns
        -------
        Person or None
        """
        columns = [user.c[name] for name in Person.__dataclass_fields__]
        statement = sa.select(*columns)
        wanted = who.strip()
        if wanted.startswith("telegram:") and wanted[9:].isdigit():
            statement = statement.where(user.c.telegram_id == int(wanted[9:]))
        elif wanted.isdigit():
            statement = statement.where(user.c.user_id == int(wanted))
        elif not wanted.startswith("@"):
            return None
        for row in self._database.read(statement):
            found = Person(**open_row(self._vault, "user", dict(row._mapping)))
            if not wanted.startswith("@") or (found.username or "").casefold() == wanted[1:].casefold():
                return found
        return None

    def agree(self, user_id: int, version: int) -> None:
        """Record that a person agreed to a version of the privacy notice.

        Parameters
        ----------
        user_id, version : int
        """

        def save(connection: sa.Connection) -> None:
            known = sa.select(consent).where(consent.c.user_id == user_id, consent.c.version == version)
            if connection.execute(known).first() is None:
                row = {"user_id": user_id, "version": version, "agreed_at": datetime.now(UTC)}
                connection.execute(sa.insert(consent).values(row))

        self._database.write(save)

    def consent(self, user_id: int) -> tuple[int, datetime] | None:
        """Return the newest version a person agreed to, and when; None for none."""
        statement = (
            sa.select(consent.c.version, consent.c.agreed_at)
            .where(consent.c.user_id == user_id)
            .order_by(consent.c.version.desc())
            .limit(1)
        )
        rows = self._database.read(statement)
        return (rows[0][0], rows[0][1]) if rows else None

    def archive(self, user_id: int) -> dict[str, list[dict[str, Any]]]:
        """Collect everything about a person.

        Parameters
        ----------
        user_id : int

        Returns
        -------
        dict of str to list of dict
            Opened rows by table.
        """
        found: dict[str, list[dict[str, Any]]] = {}
        for table in personal_tables():
            rows = self._database.read(sa.select(*table.c).where(table.c.user_id == user_id))
            values = [dict(row._mapping) for row in rows]
            if table.name in SEALED:
                values = [open_row(self._vault, table.name, row) for row in values]
            found[str(table.name)] = values
        chat_id = sa.select(user.c.telegram_id).where(user.c.user_id == user_id).scalar_subquery()
        for table in chat_tables():
            rows = self._database.read(sa.select(*table.c).where(table.c.chat_id == chat_id))
            found[str(table.name)] = [dict(row._mapping) for row in rows]
        done = self._database.read(sa.select(*event.c).where(event.c.actor_id == user_id))
        found["event"] = [dict(row._mapping) for row in done]
        return found

    def erase(self, user_id: int) -> dict[str, int]:
        """Delete everything about a person; their acts stay in the audit log without them.

        Parameters
        ----------
        user_id : int

        Returns
        -------
        dict of str to int
            Rows deleted by table.
        """

        def act(connection: sa.Connection) -> dict[str, int]:
            counts = erase_people(connection, [user_id])
            acts = sa.update(event).where(event.c.actor_id == user_id).values(actor_id=None)
            counts["event"] = connection.execute(acts).rowcount
            remember(connection, REWRITE_DUE, True)
            return counts

        return self._database.write(act)

    def save_receipt(self, kind: str, counts: dict[str, int]) -> dict[str, Any]:
        """Store the receipt of an erasure; it holds no personal data.

        Parameters
        ----------
        kind : str
            ``person``, ``posts``, ``channel``, ``author``.
        counts : dict of str to int
            What was deleted, by table.

        Returns
        -------
        dict
            ``receipt_id``, ``kind``, ``erased_at``, ``counts``.
        """
        row = {
            "receipt_id": secrets.token_hex(8),
            "kind": kind,
            "erased_at": datetime.now(UTC),
            "counts": {name: int(n) for name, n in counts.items()},
        }
        self._database.write(lambda connection: connection.execute(sa.insert(receipt).values(row)))
        return row

    # Posts that are not kept

    def unwanted(self, posts: Iterable[Post]) -> set[PostKey]:
        """Pick the posts that were deleted for good, or whose author opted out.

        Parameters
        ----------
        posts : iterable of Post

        Returns
        -------
        set of PostKey
        """
        if not self._buried and not self._opted_out:
            return set()
        return {
            item.key
            for item in posts
            if item.key in self._buried or (item.author_id and self.author_name(item.author_id) in self._opted_out)
        }

    def author_name(self, author_id: str) -> str:
        """Return the name under which an author's wish is kept: a keyed hash."""
        return self._vault.blind("author-id", author_id) if self._vault else author_id[:16]

    def opt_out(self, author_id: str) -> list[PostKey]:
        """Keep no more posts of an author.

        Parameters
        ----------
        author_id : str
            ``user123`` or ``channel123``, as Telegram Desktop writes it.

        Returns
        -------
        list of PostKey
            Posts of theirs that are kept and must go.
        """
        name = self.author_name(author_id)

        def save(connection: sa.Connection) -> None:
            if connection.execute(sa.select(opt_out).where(opt_out.c.author == name)).first() is None:
                connection.execute(sa.insert(opt_out).values(author=name, asked_at=datetime.now(UTC)))

        self._database.write(save)
        self._opted_out.add(name)
        keys: list[PostKey] = []
        columns = (post.c.channel_id, post.c.message_id, post.c.author_id)
        for channel_id, message_id, sealed in self._database.read(sa.select(*columns).where(post.c.author_id != "")):
            values = {"channel_id": channel_id, "message_id": message_id, "author_id": sealed}
            if open_row(self._vault, "post", values)["author_id"] == author_id:
                keys.append((channel_id, message_id))
        return keys

    def bury(self, keys: list[PostKey]) -> None:
        """Note that posts must never come back, neither with an old export nor with a restored backup."""
        self._buried.update(keys)
        if self._vault and keys:
            self._vault.note_gone([f"post:{channel_id}/{message_id}" for channel_id, message_id in keys])

    def drop_answers(self, keys: Iterable[PostKey]) -> int:
        """Empty the answers that were made of these posts.

        Parameters
        ----------
        keys : iterable of PostKey

        Returns
        -------
        int
            Answers emptied.
        """
        wanted = set(keys)
        rows = self._database.read(
            sa.select(question.c.question_id, question.c.posts).where(question.c.answer_text != "")
        )
        hit = [row[0] for row in rows if wanted.intersection((a, b) for a, b in row[1])]

        def act(connection: sa.Connection) -> int:
            for start in range(0, len(hit), PAGE):
                some = question.c.question_id.in_(hit[start : start + PAGE])
                connection.execute(sa.update(question).where(some).values(answer_text="", posts=[]))
            if wanted:
                remember(connection, REWRITE_DUE, True)
            return len(hit)

        return self._database.write(act)

    def erase_channel(self, channel_id: int) -> int:
        """Delete a channel with its posts and the rights to it; returns the rows."""

        def act(connection: sa.Connection) -> int:
            remember(connection, REWRITE_DUE, True)
            return erase_channel(connection, channel_id)

        return self._database.write(act)

    # What is too old

    def expire(self, *, questions_days: int, events_days: int, quiet_days: int) -> tuple[dict[str, int], list[int]]:
        """Delete what is older than its retention period.

        Parameters
        ----------
        questions_days : int
            Age of questions with their answers and ratings; 0 keeps them.
        events_days : int
            Age of the audit log's lines; 0 keeps them.
        quiet_days : int
            Days after which people who were not seen are to be erased; 0 keeps them.

        Returns
        -------
        (dict of str to int, list of int)
            Rows deleted by table, and user ids of people to erase.
        """
        now = datetime.now(UTC)

        def act(connection: sa.Connection) -> dict[str, int]:
            counts = {"question": 0, "feedback": 0, "event": 0}
            if questions_days:
                old = question.c.asked_at < now - timedelta(days=questions_days)
                ids = sa.select(question.c.question_id).where(old)
                rated = sa.delete(feedback).where(feedback.c.question_id.in_(ids))
                counts["feedback"] = connection.execute(rated).rowcount
                counts["question"] = connection.execute(sa.delete(question).where(old)).rowcount
            if events_days:
                old = event.c.happened_at < now - timedelta(days=events_days)
                counts["event"] = connection.execute(sa.delete(event).where(old)).rowcount
            if any(counts.values()):
                remember(connection, REWRITE_DUE, True)
            return counts

        counts = self._database.write(act)
        quiet = sa.select(user.c.user_id).where(user.c.seen_at < now - timedelta(days=quiet_days or 10**5))
        return counts, [row[0] for row in self._database.read(quiet)]
