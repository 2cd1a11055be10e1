"""Rights over every door, with caches and revocations, many things at once; appliances that forget them are caught."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import structlog

from benchmarks.rights import measure
from models.ports import Embedder


@pytest.mark.parametrize(("how", "operations"), [("none", 250), ("memory", 300), ("posts", 120)])
async def test_nobody_sees_what_is_closed_to_them(
    embedder: Embedder, how: Literal["none", "memory", "posts"], operations: int
) -> None:
    with structlog.testing.capture_logs():
        found: dict[str, Any] = await measure(operations, seed=7, how=how, embedder=embedder)
    if how == "none":
        assert found["first_leaks"] == []
        assert found["leaks"] == 0
        assert {"ask", "search", "post", "page", "bot private", "revocation"} <= set(found["happened"])
        assert found["with_posts_in_them"]["ask"] > 20  # there was something to see
    else:
        assert found["leaks"] > 0
