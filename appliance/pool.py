"""The pool of channels: proposed, approved or refused, live through the bot; their posts taken in as they appear."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from appliance import ingest
from appliance.config import Config
from appliance.errors import BadInput, NotAllowed, StoreError
from appliance.index import Index
from appliance.ledger import Ledger
from appliance.ledger.channels import Standing
from appliance.links import USERNAME
from appliance.notices import Notice, Notices
from appliance.privacy import Privacy, Receipt
from appliance.schema import Asker, Channel, ChannelState, ChannelStatus, Post
from appliance.telegram_export import join_album
from models.errors import ModelError

log = structlog.get_logger()

DECIDE = frozenset({"owner", "admin"})
MOST_KEPT_WAITING = 500  # posts of a channel that nobody has approved yet; further ones are not kept
MOST_WAITING = 100  # channels; further ones are not kept either
MOST_PROPOSED = 5  # channels a member may propose before they are decided on
ALBUM = 10  # most messages of one


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """A channel of the pool, or one that is proposed.

    Attributes
    ----------
    id : int or None
        None for one that is only proposed.
    proposed_by : int
        How many members proposed it.
    """

    id: int | None
    title: str
    username: str | None
    state: ChannelState
    is_cross: bool = True
    is_live: bool = False
    is_open: bool = True
    source: str = "export"
    posts: int = 0
    proposed_by: int = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """The stores, and what may be done with channels.

    Attributes
    ----------
    config : Config
    ledger : Ledger
    index : Index
    privacy : Privacy
        Removes a channel with its posts.
    notices : Notices
        What people are told once.
    take : callable
        Takes new or edited posts.
    edited : callable
        Told of posts as they were and as they are.
    """

    config: Config
    ledger: Ledger
    index: Index
    privacy: Privacy
    notices: Notices
    take: Callable[[list[Post]], Awaitable[int]]
    edited: ingest.Edited

    # The bot in a channel

    async def added(self, channel: Channel, adder_id: int | None) -> ChannelState:
        """Note that the bot is an admin of a channel now.

        Parameters
        ----------
        channel : Channel
        adder_id : int or None
            Who made it one, where the ledger knows them.

        Returns
        -------
        {'approved', 'waiting', 'refused'}
        """
        role = await asyncio.to_thread(self.ledger.access.role, adder_id)
        is_ours = role in DECIDE and self.config.approve_channels_of_admins
        standing = await self._enter(channel, is_ours=is_ours)
        if standing is None:
            return "refused"
        await self._act("channel.added", adder_id, channel.id, {"state": standing.state})
        if adder_id is not None and not standing.is_cross and standing.state != "refused":
            ask = Notice(f"consent:{channel.id}", adder_id, "consent", {"channel": channel.id}, datetime.now(UTC))
            await self.notices.add([ask])
        return standing.state

    async def removed(self, channel_id: int) -> None:
        """Note that the bot is no admin there any more: what it holds stays, marked."""
        standing = await asyncio.to_thread(self.ledger.pool.standing, channel_id)
        if standing is not None and standing.is_live:
            await asyncio.to_thread(partial(self.ledger.pool.place, channel_id, is_live=False))
            await self._act("channel.left", None, channel_id)

    async def renamed(self, channel: Channel) -> bool:
        """Take the name that Telegram says a known channel has now; returns whether it is another one."""
        return await asyncio.to_thread(self.ledger.pool.rename, channel)

    async def _enter(self, channel: Channel, *, is_ours: bool = False) -> Standing | None:
        """Give a channel that sends us posts its place; None for one that was erased, or has no room to wait."""
        return await asyncio.to_thread(self._entered, channel, is_ours)

    def _entered(self, channel: Channel, is_ours: bool) -> Standing | None:
        pool = self.ledger.pool
        if pool.is_erased(channel.id):
            return None
        standing = pool.standing(channel.id)
        statuses = self.ledger.channels()
        is_known = any(status.channel.id == channel.id for status in statuses)
        if standing is not None and is_known:
            if pool.rename(channel):
                self.ledger.access.record("channel.renamed", subject=str(channel.id))
            if is_ours and standing.state == "waiting":
                return pool.place(channel.id, state="approved", is_cross=True, is_live=True)
            return standing if standing.is_live else pool.place(channel.id, is_live=True)
        state: ChannelState = "approved" if is_ours or is_known else "waiting"
        if state == "waiting" and sum(status.state == "waiting" for status in statuses) >= MOST_WAITING:
            log.warning("a channel finds no room in the pool", channel=channel.id)
            return None
        self.ledger.save_channel(channel)
        changes: dict[str, Any] = {"state": state, "is_cross": state == "approved", "is_live": True, "source": "bot"}
        standing = pool.place(channel.id, **changes)
        if state == "waiting":
            self.tell_staff(f"ch-waits:{channel.id}", "channel_waits", {"channel": channel.id})
        return standing

    def tell_staff(self, name: str, kind: str, detail: dict[str, Any]) -> None:
        """Tell every owner and admin once. Blocking."""
        now = datetime.now(UTC)
        staff = self.ledger.community.staff(DECIDE)
        self.notices.put(Notice(f"{name}:{one}", one, kind, detail, now) for one in staff)

    # Posts as they appear

    async def post(self, channel: Channel, post: Post, *, has_caption: bool, album: str | None = None) -> int:
        """Take a post that appeared or was edited; the same one again changes nothing.

        Parameters
        ----------
        channel : Channel
            As Telegram names it now.
        post : Post
            Of one message, reactions left out.
        has_caption : bool
        album : str, optional
            Telegram's ``media_group_id``.

        Returns
        -------
        int
            How many posts were new or edited.
        """
        standing = await self._enter(channel)
        if standing is None or standing.state == "refused":
            return 0
        if standing.state == "waiting":
            held = await asyncio.to_thread(self.ledger.post_ids, channel.id)
            if len(held) >= MOST_KEPT_WAITING and post.message_id not in held:
                return 0
        posts = await asyncio.to_thread(self._whole, post, has_caption, album)
        try:
            return await self.take(posts)
        except (ModelError, StoreError) as error:
            kept = await asyncio.to_thread(partial(ingest.keep, posts, ledger=self.ledger, edited=self.edited))
            log.warning("posts kept, to be indexed later", why=type(error).__name__, posts=kept)
            return kept

    def _whole(self, post: Post, has_caption: bool, album: str | None) -> list[Post]:
        """Join a message with the rest of its album, and with the reactions that are known. Blocking."""
        ledger, channel_id = self.ledger, post.channel_id
        if album is None:
            stored = ledger.posts([post.key]).get(post.key)
            return [post if stored is None else replace(post, reactions=stored.reactions)]
        if any(ledger.people.unwanted([replace(post, message_id=one)]) for one in self._album_of(post, album)):
            return []  # a message of it was deleted for good
        known = ledger.pool.part(channel_id, post.message_id)
        if known is not None:
            post = replace(post, reactions=known[1].reactions)
            if known[1].edited_at and (post.edited_at is None or post.edited_at < known[1].edited_at):
                post, has_caption = known[1], known[2]  # an older copy came late
        parts = ledger.pool.keep_part(album, post, has_caption)
        joined = join_album(parts)
        heads = {one.message_id for one in joined}
        near = [(channel_id, post.message_id - back) for back in range(ALBUM) if post.message_id - back > 0]
        stored_posts = ledger.posts([*near, *((channel_id, part.message_id) for part, _ in parts)])
        imported = next(
            (one for one in stored_posts.values() if post.message_id in one.album_ids and one.message_id not in heads),
            None,
        )
        if imported is not None and len(parts) == 1:  # an album that an import joined: only this message is known anew
            return [replace(imported, text=post.text, edited_at=post.edited_at)] if has_caption else []
        stale = [key for key in stored_posts if key[1] not in heads and any(key == part.key for part, _ in parts)]
        if stale:
            ingest.withdraw(stale, index=self.index, ledger=ledger)
        return [self._as_imported(one, stored_posts.get(one.key)) for one in joined]

    def _album_of(self, post: Post, album: str) -> list[int]:
        """Ids of the album's messages that are known, this one's first."""
        return [post.message_id, *self.ledger.pool.album_ids(post.channel_id, album)]

    @staticmethod
    def _as_imported(post: Post, stored: Post | None) -> Post:
        """Keep what an import knew of an album and the live messages do not show: its other ids, its reactions."""
        if stored is None or not set(stored.album_ids) - set(post.album_ids):
            return post
        return replace(post, album_ids=stored.album_ids, reactions=max(post.reactions, stored.reactions))

    async def reacted(self, channel_id: int, message_id: int, reactions: int) -> bool:
        """Take the number of reactions to a message; returns whether it belongs to a post that is kept."""
        return await asyncio.to_thread(self._reacted, channel_id, message_id, min(reactions, 2**31 - 1))

    def _reacted(self, channel_id: int, message_id: int, reactions: int) -> bool:
        ledger = self.ledger
        known = ledger.pool.part(channel_id, message_id)
        if known is None:
            stored = ledger.posts([(channel_id, message_id)]).get((channel_id, message_id))
            if stored is None:
                return False
            count = max(reactions, stored.reactions) if stored.album_ids else reactions
            ledger.save_posts([replace(stored, reactions=count)])
            return True
        album, part, has_caption = known
        parts = ledger.pool.keep_part(album, replace(part, reactions=reactions), has_caption)
        joined = {one.key: one for one in join_album(parts)}
        stored_posts = ledger.posts(list(joined))
        ledger.save_posts([replace(one, reactions=joined[key].reactions) for key, one in stored_posts.items()])
        return bool(stored_posts)

    # What people decide

    async def propose(self, asker: Asker, name: str) -> str:
        """Note that a member proposes a channel.

        Parameters
        ----------
        asker : Asker
        name : str
            ``@name`` or its link.

        Returns
        -------
        {'proposed', 'again', 'known'}

        Raises
        ------
        BadInput
            No name of a channel, or too many proposals wait.
        NotAllowed
            Nobody known proposes.
        """
        username = (
            name.strip().removeprefix("https://").removeprefix("t.me/").removeprefix("s/").lstrip("@").rstrip("/")
        )
        if not USERNAME.fullmatch(username):
            raise BadInput(
                "This is no name of a public channel.", cure="Send @name or t.me/name.", code="channel_usage"
            )
        if asker.user_id is None:
            raise NotAllowed("Only members propose channels.", cure="Write to the bot first.")
        return await asyncio.to_thread(self._propose, asker.user_id, username.lower())

    def _propose(self, user_id: int, username: str) -> str:
        for status in self.ledger.channels():
            if (status.channel.username or "").lower() == username and status.state != "refused":
                return "known"
        pool = self.ledger.pool
        mine = [name for name, *_ in pool.requests(user_id)]
        if username in mine:
            return "again"
        if len(mine) >= MOST_PROPOSED:
            raise BadInput("Too many proposals wait.", cure="Wait until they are decided on.", code="channels_enough")
        if not pool.request(username, user_id):
            return "again"
        self.tell_staff(f"ch-proposed:{username}", "channel_proposed", {"username": username})
        return "proposed"

    async def entries(self) -> list[PoolEntry]:
        """List the pool: what waits first, then by title."""
        return await asyncio.to_thread(self._entries)

    def _entries(self) -> list[PoolEntry]:
        proposed = {name: count for name, count, _ in self.ledger.pool.requests()}
        standings = self.ledger.pool.standings()
        found = []
        for status in self.ledger.channels():
            channel = status.channel
            found.append(
                PoolEntry(
                    id=channel.id,
                    title=channel.title,
                    username=channel.username,
                    state=status.state,
                    is_cross=channel.is_cross,
                    is_live=status.is_live,
                    is_open=channel.is_open,
                    source=standings.get(channel.id, Standing()).source,
                    posts=status.posts,
                    proposed_by=proposed.pop((channel.username or "").lower(), 0),
                )
            )
        found += [
            PoolEntry(None, f"@{name}", name, "waiting", is_cross=False, source="proposal", proposed_by=count)
            for name, count in proposed.items()
        ]
        return sorted(found, key=lambda entry: (entry.state != "waiting", entry.title.casefold()))

    async def decide(self, name: str, state: ChannelState, *, user_id: int | None = None) -> PoolEntry:
        """Approve or refuse a channel, or one that is proposed; who proposed it is told.

        A refused channel's posts are removed; posts of it are not taken until it is approved.

        Parameters
        ----------
        name : str
            ``@username``, title or id.
        state : {'approved', 'refused'}
        user_id : int, optional
            Who decides.

        Returns
        -------
        PoolEntry

        Raises
        ------
        BadInput
            No such channel.
        """
        entry = await self.find(name)
        if entry.id is not None:
            await asyncio.to_thread(partial(self.ledger.pool.place, entry.id, state=state))
            if state == "refused":
                keys = [(entry.id, one) for one in await asyncio.to_thread(self.ledger.post_ids, entry.id)]
                await asyncio.to_thread(partial(ingest.withdraw, keys, index=self.index, ledger=self.ledger))
        if entry.username:
            who = await asyncio.to_thread(self.ledger.pool.decide, entry.username, state)
            detail = {"username": entry.username, "is_here": entry.id is not None}
            now = datetime.now(UTC)
            told = [Notice(f"ch-{state}:{entry.username}:{one}", one, f"channel_{state}", detail, now) for one in who]
            await self.notices.add(told)
        await self._act(f"channel.{state}", user_id, entry.id or entry.username or "")
        return replace(entry, state=state)

    async def consent(self, name: str, given: bool, *, user_id: int | None = None) -> PoolEntry:
        """Note whether a channel's owner agrees that it is found without being named.

        Parameters
        ----------
        name : str
        given : bool
        user_id : int, optional
            Who says so.

        Returns
        -------
        PoolEntry

        Raises
        ------
        BadInput
            No such channel.
        """
        entry = await self.find(name)
        if entry.id is None:
            cure = "Import it, or make the bot an admin there."
            raise BadInput("This channel is only proposed.", cure=cure, code="only_proposed")
        await asyncio.to_thread(partial(self.ledger.pool.place, entry.id, is_cross=given))
        await self._act("channel.consent", user_id, entry.id, {"given": given})
        return replace(entry, is_cross=given)

    async def remove(self, name: str, *, user_id: int | None = None) -> Receipt:
        """Erase a channel with its posts and its key; it never comes back.

        Raises
        ------
        BadInput
            No such channel.
        """
        receipt = await self.privacy.forget_channel(name)
        await self._act("channel.forget", user_id, "", {"receipt": receipt.receipt_id})
        return receipt

    async def status(self, channel_id: int) -> ChannelStatus | None:
        """Return a channel with its counts, whatever its state."""
        statuses = await asyncio.to_thread(self.ledger.channels)
        return next((status for status in statuses if status.channel.id == channel_id), None)

    async def find(self, name: str) -> PoolEntry:
        """Find a channel of the pool by ``@username``, title or id.

        Raises
        ------
        BadInput
            No such channel.
        """
        wanted = bare_name(name).casefold()
        entries = await self.entries()
        found = [
            entry
            for entry in entries
            if wanted in {str(entry.id), (entry.username or "-").casefold()} or wanted == entry.title.casefold()
        ]
        if len(found) != 1:
            raise BadInput(
                "There is no such channel.", cure="`postfinder channel list` lists them.", code="no_such_channel"
            )
        return found[0]

    async def _act(self, kind: str, user_id: int | None, subject: object, detail: dict[str, Any] | None = None) -> None:
        await self.privacy.act(kind, user_id, str(subject), detail)


def bare_name(name: str) -> str:
    """Take a channel's name as people type it: ``@name``, ``t.me/name``, its preview's address."""
    return name.strip().removeprefix("https://").removeprefix("t.me/").removeprefix("s/").lstrip("@").rstrip("/")
