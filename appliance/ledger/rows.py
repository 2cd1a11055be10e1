"""Records to table rows and back. Columns stand in the order of the records' fields."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any

import orjson

from appliance.ledger.tables import post, question
from appliance.schema import Post, QuestionRow

POST_COLUMNS = [column for column in post.c if column.name != "content_hash"]
QUESTION_COLUMNS = list(question.c)
_ALBUM_AT = POST_COLUMNS.index(post.c.album_ids)
_LINKS_AT = POST_COLUMNS.index(post.c.links)
_POSTS_AT = QUESTION_COLUMNS.index(question.c.posts)


def storable(text: str) -> str:
    """Drop what PostgreSQL (NUL) and UTF-8 (lone surrogates) cannot hold.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    if "\x00" in text:
        text = text.replace("\x00", "")
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def storable_post(item: Post) -> Post:
    """Do the same to a post's texts.

    Parameters
    ----------
    item : Post

    Returns
    -------
    Post
        The same one when there is nothing to drop.
    """
    texts = {
        "text": storable(item.text),
        "author": None if item.author is None else storable(item.author),
        "forwarded_from": None if item.forwarded_from is None else storable(item.forwarded_from),
        "links": tuple(storable(link) for link in item.links),
    }
    changed = {name: value for name, value in texts.items() if value != getattr(item, name)}
    return replace(item, **changed) if changed else item  # type: ignore[arg-type]


def content_hash(item: Post, key: bytes = b"") -> str:
    """Digest everything in a post but its edit time and reactions.

    Parameters
    ----------
    item : Post
        As `storable_post` leaves it.
    key : bytes, optional
        Of the digest, so that a sealed text cannot be guessed from it.

    Returns
    -------
    str
        BLAKE2b, 32 hexadecimal digits. With ``edited_at`` it is the version of the post.
    """
    fields = (
        item.date.astimezone(UTC),
        item.text,
        item.author,
        item.author_id,
        item.topic_id,
        item.reply_to_id,
        item.forwarded_from,
        item.media,
        item.album_ids,
        item.links,
    )
    return hashlib.blake2b(orjson.dumps(fields), digest_size=16, key=key).hexdigest()


def post_values(item: Post, key: bytes = b"") -> dict[str, Any]:
    """Turn a post into a row.

    Parameters
    ----------
    item : Post
        As `storable_post` leaves it.
    key : bytes, optional
        See `content_hash`.

    Returns
    -------
    dict
        Values by column name.
    """
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
        "content_hash": content_hash(item, key),
    }


def post_of(row: Sequence[Any]) -> Post:
    """Turn a row of `POST_COLUMNS` into a post.

    Parameters
    ----------
    row : sequence

    Returns
    -------
    Post
    """
    values = list(row)
    values[_ALBUM_AT] = tuple(values[_ALBUM_AT])
    values[_LINKS_AT] = tuple(values[_LINKS_AT])
    return Post(*values)


def question_values(row: QuestionRow) -> dict[str, Any]:
    """Turn a question into a row.

    Parameters
    ----------
    row : QuestionRow

    Returns
    -------
    dict
        Values by column name.
    """
    return {
        "question_id": row.id,
        "dialogue_id": row.dialogue_id,
        "user_id": row.user_id,
        "door": row.door,
        "asked_at": row.asked_at,
        "text": storable(row.text),
        "query": storable(row.query),
        "language": row.language,
        "outcome": row.outcome,
        "model": row.model,
        "posts": [list(key) for key in row.posts],
        "answer_text": storable(row.answer_text),
        "relevance": float(row.relevance),
        "tokens": row.tokens,
        "times_ms": {name: float(value) for name, value in row.times_ms.items()},
    }


def question_of(row: Sequence[Any]) -> QuestionRow:
    """Turn a row of `QUESTION_COLUMNS` into a question.

    Parameters
    ----------
    row : sequence

    Returns
    -------
    QuestionRow
    """
    values = list(row)
    values[_POSTS_AT] = tuple((channel_id, message_id) for channel_id, message_id in values[_POSTS_AT])
    return QuestionRow(*values)
