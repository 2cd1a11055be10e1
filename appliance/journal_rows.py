"""Tables of the journal, the records that come out of them, and the count of what waits."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from appliance.errors import StoreError

UpdateKey = tuple[int, int]  # (bot id, update id)
Priority = Literal["final", "draft"]

STEPS = (  # the schema's steps; SQLite's ``user_version`` counts those taken; a released step is never edited
    """
CREATE TABLE IF NOT EXISTS inbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    bot_id INTEGER NOT NULL,
    update_id INTEGER NOT NULL,
    raw BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'quarantined')),
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    received_at REAL NOT NULL,
    UNIQUE (bot_id, update_id)
);
CREATE INDEX IF NOT EXISTS inbox_pending ON inbox (seq) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS inbox_quarantined ON inbox (seq) WHERE state = 'quarantined';
CREATE TABLE IF NOT EXISTS seen (
    bot_id INTEGER NOT NULL,
    update_id INTEGER NOT NULL,
    day INTEGER NOT NULL,
    PRIMARY KEY (bot_id, update_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chat_id INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    method TEXT NOT NULL,
    payload BLOB NOT NULL,
    not_before REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sending', 'sent', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    maybe_twice INTEGER NOT NULL DEFAULT 0,
    message_id INTEGER,
    dialogue_id TEXT,
    reason TEXT NOT NULL DEFAULT '',
    queued_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_open ON outbox (chat_id, priority, id) WHERE state IN ('queued', 'sending');
CREATE INDEX IF NOT EXISTS outbox_dialogue ON outbox (chat_id, message_id) WHERE dialogue_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS outbox_failed ON outbox (id) WHERE state = 'failed';
CREATE TABLE IF NOT EXISTS tally (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
""",
    "ALTER TABLE inbox ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;",
    """
ALTER TABLE inbox ADD COLUMN shown INTEGER;
ALTER TABLE outbox ADD COLUMN once TEXT;
CREATE UNIQUE INDEX outbox_once ON outbox (once) WHERE once IS NOT NULL;
""",
    """
ALTER TABLE outbox ADD COLUMN question_id TEXT;
CREATE INDEX outbox_question ON outbox (question_id) WHERE question_id IS NOT NULL;
""",
)

COUNT = """
SELECT 'inbox_' || state, count(*) FROM inbox WHERE state = 'pending' GROUP BY state
UNION ALL SELECT 'inbox_' || state, count(*) FROM inbox WHERE state = 'quarantined' GROUP BY state
UNION ALL SELECT 'outbox_' || state, count(*) FROM outbox WHERE state IN ('queued', 'sending') GROUP BY state
UNION ALL SELECT 'outbox_' || state, count(*) FROM outbox WHERE state = 'failed' GROUP BY state
UNION ALL SELECT name, n FROM tally
"""
COUNTED = ("inbox_pending", "inbox_quarantined", "outbox_queued", "outbox_sending", "outbox_failed", "maybe_twice")


@dataclass(frozen=True, slots=True)
class Update:
    """An update as Telegram sent it.

    Attributes
    ----------
    seq : int
        Order of arrival; give the last one to `Journal.next_pending` as ``after``.
    raw : bytes
        JSON, unparsed.
    attempts : int
        How many times it was handed out, this time included; more than one means work on it was cut off.
    reason : str
        Why the last attempt failed, or why it is quarantined.
    """

    seq: int
    bot_id: int
    update_id: int
    raw: bytes
    attempts: int
    reason: str
    received_at: float

    @property
    def key(self) -> UpdateKey:
        """(bot id, update id)."""
        return (self.bot_id, self.update_id)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send.

    Attributes
    ----------
    method : str
        Bot API method, e.g. ``"sendMessage"``.
    payload : dict
        Its parameters, JSON-ready.
    priority : {'final', 'draft'}
        Finals go before drafts.
    not_before : float
        Earliest time, seconds since the epoch; 0 for at once.
    dialogue_id : str or None
        Dialogue that a reply to the sent message continues; see `Journal.dialogue_of`.
    question_id : str or None
        Question that the sent message answers; see `Journal.places`.
    once : str or None
        Names what is said: while a message of the same name is kept (a week), queueing another changes nothing.
    """

    chat_id: int
    method: str
    payload: dict[str, Any]
    priority: Priority = "final"
    not_before: float = 0.0
    dialogue_id: str | None = None
    question_id: str | None = None
    once: str | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """A message in the outbox.

    Attributes
    ----------
    attempts : int
        How many times it was marked as sending.
    maybe_twice : bool
        A crash came between an earlier call and its mark: it may have been sent already.
    """

    id: int
    chat_id: int
    method: str
    payload: dict[str, Any]
    priority: Priority
    not_before: float
    attempts: int
    maybe_twice: bool
    dialogue_id: str | None = None


def counted(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Name what `COUNT` found, zeros included."""
    found = dict(rows)
    return {name: found.get(name, 0) for name in COUNTED}


def waiting(path: Path) -> dict[str, int]:
    """Check a journal nobody has open, and count what waits in it, changing nothing.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to int
        As `Journal.counts`.

    Raises
    ------
    StoreError
        It is damaged.
    """
    mend = "Move it aside: updates and messages waiting in it are lost, unless a backup holds them."
    log = path.with_name(f"{path.name}-wal")
    is_whole = not log.exists() or not log.stat().st_size  # then SQLite makes no files beside it
    options = "mode=ro&immutable=1" if is_whole else "mode=ro"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True)) as connection:
            verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
            found = connection.execute(COUNT).fetchall()
    except sqlite3.DatabaseError as error:
        raise StoreError(f"The journal {path} cannot be read: {error}.", cure=mend) from error
    if verdict != "ok":
        raise StoreError(f"The journal {path} is damaged: {verdict[:200]}.", cure=mend)
    return counted(found)
