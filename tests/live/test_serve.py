"""The embedding server's throughput against one-by-one FlagEmbedding calls, in one run on the same thread."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.embed_server import measure

pytest.importorskip("torch", reason="the live environment is not installed")
pytest.importorskip("FlagEmbedding.inference.embedder.encoder_only.m3", reason="FlagEmbedding is not installed")


def test_server_is_at_least_half_again_as_fast_as_one_by_one_calls(tmp_path: Path) -> None:
    got = measure(tmp_path)
    print(got)  # noqa: T201
    assert got["least_ratio"] >= 1.5
    assert got["distance_fp32"] < 1e-3
    assert got["distance_int8"] < 2e-2
