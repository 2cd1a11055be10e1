"""What a model wrote becomes sentences with citations, or nothing: invented links and unsupported claims fall out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.schema import FoundPost, Sentence
from appliance.text import clean, lemmas

SUPPORTED = 0.5  # share of a sentence's content lemmas that must stand in the posts it cites
_CITED = re.compile(r"[\[【]\s*(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\s*[\]】]")
_BOUNDARY = re.compile(r"(?:[.!?…]+[»\"”)]*(?:\s*[\[【][\d\s,;]{1,40}[\]】])*(?=\s+[^\s\[【])|\n+)")
_SOURCES = re.compile(r"^\W*(?:источники|sources)\W*:?\s*(.*)$", re.IGNORECASE)
_LINKLIKE = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://\S+|\bwww\.\S+|(?<![\w@.])@\w{3,}|(?<![\w/])/[a-z]\w+|\b(?:[\w-]+\.)+[a-zа-я]{2,}(?:/\S*)?)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_MARKUP = re.compile(r"[*`#>|]+|(?<!\w)_+|_+(?!\w)")
_SMALL = 3  # lemmas shorter than this carry no claim


@dataclass(slots=True)
class GroundedReader:
    """Reads a model's stream and gives back supported sentences as soon as they end.

    Parameters
    ----------
    passages : sequence of FoundPost
        Posts shown to the model, in its numbering from 1.
    question : str
        Words of the question count as supported: a claim may repeat them.

    Attributes
    ----------
    refused : bool
        The model named no source.
    dropped : int
        Sentences that fell out.
    """

    passages: Sequence[FoundPost]
    question: str
    refused: bool = False
    dropped: int = 0
    _buffer: str = ""
    _named: bool = False
    _texts: list[str] = field(default_factory=list)
    _lemmas: list[frozenset[str]] = field(default_factory=list)
    _asked: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self._texts = [clean(hit.post.text).lower() + " " + " ".join(hit.post.links).lower() for hit in self.passages]
        self._lemmas = [frozenset(lemmas(text)) for text in self._texts]
        self._asked = frozenset(lemmas(self.question))

    def read(self, piece: str) -> list[Sentence]:
        """Take a piece of the stream; returns the supported sentences it finished."""
        self._buffer += piece
        finished = []
        while (match := _BOUNDARY.search(self._buffer)) is not None:
            text, self._buffer = self._buffer[: match.end()], self._buffer[match.end() :]
            finished.append(text)
        return self._keep(finished)

    def end(self) -> list[Sentence]:
        """Tell that the stream ended; returns what the rest of it supports."""
        rest, self._buffer = self._buffer, ""
        return self._keep([rest])

    def _keep(self, texts: Sequence[str]) -> list[Sentence]:
        kept = []
        for text in texts:
            if not text.strip():
                continue
            if not self._named and (named := _SOURCES.match(text.strip())) is not None:
                self._named = True
                self.refused = not _NUMBER.search(named[1])
                continue
            sentence = self._check(text)
            if sentence is None:
                self.dropped += 1
            elif not self.refused:
                kept.append(sentence)
        return kept

    def _check(self, raw: str) -> Sentence | None:
        numbers = list(
            dict.fromkeys(
                number
                for group in _CITED.findall(raw)
                for number in map(int, re.findall(r"\d+", group))
                if 1 <= number <= len(self.passages)
            )
        )
        text = " ".join(_MARKUP.sub("", _CITED.sub("", clean(raw))).split()).strip(" -–—•")
        text = re.sub(r"\s+([.,!?…])", r"\1", text)
        if not numbers or not any(map(str.isalnum, text)):
            return None
        cited = [number - 1 for number in numbers]
        if self._invents(text, cited) or self._foreign(text):
            return None
        if self.support(text, cited) < SUPPORTED:
            return None
        alone = [number for number in numbers if self.support(text, [number - 1], asked=False) >= SUPPORTED]
        return Sentence(text=text, citations=tuple(alone or numbers))

    def support(self, text: str, cited: Sequence[int], *, asked: bool = True) -> float:
        """Share of the content lemmas that stand in the cited posts or the question; 0 for a number that does not.

        Without `asked` the question's own lemmas are left out of the count: which posts say what is new?
        """
        held = frozenset().union(*(self._lemmas[place] for place in cited))
        source = " ".join(self._texts[place] for place in cited)
        dates = " ".join(f"{self.passages[place].post.date:%Y-%m-%d %d.%m.%Y %-d %-m %Y}" for place in cited)
        known = {number.replace(",", ".") for number in _NUMBER.findall(f"{source} {dates} {self.question}")}
        if any(number.replace(",", ".") not in known for number in _NUMBER.findall(text)):
            return 0.0
        content = [lemma for lemma in lemmas(text) if len(lemma) >= _SMALL and (asked or lemma not in self._asked)]
        if not content:
            return 0.0
        return sum(lemma in held or lemma in self._asked for lemma in content) / len(content)

    def _invents(self, text: str, cited: Sequence[int]) -> bool:
        """Tell whether it holds an address, a mention or a command that no cited post holds."""
        return any(not any(link in self._texts[place] for place in cited) for link in links_in(text))

    def _foreign(self, text: str) -> bool:
        """Tell whether it has letters of a script that neither the posts nor the question have."""
        known = _scripts(self.question).union(*(_scripts(text) for text in self._texts)) | {"LATIN", "CYRILLIC"}
        return not _scripts(text) <= known


def links_in(text: str) -> list[str]:
    """Addresses, mentions and commands in a text, in small letters."""
    return [found.group().lower().rstrip(".,;:!?)»") for found in _LINKLIKE.finditer(text)]


def _scripts(text: str) -> frozenset[str]:
    """Scripts of a text's letters, by the first word of their Unicode names."""
    return frozenset(unicodedata.name(letter, "?").split(" ", 1)[0] for letter in set(text) if letter.isalpha())
