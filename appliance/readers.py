"""Opt-in readers for when the Bot API is off: a public channel's preview page or feed, fetched slowly and carefully."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from appliance.config import Config
from appliance.errors import BadInput, NotAllowed, PostFinderError, StoreError
from appliance.feeds import read_feed
from appliance.ledger import Ledger
from appliance.links import USERNAME
from appliance.pool import Pool, PoolEntry, bare_name
from appliance.preview import read_preview
from appliance.schema import Channel, Post
from appliance.text import clean

log = structlog.get_logger()

PREVIEWS = "https://t.me/s/"
MAX_BYTES = 4 << 20  # of a page or a feed, unpacked
TIMEOUT_S = 20.0
MOST_REDIRECTS = 3
LONGEST_WAIT_S = 86_400.0
LOOK_EVERY_S = 30.0
AGENT = "PostFinder (a community's own search; https://t.me channels of consenting owners)"


class FetchError(StoreError):
    """A page that cannot be had now; `retry_after_s` where its server says when."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet: not of this host, its network, or a cloud's metadata."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    return found.is_global and not found.is_multicast and (inner is None or inner.is_global)


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a reader may go.

    Attributes
    ----------
    may_connect : callable
        Told every address before it is connected to.
    schemes : tuple of str
    previews : str
        Base address of preview pages.
    """

    may_connect: Callable[[str], bool] = is_public
    schemes: tuple[str, ...] = ("https",)
    previews: str = PREVIEWS


@dataclass(slots=True)
class Source:
    """What is known of an address from earlier visits."""

    etag: str = ""
    modified: str = ""
    due_at: float = 0.0
    failures: int = 0


class _Guarded(AbstractResolver):
    """Resolves names; addresses that may not be connected to are as if they were not there."""

    def __init__(self, may_connect: Callable[[str], bool]) -> None:
        self._may_connect = may_connect
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = [one for one in await self._names.resolve(host, port, family) if self._may_connect(one["host"])]
        if not found:
            raise OSError("no public address")
        return found

    async def close(self) -> None:
        await self._names.close()


async def fetch(url: str, source: Source, reach: Reach) -> bytes | None:
    """Fetch a page, where it changed since the last visit.

    Parameters
    ----------
    url : str
    source : Source
        Its validators are sent, and renewed.
    reach : Reach

    Returns
    -------
    bytes or None
        None where it did not change.

    Raises
    ------
    FetchError
        It cannot be had, is too large, or leads where a reader may not go.
    """
    asked = {"User-Agent": AGENT, "Accept-Language": "ru,en;q=0.5"}
    if source.etag:
        asked["If-None-Match"] = source.etag
    if source.modified:
        asked["If-Modified-Since"] = source.modified
    connector = aiohttp.TCPConnector(resolver=_Guarded(reach.may_connect), use_dns_cache=False)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
            for _ in range(MOST_REDIRECTS + 1):
                _check(url, reach)
                async with client.get(url, headers=asked, allow_redirects=False) as reply:
                    if reply.status in {301, 302, 303, 307, 308}:
                        url = urljoin(url, reply.headers.get("Location", ""))
                        continue
                    return await _body(reply, source)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise FetchError(f"The page cannot be had ({type(error).__name__}).") from error
    raise FetchError("The page leads from one address to another too often.")


def _check(url: str, reach: Reach) -> None:
    """Refuse an address before anything is sent there; names are checked again when they are resolved."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in reach.schemes or not host or parts.username is not None:
        raise FetchError("This address is not one a reader may visit.")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    if not reach.may_connect(host):
        raise FetchError("This address is not one a reader may visit.")


async def _body(reply: aiohttp.ClientResponse, source: Source) -> bytes | None:
    if reply.status == 304:
        return None
    if reply.status != 200:
        wait = reply.headers.get("Retry-After", "")
        raise FetchError(f"HTTP {reply.status}.", retry_after_s=float(wait) if wait.isascii() and wait.isdigit() else 0)
    read = bytearray()
    async for piece in reply.content.iter_chunked(1 << 16):
        read += piece
        if len(read) > MAX_BYTES:
            raise FetchError("The page is too large.")
    source.etag, source.modified = reply.headers.get("ETag", ""), reply.headers.get("Last-Modified", "")
    return bytes(read)


@dataclass(frozen=True, slots=True)
class Readers:
    """The channels that are read from outside.

    Attributes
    ----------
    config : Config
    ledger : Ledger
    pool : Pool
        Takes their posts.
    reach : Reach
    """

    config: Config
    ledger: Ledger
    pool: Pool
    reach: Reach = field(default_factory=Reach)
    _sources: dict[int, Source] = field(default_factory=dict)

    def allowed(self, source: str) -> bool:
        """Whether the operator turned this kind of reader on."""
        return {"preview": self.config.read_previews, "feed": self.config.read_feeds}.get(source, False)

    async def add(self, name: str, *, feed: str = "") -> PoolEntry:
        """Read a public channel from now on, its preview page or a feed of it; approved, found when named.

        Parameters
        ----------
        name : str
            ``@username``.
        feed : str
            Address of an RSS or Atom feed whose items link to the channel's messages.

        Returns
        -------
        PoolEntry

        Raises
        ------
        NotAllowed
            Such readers are off.
        BadInput
            No such public channel, or a feed of a channel that is not known yet.
        FetchError
            The page cannot be had.
        """
        kind = "feed" if feed else "preview"
        if not self.allowed(kind):
            setting = "POSTFINDER_READ_FEEDS" if feed else "POSTFINDER_READ_PREVIEWS"
            raise NotAllowed(
                "Readers of this kind are off.",
                cure=f"Read docs/community.md, then set {setting}=true.",
                code="readers_off",
            )
        username = bare_name(name)
        if not USERNAME.fullmatch(username):
            raise BadInput("This is no name of a public channel.", cure="Give @name.")
        known = await asyncio.to_thread(self._known, username)
        if feed and known is None:
            raise BadInput("The channel is not known yet.", cure="Import an export of it, or add its preview first.")
        if known is None:
            body = await fetch(f"{self.reach.previews}{username}", Source(), self.reach)
            read = read_preview((body or b"").decode("utf-8", "replace"), username)
            if read is None:
                raise BadInput("There is no public channel of this name.", cure="Open t.me/s/NAME in a browser.")
            known = read[0]
            if self.ledger.pool.is_erased(known.id):
                raise BadInput("This channel was erased for good.", cure="It cannot come back.")
            await asyncio.to_thread(self.ledger.save_channel, known)
            await asyncio.to_thread(partial(self.ledger.pool.place, known.id, is_cross=False))
        change = {"state": "approved", "source": kind, "address": feed}
        await asyncio.to_thread(partial(self.ledger.pool.place, known.id, **change))
        self._sources.pop(known.id, None)
        await self.read(known.id)
        return next(entry for entry in await self.pool.entries() if entry.id == known.id)

    async def stop(self, name: str) -> PoolEntry:
        """Read a channel no longer; its posts stay.

        Raises
        ------
        BadInput
            No such channel.
        """
        entry = await self.pool.find(name)
        if entry.id is not None:
            await asyncio.to_thread(partial(self.ledger.pool.place, entry.id, source="export", address=""))
        return replace(entry, source="export")

    def _known(self, username: str) -> Channel | None:
        statuses = self.ledger.channels()
        return next((s.channel for s in statuses if (s.channel.username or "").lower() == username.lower()), None)

    async def run(self) -> None:
        """Visit every channel in its turn, for ever; at once at an end where no reader is on."""
        while self.allowed("preview") or self.allowed("feed"):
            for channel_id, standing in (await asyncio.to_thread(self.ledger.pool.standings)).items():
                source = self._sources.setdefault(channel_id, Source())
                is_wanted = standing.state == "approved" and not standing.is_live and self.allowed(standing.source)
                if is_wanted and monotonic() >= source.due_at:
                    await self.visit(channel_id)
            await asyncio.sleep(LOOK_EVERY_S)

    async def visit(self, channel_id: int) -> None:
        """Read a channel, and set when to come back: later and later while it fails."""
        source = self._sources.setdefault(channel_id, Source())
        wait_s = self.config.read_every_minutes * 60
        try:
            new = await self.read(channel_id)
            source.failures = 0
            if new:
                log.info("channel read", channel=channel_id, posts=new)
        except PostFinderError as error:
            source.failures += 1
            longer = min(wait_s * 2.0 ** min(source.failures, 10), LONGEST_WAIT_S)
            wait_s = max(longer, getattr(error, "retry_after_s", 0.0))
            log.warning("channel not read", channel=channel_id, why=type(error).__name__, failures=source.failures)
        source.due_at = monotonic() + wait_s * random.uniform(0.9, 1.1)  # noqa: S311

    async def read(self, channel_id: int) -> int:
        """Read a channel once; returns how many posts were new or edited.

        Raises
        ------
        FetchError
            Its page cannot be had.
        BadInput
            The page is no preview and no feed.
        """
        standing = await asyncio.to_thread(self.ledger.pool.standing, channel_id)
        status = await self.pool.status(channel_id)
        if standing is None or status is None or not status.channel.username:
            return 0
        source = self._sources.setdefault(channel_id, Source())
        before = (source.etag, source.modified)
        is_feed = standing.source == "feed"
        url = standing.address if is_feed else f"{self.reach.previews}{status.channel.username}"
        body = await fetch(url, source, self.reach)
        if body is None:
            return 0
        try:
            posts = await asyncio.to_thread(self._posts, body, status.channel, is_feed)
            return await self.pool.take(posts) if posts else 0
        except BaseException:
            source.etag, source.modified = before  # not taken: the same page is wanted again
            raise

    def _posts(self, body: bytes, channel: Channel, is_feed: bool) -> list[Post]:
        """Pick the posts that are new, or say something else than what is kept. Blocking."""
        if is_feed:
            read = read_feed(body, channel)
        else:
            found = read_preview(body.decode("utf-8", "replace"), channel.username or "", known_id=channel.id)
            if found is None:
                raise BadInput("The page is no preview of a channel.", cure="Open t.me/s/NAME in a browser.")
            read = found[1]
        kept = self.ledger.posts([post.key for post in read])
        parts = {other for post in kept.values() for other in post.album_ids}
        return [
            fresh
            for post in read
            if post.message_id not in parts and (fresh := _fresher(post, kept.get(post.key))) is not None
        ]


def _fresher(post: Post, kept: Post | None) -> Post | None:
    """Return what a page adds to a post that is kept; None for nothing: it says less than a live post or an export."""
    if kept is None:
        return post
    changes: dict[str, Any] = {}
    if _same(post.text) != _same(kept.text):
        changes = {"text": post.text, "links": post.links}
    if post.reactions > kept.reactions:
        changes["reactions"] = post.reactions
    return replace(kept, **changes) if changes else None


def _same(text: str) -> str:
    return "".join(clean(text).split()).casefold()
