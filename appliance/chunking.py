"""Posts cut into the pieces that are embedded and searched. Pure, no I/O."""

from __future__ import annotations

from appliance.schema import Chunk, Post
from appliance.text import clean, fingerprint, sentences

MAX_CHARS = 1400  # about 400 tokens of multilingual-e5: nine posts in ten are one chunk
TITLE_CHARS = 120


def chunks_of(post: Post, *, max_chars: int = MAX_CHARS) -> list[Chunk]:
    """Cut a post into chunks; most posts are one.

    A longer post is cut between paragraphs, a longer paragraph between sentences, a longer sentence between words;
    every chunk after the first opens with the post's title line.

    Parameters
    ----------
    post : Post
        The post as the ledger keeps it.
    max_chars : int, optional
        Longest chunk in characters, title line included; at least 200.

    Returns
    -------
    list of Chunk
        In order; empty where the post has no letter or digit (a bare picture, emoji).
    """
    if max_chars < 200:
        raise ValueError("max_chars must be at least 200")
    text = clean(post.text)
    if not any(letter.isalnum() for letter in text):
        return []
    mark = fingerprint(text)
    return [
        Chunk(
            channel_id=post.channel_id,
            message_id=post.message_id,
            ordinal=ordinal,
            text=piece,
            date=post.date,
            author=post.author,
            media=post.media,
            fingerprint=mark,
        )
        for ordinal, piece in enumerate(_pieces(text, max_chars))
    ]


def title_of(text: str) -> str:
    """Take the title line of a post: its first line with a letter or a digit.

    Parameters
    ----------
    text : str
        Text of a post.

    Returns
    -------
    str
        The line, cut between words to 120 characters; empty where the text has no words.
    """
    for line in text.split("\n"):
        if any(letter.isalnum() for letter in line):
            line = line.strip()
            return line if len(line) <= TITLE_CHARS else line[:TITLE_CHARS].rsplit(" ", 1)[0].rstrip(" ,;:—-") + "…"
    return ""


def _pieces(text: str, max_chars: int) -> list[str]:
    """Texts of the chunks, cut so that they come out about equally long."""
    if len(text) <= max_chars:
        return [text]
    title = title_of(text)
    room = max_chars - len(title) - 1
    count = -(-len(text) // room)
    aim = min(room, len(text) // count + room // 8)
    pieces: list[str] = []
    current = ""
    for part, joint in _parts(text, room):
        limit = aim if pieces else min(max_chars, aim + len(title))
        if current and len(current) + len(joint) + len(part) > limit:
            pieces.append(current)
            current = part
        else:
            current = f"{current}{joint}{part}" if current else part
    if len(current) < room // 6 and pieces and len(pieces[-1]) + 1 + len(current) <= room:
        pieces[-1] = f"{pieces[-1]}\n{current}"
    else:
        pieces.append(current)
    return [pieces[0], *(f"{title}\n{piece}" for piece in pieces[1:])]


def _parts(text: str, room: int) -> list[tuple[str, str]]:
    """Smallest pieces not to be cut, each with what joined it to the one before."""
    parts: list[tuple[str, str]] = []
    for line in text.split("\n"):
        if len(line) <= room // 2:
            parts.append((line, "\n"))
            continue
        joint = "\n"
        for start, end in sentences(line) or [(0, len(line))]:
            for piece in _cut_between_words(line[start:end], room):
                parts.append((piece, joint))
                joint = " "
    return parts


def _cut_between_words(sentence: str, room: int) -> list[str]:
    """Cut a sentence longer than a chunk into pieces of at most `room` characters."""
    pieces = []
    while len(sentence) > room:
        cut = sentence.rfind(" ", room // 2, room)
        cut = cut if cut > 0 else room
        pieces.append(sentence[:cut].rstrip())
        sentence = sentence[cut:].lstrip()
    return [*pieces, sentence] if sentence else pieces
