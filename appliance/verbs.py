"""The verbs doors are handed: everything a door may do, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from appliance.access import Access
from appliance.admission import Admission
from appliance.alerts import Alerts
from appliance.antifraud import Antifraud
from appliance.backup import Backups
from appliance.chats import Chats
from appliance.community import Community
from appliance.limits import Limits
from appliance.notices import Notices
from appliance.phrasing import Phrasing
from appliance.plans import Plans
from appliance.pool import Pool
from appliance.privacy import Privacy
from appliance.probes import Finding
from appliance.readers import Readers
from appliance.repeats import Repeats
from appliance.schema import (
    Asker,
    ChannelStatus,
    Door,
    Filters,
    FoundPost,
    ImportProgress,
    Language,
    LimitKind,
    Part,
    Post,
    PostKey,
    Question,
    QuestionRow,
    ReindexProgress,
    SearchResult,
    Story,
    Vote,
)
from appliance.sessions import Sessions
from appliance.talks import Talks


class ImportExport(Protocol):
    """Import a Telegram Desktop export, reporting progress about once a second."""

    def __call__(
        self, path: Path, *, username: str | None = None, dry_run: bool = False
    ) -> AsyncIterator[ImportProgress]:
        """See `appliance.ingest.import_export`."""


class Digest(Protocol):
    """Tell what the posts of a period say."""

    def __call__(
        self,
        asker: Asker,
        filters: Filters,
        *,
        days: int | None = 7,
        door: Door = "api",
        question_id: str | None = None,
    ) -> AsyncIterator[Part]:
        """See `appliance.digest.digest`."""


class Reindex(Protocol):
    """Move to another embedder, or back, without downtime; reports progress twice a second."""

    def __call__(self, card: str, *, rollback: bool = False, force: bool = False) -> AsyncIterator[ReindexProgress]:
        """See `appliance.reindex.reindex`."""


class Search(Protocol):
    """Find posts."""

    def __call__(self, text: str, *, asker: Asker, filters: Filters, limit: int = 10) -> Awaitable[SearchResult]:
        """See `appliance.search.search`."""


class Related(Protocol):
    """Find posts on the subject of a post."""

    def __call__(self, key: PostKey, *, asker: Asker, limit: int = 5) -> Awaitable[tuple[FoundPost, ...] | None]:
        """See `appliance.related.related`."""


class Tell(Protocol):
    """Tell what was said about a subject over time."""

    def __call__(
        self, text: str, *, asker: Asker, filters: Filters, unread: Iterable[LimitKind] = ()
    ) -> Awaitable[Story]:
        """See `appliance.story.story`."""


class Register(Protocol):
    """Create or update a member from what Telegram says of them; returns who asks."""

    def __call__(
        self, *, telegram_id: int, username: str | None, first_name: str, last_name: str | None, language: Language
    ) -> Awaitable[Asker]:
        """See `appliance.members.register`."""


class Rate(Protocol):
    """Store a rating of an answer; the last one of a person counts. False when there is no such answer."""

    def __call__(self, question_id: str, *, asker: Asker, vote: Vote, reason: str = "") -> Awaitable[bool]:
        """See `appliance.feedback.rate`."""


@dataclass(frozen=True, slots=True)
class Verbs:
    """What doors may do.

    Attributes
    ----------
    ask
        Stream the answer to a question: ``Links``, then ``Piece`` …, then ``Final``.
    search
        Find posts.
    import_export
        Import a Telegram Desktop export.
    ingest
        Take new or edited posts (live); returns how many changed something.
    register, rate
        Members and their ratings.
    channels
        Channels this asker may see, with counts.
    post
        One post for display if this asker may see it, with its link; else None.
    stats
        Figures for the operator, read from the questions' rows (JSON-ready).
    ready
        Empty when ready to answer, else the reasons.
    privacy
        Consent, archives, erasure, deleted posts.
    access
        Roles, API keys, the audit log.
    backups
        Copies of everything: made, verified, restored.
    check
        Look at the machine and the stores; with ``fix`` mend what can be mended.
    pool
        Channels: proposed, approved, live; posts as they appear.
    community
        Questions that wait, members' answers, frequent questions, corrections.
    readers
        Public channels read from outside, where that is turned on.
    repeats
        Questions asked again in groups: off, counted, pointed at.
    catch_up
        Index posts that were stored while the embedder was away; returns how many.
    digest
        Stream what the posts of a period say, as an answer.
    limits
        Reads the limits that a question names in words, and searches inside them.
    question
        The row of a question for the one who asked it; else None.
    related
        Posts on the subject of a post.
    story
        What was said about a subject over time.
    plans
        Quotas, plans and payments.
    alerts, notices
        "Tell me when somebody writes about …"; what is to be told once, to whom.
    chats
        How the bot answers in groups and their topics, and whatever else they are set to.
    talks
        Dialogues of private chats, visits, answers held for publishing, surveys.
    reindex
        Embed all posts with another model and switch to it, reporting progress.
    admission
        Who is let in, who is banned, the switch that pauses answering.
    antifraud
        Signs of abuse and what follows from them.
    sessions
        Who is logged in at the admin pages.
    phrasing
        The words members read, as changed here.
    numbers
        Figures of the last weeks, small counts left out.
    open_channel
        Open a channel to everyone, or close it to all but its members.
    """

    ask: Callable[[Question], AsyncIterator[Part]]
    search: Search
    import_export: ImportExport
    ingest: Callable[[list[Post]], Awaitable[int]]
    register: Register
    rate: Rate
    channels: Callable[[Asker], Awaitable[list[ChannelStatus]]]
    post: Callable[[PostKey, Asker], Awaitable[tuple[Post, str] | None]]
    stats: Callable[[], Awaitable[dict[str, Any]]]
    ready: Callable[[], Awaitable[list[str]]]
    privacy: Privacy
    access: Access
    backups: Backups
    check: Callable[[bool], Awaitable[list[Finding]]]
    reindex: Reindex
    digest: Digest
    limits: Limits
    question: Callable[[str, Asker], Awaitable[QuestionRow | None]]
    related: Related
    story: Tell
    plans: Plans
    pool: Pool
    community: Community
    catch_up: Callable[[], Awaitable[int]]
    repeats: Repeats
    readers: Readers
    alerts: Alerts
    notices: Notices
    chats: Chats
    talks: Talks
    guests: bool  # whether people who never wrote to the bot may ask open channels
    admission: Admission
    antifraud: Antifraud
    sessions: Sessions
    phrasing: Phrasing
    numbers: Callable[[], Awaitable[dict[str, Any]]]
    open_channel: Callable[[int, bool], Awaitable[None]]
