"""What of the ledger's rows is sealed, by whom, and bound to which place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from appliance.ledger.rows import POST_COLUMNS, QUESTION_COLUMNS, content_hash, post_of
from appliance.ledger.tables import (
    album_part,
    alert,
    ban,
    faq,
    feedback,
    group_question,
    held_answer,
    member_answer,
    metadata,
    notice,
    post,
    question,
    user,
)
from appliance.vault import Vault, channel, person

SEALED: dict[str, tuple[str, ...]] = {
    user.name: ("username", "first_name", "last_name"),
    post.name: ("text", "author", "author_id", "forwarded_from", "links"),
    question.name: ("text", "query", "answer_text"),
    feedback.name: ("reason",),
    alert.name: ("text",),
    held_answer.name: ("calls",),
    notice.name: ("body",),
    ban.name: ("reason", "appeal"),
    album_part.name: ("part",),
    group_question.name: ("text",),
    member_answer.name: ("text",),
    faq.name: ("text",),
}
_POST_PLACES = [(place, column.name) for place, column in enumerate(POST_COLUMNS) if column.name in SEALED["post"]]
_QUESTION_PLACES = [
    (place, column.name) for place, column in enumerate(QUESTION_COLUMNS) if column.name in SEALED["question"]
]
_CHANNEL_AT = POST_COLUMNS.index(post.c.channel_id)
_MESSAGE_AT = POST_COLUMNS.index(post.c.message_id)
_ID_AT = QUESTION_COLUMNS.index(question.c.question_id)
_USER_AT = QUESTION_COLUMNS.index(question.c.user_id)


def seal_row(vault: Vault | None, table: str, values: dict[str, Any]) -> dict[str, Any]:
    """Seal a row's personal fields and texts.

    Parameters
    ----------
    vault : Vault or None
        None leaves the row as it is.
    table : str
        Of `SEALED`.
    values : dict
        Values by column name, its key among them.

    Returns
    -------
    dict
        A copy with sealed values; None and what is empty stay so.
    """
    if vault is None:
        return values
    owner, row = owner_of(table, values)
    sealed = dict(values)
    for column in SEALED[table]:
        value = values.get(column)
        if value:
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
            sealed[column] = vault.seal(owner, f"{table}.{column}:{row}", text)
    return sealed


def open_row(vault: Vault | None, table: str, values: dict[str, Any]) -> dict[str, Any]:
    """Open what `seal_row` sealed; fields whose key was destroyed are empty.

    Parameters
    ----------
    vault : Vault or None
    table : str
    values : dict

    Returns
    -------
    dict
    """
    if vault is None:
        return values
    owner, row = owner_of(table, values)
    opened = dict(values)
    for column in SEALED[table]:
        if opened.get(column):
            opened[column] = _opened(vault, owner, table, column, row, opened[column])
    return opened


def open_post(vault: Vault | None, row: Sequence[Any]) -> Sequence[Any]:
    """Open a row of `POST_COLUMNS`."""
    if vault is None:
        return row
    values = list(row)
    owner, place = channel(values[_CHANNEL_AT]), f"{values[_CHANNEL_AT]}/{values[_MESSAGE_AT]}"
    for at, column in _POST_PLACES:
        if values[at]:
            values[at] = _opened(vault, owner, "post", column, place, values[at])
    return values


def open_question(vault: Vault | None, row: Sequence[Any]) -> Sequence[Any]:
    """Open a row of `QUESTION_COLUMNS`."""
    if vault is None:
        return row
    values = list(row)
    owner = person(values[_USER_AT])
    for at, column in _QUESTION_PLACES:
        if values[at]:
            values[at] = _opened(vault, owner, "question", column, values[_ID_AT], values[at])
    return values


def owner_of(table: str, values: dict[str, Any]) -> tuple[str, str]:
    """Name whose key seals a row (its person's, else its channel's), and the row itself by its primary key."""
    columns = metadata.tables[table]
    owner = person(values["user_id"]) if "user_id" in columns.c else channel(values["channel_id"])
    return owner, "/".join(str(values[column.name]) for column in columns.primary_key.columns)


def seal_table(vault: Vault, connection: sa.Connection, table: sa.Table, page: int = 2000) -> int:
    """Seal the plain rows of a table that was written before there was a vault; doing it again changes nothing.

    Parameters
    ----------
    vault : Vault
    connection : sqlalchemy.Connection
        In a transaction.
    table : sqlalchemy.Table
    page : int
        Rows held in memory at once.

    Returns
    -------
    int
        Rows sealed.
    """
    key = list(table.primary_key.columns)
    after: tuple[Any, ...] | None = None
    count = 0
    while True:
        statement = sa.select(*table.c).order_by(*key).limit(page)
        if after is not None:
            statement = statement.where(sa.tuple_(*key) > sa.tuple_(*after))
        rows = [dict(row) for row in connection.execute(statement).mappings()]
        if not rows:
            return count
        last = tuple(rows[-1][column.name] for column in key)
        in_page = sa.tuple_(*key) <= sa.tuple_(*last)
        if after is not None:
            in_page = sa.and_(in_page, sa.tuple_(*key) > sa.tuple_(*after))
        after = last
        if table is post:
            digest_key = vault.hash_key("post")
            rows = [{**row, "content_hash": content_hash(post_of(_plain(row)), digest_key)} for row in rows]
        connection.execute(sa.delete(table).where(in_page))
        connection.execute(sa.insert(table), [seal_row(vault, table.name, row) for row in rows])
        count += len(rows)


def _plain(row: dict[str, Any]) -> list[Any]:
    return [row[column.name] for column in POST_COLUMNS]


def _opened(vault: Vault, owner: str, table: str, column: str, row: str, value: Any) -> Any:
    text = vault.open_text(owner, f"{table}.{column}:{row}", value)
    if column == "links":
        return orjson.loads(text) if text else []
    return text
