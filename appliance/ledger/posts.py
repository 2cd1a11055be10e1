"""Posts as rows: which copy of a post counts, what a batch changes, rows by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from appliance.ledger.rows import content_hash, post_values, storable_post
from appliance.ledger.sealing import seal_row
from appliance.ledger.tables import fresh_post, post, unindexed
from appliance.schema import Post, PostKey
from appliance.vault import Vault

FRESH = timedelta(days=2)  # an older post is history: nobody is told of it


@dataclass(frozen=True, slots=True)
class PostChanges:
    """What a batch of posts changes; each key stands in exactly one list, in the order given."""

    new: list[PostKey]
    edited: list[PostKey]
    same: list[PostKey]  # nothing to index: unchanged, older than what is stored, or only its reactions moved


@dataclass(frozen=True, slots=True)
class Sorted:
    """A batch against what is stored."""

    changes: PostChanges
    fresh: list[Post]  # new
    stale: list[Post]  # stored in another version: edited, or only other reactions


def pages(keys: Sequence[PostKey], size: int = 2000) -> Iterator[Sequence[PostKey]]:
    """Cut a list of keys into statements of a bearable length.

    Parameters
    ----------
    keys : sequence of PostKey
    size : int
        Keys a page, at most.

    Yields
    ------
    sequence of PostKey
    """
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def has_key(table: sa.Table, keys: Sequence[PostKey]) -> sa.ColumnElement[bool]:
    """Make the condition that a row's (channel id, message id) is among ``keys``.

    Message ids are written into the statement: binding them is ten times slower in DuckDB.

    Parameters
    ----------
    table : sqlalchemy.Table
        With columns ``channel_id`` and ``message_id``.
    keys : sequence of PostKey

    Returns
    -------
    sqlalchemy.ColumnElement
        False for no keys.
    """
    by_channel: dict[int, list[int]] = {}
    for channel_id, message_id in keys:
        by_channel.setdefault(int(channel_id), []).append(int(message_id))
    conditions = []
    for channel_id, message_ids in by_channel.items():
        ids = sa.bindparam(None, message_ids, sa.BigInteger, unique=True, expanding=True, literal_execute=True)
        conditions.append(sa.and_(table.c.channel_id == channel_id, table.c.message_id.in_(ids)))
    return sa.or_(sa.false(), *conditions)


def newest(posts: Iterable[Post]) -> dict[PostKey, Post]:
    """Keep each key once: of several copies the one with the newest edit, of equals the later one.

    Parameters
    ----------
    posts : iterable of Post

    Returns
    -------
    dict of PostKey to Post
        Storable, in the order of first appearance.
    """
    latest: dict[PostKey, Post] = {}
    for item in posts:
        known = latest.get(item.key)
        if known is None or not _older(item.edited_at, known.edited_at):
            latest[item.key] = storable_post(item)
    return latest


def _older(edited_at: datetime | None, than: datetime | None) -> bool:
    return than is not None and (edited_at is None or edited_at < than)


def sort_posts(connection: sa.Connection, latest: dict[PostKey, Post], vault: Vault | None = None) -> Sorted:
    """Compare posts with what is stored.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    latest : dict of PostKey to Post
        From `newest`.
    vault : Vault, optional
        Seals the texts.

    Returns
    -------
    Sorted
    """
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
    found = Sorted(PostChanges([], [], []), [], [])
    digest_key = vault.hash_key("post") if vault else b""
    for key, item in latest.items():
        known = stored.get(key)
        if known is None:
            found.changes.new.append(key)
            found.fresh.append(item)
            continue
        digest, edited_at, reactions = known
        if _older(item.edited_at, edited_at):
            found.changes.same.append(key)
        elif digest != content_hash(item, digest_key):
            found.changes.edited.append(key)
            found.stale.append(item)
        else:
            found.changes.same.append(key)
            if item.reactions != reactions or item.edited_at != edited_at:
                found.stale.append(item)
    return found


def store(connection: sa.Connection, latest: dict[PostKey, Post], vault: Vault | None = None) -> Sorted:
    """Write what is new or changed, and remember it as not yet indexed.

    A changed post is deleted and inserted anew: DuckDB takes thousands of rows at once that way, and updates them one
    by one.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction.
    latest : dict of PostKey to Post
        From `newest`.
    vault : Vault, optional
        Seals the texts.

    Returns
    -------
    Sorted
    """
    found = sort_posts(connection, latest, vault)
    for page in pages([item.key for item in found.stale]):
        connection.execute(sa.delete(post).where(has_key(post, page)))
    if found.fresh or found.stale:
        digest_key = vault.hash_key("post") if vault else b""
        rows = [seal_row(vault, "post", post_values(item, digest_key)) for item in found.fresh + found.stale]
        connection.execute(sa.insert(post), rows)
    to_index = found.changes.new + found.changes.edited
    if to_index:
        waiting = [{"channel_id": channel_id, "message_id": message_id} for channel_id, message_id in to_index]
        connection.execute(sa.insert(unindexed), waiting)
    since = datetime.now(UTC) - FRESH
    if fresh := [key for key in found.changes.new if latest[key].date >= since]:
        rows = [{"channel_id": channel_id, "message_id": message_id} for channel_id, message_id in fresh]
        connection.execute(sa.insert(fresh_post), rows)
    return found
