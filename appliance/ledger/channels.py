"""The pool of channels: approved, live, proposed, agreed to by their owners; albums that come message by message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from appliance.ledger.database import Database
from appliance.ledger.rows import post_of, post_values, storable
from appliance.ledger.sealing import open_row, seal_row
from appliance.ledger.tables import album_part, channel, channel_request, channel_state
from appliance.schema import Channel, ChannelState, ChannelStatus, Language, Post
from appliance.texts import say
from appliance.vault import Vault


@dataclass(frozen=True, slots=True)
class Standing:
    """A channel's place in the pool; that of an imported channel is the default.

    Attributes
    ----------
    state : {'approved', 'waiting', 'refused'}
    is_cross : bool
        Found without being named.
    is_live : bool
        The bot is an admin there.
    source : {'export', 'bot', 'preview', 'feed'}
        Where its posts come from.
    address : str
        Of the feed.
    changed_at : datetime or None
    """

    state: ChannelState = "approved"
    is_cross: bool = True
    is_live: bool = False
    source: str = "export"
    address: str = ""
    changed_at: datetime | None = None


def titled(status: ChannelStatus, language: Language) -> ChannelStatus:
    """Title members' answers in a reader's language; of a closed channel's answers its own title stays behind.

    Parameters
    ----------
    status : ChannelStatus
    language : {'ru', 'en'}

    Returns
    -------
    ChannelStatus
        Any other channel as it is.
    """
    if status.channel.kind != "answers":
        return status
    _, colon, of = status.channel.title.partition(": ")
    title = f"{say('members_answers', language)}{colon}{of}"
    return replace(status, channel=replace(status.channel, title=title))


class Channels:
    """What the ledger holds of the pool; blocking, thread-safe.

    Parameters
    ----------
    database : Database
    vault : Vault or None
    changed : callable
        Told after a change: the list of channels is another one.
    """

    def __init__(self, database: Database, vault: Vault | None, changed: Callable[[], None]) -> None:
        self._database = database
        self._vault = vault
        self._changed = changed

    def is_erased(self, channel_id: int) -> bool:
        """Whether a channel was erased with its key: nothing more is kept of it."""
        return self._vault is not None and self._vault.is_gone(f"channel:{channel_id}")

    def standing(self, channel_id: int) -> Standing | None:
        """Return a channel's place; None for one that nobody decided on."""
        names = Standing.__dataclass_fields__
        statement = sa.select(*(channel_state.c[name] for name in names)).where(
            channel_state.c.channel_id == channel_id
        )
        rows = self._database.read(statement)
        return Standing(*rows[0]) if rows else None

    def standings(self) -> dict[int, Standing]:
        """Return the places of all channels that have one."""
        names = Standing.__dataclass_fields__
        columns = (channel_state.c.channel_id, *(channel_state.c[name] for name in names))
        return {row[0]: Standing(*row[1:]) for row in self._database.read(sa.select(*columns))}

    def place(self, channel_id: int, **changes: Any) -> Standing:
        """Change a channel's place; what is not named stays, or is as for an imported channel.

        Parameters
        ----------
        channel_id : int
        **changes
            Fields of `Standing`.

        Returns
        -------
        Standing
            As it is now.
        """
        columns = [channel_state.c[name] for name in Standing.__dataclass_fields__]
        mine = channel_state.c.channel_id == channel_id

        def act(connection: sa.Connection) -> Standing:
            row = connection.execute(sa.select(*columns).where(mine)).first()
            before = Standing(*row) if row else Standing()
            values = {name: getattr(before, name) for name in Standing.__dataclass_fields__}
            values |= {**changes, "changed_at": datetime.now(UTC)}
            connection.execute(sa.delete(channel_state).where(mine))
            connection.execute(sa.insert(channel_state).values(channel_id=channel_id, **values))
            return Standing(**values)

        return self._database.write(act, after=lambda _: self._changed())

    def rename(self, renamed: Channel) -> bool:
        """Give a channel the name that Telegram says it has now, none included; one that became private is closed.

        Returns
        -------
        bool
            Whether anything changed.
        """
        columns = (channel.c.title, channel.c.username, channel.c.kind)
        mine = channel.c.channel_id == renamed.id
        now = (storable(renamed.title), renamed.username, renamed.kind)
        rows = self._database.read(sa.select(*columns).where(mine))
        if not rows or tuple(rows[0]) == now:
            return False
        values: dict[str, Any] = dict(zip(("title", "username", "kind"), now, strict=True))
        if rows[0].kind.startswith("public") and renamed.kind.startswith("private"):
            values["is_open"] = False
        statement = sa.update(channel).where(mine).values(**values)
        self._database.write(lambda connection: connection.execute(statement), after=lambda _: self._changed())
        return True

    # What members propose

    def request(self, username: str, user_id: int) -> bool:
        """Note that a member proposes a channel; False when they did before."""
        row = {"username": username, "user_id": user_id, "state": "waiting", "asked_at": datetime.now(UTC)}
        statement = insert(channel_request).values(**row).on_conflict_do_nothing()
        known = sa.select(channel_request.c.state).where(
            channel_request.c.username == username, channel_request.c.user_id == user_id
        )

        def act(connection: sa.Connection) -> bool:
            if connection.execute(known).first() is not None:
                return False
            connection.execute(statement)
            return True

        return self._database.write(act)

    def requests(self, user_id: int | None = None) -> list[tuple[str, int, datetime]]:
        """List what is proposed and waits: channel, by how many, since when; or what one person proposed."""
        waiting = channel_request.c.state == "waiting"
        chosen = waiting if user_id is None else sa.and_(waiting, channel_request.c.user_id == user_id)
        when = channel_request.c.asked_at
        name = channel_request.c.username
        rows = self._database.read(
            sa.select(name, sa.func.count(), sa.func.min(when, type_=when.type)).where(chosen).group_by(name)
        )
        return [(row[0], row[1], row[2]) for row in rows]

    def decide(self, username: str, state: ChannelState) -> list[int]:
        """Settle the proposals of a channel; returns who made them."""
        mine = sa.and_(channel_request.c.username == username.lower(), channel_request.c.state == "waiting")

        def act(connection: sa.Connection) -> list[int]:
            who = [row[0] for row in connection.execute(sa.select(channel_request.c.user_id).where(mine))]
            connection.execute(sa.update(channel_request).where(mine).values(state=state))
            return who

        return self._database.write(act)

    # Albums

    def keep_part(self, group_id: str, part: Post, has_caption: bool) -> list[tuple[Post, bool]]:
        """Keep a message of an album, in place of an older copy of it.

        Parameters
        ----------
        group_id : str
            Telegram's ``media_group_id``.
        part : Post
            Of one message.
        has_caption : bool

        Returns
        -------
        list of (Post, bool)
            All messages of the album that are known, by id, each with its own reactions; whether it has a caption.
        """
        mine = sa.and_(album_part.c.channel_id == part.channel_id, album_part.c.message_id == part.message_id)
        album = sa.and_(album_part.c.channel_id == part.channel_id, album_part.c.group_id == group_id)

        def act(connection: sa.Connection) -> None:
            row = {
                "channel_id": part.channel_id,
                "message_id": part.message_id,
                "group_id": group_id,
                "part": orjson.dumps({**post_values(part), "content_hash": has_caption}).decode(),
            }
            connection.execute(sa.delete(album_part).where(mine))
            connection.execute(sa.insert(album_part).values(seal_row(self._vault, "album_part", row)))

        self._database.write(act)
        return self._parts(album)

    def part(self, channel_id: int, message_id: int) -> tuple[str, Post, bool] | None:
        """Return a kept message of an album, with the album's name."""
        mine = sa.and_(album_part.c.channel_id == channel_id, album_part.c.message_id == message_id)
        rows = self._database.read(sa.select(album_part.c.group_id).where(mine))
        return (rows[0][0], *self._parts(mine)[0]) if rows else None

    def album_ids(self, channel_id: int, group_id: str) -> list[int]:
        """Return the ids of an album's messages that are kept."""
        album = sa.and_(album_part.c.channel_id == channel_id, album_part.c.group_id == group_id)
        return [row[0] for row in self._database.read(sa.select(album_part.c.message_id).where(album))]

    def _parts(self, condition: sa.ColumnElement[bool]) -> list[tuple[Post, bool]]:
        statement = sa.select(*album_part.c).where(condition).order_by(album_part.c.message_id)
        rows = [open_row(self._vault, "album_part", dict(row._mapping)) for row in self._database.read(statement)]
        return [_part_of(row["part"]) for row in rows if row["part"]]


def _part_of(written: str) -> tuple[Post, bool]:
    values = orjson.loads(written)
    has_caption = bool(values.pop("content_hash"))  # of a part alone there is no version
    for name in ("posted_at", "edited_at"):
        values[name] = values[name] and datetime.fromisoformat(values[name]).astimezone(UTC)
    return post_of(list(values.values())), has_caption
