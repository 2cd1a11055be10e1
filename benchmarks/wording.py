"""Suite `wording`: limits read from the words of questions: what is read, what must not be."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from appliance.schema import Channel, Limit
from appliance.wording import read_words
from benchmarks.results import ROOT

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Moscow")
KINDS = ("period", "channel", "author", "media")


def run() -> dict[str, Any]:
    """Read every question of the suite.

    Returns
    -------
    dict
        Of ``dev`` (the rules were made on it), ``held_out`` (seen once before the rules were mended) and ``fresh``
        (written last): see `measure`.
    """
    suite = tomllib.loads((ROOT / "benchmarks/suites/wording.toml").read_text("utf-8"))
    channels = [Channel(one["id"], one["title"], one.get("username")) for one in suite["channels"]]
    return {
        "dev": measure(suite["query"], channels, suite["authors"]),
        "held_out": measure(suite["held_out"], channels, suite["authors"]),
        "fresh": measure(suite["fresh"], channels, suite["authors"]),
    }


def measure(rows: list[dict[str, Any]], channels: list[Channel], authors: list[str]) -> dict[str, Any]:
    """Compare what was read with what was meant.

    Parameters
    ----------
    rows : list of dict
        Of the suite.
    channels : list of Channel
    authors : list of str

    Returns
    -------
    dict
        ``precision`` (of sure limits read, those meant) and ``recall`` (of limits meant, those read, surely or not)
        over all kinds and by kind; ``rests``: share of the questions with limits whose rest is as it should be;
        ``wrong``: the mistakes in words.
    """
    right = dict.fromkeys(KINDS, 0)
    sure = dict.fromkeys(KINDS, 0)
    sure_right = dict.fromkeys(KINDS, 0)
    meant = dict.fromkeys(KINDS, 0)
    rests, wrong = [], []
    for row in rows:
        read = read_words(row["text"], now=NOW, zone=ZONE, channels=channels, authors=lambda: authors)
        for kind in KINDS:
            wanted = _wanted(row, kind)
            limits = [limit for limit in read.limits if limit.kind == kind]
            got = {_said(limit) for limit in limits}
            is_sure = bool(limits) and all(limit.is_sure for limit in limits)
            meant[kind] += bool(wanted)
            right[kind] += bool(wanted) and got == wanted
            sure[kind] += is_sure
            sure_right[kind] += is_sure and got == wanted
            if got != wanted if wanted else is_sure:
                wrong.append(f"{row['text']}: {kind} read {sorted(got)}, meant {sorted(wanted)}")
        if not row.get("content"):
            rests.append(read.text == row["rest"])
            if not rests[-1]:
                wrong.append(f"{row['text']}: rest «{read.text}», meant «{row['rest']}»")
    return {
        "questions": len(rows),
        "limits": sum(meant.values()),
        "precision": sum(sure_right.values()) / max(sum(sure.values()), 1),
        "recall": sum(right.values()) / max(sum(meant.values()), 1),
        "by_kind": {
            kind: {
                "precision": sure_right[kind] / max(sure[kind], 1),
                "recall": right[kind] / max(meant[kind], 1),
                "limits": meant[kind],
            }
            for kind in KINDS
        },
        "rests": sum(rests) / max(len(rests), 1),
        "wrong": wrong,
    }


def _wanted(row: dict[str, Any], kind: str) -> set[str]:
    if kind == "channel":
        return {str(one) for one in row.get("channel", ())}
    return {row[kind]} if kind in row else set()


def _said(limit: Limit) -> str:
    return f"{limit.first or ''}/{limit.after or ''}" if limit.kind == "period" else limit.value
