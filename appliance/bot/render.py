"""Answers as Telegram messages: text with entities we build, split to size, nothing clickable but our links. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from aiogram.types import InlineKeyboardButton, InlineKeyboardMarkup
from aiogram.utils.formatting import Bold, Code, ExpandableBlockQuote, Italic, Text, TextLink, sizeof

from appliance.schema import Answer, Citation, FoundPost, Language, PostKey, Searched, Sentence, Vote
from appliance.text import clean, first_line
from appliance.texts import count, date, left_words, say
from appliance.wording import limits_words

MAX_CHARS = 4096  # a message, in UTF-16 code units
MAX_ENTITIES = 90  # of a message; Telegram ignores those after 100
MAX_INERT = 12  # separate spans a block of text may need; above it one span covers them all
CHANNELS_SHOWN = 5
EXAMPLE_CHARS = 48  # label of the example button
GAP = "\n\n"

# Whatever a Telegram client would make clickable by itself: addresses, e-mails, mentions, commands, IP numbers.
_CLICKABLE = re.compile(
    r"""
      [^\W\d_][\w+.-]*://\S+                                                # any scheme
    | [^\s@<>()]+@(?:[\w-]+\.)+[\w-]{2,}                                    # e-mail
    | (?:[\w-]+\.)+(?:[a-z][a-z-]+|xn--[\w-]+|рф|рус|бел|укр|срб|мкд|бг|қаз|ею|орг|ком|онлайн|сайт|дети|москва)
      (?![^\W_])(?::\d+)?(?:[/?\#]\S*)?                                     # domain
    | \d{1,3}(?:\.\d{1,3}){3}\S*                                            # IP number
    | @\w{2,}                                                               # mention
    | (?<!\w)/[a-z0-9_]+(?:@\w+)?                                           # command
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CALLBACK = re.compile(r"(?P<kind>[rx]):(?P<body>[0-9a-zA-Z:_-]{1,60})\Z", re.ASCII)
_RATING = re.compile(r"(?P<vote>[ud]):(?P<question>[0-9a-f]{32})\Z", re.ASCII)
_POST = re.compile(r"(?P<channel>\d{1,15}):(?P<message>\d{1,15})\Z", re.ASCII)


def inert(text: str) -> Text:
    """Return text from posts with everything clickable in it set as code, which Telegram leaves alone.

    Parameters
    ----------
    text : str
        Of a post, a title or a model.

    Returns
    -------
    Text
        The same characters; at most `MAX_INERT` entities, all of them code.
    """
    spans = [match.span() for match in _CLICKABLE.finditer(text)]
    if len(spans) > MAX_INERT:
        spans = [(spans[0][0], spans[-1][1])]
    nodes: list[str | Text] = []
    done = 0
    for start, end in spans:
        nodes += [text[done:start], Code(text[start:end])]
        done = end
    return Text(*nodes, text[done:])


def cut_to(text: str, size: int) -> list[str]:
    """Cut text into pieces of at most `size` UTF-16 code units, at spaces where there are any.

    Parameters
    ----------
    text : str
    size : int
        At least 2, the units of one emoji.

    Returns
    -------
    list of str
        None of them empty.
    """
    pieces = []
    rest = text.strip()
    while sizeof(rest) > size:
        head = rest.encode("utf-16-le")[: size * 2].decode("utf-16-le", "ignore")
        space = max(head.rfind(" "), head.rfind("\n"))
        if space > len(head) // 2:
            head = head[:space]
        pieces.append(head.rstrip())
        rest = rest[len(head) :].lstrip()
    return [piece for piece in (*pieces, rest) if piece]


def packed(blocks: Iterable[Text]) -> list[Text]:
    """Pack blocks into as few messages as hold them in order.

    Parameters
    ----------
    blocks : iterable of Text
        Each within a message's limits.

    Returns
    -------
    list of Text
        At most `MAX_CHARS` code units and `MAX_ENTITIES` entities each.
    """
    messages: list[list[Text]] = []
    size = entities = 0
    for block in blocks:
        text, own = block.render()
        if not text.strip():
            continue
        if messages and size + len(GAP) + sizeof(text) <= MAX_CHARS and entities + len(own) <= MAX_ENTITIES:
            messages[-1].append(block)
            size += len(GAP) + sizeof(text)
            entities += len(own)
        else:
            messages.append([block])
            size, entities = sizeof(text), len(own)
    return [joined(message, GAP) for message in messages]


def joined(blocks: Sequence[str | Text], between: str) -> Text:
    """Join blocks with a string between them."""
    nodes: list[str | Text] = []
    for place, block in enumerate(blocks):
        nodes += [block] if place == 0 else [between, block]
    return Text(*nodes)


def answer_messages(answer: Answer, language: Language, *, heading: Text | None = None, ending: str = "") -> list[Text]:
    """Render a finished answer.

    Parameters
    ----------
    answer : Answer
    language : {'ru', 'en'}
        Of the interface's words.
    heading : Text, optional
        Before all else.
    ending : str, optional
        After all else.

    Returns
    -------
    list of Text
        One message or more; the only links are those of the answer's citations.
    """
    return packed([*([heading] if heading else []), *_blocks(answer, language), Text(ending)])


def _blocks(answer: Answer, language: Language) -> list[Text]:
    blocks = _said(answer, language)
    if answer.limits:
        key = "limits_held" if answer.are_limits_held else "limits_dropped"
        words = say(key, language, limits=limits_words(answer.limits, language))
        blocks.insert(0, Text(Italic(inert(short(words, 300)))))
    if answer.searched_as:
        blocks.insert(0, inert(short(say("searched_as", language, query=answer.searched_as), 200)))
    if answer.quota is not None:
        blocks.append(Text(left_words(answer.quota, language)))
    return blocks


def _said(answer: Answer, language: Language) -> list[Text]:
    if answer.outcome == "answered":
        links = {citation.number: citation.link for citation in answer.citations}
        blocks = sentence_blocks(answer.sentences, links)
        if answer.note:
            blocks.append(Text(Italic(say(answer.note, language))))
        heading = say("sources" if len(answer.citations) > 1 else "sources_one", language)
        return [*blocks, *source_quotes(answer.citations, heading, language)]
    if answer.outcome == "not_found":
        return [
            Text(say("not_found", language)),
            *(inert(piece) for piece in cut_to(searched_words(answer.searched, language), MAX_CHARS // 2)),
            *source_quotes(answer.citations, say("nearest", language), language),
        ]
    return [Text(say(answer.outcome, language))]


def sentence_blocks(sentences: Sequence[Sentence], links: dict[int, str]) -> list[Text]:
    """Render sentences, those on the same posts together, each group with its numbers as links.

    Parameters
    ----------
    sentences : sequence of Sentence
    links : dict
        Number to link; numbers that are not there are left out.

    Returns
    -------
    list of Text
    """
    blocks = []
    for numbers, group in groupby(sentences, key=lambda sentence: sentence.citations):
        marks = [TextLink(f"[{number}]", url=links[number]) for number in numbers if number in links][:20]
        pieces = cut_to(clean(" ".join(sentence.text for sentence in group)), MAX_CHARS - 200)
        for place, piece in enumerate(pieces):
            is_last = place == len(pieces) - 1
            blocks.append(Text(inert(piece), *([" ", *marks] if is_last and marks else [])))
    return blocks


def source_quotes(citations: Sequence[Citation], heading: str, language: Language) -> list[Text]:
    """Render citations as expandable quotes: number, channel, date and title of each, the line being its link.

    Parameters
    ----------
    citations : sequence of Citation
    heading : str
    language : {'ru', 'en'}

    Returns
    -------
    list of Text
        Empty without citations; each within a message's limits.
    """
    quotes = []
    for start in range(0, len(citations), 8):
        lines: list[str | Text] = [Bold(heading)] if start == 0 else []
        for citation in citations[start : start + 8]:
            where = f"{citation.number}. {short(citation.channel, 100)}, {date(citation.date, language)}"
            title = short(citation.title, 200)
            lines.append(TextLink(f"{where}\n{title}" if title else where, url=citation.link))
        quotes.append(Text(ExpandableBlockQuote(joined(lines, "\n"))))
    return quotes


def searched_words(searched: Searched, language: Language) -> str:
    """Say what was searched and until when."""
    if searched.until is None or not searched.posts:
        return say("searched_nothing", language)
    shown = [short(title, 100) for title in searched.channels[:CHANNELS_SHOWN]]
    if more := len(searched.channels) - len(shown):
        shown.append(say("and_more", language, count=more))
    return say(
        "searched",
        language,
        channels=", ".join(shown),
        posts=count("posts", searched.posts, language),
        until=date(searched.until, language),
    )


def draft_text(sentences: Sequence[Sentence]) -> Text:
    """Render the sentences that are ready, for a draft: no links yet, the newest that fit."""
    pieces = cut_to(clean(" ".join(sentence.text for sentence in sentences)), MAX_CHARS - 100)
    return Text(inert(pieces[-1]), " …") if pieces else Text()


def rating_buttons(question_id: str, chosen: Vote | None = None) -> InlineKeyboardMarkup:
    """Return 👍 and 👎 under an answer, the chosen one ticked.

    Parameters
    ----------
    question_id : str
        32 hexadecimal digits.
    chosen : {'up', 'down'}, optional

    Returns
    -------
    InlineKeyboardMarkup
    """
    faces: tuple[tuple[Vote, str], ...] = (("up", "👍"), ("down", "👎"))
    row = [
        InlineKeyboardButton(text=f"{face} ✓" if vote == chosen else face, callback_data=f"r:{vote[0]}:{question_id}")
        for vote, face in faces
    ]
    return InlineKeyboardMarkup(inline_keyboard=[row])


def example_button(found: FoundPost) -> InlineKeyboardMarkup | None:
    """Return a button that asks about a post by its first line; None where it has no words."""
    label = first_line(found.post.text)
    if not any(map(str.isalnum, label)):
        return None
    channel_id, message_id = found.post.key
    button = InlineKeyboardButton(
        text=f"🔎 {short(label, EXAMPLE_CHARS)}", callback_data=f"x:{channel_id}:{message_id}"
    )
    return InlineKeyboardMarkup(inline_keyboard=[[button]])


def read_button(data: str | None) -> tuple[Vote, str] | PostKey | None:
    """Read callback data, which anyone can forge.

    Parameters
    ----------
    data : str or None

    Returns
    -------
    (vote, question id), or (channel id, message id), or None
        None for anything that no button of ours carries.
    """
    known = _CALLBACK.match(data or "")
    if known is None:
        return None
    if known["kind"] == "r":
        rating = _RATING.match(known["body"])
        return None if rating is None else ("up" if rating["vote"] == "u" else "down", rating["question"])
    post = _POST.match(known["body"])
    return None if post is None else (int(post["channel"]), int(post["message"]))


def short(text: str, size: int) -> str:
    """Return the text on one line, cut to so many UTF-16 code units."""
    line = " ".join(clean(text).split())
    pieces = cut_to(line, size - 1) if sizeof(line) > size else [line]
    return f"{pieces[0]}…" if len(pieces) > 1 else "".join(pieces)
