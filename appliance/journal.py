"""Durable inbox and outbox of the Telegram door, in SQLite: what was acknowledged is never lost.

An update is on disk before Telegram is told it arrived, and stays pending until its replies are on disk in the same
transaction that marks it done. A reply is marked as sending before the call and as sent after it, so the only message
that can go out twice is one whose mark was cut off by a crash: such rows are found at opening and counted.

Blocking and thread-safe. Calls that wait for the disk at the same time share one sync. Times are seconds since the
epoch, as `time.time` gives them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import orjson

from appliance.errors import StoreError
from appliance.journal_rows import COUNT, STEPS, Outgoing, Priority, Queued, Update, UpdateKey, counted
from appliance.journal_seal import JournalSeal
from appliance.sqlite_file import SqliteFile, startup_errors
from appliance.vault import Vault

__all__ = ["DAY_S", "Journal", "Outgoing", "Priority", "Queued", "Update", "UpdateKey"]

DAY_S = 86_400.0
_FINAL, _DRAFT = 0, 1
_UPDATE = "seq, bot_id, update_id, raw, attempts, reason, received_at"
_QUEUE = "chat_id, priority, method, payload, not_before, dialogue_id, question_id, once, queued_at"


class Journal:
    """The open journal; make one with `Journal.open`.

    Attributes
    ----------
    path : Path
        The SQLite file.
    maybe_twice : tuple of int
        Outbox ids found half-sent at this opening; they are queued again.
    """

    def __init__(self, file: SqliteFile, vault: Vault | None = None) -> None:
        self.path = file.path
        self._file = file
        self._run, self._rows, self._durably = file.run, file.rows, file.durably
        self._seal = JournalSeal(file, vault)
        self.queued: Callable[[], None] = _nobody  # told after `enqueue`, from whatever thread; the sender's bell
        self._durably(self._seal.protect)
        self.maybe_twice = self._durably(self._requeue_half_sent)

    @classmethod
    def open(cls, path: Path, vault: Vault | None = None) -> Journal:
        """Open the journal, creating it as needed.

        Parameters
        ----------
        path : Path
            The SQLite file; its folder is created.
        vault : Vault, optional
            Seals updates and messages; what was written without one is sealed now.

        Returns
        -------
        Journal

        Raises
        ------
        StartupError
            Another process owns it, or it cannot be read.
        """
        file = SqliteFile.open(path, STEPS)
        try:
            with startup_errors(path):
                return cls(file, vault)
        except BaseException:
            file.close(fold=False)
            raise

    def close(self) -> None:
        """Fold the log into the file and release it. Closing twice is harmless."""
        self._file.close()

    def copy_to(self, target: Path) -> None:
        """Copy what is committed into a new file, between two transactions.

        Parameters
        ----------
        target : Path
            Not there yet.
        """
        self._file.copy_to(target)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Inbox

    def take_in(self, bot_id: int, updates: Sequence[tuple[int, bytes]]) -> int:
        """Store updates; ones seen before are left out. On disk when this returns.

        Parameters
        ----------
        bot_id : int
        updates : sequence of (update id, raw JSON)

        Returns
        -------
        int
            How many are new.
        """
        now = time.time()

        def act() -> int:
            new = 0
            for update_id, raw in updates:
                if self._run("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", bot_id, update_id, int(now // DAY_S)):
                    self._run(
                        "INSERT INTO inbox (bot_id, update_id, raw, received_at) VALUES (?, ?, ?, ?)",
                        *(bot_id, update_id, self._seal.update(bot_id, update_id, raw), now),
                    )
                    new += 1
            return new

        return self._durably(act)

    def next_pending(self, *, after: int = 0, limit: int = 100) -> list[Update]:
        """Hand out pending updates in order of arrival, counting the attempt.

        Parameters
        ----------
        after : int
            Only those with a higher `Update.seq`; 0 from the start.
        limit : int
            At most this many.

        Returns
        -------
        list of Update
        """

        def act() -> list[Update]:
            rows = self._rows(
                "UPDATE inbox SET attempts = attempts + 1 WHERE seq IN "  # noqa: S608
                "(SELECT seq FROM inbox WHERE state = 'pending' AND seq > ? ORDER BY seq LIMIT ?) "
                f"RETURNING {_UPDATE}",
                *(after, limit),
            )
            found = []
            for row in sorted(rows):
                try:
                    found.append(self._seal.opened_update(row))
                except StoreError:  # one damaged row must not hold up the rest
                    self._run(
                        "UPDATE inbox SET state = 'quarantined', reason = 'damaged on disk' WHERE seq = ?", row[0]
                    )
            return found

        return self._durably(act)

    def begin(self, update: UpdateKey) -> int:
        """Say that work begins on an update that earlier processes did not finish. On disk when this returns.

        Being handed out blames no update: many are when a process dies. One that was begun alone again and again is
        what ends the process.

        Parameters
        ----------
        update : (bot id, update id)

        Returns
        -------
        int
            How many times it was begun, this time included; 0 when it is not pending.
        """
        pending = "bot_id = ? AND update_id = ? AND state = 'pending'"
        count = f"UPDATE inbox SET begun = begun + 1 WHERE {pending} RETURNING begun"  # noqa: S608
        rows = self._durably(lambda: self._rows(count, *update))
        return cast("int", rows[0][0]) if rows else 0

    def show(self, update: UpdateKey, message_id: int | None = None) -> int | None:
        """Note the message that stands in a chat while an update is worked on, or ask for it.

        Parameters
        ----------
        update : (bot id, update id)
        message_id : int, optional
            The message just sent; none only asks.

        Returns
        -------
        int or None
            The message noted, by this process or an earlier one.
        """
        where = "WHERE bot_id = ? AND update_id = ?"
        if message_id is not None:
            self._durably(lambda: self._run(f"UPDATE inbox SET shown = ? {where}", message_id, *update))  # noqa: S608
            return message_id
        rows = self._durably(lambda: self._rows(f"SELECT shown FROM inbox {where}", *update))  # noqa: S608
        return cast("int | None", rows[0][0]) if rows else None

    def done(self, updates: Sequence[UpdateKey], outgoing: Sequence[Outgoing] = ()) -> list[int]:
        """Mark updates as done and queue their replies, both or neither.

        Parameters
        ----------
        updates : sequence of (bot id, update id)
            Ones that are not pending any more queue nothing and are left as they are.
        outgoing : sequence of Outgoing

        Returns
        -------
        list of int
            Outbox ids of the replies; empty when none of ``updates`` was pending. One whose ``once`` is there already
            is left out.
        """

        def act() -> list[int]:
            finished = 0
            for bot_id, update_id in updates:
                finished += self._run(
                    "UPDATE inbox SET state = 'done', raw = x'', reason = '' "
                    "WHERE bot_id = ? AND update_id = ? AND state = 'pending'",
                    *(bot_id, update_id),
                )
            return self._enqueue(outgoing) if finished or not updates else []

        return self._durably(act)

    def quarantine(self, update: UpdateKey, reason: str) -> bool:
        """Put an update aside that cannot be worked on, so that the rest flow on.

        Parameters
        ----------
        update : (bot id, update id)
        reason : str
            Never message text.

        Returns
        -------
        bool
            False when it was not pending.
        """
        return self._durably(
            lambda: bool(
                self._run(
                    "UPDATE inbox SET state = 'quarantined', reason = ? "
                    "WHERE bot_id = ? AND update_id = ? AND state = 'pending'",
                    *(reason, *update),
                )
            )
        )

    def quarantined(self, limit: int = 100) -> list[Update]:
        """List quarantined updates, newest first.

        Parameters
        ----------
        limit : int

        Returns
        -------
        list of Update
        """
        query = f"SELECT {_UPDATE} FROM inbox WHERE state = 'quarantined' ORDER BY seq DESC LIMIT ?"  # noqa: S608
        return [self._seal.opened_update(row, damaged=b"") for row in self._durably(lambda: self._rows(query, limit))]

    # Outbox

    def enqueue(self, outgoing: Sequence[Outgoing]) -> list[int]:
        """Queue messages that answer no update. On disk when this returns.

        Parameters
        ----------
        outgoing : sequence of Outgoing

        Returns
        -------
        list of int
            Outbox ids, of those whose `once` was not queued before.
        """
        queued = self._durably(lambda: self._enqueue(outgoing))
        self.queued()
        return queued

    def due(self, now: float, *, limit: int = 100) -> list[Queued]:
        """List messages that may go out now: finals first, then in order of queueing.

        Of each chat only the first waiting final (and the first waiting draft, when no final waits) is listed, and none
        while one is being sent, so that a chat reads its messages in order.

        Parameters
        ----------
        now : float
        limit : int
            At most this many.

        Returns
        -------
        list of Queued
        """
        rows = self._durably(
            lambda: self._seal.opened_payloads(
                "SELECT id, chat_id, method, payload, priority, not_before, attempts, maybe_twice, dialogue_id FROM ("
                "SELECT *, row_number() OVER (PARTITION BY chat_id ORDER BY state = 'queued', priority, id) AS place "
                "FROM outbox WHERE state IN ('queued', 'sending')) "
                "WHERE place = 1 AND state = 'queued' AND not_before <= ? ORDER BY priority, id LIMIT ?",
                *(now, limit),
            )
        )
        return [
            Queued(
                id=row[0],
                chat_id=row[1],
                method=row[2],
                payload=row[3],
                priority="final" if row[4] == _FINAL else "draft",
                not_before=row[5],
                attempts=row[6],
                maybe_twice=bool(row[7]),
                dialogue_id=row[8],
            )
            for row in rows
        ]

    def mark_sending(self, message: int) -> bool:
        """Say that a call is about to be made. On disk when this returns.

        Parameters
        ----------
        message : int
            Outbox id.

        Returns
        -------
        bool
            False when it is not queued: do not send it.
        """
        return self._move(message, "queued", "state = 'sending', attempts = attempts + 1")

    def mark_sent(self, message: int, message_id: int | None = None) -> bool:
        """Say that Telegram took it; its payload is forgotten.

        Parameters
        ----------
        message : int
            Outbox id.
        message_id : int, optional
            Telegram's id of the message.

        Returns
        -------
        bool
            False when it was not being sent.
        """
        return self._move(message, "sending", "state = 'sent', payload = x'', message_id = ?", message_id)

    def postpone(self, message: int, until: float, reason: str = "", *, maybe_sent: bool = False) -> bool:
        """Queue a message again that Telegram refused for now.

        Parameters
        ----------
        message : int
            Outbox id.
        until : float
            Not before this time.
        reason : str
        maybe_sent : bool
            Whether the reply to the call was lost: sent again, the message may go out twice, and is counted.

        Returns
        -------
        bool
            False when it was not being sent.
        """
        change = "state = 'queued', not_before = ?, reason = ?, maybe_twice = max(maybe_twice, ?)"

        def act() -> bool:
            is_moved = self._moved(message, "sending", change, until, reason, int(maybe_sent))
            self._count_maybe_twice(int(is_moved and maybe_sent))
            return is_moved

        return self._durably(act)

    def fail(self, message: int, reason: str) -> bool:
        """Give a message up that Telegram refuses for good.

        Parameters
        ----------
        message : int
            Outbox id.
        reason : str

        Returns
        -------
        bool
            False when it was not being sent.
        """
        return self._move(message, "sending", "state = 'failed', reason = ?", reason)

    def dialogue_of(self, chat_id: int, message_id: int) -> str | None:
        """Tell which dialogue a reply to a sent message continues.

        Parameters
        ----------
        chat_id : int
        message_id : int
            Telegram's id of the message.

        Returns
        -------
        str or None
            None when it belongs to none, or is pruned.
        """
        found = "SELECT dialogue_id FROM outbox WHERE chat_id = ? AND message_id = ? AND dialogue_id IS NOT NULL"
        rows = self._durably(lambda: self._rows(found, chat_id, message_id))
        return cast("str | None", rows[0][0]) if rows else None

    def places(self, question_id: str) -> list[tuple[int, int]]:
        """Tell where the answer to a question stands.

        Parameters
        ----------
        question_id : str

        Returns
        -------
        list of (chat id, message id)
            Of the sent messages, the last part of a long answer first; empty when it was pruned or given elsewhere.
        """
        found = (
            "SELECT chat_id, message_id FROM outbox WHERE question_id = ? AND message_id IS NOT NULL ORDER BY id DESC"
        )
        return [(row[0], row[1]) for row in self._durably(lambda: self._rows(found, question_id))]

    # A person's rights

    def of_person(self, telegram_id: int) -> list[dict[str, Any]]:
        """List what waits here from or for a person, for their archive.

        Parameters
        ----------
        telegram_id : int

        Returns
        -------
        list of dict
            Kind, time and content of each.
        """

        def act() -> list[dict[str, Any]]:
            held = [
                {"kind": "update", "at": at, "content": raw.decode("utf-8", "replace")}
                for _, at, raw in self._updates_of(telegram_id)
            ]
            columns = "chat_id, method, payload, queued_at"
            query = f"SELECT {columns} FROM outbox WHERE chat_id = ? AND payload != x''"  # noqa: S608
            for chat_id, method, payload, at in self._rows(query, telegram_id):
                content = self._seal.open_payload(chat_id, method, payload).decode("utf-8", "replace")
                held.append({"kind": method, "at": at, "content": content})
            return held

        return self._durably(act)

    def erase(self, telegram_id: int) -> dict[str, int]:
        """Delete everything from or for a person; gone from the file when this returns.

        Parameters
        ----------
        telegram_id : int

        Returns
        -------
        dict of str to int
            Rows deleted by table.
        """

        def act() -> dict[str, int]:
            updates = [seq for seq, _, _ in self._updates_of(telegram_id)]
            for seq in updates:
                self._run("DELETE FROM inbox WHERE seq = ?", seq)
            return {"inbox": len(updates), "outbox": self._run("DELETE FROM outbox WHERE chat_id = ?", telegram_id)}

        counts = self._durably(act)
        self._file.fold()
        return counts

    def _updates_of(self, telegram_id: int) -> list[tuple[int, float, bytes]]:
        """Rows of updates that a person sent, or that name them in any place."""
        word = re.compile(rb'"id"\s*:\s*%d\b' % telegram_id)
        found = []
        for seq, bot_id, update_id, raw, at in self._rows(
            "SELECT seq, bot_id, update_id, raw, received_at FROM inbox WHERE raw != x''"
        ):
            opened = self._seal.open_update(bot_id, update_id, raw)
            if word.search(opened):
                found.append((seq, at, opened))
        return found

    # Housekeeping

    def counts(self) -> dict[str, int]:
        """Count what waits and what went wrong, for metrics.

        Returns
        -------
        dict of str to int
            ``inbox_pending``, ``inbox_quarantined``, ``outbox_queued``, ``outbox_sending``, ``outbox_failed``,
            ``maybe_twice`` (since the journal was made).
        """
        return counted(self._durably(lambda: self._rows(COUNT)))

    def prune(self, *, keep_s: float = 7 * DAY_S, remember_s: float = 30 * DAY_S) -> int:
        """Delete finished rows by age; ids of updates are remembered longer, so that repeats stay recognised.

        Parameters
        ----------
        keep_s : float
            Done updates, sent and failed messages older than this go; quarantined updates stay.
        remember_s : float
            Update ids older than this go too: Telegram repeats an update for a day, and numbers them anew at random
            after a quiet week. So do messages that belong to a dialogue.

        Returns
        -------
        int
            Deleted updates and messages.
        """
        now = time.time()

        def act() -> int:
            gone = self._run("DELETE FROM inbox WHERE state = 'done' AND received_at < ?", now - keep_s)
            gone += self._run(
                "DELETE FROM outbox WHERE state IN ('sent', 'failed') "
                "AND queued_at < iif(state = 'failed' OR coalesce(dialogue_id, question_id) IS NULL, ?, ?)",
                *(now - keep_s, now - remember_s),
            )
            self._run("DELETE FROM seen WHERE day < ?", int((now - remember_s) // DAY_S))
            return gone

        gone = self._durably(act)
        self._file.fold()
        return gone

    # Inside

    def _enqueue(self, outgoing: Sequence[Outgoing]) -> list[int]:
        now = time.time()
        ids = []
        for item in outgoing:
            priority = _FINAL if item.priority == "final" else _DRAFT
            payload = self._seal.payload(item.chat_id, item.method, orjson.dumps(item.payload))
            names = (item.dialogue_id, item.question_id, item.once)
            row = (item.chat_id, priority, item.method, payload, item.not_before, *names, now)
            id_ = self._file.add(
                f"INSERT INTO outbox ({_QUEUE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (once) "  # noqa: S608
                "WHERE once IS NOT NULL DO NOTHING",
                *row,
            )
            if id_ is not None:
                ids.append(id_)
        return ids

    def _move(self, message: int, state: str, change: str, *values: Any) -> bool:
        return self._durably(lambda: self._moved(message, state, change, *values))

    def _moved(self, message: int, state: str, change: str, *values: Any) -> bool:
        statement = f"UPDATE outbox SET {change} WHERE id = ? AND state = ?"  # noqa: S608  (no outside text)
        return bool(self._run(statement, *values, message, state))

    def _requeue_half_sent(self) -> tuple[int, ...]:
        rows = self._rows(
            "UPDATE outbox SET state = 'queued', maybe_twice = 1 WHERE state = 'sending' RETURNING id",
        )
        self._count_maybe_twice(len(rows))
        return tuple(sorted(row[0] for row in rows))

    def _count_maybe_twice(self, count: int) -> None:
        if count:
            statement = (
                "INSERT INTO tally VALUES ('maybe_twice', ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n"
            )
            self._run(statement, count)


def _nobody() -> None:
    """Nobody sends: there is no bot."""
