"""Phrasing: the words members read, as those who keep order changed them; every name in braces must stay known."""

from __future__ import annotations

import asyncio
import string
from typing import Any

from appliance import texts
from appliance.errors import BadInput
from appliance.ledger import Ledger
from appliance.schema import Language

SETTING = "texts"  # of the ledger
MAX_CHARS = 1500


class Phrasing:
    """Changed words, kept in the ledger and put in force at once.

    Parameters
    ----------
    ledger : Ledger
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        kept: dict[str, dict[str, str]] = ledger.setting(SETTING) or {}
        self._changed = {key: words for key, words in kept.items() if key in texts.TEXTS}
        texts.change(self._changed)

    def all(self) -> list[dict[str, Any]]:
        """List every text: its key, names, words as shipped and as changed; by subject."""
        return [
            {
                "key": key,
                "names": sorted(names_of(words[0])),
                "ru": words[0],
                "en": words[1],
                "changed": self._changed.get(key, {}),
            }
            for key, words in texts.TEXTS.items()
        ]

    async def change(self, key: str, language: Language, words: str, *, actor: int | None) -> None:
        """Put other words in force; empty ones take the shipped words back.

        Parameters
        ----------
        key : str
            Of `appliance.texts.TEXTS`.
        language : {'ru', 'en'}
        words : str
        actor : int or None

        Raises
        ------
        BadInput
            No such text, too long, or with names in braces that nobody fills in.
        """
        if key not in texts.TEXTS:
            raise BadInput("There is no such text.", code="no_text")
        words = words.strip().replace("\r\n", "\n")
        if len(words) > MAX_CHARS:
            raise BadInput("The text is too long.", code="text_too_long")
        changed = {name: dict(kept) for name, kept in self._changed.items()}
        own = changed.setdefault(key, {})
        own.pop(language, None)
        if words:
            if not fits(words, texts.TEXTS[key][0]):
                raise BadInput("A name in braces is not known here.", code="text_names")
            own[language] = words
        if not own:
            del changed[key]
        await asyncio.to_thread(self._ledger.set_setting, SETTING, changed)
        self._changed = changed
        texts.change(changed)
        detail = {"language": language, "reset": not words}
        await asyncio.to_thread(self._ledger.access.record, "text", actor_id=actor, subject=key, detail=detail)


def names_of(words: str) -> set[str]:
    """Return the names in braces of a text.

    Raises
    ------
    ValueError
        The braces do not match.
    """
    return {name for _, name, _, _ in string.Formatter().parse(words) if name is not None}


def fits(words: str, shipped: str) -> bool:
    """Whether a text can be filled with what the shipped one is filled with: plain names alone, none unknown."""
    try:
        parts = list(string.Formatter().parse(words))
    except ValueError:
        return False
    known = names_of(shipped)
    return all(name is None or (name in known and not spec and not how) for _, name, spec, how in parts)
