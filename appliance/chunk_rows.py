"""Chunks as rows of LanceDB: the columns, what is sealed in them, and the conditions that choose rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import numpy as np
import orjson
import pyarrow as pa

from appliance.dense import Vectors
from appliance.hot import Scope, microseconds
from appliance.schema import Chunk, PostKey
from appliance.vault import Vault
from appliance.vault import channel as owner_of


def table_schema(dim: int) -> pa.Schema:
    """Return the columns of a table of vectors of a length."""
    return pa.schema(
        [
            # Without the primary key two writers could each insert the same row.
            pa.field("id", pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"}),
            pa.field("channel_id", pa.int64(), nullable=False),
            pa.field("message_id", pa.int64(), nullable=False),
            pa.field("ordinal", pa.int32(), nullable=False),
            pa.field("date_us", pa.int64(), nullable=False),
            pa.field("author", pa.string()),
            pa.field("media", pa.string()),
            pa.field("fingerprint", pa.int64(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("lemmas", pa.string(), nullable=False),
            pa.field("sealed", pa.binary()),  # text, lemmas and author, when there is a vault
            pa.field("vector", pa.list_(pa.float32(), dim), nullable=False),
        ]
    )


def to_arrow(
    chunks: Sequence[Chunk], lemmas: Sequence[Sequence[str]], vectors: Vectors, dim: int, vault: Vault | None
) -> pa.Table:
    """Write chunks as rows.

    Parameters
    ----------
    chunks : sequence of Chunk
    lemmas : sequence of sequence of str
        Of each chunk.
    vectors : numpy.ndarray
        ``(len(chunks), dim)`` float32.
    dim : int
    vault : Vault or None
        Seals texts; words and authors become names that say nothing.

    Returns
    -------
    pyarrow.Table
    """
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    ids = [f"{c.channel_id}/{c.message_id}/{c.ordinal}" for c in chunks]
    texts, authors = [c.text for c in chunks], [c.author for c in chunks]
    words: list[Sequence[str]] = list(lemmas)
    sealed: list[bytes | None] = [None] * len(chunks)
    if vault is not None:
        for place, (chunk, own) in enumerate(zip(chunks, lemmas, strict=True)):
            content = orjson.dumps([chunk.text.encode("utf-8", "replace").decode(), " ".join(own), chunk.author])
            sealed[place] = vault.seal_bytes(owner_of(chunk.channel_id), f"chunk:{ids[place]}", content)
        names: dict[str, str] = {}
        words = [
            [names.get(word) or names.setdefault(word, vault.blind("lemma", word)) for word in own] for own in lemmas
        ]
        texts = [""] * len(chunks)
        authors = [author and blind_author(vault, author) for author in authors]
    columns = {
        "id": ids,
        "channel_id": [c.channel_id for c in chunks],
        "message_id": [c.message_id for c in chunks],
        "ordinal": [c.ordinal for c in chunks],
        "date_us": [microseconds(c.date) for c in chunks],
        "author": authors,
        "media": [c.media for c in chunks],
        "fingerprint": [c.fingerprint for c in chunks],
        "text": texts,
        "lemmas": [" ".join(row) for row in words],
        "sealed": sealed,
        "vector": pa.FixedSizeListArray.from_arrays(flat, dim),
    }
    return pa.table(columns, schema=table_schema(dim))


def contents_of(table: pa.Table, vault: Vault | None) -> list[tuple[str, list[str], str | None]]:
    """Text, lemmas and author of each row; empty where the channel's key was destroyed."""
    if vault is None:
        lemmas = [row.split(" ") if row else [] for row in table["lemmas"].to_pylist()]
        return list(zip(table["text"].to_pylist(), lemmas, table["author"].to_pylist(), strict=True))
    found: list[tuple[str, list[str], str | None]] = []
    columns = (table[name].to_pylist() for name in ("id", "channel_id", "sealed"))
    for key, channel_id, sealed in zip(*columns, strict=True):
        content = vault.open_bytes(owner_of(channel_id), f"chunk:{key}", sealed)
        if content is None:
            found.append(("", [], None))
            continue
        text, words, author = orjson.loads(content)
        found.append((text, words.split(" ") if words else [], author))
    return found


def rows_of(table: pa.Table, vault: Vault | None) -> list[tuple[Chunk, list[str]]]:
    """Chunks of a table with their lemmas."""
    names = ("channel_id", "message_id", "ordinal", "date_us", "media", "fingerprint")
    columns = [table[name].to_pylist() for name in names]
    return [
        (
            Chunk(owner, message, ordinal, text, datetime.fromtimestamp(at / 1e6, UTC), author, media, fingerprint),
            lemmas,
        )
        for owner, message, ordinal, at, media, fingerprint, (text, lemmas, author) in zip(
            *columns, contents_of(table, vault), strict=True
        )
    ]


def blind_author(vault: Vault, author: str) -> str:
    """Names that say nothing, one for each word of an author's name."""
    return " ".join(vault.blind("author", word) for word in author.casefold().split())


def vectors_of(table: pa.Table, dim: int) -> Vectors:
    """Vectors of the rows, ``(len(table), dim)`` float32."""
    flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return cast("Vectors", flat.reshape(-1, dim))


def distinct(table: pa.Table) -> pa.Table:
    """Keep the first row of each id."""
    places = {key: place for place, key in reversed(list(enumerate(table["id"].to_pylist())))}
    return table.take(pa.array(sorted(places.values()), pa.int64())).combine_chunks()


def quoted(value: str) -> str:
    """Write a string of SQL."""
    return "'" + value.replace("'", "''") + "'"


def posts_condition(posts: Sequence[PostKey]) -> str:
    """Write the SQL condition of the rows of these posts."""
    by_channel: dict[int, list[int]] = {}
    for channel, message in posts:
        by_channel.setdefault(channel, []).append(message)
    return " OR ".join(
        f"(channel_id = {channel} AND message_id IN ({', '.join(map(str, messages))}))"
        for channel, messages in by_channel.items()
    )


def scope_condition(scope: Scope, vault: Vault | None = None) -> str:
    """Write the SQL condition of a scope; of sealed authors only whole words are found."""
    parts = ["true"]
    if scope.channels is not None:
        parts.append(f"channel_id IN ({', '.join(map(str, sorted(scope.channels)))})" if scope.channels else "false")
    if scope.since is not None:
        parts.append(f"date_us >= {microseconds(scope.since)}")
    if scope.until is not None:
        parts.append(f"date_us < {microseconds(scope.until)}")
    if scope.author is not None and vault is not None:
        parts += [f"contains(author, '{name}')" for name in blind_author(vault, scope.author).split()]
    elif scope.author is not None:
        parts.append(f"contains(lower(author), {quoted(scope.author.casefold())})")
    if scope.media == "any":
        parts.append("media IS NOT NULL")
    elif scope.media is not None:
        parts.append(f"media = {quoted(scope.media)}")
    return " AND ".join(parts)
