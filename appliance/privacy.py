"""Rights of people over what is kept: consent, an archive of everything, erasure with a receipt, deleted posts."""

from __future__ import annotations

import asyncio
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import structlog

from appliance.config import Config
from appliance.errors import BadInput, NotAllowed
from appliance.index import Index
from appliance.journal import Journal
from appliance.ledger import Ledger
from appliance.links import parse_link
from appliance.schema import Broken, Channel, Post, PostKey
from appliance.telegram_export import find_export, read_export
from appliance.vault import Vault, person
from appliance.vault import channel as channel_owner

log = structlog.get_logger()

NOTICE_VERSION = 1  # of the privacy notice; another number asks everyone anew
MOST_ABSENT = 0.2  # share of a channel's posts a sync removes without being told twice
MODERATORS = frozenset({"owner", "admin", "moderator"})


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of an erasure, free of personal data."""

    receipt_id: str
    kind: str
    erased_at: datetime
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a newer, complete export no longer holds."""

    channel: str
    first: int
    last: int
    stored: int
    absent: int
    removed: int


@dataclass(frozen=True, slots=True)
class Privacy:
    """The stores, and what may be done with what they hold of people.

    Attributes
    ----------
    removing : callable
        Told of posts before they are removed.
    erasing : callable
        Told of a person before they are erased; returns the posts that hold their words.
    """

    config: Config
    ledger: Ledger
    index: Index
    journal: Journal
    vault: Vault
    removing: Callable[[Sequence[PostKey]], None] = lambda keys: None
    erasing: Callable[[int], Sequence[PostKey]] = lambda user_id: ()

    async def agree(self, user_id: int) -> None:
        """Record that a person agreed to the notice in force."""
        await asyncio.to_thread(self.ledger.people.agree, user_id, NOTICE_VERSION)

    async def has_agreed(self, user_id: int) -> bool:
        """Whether a person agreed to the notice in force."""
        given = await asyncio.to_thread(self.ledger.people.consent, user_id)
        return given is not None and given[0] >= NOTICE_VERSION

    async def user_id(self, telegram_id: int) -> int | None:
        """Return the ledger's id of a person Telegram knows; None for one who is not registered."""
        found = await asyncio.to_thread(self.ledger.people.find, f"telegram:{telegram_id}")
        return None if found is None else found.user_id

    def periods(self) -> dict[str, int]:
        """Return the retention periods in force, in days; 0 is for ever."""
        return {
            "questions": self.config.keep_questions_days,
            "events": self.config.keep_events_days,
            "people": self.config.keep_quiet_people_days,
        }

    async def archive(self, who: str) -> bytes:
        """Collect everything about a person.

        Parameters
        ----------
        who : str
            ``@username``, the ledger's user id, or ``telegram:`` and Telegram's id.

        Returns
        -------
        bytes
            A ZIP of ``postfinder.json`` and ``postfinder.md``, the same for programs and for reading.

        Raises
        ------
        BadInput
            Nobody of that name is known.
        """
        return await asyncio.to_thread(self._archive, who)

    def _archive(self, who: str) -> bytes:
        found = self._find(who)
        rows: dict[str, Any] = self.ledger.people.archive(found.user_id)
        rows["journal"] = self.journal.of_person(found.telegram_id)
        content = {"made_at": datetime.now(UTC), "retention_days": self.periods(), **rows}
        lines = ["# PostFinder", "", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", ""]
        for table, held in rows.items():
            lines += [f"## {table}: {len(held)}", ""] if held else []
            for row in held:
                lines += [f"- **{name}**: {_shown(value)}" for name, value in row.items()] + [""]
        if empty := [table for table, held in rows.items() if not held]:
            lines += [f"Empty: {', '.join(empty)}.", ""]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
            archive.writestr("postfinder.json", orjson.dumps(content, option=options, default=str))
            archive.writestr("postfinder.md", "\n".join(lines))
        return packed.getvalue()

    async def erase(self, who: str) -> Receipt:
        """Erase a person everywhere: key, tables, journal; the key's end makes every backup unreadable too.

        Parameters
        ----------
        who : str
            As for `archive`.

        Returns
        -------
        Receipt

        Raises
        ------
        BadInput
            Nobody of that name is known.
        """
        return await asyncio.to_thread(self._erase, who)

    def _erase(self, who: str) -> Receipt:
        found = self._find(who)
        if words := self.erasing(found.user_id):
            self._forget_posts(list(words), "posts")
            self.ledger.community.drop_answers(list(words))
        # First the key: if anything stops what follows, the next start finishes it.
        self.vault.note_gone([f"telegram:{self.vault.blind('telegram', str(found.telegram_id))}"])
        counts = {"key": int(self.vault.destroy(person(found.user_id)))}
        counts |= self.ledger.people.erase(found.user_id)
        counts |= self.journal.erase(found.telegram_id)
        return self._receipt("person", counts)

    async def forget_posts(self, keys: Sequence[PostKey], *, kind: str = "posts") -> Receipt:
        """Remove posts for good: from the ledger, the index and the answers made of them; they never come back.

        Parameters
        ----------
        keys : sequence of PostKey
        kind : str
            Of the receipt.

        Returns
        -------
        Receipt
        """
        return await asyncio.to_thread(self._forget_posts, list(keys), kind)

    def _forget_posts(self, keys: list[PostKey], kind: str) -> Receipt:
        albums = [(one.channel_id, other) for one in self.ledger.posts(keys).values() for other in one.album_ids]
        self.removing(keys)
        self.ledger.people.bury([*keys, *albums])
        counts = {"post": self.ledger.remove_posts(keys)}
        counts["answers"] = self.ledger.people.drop_answers(keys)
        self.index.remove(keys)
        self.index.compact()
        return self._receipt(kind, counts)

    async def forget_link(self, link: str, *, user_id: int | None = None, is_operator: bool = False) -> Receipt:
        """Remove the post a link points to.

        Parameters
        ----------
        link : str
            ``https://t.me/name/12`` or ``https://t.me/c/1465826763/12``.
        user_id : int, optional
            Who wants it.
        is_operator : bool
            The operator's own shell.

        Returns
        -------
        Receipt

        Raises
        ------
        NotAllowed
            Neither the operator nor a moderator.
        BadInput
            No post of a known channel.
        """
        if not is_operator and await asyncio.to_thread(self.ledger.access.role, user_id) not in MODERATORS:
            raise NotAllowed("Only moderators remove posts.", cure="Ask the owner.")
        channels = [status.channel for status in await asyncio.to_thread(self.ledger.channels)]
        key = _key_of(link, channels)
        if key is None or not await asyncio.to_thread(self.ledger.posts, [key]):
            raise BadInput("There is no such post here.", cure="Copy the link from the post in Telegram.")
        receipt = await self.forget_posts([key])
        await self.act("post.forget", user_id, f"{key[0]}/{key[1]}", {"receipt": receipt.receipt_id})
        return receipt

    async def forget_channel(self, name: str) -> Receipt:
        """Erase a channel with its key: unreadable in every backup.

        Parameters
        ----------
        name : str
            ``@username``, title or id.

        Returns
        -------
        Receipt

        Raises
        ------
        BadInput
            No such channel.
        """
        return await asyncio.to_thread(self._forget_channel, name)

    def _forget_channel(self, name: str) -> Receipt:
        wanted = name.lstrip("@").casefold()
        found = [
            status.channel
            for status in self.ledger.channels()
            if wanted in {str(status.channel.id), (status.channel.username or "-").casefold()}
            or wanted == status.channel.title.casefold()
        ]
        if len(found) != 1:
            raise BadInput("There is no such channel.", cure="`postfinder channels` lists them.")
        channel_id = found[0].id
        keys = [(channel_id, message_id) for message_id in self.ledger.post_ids(channel_id)]
        self.removing(keys)
        counts = {"key": int(self.vault.destroy(channel_owner(channel_id)))}
        counts["answers"] = self.ledger.people.drop_answers(keys)
        counts["post"] = len(keys)
        counts["rows"] = self.ledger.forget_channel(channel_id)
        self.index.remove(keys)
        self.index.compact()
        return self._receipt("channel", counts)

    async def opt_out(self, author_id: str) -> Receipt:
        """Keep no more posts of an author, and remove those there are.

        Parameters
        ----------
        author_id : str
            ``user123`` or ``channel123``.

        Returns
        -------
        Receipt

        Raises
        ------
        BadInput
            No such id can be.
        """
        if not re.fullmatch(r"(?:user|channel)\d{1,15}", author_id):
            raise BadInput("This is no author's id.", cure="Write user123456 or channel123456.")
        keys = await asyncio.to_thread(self.ledger.people.opt_out, author_id)
        return await self.forget_posts(keys, kind="author")

    async def sync(
        self, path: Path, *, dry_run: bool, username: str | None = None, all_of_them: bool = False
    ) -> list[SyncReport]:
        """Remove the posts that a newer, complete export no longer holds, within its range of ids.

        Parameters
        ----------
        path : Path
            Telegram Desktop's ``result.json``, or its folder.
        dry_run : bool
            Count only.
        username : str, optional
            Public name of the channel.
        all_of_them : bool
            Also when more than a fifth of the range would go.

        Returns
        -------
        list of SyncReport

        Raises
        ------
        BadInput
            Something in the export could not be read, or too much would go.
        """
        held = await asyncio.to_thread(_ids_of, path, username)
        reports = []
        for channel, ids in held:
            if not ids:
                continue
            first, last = min(ids), max(ids)
            stored = [one for one in await asyncio.to_thread(self.ledger.post_ids, channel.id) if first <= one <= last]
            absent = [(channel.id, one) for one in stored if one not in ids]
            if len(absent) > MOST_ABSENT * len(stored) and not dry_run and not all_of_them:
                raise BadInput(
                    f"{len(absent)} of {len(stored)} posts of «{channel.title}» are not in this export.",
                    cure="If that is right, say so with --all-of-them.",
                )
            removed = 0
            if absent and not dry_run:
                removed = (await self.forget_posts(absent)).counts["post"]
                await self.act("channel.sync", None, str(channel.id), {"removed": removed})
            reports.append(SyncReport(channel.title, first, last, len(stored), len(absent), removed))
        return reports

    async def rotate(self) -> int:
        """Make a new master key; returns how many data keys it wraps now."""
        count = await asyncio.to_thread(self.vault.rotate)
        await self.act("key.rotate", None, "", {"wrapped": count})
        return count

    async def expire(self) -> dict[str, int]:
        """Delete what is older than its retention period.

        Returns
        -------
        dict of str to int
            Rows deleted by table, and ``person`` for people erased.
        """
        periods = self.periods()
        counts, quiet = await asyncio.to_thread(
            self.ledger.people.expire,
            questions_days=periods["questions"],
            events_days=periods["events"],
            quiet_days=periods["people"],
        )
        counts |= await asyncio.to_thread(partial(self.ledger.community.expire, questions_days=periods["questions"]))
        for user_id in quiet:
            await self.erase(str(user_id))
        counts["person"] = len(quiet)
        if any(counts.values()):
            log.info("retention", counts=counts)
        return counts

    async def act(self, kind: str, user_id: int | None, subject: str, detail: dict[str, Any] | None = None) -> None:
        """Write an administrative act into the audit log.

        Parameters
        ----------
        kind : str
        user_id : int or None
            Who did it; None for the operator's shell.
        subject : str
            Without personal data.
        detail : dict, optional
        """
        await asyncio.to_thread(self.ledger.access.record, kind, actor_id=user_id, subject=subject, detail=detail)

    def _find(self, who: str) -> Any:
        found = self.ledger.people.find(who)
        if found is None:
            raise BadInput("Nobody of that name is known.", cure="Give @username, the user id, or telegram:123.")
        return found

    def _receipt(self, kind: str, counts: dict[str, int]) -> Receipt:
        receipt = Receipt(**self.ledger.people.save_receipt(kind, counts))
        log.info("erased", kind=kind, receipt=receipt.receipt_id, counts=counts)
        return receipt


def _ids_of(path: Path, username: str | None) -> list[tuple[Channel, set[int]]]:
    """Ids of all posts of each channel of an export, albums' other messages included."""
    found: list[tuple[Channel, set[int]]] = []
    for item in read_export(find_export(path), username=username):
        if isinstance(item, Channel):
            found.append((item, set()))
        elif isinstance(item, Broken):
            raise BadInput(f"The export is not whole: {item.reason}", cure="Export the channel again.")
        elif isinstance(item, Post) and found:
            found[-1][1].update((item.message_id, *item.album_ids))
    return found


def _key_of(link: str, channels: Sequence[Channel]) -> PostKey | None:
    """Read the link of a post of a known channel."""
    parsed = parse_link(link)
    if parsed is None:
        return None
    name, message_id = parsed
    for channel in channels:
        if name == channel.id or (isinstance(name, str) and name.casefold() == (channel.username or "").casefold()):
            return channel.id, message_id
    return None


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
