"""Unigram tokenizer (SentencePiece's, as XLM-RoBERTa uses it) with a small memory: a dictionary and a Viterbi per word.

A word is cut the same way wherever it stands, so frequent words are remembered and a post costs little more than one
lookup a word. Kept apart from any model: give it the pieces, their scores and the normaliser table.

Kudo 2018, "Subword Regularization", https://arxiv.org/abs/1804.10959; SentencePiece, https://arxiv.org/abs/1808.06226.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Mapping, Sequence

SPACE = "▁"
REMEMBERED_WORDS = 16_384
LONGEST_REMEMBERED = 48
MAX_CHARS = 65_536
"""Characters read of one text before normalising; 512 tokens of 16 characters are 8,192."""

Encode = Callable[[str, int], list[int]]


def unigram(
    pieces: Sequence[str],
    scores: Sequence[float],
    normaliser: Mapping[int, str],
    *,
    unk: int,
    reserved: frozenset[int],
) -> Encode:
    """Make a tokenizer.

    Parameters
    ----------
    pieces : sequence of str
        By token id; a leading ``▁`` stands for a space.
    scores : sequence of float
        Log-probability of each piece.
    normaliser : mapping of int to str
        Replacement of single code points (NFKC and SentencePiece's own rules); sequences are composed before it.
    unk : int
        Id of what no piece covers; neighbours of that kind become one token.
    reserved : frozenset of int
        Control tokens, never matched in a text (a post that says ``</s>`` is just text).

    Returns
    -------
    callable
        ``encode(text, limit)``: the first `limit` token ids, without begin and end marks. Any `str` will do, lone
        surrogates included. Thread-safe.
    """
    ids = {piece: id_ for id_, piece in enumerate(pieces) if id_ not in reserved}
    longest = max(map(len, pieces))
    unknown_score = min(scores) - 10.0

    def cut(word: str) -> tuple[int, ...]:
        n = len(word)
        best = [0.0] + [-1e30] * n
        came_from = [0] * (n + 1)
        token = [unk] * (n + 1)
        for start in range(n):
            base = best[start]
            for end in range(start + 1, min(start + longest, n) + 1):
                id_ = ids.get(word[start:end])
                if id_ is not None and base + scores[id_] > best[end]:
                    best[end], came_from[end], token[end] = base + scores[id_], start, id_
            if base + unknown_score > best[start + 1]:
                best[start + 1], came_from[start + 1], token[start + 1] = base + unknown_score, start, unk
        path: list[int] = []
        while n:
            if not (path and path[-1] == token[n] == unk):
                path.append(token[n])
            n = came_from[n]
        return tuple(reversed(path))

    remembered = functools.lru_cache(REMEMBERED_WORDS)(cut)

    def encode(text: str, limit: int) -> list[int]:
        text = unicodedata.normalize("NFC", text[:MAX_CHARS]).translate(normaliser)
        out: list[int] = []
        for word in text.replace(SPACE, " ").split():
            piece = SPACE + word[: limit * longest]
            out.extend(remembered(piece) if len(piece) <= LONGEST_REMEMBERED else cut(piece))
            if len(out) >= limit:
                break
        return out[:limit]

    return encode
