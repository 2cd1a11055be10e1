"""The sample channel that ships with the product: an invented community, written for it (CC0)."""

from __future__ import annotations

import tomllib
from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

USERNAME = "masterskaya_rechnaya"


def export() -> AbstractContextManager[Path]:
    """Give the sample's Telegram Desktop export as a file."""
    return as_file(files(__name__) / "result.json")


def questions() -> list[str]:
    """Return the three questions of the demonstration."""
    return [item["text"] for item in catalogue()["demo"]]


def catalogue() -> dict[str, Any]:
    """Return ``questions.toml``: demonstration and evaluation questions with the posts that answer them."""
    return tomllib.loads((files(__name__) / "questions.toml").read_text(encoding="utf-8"))
