"""Whether an edit of a post changes what an answer said of it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from appliance.text import clean, sentences

ALIKE = 0.9  # share of words in order that a mere touching-up keeps
WORDS_COMPARED = 2000

_WORD = re.compile(r"[^\W_]+(?:[-.,:/][^\W_]+)*")
_DECISIVE = re.compile(
    r"\d|^(?:не|нет|ни|без|никогда|нельзя|можно|отмен\w*|перен\w*|закры\w*|not?|never|without|cannot|cancel\w*)$"
)


def is_trivial(old: str, new: str) -> bool:
    """Tell whether an edit leaves what a post says: the same figures, links of sense and nearly the same words.

    Parameters
    ----------
    old, new : str

    Returns
    -------
    bool
        False as soon as a number, a date, a negation or a word of permission comes or goes.
    """
    before, after = _words(old), _words(new)
    if before == after:
        return True
    if Counter(filter(_DECISIVE.search, before)) != Counter(filter(_DECISIVE.search, after)):
        return False
    return SequenceMatcher(None, before[:WORDS_COMPARED], after[:WORDS_COMPARED], autojunk=False).ratio() >= ALIKE


def still_says(answer: str, old: str, new: str) -> bool:
    """Tell whether an answer made of a post holds after its edit.

    Parameters
    ----------
    answer : str
        Its sentences, other posts' among them.
    old, new : str
        The post before and after.

    Returns
    -------
    bool
        For an answer that quoted the post: whether the quoted words still stand in it; otherwise `is_trivial`.
    """
    quoted = quoted_from(answer, old)
    if not quoted:
        return is_trivial(old, new)
    kept = " ".join(_words(new))
    return all(f" {words} " in f" {kept} " for words in quoted)


def quoted_from(answer: str, post: str) -> Sequence[str]:
    """Return the sentences of an answer that stand in a post, as plain words."""
    flat = clean(answer)
    source = f" {' '.join(_words(post))} "
    said = (" ".join(_words(flat[start:end])) for start, end in sentences(flat))
    return [words for words in said if words and f" {words} " in source]


def _words(text: str) -> list[str]:
    return _WORD.findall(clean(text).casefold().replace("ё", "е"))
