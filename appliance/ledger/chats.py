"""What chats are set to: by chat, topic of the chat and name; read from memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from appliance.ledger.database import Database
from appliance.ledger.tables import chat_setting

WHOLE = 0  # as a topic: the whole chat


class Chats:
    """Settings of chats and their topics; writing blocks, reading does not; thread-safe.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        columns = (chat_setting.c.chat_id, chat_setting.c.topic_id, chat_setting.c.name, chat_setting.c.value)
        self._values: dict[tuple[int, int, str], Any] = {
            (row[0], row[1], row[2]): row[3] for row in database.read(sa.select(*columns))
        }

    def get(self, chat_id: int, topic_id: int | None, name: str, default: Any = None) -> Any:
        """Return what a topic is set to, else its chat, else the default.

        Parameters
        ----------
        chat_id : int
        topic_id : int or None
            None for a chat without topics, and for its general one.
        name : str
        default : object

        Returns
        -------
        object
            JSON.
        """
        own = self._values.get((chat_id, topic_id or WHOLE, name))
        return own if own is not None else self._values.get((chat_id, WHOLE, name), default)

    def set(self, chat_id: int, topic_id: int | None, name: str, value: Any) -> None:
        """Set a topic, or with None the whole chat; a value of None takes the setting away.

        Parameters
        ----------
        chat_id : int
        topic_id : int or None
        name : str
            At most 32 characters.
        value : object
            Anything JSON holds.
        """
        key = (chat_id, topic_id or WHOLE, name)
        where = sa.and_(*(chat_setting.c[column] == part for column, part in zip(_KEY, key, strict=True)))

        def save(connection: sa.Connection) -> None:
            connection.execute(sa.delete(chat_setting).where(where))
            if value is not None:
                row = {**dict(zip(_KEY, key, strict=True)), "value": value, "set_at": datetime.now(UTC)}
                connection.execute(sa.insert(chat_setting).values(row))

        self._database.write(save)
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def of(self, name: str) -> dict[tuple[int, int], Any]:
        """Return everything that is set under a name, by chat and topic."""
        return {(chat, topic): value for (chat, topic, own), value in list(self._values.items()) if own == name}

    def move(self, chat_id: int, new_id: int) -> None:
        """Carry a group's settings over to the supergroup it became."""

        def act(connection: sa.Connection) -> None:
            connection.execute(sa.delete(chat_setting).where(chat_setting.c.chat_id == new_id))
            moved = sa.update(chat_setting).where(chat_setting.c.chat_id == chat_id).values(chat_id=new_id)
            connection.execute(moved)

        self._database.write(act)
        for key in [key for key in list(self._values) if key[0] == chat_id]:
            self._values[new_id, key[1], key[2]] = self._values.pop(key)


_KEY = ("chat_id", "topic_id", "name")
