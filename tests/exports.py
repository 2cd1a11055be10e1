"""Small Telegram Desktop exports for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from appliance.schema import Broken, Post
from appliance.telegram_export import Item, read_export

CHANNEL = {"name": "Садоводы Подмосковья", "type": "public_channel", "id": 1234567890}
GROUP = {"name": "Соседи", "type": "private_supergroup", "id": 1987654321}
NOON = 1_700_000_000


def message(number: int, text: object = "Привет", **fields: Any) -> dict[str, Any]:
    """A message as Telegram Desktop writes it."""
    return {
        "id": number,
        "type": "message",
        "date": "2023-11-15T01:13:20",
        "date_unixtime": str(NOON + number),
        "from": "Садоводы Подмосковья",
        "from_id": "channel1234567890",
        **fields,
        "text": text,
    }


def written(data: object) -> bytes:
    """JSON as Telegram Desktop lays it out: one space a level, nothing escaped that need not be."""
    return json.dumps(data, indent=1, ensure_ascii=False).encode()


def save(folder: Path, data: object) -> Path:
    path = folder / "result.json"
    path.write_bytes(data if isinstance(data, bytes) else written(data))
    return path


def read(path: Path, **options: Any) -> list[Item]:
    return list(read_export(path, **options))


def posts_of(items: list[Item]) -> list[Post]:
    return [item for item in items if isinstance(item, Post)]


def broken_of(items: list[Item]) -> list[Broken]:
    return [item for item in items if isinstance(item, Broken)]


def account(*chats: dict[str, Any], left: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """An account's whole export."""
    return {
        "about": "Here is the data you requested.",
        "personal_information": {"user_id": 5, "first_name": "Анна"},
        "contacts": {"about": "…", "list": [{"user_id": 6, "first_name": "Б", "date": "2020-01-01T00:00:00"}]},
        "frequent_contacts": {"about": "…", "list": [{"id": 7, "category": "people", "type": "user", "name": "В"}]},
        "other_data": {"messages_about": "…", "deep": [[[{"id": 1, "kind": "x"}]]]},
        "chats": {"about": "…", "list": list(chats)},
        "left_chats": {"about": "…", "list": list(left)},
    }


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
