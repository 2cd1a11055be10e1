"""Rights over every door, with caches and revocations, many things at once; appliances that forget them are caught."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from benchmarks.forgetful import Break
from benchmarks.rights import measure
from models.ports import Embedder


@pytest.mark.parametrize(
    ("how", "operations"),
    [
        ("none", 1200), ("memory", 300), ("posts", 120), ("story", 120), ("related", 120), ("alerts", 1000),
        ("guests", 200),
    ],
)  # fmt: skip
async def test_nobody_sees_what_is_closed_to_them(embedder: Embedder, how: Break, operations: int) -> None:
    with structlog.testing.capture_logs():
        found: dict[str, Any] = await measure(operations, seed=7, how=how, embedder=embedder)
    if how == "none":
        assert found["first_leaks"] == []
        assert found["leaks"] == 0
        doors = {"ask", "search", "story", "related", "post", "alert", "page", "bot private", "bot guest"}
        assert doors | {"revocation", "new post"} <= set(found["happened"])
        shown = {door for door, n in found["with_posts_in_them"].items() if n}
        assert {"story", "related", "alert", "bot guest"} <= shown
        assert found["with_posts_in_them"]["ask"] > 20  # there was something to see
    else:
        assert found["leaks"] > 0
