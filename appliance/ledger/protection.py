"""A ledger and its vault brought together at opening: plain rows sealed, erased people and channels kept erased."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from appliance.errors import StartupError
from appliance.ledger.database import Database
from appliance.ledger.posts import has_key, pages
from appliance.ledger.sealing import seal_table
from appliance.ledger.tables import (
    album_part,
    channel_tables,
    chat_tables,
    feedback,
    personal_tables,
    post,
    question,
    setting,
    unindexed,
    user,
)
from appliance.schema import PostKey
from appliance.vault import Vault

SEALED_WITH = "sealed_with"  # setting: id of the vault
REWRITE_DUE = "rewrite_due"  # setting: something was erased that may still stand in the file


def protect(database: Database, vault: Vault | None) -> list[str]:
    """Seal what is not sealed, and remove what an old backup brought back.

    Parameters
    ----------
    database : Database
    vault : Vault or None

    Returns
    -------
    list of str
        What was done, for the operator.

    Raises
    ------
    StartupError
        The ledger is sealed and there is no vault, or it is another's.
    """
    rows = database.read(sa.select(setting.c.value).where(setting.c.name == SEALED_WITH))
    sealed_with = rows[0][0] if rows else None
    if vault is None:
        if sealed_with is not None:
            raise StartupError(f"The ledger {database.path} is sealed.", cure="Open it with its vault.")
        return []
    if sealed_with not in {None, vault.id}:
        raise StartupError(
            f"The ledger {database.path} is sealed with another vault's keys.",
            cure="Set POSTFINDER_KEY_FILE to the master key that belongs to it.",
        )
    notes = []
    if sealed_with is None:
        count = database.write(lambda connection: _seal(connection, vault))
        if count:
            notes.append(f"{count} rows written before there was a vault are sealed now.")
    if gone := forget_gone(database, vault):
        notes.append(f"{gone} rows of erased people, channels and posts came back with a backup and were removed.")
    return notes


def _seal(connection: sa.Connection, vault: Vault) -> int:
    count = sum(seal_table(vault, connection, table) for table in (user, post, question, feedback))
    remember(connection, SEALED_WITH, vault.id)
    if count:
        remember(connection, REWRITE_DUE, True)
    return count


def forget_gone(database: Database, vault: Vault) -> int:
    """Delete the rows of everyone and everything the vault knows to be erased.

    Parameters
    ----------
    database : Database
    vault : Vault

    Returns
    -------
    int
        Rows deleted.
    """
    people = [int(name.split(":")[1]) for name in vault.gone("user:")]
    channels = [int(name.split(":")[1]) for name in vault.gone("channel:")]
    posts = buried(vault)

    def forget(connection: sa.Connection) -> int:
        gone = 0
        for start in range(0, len(people), 1000):
            gone += sum(erase_people(connection, people[start : start + 1000]).values())
        for channel_id in channels:
            gone += erase_channel(connection, channel_id)
        for page in pages(posts):
            gone += connection.execute(sa.delete(post).where(has_key(post, page))).rowcount
            connection.execute(sa.delete(unindexed).where(has_key(unindexed, page)))
            forget_parts(connection, page)
        if gone:
            remember(connection, REWRITE_DUE, True)
        return gone

    return database.write(forget) if people or channels or posts else 0


def buried(vault: Vault) -> list[PostKey]:
    """List the posts that were deleted for good."""
    keys = (name.removeprefix("post:").split("/") for name in vault.gone("post:"))
    return [(int(channel_id), int(message_id)) for channel_id, message_id in keys]


def erase_people(connection: sa.Connection, user_ids: list[int]) -> dict[str, int]:
    """Delete everything of these people.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction.
    user_ids : list of int

    Returns
    -------
    dict of str to int
        Rows deleted by table.
    """
    asked = sa.select(question.c.question_id).where(question.c.user_id.in_(user_ids))
    others = connection.execute(sa.delete(feedback).where(feedback.c.question_id.in_(asked))).rowcount
    chats = sa.select(user.c.telegram_id).where(user.c.user_id.in_(user_ids))
    counts = {
        str(table.name): connection.execute(sa.delete(table).where(table.c.chat_id.in_(chats))).rowcount
        for table in chat_tables()
    }
    counts |= {
        str(table.name): connection.execute(sa.delete(table).where(table.c.user_id.in_(user_ids))).rowcount
        for table in personal_tables()
    }
    counts["feedback"] += others
    return counts


def erase_channel(connection: sa.Connection, channel_id: int) -> int:
    """Delete a channel, its posts and the rights to it; returns the rows."""
    return sum(
        connection.execute(sa.delete(table).where(table.c.channel_id == channel_id)).rowcount
        for table in channel_tables()
    )


def forget_parts(connection: sa.Connection, keys: Sequence[PostKey]) -> None:
    """Delete the messages of the albums that these posts are, or belong to."""
    groups = sa.select(album_part.c.group_id).where(has_key(album_part, keys))
    channels = {channel_id for channel_id, _ in keys}
    same = sa.and_(album_part.c.channel_id.in_(channels), album_part.c.group_id.in_(groups))
    connection.execute(sa.delete(album_part).where(same))


def is_rewrite_due(database: Database) -> bool:
    """Whether the file may still hold what was erased or sealed."""
    return bool(database.read(sa.select(setting.c.value).where(setting.c.name == REWRITE_DUE)))


def rewritten(database: Database) -> None:
    """Note that the file was written anew."""
    database.write(lambda connection: connection.execute(sa.delete(setting).where(setting.c.name == REWRITE_DUE)))


def remember(connection: sa.Connection, name: str, value: object) -> None:
    """Store a setting within a transaction."""
    connection.execute(sa.delete(setting).where(setting.c.name == name))
    connection.execute(sa.insert(setting).values(name=name, value=value, updated_at=datetime.now(UTC)))
