"""What travels over HTTP: bodies asked for, dates as typed, records as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from appliance.errors import BadInput
from appliance.schema import Chapter, Filters, Language, Limit, LimitKind, Post, SearchResult, Story, Vote
from appliance.wording import limit_words, period_words

MAX_CHANNELS = 64
MAX_LIMIT = 50
MAX_REASON_CHARS = 500
FIRST_YEAR, LAST_YEAR = 2000, 2100  # Telegram began in 2013; a year outside is a slip of the keyboard


def _whole(text: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("half of a character (a lone surrogate)")
    return text


def _printable(text: str) -> str:
    if any(letter < " " or letter == "\x7f" for letter in text):
        raise ValueError("control characters")
    return _whole(text)


Words = Annotated[str, AfterValidator(_whole)]
Name = Annotated[str, AfterValidator(_printable), Field(min_length=1, max_length=256)]
ChannelNames = Annotated[
    list[Name] | None,
    Field(max_length=MAX_CHANNELS, description="Search only these channels: @name, title or id.", examples=[["@news"]]),
]
Since = Annotated[
    Name | None, Field(description="Posts from this day or moment on (ISO 8601).", examples=["2026-01-31"])
]
Until = Annotated[
    Name | None, Field(description="Posts before this day or moment (ISO 8601; exclusive).", examples=["2026-03-01"])
]
Author = Annotated[Name | None, Field(description="Posts signed by this author.")]
Media = Annotated[Name | None, Field(description="Posts with this: photo, video, file, voice, audio, poll, or any.")]
Unread = Annotated[
    list[LimitKind],
    Field(max_length=4, description="Kinds of limits not to be read from the words («за прошлую неделю»)."),
]
Tongue = Annotated[Language | None, Field(description="Language of remarks and errors; else Accept-Language.")]


class AskBody(BaseModel):
    """A question to answer."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[Words, Field(description="The question, in any words.")]
    channels: ChannelNames = None
    since: Since = None
    until: Until = None
    author: Author = None
    media: Media = None
    unread: Unread = []
    dialogue_id: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Continue this dialogue: an answer's `dialogue_id`."),
    ] = None
    language: Tongue = None


class DigestBody(BaseModel):
    """A period to tell of."""

    model_config = ConfigDict(extra="forbid")

    days: Annotated[int, Field(ge=1, le=3660, strict=True, description="Days back from the newest post.")] = 7
    channels: ChannelNames = None
    since: Since = None
    until: Until = None
    author: None = None
    media: None = None
    language: Tongue = None


class SearchBody(BaseModel):
    """A query to search posts with."""

    model_config = ConfigDict(extra="forbid")

    query: Annotated[Words, Field(description="What to find.")]
    channels: ChannelNames = None
    since: Since = None
    until: Until = None
    author: Author = None
    media: Media = None
    unread: Unread = []
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, strict=True, description="Most posts returned.")] = 10
    language: Tongue = None


class StoryBody(BaseModel):
    """A subject to tell the story of."""

    model_config = ConfigDict(extra="forbid")

    subject: Annotated[Words, Field(description="What it is about.")]
    channels: ChannelNames = None
    since: Since = None
    until: Until = None
    author: Author = None
    media: Media = None
    unread: Unread = []
    language: Tongue = None


class RatingBody(BaseModel):
    """What someone thinks of an answer; the last word of a person counts."""

    model_config = ConfigDict(extra="forbid")

    vote: Vote
    reason: Annotated[Words, Field(max_length=MAX_REASON_CHARS)] = ""
    language: Tongue = None


class ImportBody(BaseModel):
    """An export on the appliance's own disk."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[Name, Field(max_length=4096, description="Telegram Desktop's result.json, or its folder.")]
    username: Annotated[Name | None, Field(description="Public name of the channel.")] = None
    dry_run: Annotated[bool, Field(strict=True, description="Read and count; store nothing.")] = False


class ReindexBody(BaseModel):
    """The embedder to move to."""

    model_config = ConfigDict(extra="forbid")

    card: Annotated[str, Field(pattern=r"^[a-z0-9.-]{0,64}$", description="Its model card; not used by a rollback.")]
    rollback: Annotated[bool, Field(strict=True, description="Go back to the embedder before.")] = False
    force: Annotated[bool, Field(strict=True, description="Switch even if it finds less.")] = False


class WhoBody(BaseModel):
    """Whom or what an act concerns."""

    model_config = ConfigDict(extra="forbid")

    who: Annotated[Name, Field(description="@username, user id or telegram:123; a channel; user123 for an author.")]


class PlanBody(BaseModel):
    """A plan; no limit where none is given."""

    name: Annotated[str, Field(min_length=1, max_length=32)]
    stars: Annotated[int, Field(ge=0, le=10_000)] = 0
    per_day: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    per_month: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    is_retired: bool = False


class GrantBody(BaseModel):
    """A plan for a person, for some days or for good."""

    who: Annotated[str, Field(min_length=1, max_length=64)]
    plan: Annotated[str, Field(min_length=1, max_length=32)]
    days: Annotated[int, Field(ge=1, le=3650)] | None = None


class RefundBody(BaseModel):
    """A payment to give back, by Telegram's id of it."""

    model_config = ConfigDict(extra="forbid")

    charge_id: Annotated[str, Field(min_length=1, max_length=256)]


class BanPersonBody(BaseModel):
    """A ban; without days it has no end."""

    model_config = ConfigDict(extra="forbid")

    who: Name
    days: Annotated[float, Field(gt=0, le=3650)] | None = None
    reason: Annotated[str, Field(max_length=500)] = ""


class WordBody(BaseModel):
    """What members are told while answering is paused; empty for the usual words."""

    model_config = ConfigDict(extra="forbid")

    word: Annotated[str, Field(max_length=500)] = ""


class RoleBody(BaseModel):
    """A role for a person."""

    model_config = ConfigDict(extra="forbid")

    who: Name
    role: Name


class MembershipBody(BaseModel):
    """A person's right to read a closed channel."""

    model_config = ConfigDict(extra="forbid")

    who: Name
    channel_id: Annotated[int, Field(ge=1, le=2**52, strict=True)]
    may_read: Annotated[bool, Field(strict=True)] = True


class LinkBody(BaseModel):
    """The link of a post."""

    model_config = ConfigDict(extra="forbid")

    link: Name


class SyncBody(BaseModel):
    """A newer, complete export on the appliance's own disk."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[Name, Field(max_length=4096)]
    username: Name | None = None
    dry_run: Annotated[bool, Field(strict=True)] = True
    all_of_them: Annotated[bool, Field(strict=True)] = False


class KeyBody(BaseModel):
    """A key of the API to make."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    scopes: Annotated[list[Name], Field(min_length=1, max_length=10)]
    days: Annotated[int, Field(ge=1, le=3650, strict=True)] = 90
    per_minute: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 60


class Problem(BaseModel):
    """An error, in the asker's language (RFC 9457, ``application/problem+json``)."""

    status: int
    code: Annotated[str, Field(description="Stable name of the error, for programs.")]
    message: Annotated[str, Field(description="What happened.")]
    cure: Annotated[str, Field(description="What to do about it; may be empty.")] = ""


@dataclass(frozen=True, slots=True)
class PostView:
    """A post with its link in Telegram."""

    post: Post
    link: str


def moment(text: str | None, field: str) -> datetime | None:
    """Read a date or a moment as typed.

    Parameters
    ----------
    text : str or None
        ISO 8601: ``2026-01-31``, ``2026-01-31T12:00``, ``2026-01-31T12:00:00+03:00``. Without a zone it is UTC.
    field : str
        Name of the field, said in the error.

    Returns
    -------
    datetime or None
        UTC-aware; None when nothing was typed.

    Raises
    ------
    BadInput
        Not a date, or a year outside 2000–2100 (``bad_date``).
    """
    if text is None:
        return None
    try:
        read = datetime.fromisoformat(text.strip())
        read = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise bad_date(field) from error
    if not FIRST_YEAR <= read.year <= LAST_YEAR:
        raise bad_date(field)
    return read


def bad_date(field: str) -> BadInput:
    """Say which date cannot be read and how to write one."""
    return BadInput(f"`{field}` is not a date that can be searched.", cure="Write it as 2026-01-31.", code="bad_date")


def filters_of(body: AskBody | SearchBody | DigestBody | StoryBody) -> Filters:
    """Turn a body's limits into filters.

    Raises
    ------
    BadInput
        A date that cannot be read.
    """
    return Filters(
        channels=tuple(body.channels) if body.channels else None,
        since=moment(body.since, "since"),
        until=moment(body.until, "until"),
        author=body.author,
        media=body.media,
    )


def encode(value: Any) -> bytes:
    """Return a record, or anything made of records, as UTF-8 JSON; times as RFC 3339."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)


def shown(post: Post) -> Post:
    """Return a post without its author's Telegram id, which is nobody's business on a page."""
    return post if post.author_id is None else replace(post, author_id=None)


def shown_result(result: SearchResult, language: Language) -> dict[str, Any]:
    """Return found posts, and the limits in words."""
    return {
        **{one.name: getattr(result, one.name) for one in fields(result)},
        "limits": shown_limits(result.limits, language),
    }


def shown_story(story: Story, language: Language) -> dict[str, Any]:
    """Return a story with its periods and limits in words."""
    chapters = [
        {**{one.name: getattr(chapter, one.name) for one in fields(chapter)}, "words": chapter_words(chapter, language)}
        for chapter in story.chapters
    ]
    view = {one.name: getattr(story, one.name) for one in fields(story)}
    return {**view, "chapters": chapters, "limits": shown_limits(story.limits, language)}


def chapter_words(chapter: Chapter, language: Language) -> str:
    """Say the period of a chapter."""
    return period_words(chapter.first, chapter.after, language)


def shown_limits(limits: Sequence[Limit], language: Language) -> list[dict[str, Any]]:
    """Return limits with their words."""
    return [
        {**{one.name: getattr(limit, one.name) for one in fields(limit)}, "words": limit_words(limit, language)}
        for limit in limits
    ]


class BackupBody(BaseModel):
    """Where to write a backup, on the appliance's own disk."""

    model_config = ConfigDict(extra="forbid")

    to: Annotated[str, Field(max_length=4096, description="Folder or file; empty is the settings' folder.")] = ""


class VerifyBody(BaseModel):
    """Which backup to verify."""

    model_config = ConfigDict(extra="forbid")

    file: Annotated[str, Field(max_length=4096, description="Empty is the newest of the settings' folder.")] = ""


class RestoreBody(BaseModel):
    """Which backup to put back, and where."""

    model_config = ConfigDict(extra="forbid")

    file: Annotated[str, Field(min_length=1, max_length=4096)]
    into: Annotated[str, Field(min_length=1, max_length=4096, description="A folder that is empty or absent.")]


class CheckBody(BaseModel):
    """Whether to mend what can be mended."""

    model_config = ConfigDict(extra="forbid")

    fix: bool = False
