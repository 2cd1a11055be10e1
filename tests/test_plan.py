"""The memory plan against cases computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.plan import planned, published, suite
from models.cards import AnswererCard, EmbedderCard, RerankerCard, all_cards
from models.errors import DoesNotFit, ModelError
from models.plan import (
    GIB,
    Plan,
    find_gpus,
    free_memory_gib,
    kv_bytes_per_token,
    plan,
    plan_cpu,
    plans,
    read_gpus,
    weight_bytes,
)

CARDS = all_cards()
ANSWERERS = [c for c in CARDS.values() if isinstance(c, AnswererCard) and c.engine == "vllm"]
BGE = CARDS["bge-m3"]
RERANKER = CARDS["bge-reranker-v2-m3"]
assert isinstance(BGE, EmbedderCard)
assert isinstance(RERANKER, RerankerCard)


def answerer(name: str) -> AnswererCard:
    card = CARDS[name]
    assert isinstance(card, AnswererCard)
    return card


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        # 10⁹ bytes: (parameters − token tables) × bytes + tables × 2
        ("qwen3-4b-fp8", 4.41),  # 3.633 × 1 + 0.389 × 2
        ("t-lite-it-2.1-4bit", 6.07),  # 6.945 × 0.516 + 1.245 × 2
        ("t-lite-it-2.1-fp8", 9.43),  # 6.945 × 1 + 1.245 × 2
        ("t-pro-it-2.1-4bit", 19.3),  # 31.204 × 0.5195 + 1.556 × 2
        ("t-pro-it-2.1-fp8", 34.3),  # 31.204 × 1 + 1.556 × 2
        ("t-pro-it-2.1-bf16", 65.5),  # 32.76 × 2
        ("gigachat3.1-10b-a1.8b-fp8", 10.6),  # 9.806 × 1 + 0.394 × 2
        ("bge-m3", 1.14),  # half of its published 2.27 GB in 32 bits
        ("multilingual-e5-large", 1.12),  # half of its published 2.24 GB in 32 bits
    ],
)
def test_weights_are_what_the_hand_counts(name: str, gigabytes: float) -> None:
    assert weight_bytes(CARDS[name]) / 1e9 == pytest.approx(gigabytes, rel=0.03)


def test_parameters_agree_with_published_files() -> None:
    for row in published():
        assert row["error"] < 0.01, row


@pytest.mark.parametrize(
    ("name", "bytes_"),
    [
        ("qwen3-4b-fp8", 73_728),  # 2 × 36 × 8 × 128 × 1
        ("t-lite-it-2.1-fp8", 73_728),  # 2 × 36 × 8 × 128 × 1
        ("t-pro-it-2.1-fp8", 131_072),  # 2 × 64 × 8 × 128 × 1
        ("t-pro-it-2.1-bf16", 262_144),  # 2 × 64 × 8 × 128 × 2
        ("gigachat3.1-10b-a1.8b-fp8", 29_952),  # 26 × 576 × 2
    ],
)
def test_a_token_of_the_cache(name: str, bytes_: int) -> None:
    assert kv_bytes_per_token(answerer(name)) == bytes_


@pytest.mark.parametrize("case", suite()["cases"], ids=lambda case: f"{case['card']}-{case['vram']}-{case['beside']}")
def test_plan_agrees_with_the_count_by_hand(case: dict[str, Any]) -> None:
    got, by_hand_gib = planned(case)
    used = sum(s.bytes for s in got.shares) / GIB
    assert got.kv_bytes / GIB == pytest.approx(by_hand_gib, rel=0.1)
    assert used == pytest.approx(0.975 * case["vram"] - by_hand_gib, rel=0.02)
    assert got.answers_at_once == case["at_once"]
    assert got.embedder == case["embedder"]


@pytest.mark.parametrize("card", ANSWERERS, ids=lambda c: c.name)
def test_the_published_minimum_fits_and_a_size_smaller_does_not(card: AnswererCard) -> None:
    asked = {"answers_at_once": 2, "context": 4096, "embedder": BGE, "embedder_on": "cpu"}
    assert plan(card, vram_gib=card.min_vram_gb, **asked).answers_at_once >= 2  # type: ignore[arg-type]
    smaller = [size for size in (4, 6, 8, 12, 16, 24, 32, 48, 64, 80) if size < card.min_vram_gb][-1]
    with pytest.raises(DoesNotFit):
        plan(card, vram_gib=smaller, **asked)  # type: ignore[arg-type]


def test_refusal_names_every_share_and_the_cure() -> None:
    with pytest.raises(DoesNotFit) as refused:
        plan(answerer("t-pro-it-2.1-4bit"), vram_gib=24, embedder=BGE, embedder_on="gpu", answers_at_once=8)
    said = str(refused.value)
    assert "weights of bge-m3" in said
    assert "KV cache 8.0 GiB asked" in said
    assert "Ask for" in said


@pytest.mark.parametrize(
    ("vram", "asked", "context", "cure"),
    [(24, 16, 8192, "Ask for --answers 4"), (24, 4, 32768, "Ask for --answers 1"), (8, 1, 2048, "smaller model")],
)
def test_the_cure_of_a_refusal_is_true(vram: float, asked: int, context: int, cure: str) -> None:
    with pytest.raises(DoesNotFit, match=cure):
        plan(answerer("t-pro-it-2.1-4bit"), vram_gib=vram, answers_at_once=asked, context=context)


def test_a_context_longer_than_the_model_reads_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="32768"):
        plan(answerer("t-lite-it-2.1-fp8"), vram_gib=80, context=65536)


@pytest.mark.parametrize(
    "wrong", [{"vram_gib": 0}, {"vram_gib": 8, "answers_at_once": 0}, {"vram_gib": 8, "context": 9}]
)
def test_a_senseless_request_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ModelError, match="at least one answer"):
        plan(answerer("qwen3-4b-fp8"), **wrong)  # type: ignore[arg-type]


@given(
    card=st.sampled_from(ANSWERERS),
    vram=st.floats(4, 200),
    asked=st.integers(1, 40),
    context=st.integers(256, 32768),
    embedder=st.sampled_from([None, BGE]),
)
def test_a_plan_never_takes_more_than_the_card_has_and_gives_what_was_asked(
    card: AnswererCard, vram: float, asked: int, context: int, embedder: EmbedderCard | None
) -> None:
    try:
        got: Plan = plan(card, vram_gib=vram, answers_at_once=asked, context=context, embedder=embedder)
    except DoesNotFit:
        return
    total = sum(s.bytes for s in got.shares) + got.kv_bytes
    assert total <= vram * GIB * 0.975
    assert got.answers_at_once >= asked
    assert got.answers_at_once * context * got.kv_bytes_per_token <= got.kv_bytes
    flags = dict(zip(got.vllm_args[:10:2], got.vllm_args[1:10:2], strict=True))
    assert int(flags["--kv-cache-memory-bytes"]) == got.kv_bytes
    assert 0 < float(flags["--gpu-memory-utilization"]) < 1
    assert plan(card, vram_gib=vram + 8, answers_at_once=asked, context=context).answers_at_once >= asked


def test_a_gguf_is_planned_for_the_hosts_memory_and_refused_beyond_it() -> None:
    card = answerer("qwen3-4b-gguf")
    weights, cache, working = plan_cpu(card, memory_gib=8, answers_at_once=2, context=8192)
    assert weights.bytes == card.file_bytes
    assert (
        cache.bytes == 2 * 8192 * 2 * 36 * 8 * 128 * 2
    )  # answers × tokens × (keys, values) × layers × heads × width × 2
    assert working.bytes < GIB / 8
    with pytest.raises(DoesNotFit, match="fewer --answers"):
        plan_cpu(card, memory_gib=4, answers_at_once=2, context=8192)
    with pytest.raises(DoesNotFit, match="32768"):
        plan_cpu(card, memory_gib=900, context=65536)
    with pytest.raises(DoesNotFit, match="on the CPU"):
        plan(card, vram_gib=24)
    assert 0.1 < free_memory_gib() < 4096


def test_all_answerers_are_planned_and_the_largest_comes_first() -> None:
    fits, refused = plans(ANSWERERS, vram_gib=24, embedder=BGE)
    assert fits[0].answerer.name == "t-pro-it-2.1-4bit"
    assert len(fits) + len(refused) == len(ANSWERERS)
    assert any("t-pro-it-2.1-bf16" in str(r) for r in refused)


def test_the_drivers_listing_is_read_and_nonsense_left_out() -> None:
    gpus = read_gpus("NVIDIA GeForce RTX 4090, 24564, 24100\nNVIDIA H200, 143771, 143000\n[N/A], [N/A], 1\n\n")
    assert [(g.name, round(g.total_gib)) for g in gpus] == [("NVIDIA GeForce RTX 4090", 24), ("NVIDIA H200", 140)]


def test_no_driver_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_gpus() == ()
