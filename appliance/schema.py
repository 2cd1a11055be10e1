"""Records that travel between rooms. Frozen, no behaviour beyond naming themselves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

PostKey = tuple[int, int]  # (channel id, message id)
Language = Literal["ru", "en"]
Door = Literal["telegram", "web", "api", "cli"]
Vote = Literal["up", "down"]
Outcome = Literal["answered", "not_found", "refused", "failed"]
LimitKind = Literal["period", "channel", "author", "media"]
ChannelState = Literal["waiting", "approved", "refused"]
MEMBERS_ANSWERS = 10**14  # channel id of members' answers; plus a closed channel's id, of those for its members alone


@dataclass(frozen=True, slots=True)
class Channel:
    """A Telegram channel or group whose posts are searched.

    Attributes
    ----------
    id : int
        Telegram's bare positive id (``1465826763``, without the ``-100`` prefix).
    title : str
        Shown name.
    username : str or None
        Public name without ``@``; None for a private channel.
    kind : str
        Telegram Desktop's type: ``public_channel``, ``private_channel``, ``public_supergroup``,
        ``private_supergroup``, ``private_group``; or ``answers`` for the answers of members.
    is_open : bool
        Whether everyone may search it; otherwise only its members (rights are checked inside search).
    is_cross : bool
        Whether its owner agrees that it is found without being named.
    """

    id: int
    title: str
    username: str | None = None
    kind: str = "public_channel"
    is_open: bool = True
    is_cross: bool = True


def guarded_by(channel_id: int) -> int:
    """Return the channel whose members may read this one: itself, but for members' answers on a closed channel."""
    return channel_id - MEMBERS_ANSWERS if channel_id > MEMBERS_ANSWERS else channel_id


@dataclass(frozen=True, slots=True)
class Post:
    """One post (an album counts as one), as imported or received. Times are UTC-aware."""

    channel_id: int
    message_id: int
    date: datetime
    text: str
    edited_at: datetime | None = None
    author: str | None = None
    author_id: str | None = None  # "user123" or "channel123", as Telegram Desktop writes it
    topic_id: int | None = None
    reply_to_id: int | None = None
    forwarded_from: str | None = None
    media: str | None = None  # photo, video, file, voice, poll, sticker, …; None for text only
    album_ids: tuple[int, ...] = ()  # the other message ids joined into this post
    links: tuple[str, ...] = ()  # URLs that stand in the post
    reactions: int = 0

    @property
    def key(self) -> PostKey:
        """(channel id, message id)."""
        return (self.channel_id, self.message_id)


@dataclass(frozen=True, slots=True)
class Chunk:
    """An indexed piece of a post.

    Attributes
    ----------
    ordinal : int
        0-based place in the post.
    text : str
        What is embedded and searched (title line carried along where the post is long).
    """

    channel_id: int
    message_id: int
    ordinal: int
    text: str
    date: datetime
    author: str | None = None
    media: str | None = None
    fingerprint: int = 0  # equal for reposts of one text (signed 64-bit)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks.

    Attributes
    ----------
    user_id : int or None
        Ledger's user id; None for an unregistered web visitor or the operator's shell.
    language : {'ru', 'en'}
        Language of the interface's words (answers follow the question).
    private_channels : frozenset of int
        Closed channels this asker may read besides the open ones.
    sees_everything : bool
        The operator's own shell.
    has_key : bool
        Showed a key of the API that is good: the operator made it, so it is let in wherever members are.
    """

    user_id: int | None = None
    language: Language = "ru"
    private_channels: frozenset[int] = frozenset()
    sees_everything: bool = False
    has_key: bool = False


@dataclass(frozen=True, slots=True)
class Filters:
    """Limits on what is searched; None means no limit. ``until`` is exclusive."""

    channels: tuple[str, ...] | None = None  # @username, title or id, as typed
    since: datetime | None = None
    until: datetime | None = None
    author: str | None = None
    media: str | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit read from the words of a question.

    Attributes
    ----------
    kind : {'period', 'channel', 'author', 'media'}
    typed : str
        The words it was read from.
    is_sure : bool
        False when the words may also belong to what is asked («в марте»): then it holds only where the best post found
        without it lies inside.
    value : str
        Channel id, author or kind of media; empty for a period.
    label : str
        Shown name of a channel.
    first, after : datetime.date or None
        First day of a period, and the day after its last one, in the community's time zone; None is open.
    """

    kind: LimitKind
    typed: str
    is_sure: bool = True
    value: str = ""
    label: str = ""
    first: date | None = None
    after: date | None = None


@dataclass(frozen=True, slots=True)
class Worded:
    """A question with the limits that were read from its words.

    Attributes
    ----------
    text : str
        The question without them.
    limits : tuple of Limit
    is_open : bool
        Whether nothing particular is left to ask («что писали за прошлую неделю?»).
    """

    text: str
    limits: tuple[Limit, ...] = ()
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A question as typed, with where it came from."""

    text: str
    asker: Asker = field(default_factory=Asker)
    filters: Filters = field(default_factory=Filters)
    door: Door = "api"
    dialogue_id: str | None = None  # continue this dialogue; None starts one
    unread: frozenset[LimitKind] = frozenset()  # kinds of limits not to be read from the words
    id: str | None = None  # of its row: asked again under the same id, it takes the row's place; None makes a new one
    stop: asyncio.Event | None = None  # set by the door when the asker wants no more written


@dataclass(frozen=True, slots=True)
class FoundPost:
    """A post that search returned, best first.

    Attributes
    ----------
    score : float
        Fused score; only its order means something.
    relevance : float
        Calibrated probability in [0, 1] that the post answers the query.
    dense, lexical : float
        Cosine of the best chunk; BM25 of the best chunk.
    chunk_text : str
        The best chunk.
    link : str
        ``https://t.me/…`` built from the channel and message id.
    reposts : tuple of str
        Links of folded copies.
    """

    post: Post
    channel: Channel
    score: float
    relevance: float
    dense: float
    lexical: float
    chunk_text: str
    link: str
    reposts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Searched:
    """What was searched: said in every refusal."""

    channels: tuple[str, ...]  # titles
    posts: int
    until: datetime | None  # date of the newest post searched


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Found posts, best first, with the stage times in milliseconds.

    ``searched_as`` is the query as it was meant where it was typed otherwise, else empty. ``limits`` were read from the
    words; they are not held where they would have left nothing. It is not whole where a reading of the first posts was
    left out, for it failed or took too long. Key words («парковка») are named where the first post holds them all: then
    it is what was asked for, though it answers no question.
    """

    query: str
    found: tuple[FoundPost, ...]
    searched: Searched
    relevance: float  # probability that anything here answers the query
    times_ms: dict[str, float]
    searched_as: str = ""
    limits: tuple[Limit, ...] = ()
    are_limits_held: bool = True
    is_whole: bool = True
    are_key_words_named: bool = False


@dataclass(frozen=True, slots=True)
class Citation:
    """Number → post link. Built only from posts that search returned to this asker."""

    number: int
    link: str
    channel: str
    date: datetime
    title: str  # first line of the post, shortened
    post: PostKey


@dataclass(frozen=True, slots=True)
class Sentence:
    """A claim of an answer, with the numbers of the posts it stands on."""

    text: str
    citations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quota:
    """How many questions of a day or a month are left, of how many."""

    period: Literal["day", "month"]
    left: int
    of: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer; doors render it.

    Attributes
    ----------
    id : str
        Id of the question's canonical row (used by ratings and replies).
    outcome : {'answered', 'not_found', 'refused', 'failed'}
    sentences : tuple of Sentence
        Empty unless answered.
    citations : tuple of Citation
        Posts cited by the sentences, with the numbers that `Links` showed (by rank, so some may be missing); for
        ``not_found`` the nearest posts.
    model : str
        ``"quotes"`` or the generator's name.
    relevance : float
        Calibrated probability in [0, 1] that the found posts answer.
    note : str
        Key of a remark for the asker (``"model_down"``, ``""``).
    """

    id: str
    dialogue_id: str
    outcome: Outcome
    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...]
    searched: Searched
    language: Language
    model: str
    query: str
    relevance: float = 0.0
    note: str = ""
    times_ms: dict[str, float] = field(default_factory=dict)
    searched_as: str = ""  # the query as it was meant, where it was typed otherwise
    limits: tuple[Limit, ...] = ()  # read from the words of the question
    are_limits_held: bool = True  # False: they would have left nothing, all was searched
    quota: Quota | None = None  # what is left to ask, where that is little


@dataclass(frozen=True, slots=True)
class Chapter:
    """What a period said of a subject.

    Attributes
    ----------
    first, after : datetime.date
        First day, and the day after the last.
    posts : int
    sentences : tuple of Sentence
        Of the posts that say most.
    numbers : tuple of int
        Of all its citations.
    """

    first: date
    after: date
    posts: int
    sentences: tuple[Sentence, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """What was said of a subject over time; citations and chapters from the oldest on."""

    query: str
    chapters: tuple[Chapter, ...]
    citations: tuple[Citation, ...]
    searched: Searched
    searched_as: str = ""
    limits: tuple[Limit, ...] = ()
    are_limits_held: bool = True
    times_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Links:
    """First part of an answer stream: links, before any sentence."""

    citations: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A finished sentence of the answer, streamed."""

    sentence: Sentence


@dataclass(frozen=True, slots=True)
class Final:
    """Last part of an answer stream."""

    answer: Answer


Part = Links | Piece | Final


@dataclass(frozen=True, slots=True)
class Broken:
    """A message or file that could not be read: named, with the reason and the cure; the rest is kept."""

    file: str
    message_id: int | None
    reason: str
    cure: str


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """State of a running or finished import. ``bytes_total`` is 0 when unknown."""

    file: str
    bytes_read: int
    bytes_total: int
    new: int
    edited: int
    same: int
    skipped: int  # service messages, empty messages
    chunks: int
    elapsed_s: float
    broken: tuple[Broken, ...] = ()
    channels: tuple[Channel, ...] = ()
    done: bool = False


@dataclass(frozen=True, slots=True)
class ReindexProgress:
    """State of the building of another embedder's index.

    Attributes
    ----------
    card, before : str
        Embedder being moved to, and the one in service at the start.
    stage : {'opening', 'building', 'checking', 'done'}
    posts, of : int
        Posts held by the new index, and posts there are.
    self_retrieval, self_retrieval_before : float
        Share of sampled posts that are among the first ten found with one of their sentences, by vectors alone.
    overlap : float
        Mean share of the first ten that both indexes find.
    calibrated : bool
        Whether refusals were calibrated for this embedder; else the default embedder's coefficients serve.
    """

    card: str
    before: str
    stage: Literal["opening", "building", "checking", "done"] = "opening"
    posts: int = 0
    of: int = 0
    elapsed_s: float = 0.0
    self_retrieval: float = 0.0
    self_retrieval_before: float = 0.0
    overlap: float = 0.0
    calibrated: bool = True
    done: bool = False


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """A channel with its counts."""

    channel: Channel
    posts: int
    first: datetime | None
    last: datetime | None
    state: ChannelState = "approved"  # only an approved one is searched
    is_live: bool = False  # the bot is an admin there


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """The canonical row of one question; metrics, reports, feedback and audit all read it."""

    id: str
    dialogue_id: str
    user_id: int | None
    door: Door
    asked_at: datetime
    text: str
    query: str
    language: Language
    outcome: Outcome
    model: str
    posts: tuple[PostKey, ...]  # cited or nearest, in order
    answer_text: str
    relevance: float
    tokens: int
    times_ms: dict[str, float]
