"""The hot tier: consistent after every edit, never outside the scope."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.hot import HotTier, Scope
from appliance.schema import Chunk, PostKey

DIM = 8
START = datetime(2024, 1, 1, tzinfo=UTC)
TOPICS = "кот пес лес дом река море гора снег".split()


def chunk(channel: int, message: int, ordinal: int = 0, word: str = "кот") -> Chunk:
    return Chunk(
        channel_id=channel,
        message_id=message,
        ordinal=ordinal,
        text=f"{word} {message}",
        date=START + timedelta(days=message),
        author="Иван Петров" if message % 2 else None,
        media="photo" if message % 3 == 0 else None,
        fingerprint=message,
    )


def vector(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return values / np.linalg.norm(values)


def add(tier: HotTier, chunks: list[Chunk]) -> None:
    vectors = np.stack([vector(c.message_id * 10 + c.ordinal) for c in chunks])
    posts = list(dict.fromkeys((c.channel_id, c.message_id) for c in chunks))
    tier.replace(posts, chunks, [c.text.split() for c in chunks], vectors)


@pytest.fixture
def tier() -> HotTier:
    tier = HotTier(DIM)
    add(tier, [chunk(channel, message) for channel in (1, 2, 3) for message in range(1, 21)])
    return tier


def test_what_is_usual_is_judged_over_the_channels_not_over_a_day(tier: HotTier) -> None:
    day = Scope(channels=frozenset({1}), since=START + timedelta(days=3), until=START + timedelta(days=5))
    narrow = tier.candidates(vector(7), ["кот"], scope=day, n=5)
    whole = tier.candidates(vector(7), ["кот"], scope=Scope(channels=frozenset({1})), n=5)
    other = tier.candidates(vector(7), ["кот"], scope=Scope(channels=frozenset({2})), n=5)
    assert narrow.n_posts == 2
    assert narrow.dense_mean == pytest.approx(whole.dense_mean, abs=1e-6)
    assert narrow.dense_std == pytest.approx(whole.dense_std, abs=1e-6)
    assert other.dense_mean == pytest.approx(whole.dense_mean, abs=1e-6)  # the same vectors in every channel


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        (Scope(), lambda c, m: True),
        (Scope(channels=frozenset({2})), lambda c, m: c == 2),
        (Scope(channels=frozenset()), lambda c, m: False),
        (Scope(channels=frozenset({99})), lambda c, m: False),
        (Scope(since=START + timedelta(days=5)), lambda c, m: m >= 5),
        (Scope(until=START + timedelta(days=5)), lambda c, m: m < 5),
        (Scope(author="пЕтров"), lambda c, m: m % 2),
        (Scope(author="никто"), lambda c, m: False),
        (Scope(media="photo"), lambda c, m: m % 3 == 0),
        (Scope(media="any"), lambda c, m: m % 3 == 0),
        (Scope(media="video"), lambda c, m: False),
        (Scope(channels=frozenset({1, 3}), author="иван", media="photo"), lambda c, m: c != 2 and m % 2 and m % 3 == 0),
    ],
)
def test_scope_is_applied_before_ranking(tier: HotTier, scope: Scope, allowed: object) -> None:
    expected = {(c, m) for c in (1, 2, 3) for m in range(1, 21) if allowed(c, m)}  # type: ignore[operator]
    found = tier.candidates(vector(5), ["кот", "7"], scope=scope, n=100)
    assert set(found.posts) == expected
    assert found.n_posts == len(expected)
    newest = max((m for _, m in expected), default=None)
    days = None if newest is None else (START + timedelta(days=newest)).timestamp() * 1e6
    assert found.newest == days
    # With room for two, the two best of the scope come, not those of the best two of all that happen to be inside.
    assert len(tier.candidates(vector(5), [], scope=scope, n=2).posts) == min(2, len(expected))


def test_both_scores_come_for_every_candidate(tier: HotTier) -> None:
    found = tier.candidates(vector(70), ["7"], scope=Scope(), n=3)
    by_post = dict(zip(found.posts, zip(found.dense, found.lexical, found.coverage, strict=True), strict=True))
    for channel in (1, 2, 3):
        dense, lexical, coverage = by_post[(channel, 7)]
        assert dense == pytest.approx(1.0, abs=1e-5)
        assert lexical > 0
        assert coverage == pytest.approx(1.0)


def test_an_empty_tier_finds_nothing() -> None:
    found = HotTier(DIM).candidates(vector(1), ["кот"], scope=Scope(), n=10)
    assert (found.posts, found.n_posts, found.newest) == ([], 0, None)


class Edits(RuleBasedStateMachine):
    """Whatever is added, edited and removed, the tier finds what it should and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.tier = HotTier(DIM)
        self.model: dict[PostKey, list[Chunk]] = {}

    @rule(channel=st.integers(1, 2), first=st.integers(1, 40), count=st.integers(1, 9), word=st.sampled_from(TOPICS))
    def replace(self, channel: int, first: int, count: int, word: str) -> None:
        batch = [chunk(channel, message, word=word) for message in range(first, first + count)]
        add(self.tier, batch)
        self.model.update({(c.channel_id, c.message_id): [c] for c in batch})

    @rule(channel=st.integers(1, 2), message=st.integers(1, 40), count=st.integers(0, 3), word=st.sampled_from(TOPICS))
    def rewrite(self, channel: int, message: int, count: int, word: str) -> None:
        pieces = [chunk(channel, message, ordinal, word) for ordinal in range(count)]
        key = (channel, message)
        vectors = np.zeros((count, DIM), np.float32)
        self.tier.replace([key], pieces, [c.text.split() for c in pieces], vectors)
        self.model[key] = pieces
        if not pieces:
            del self.model[key]

    @rule(channel=st.integers(1, 3), first=st.integers(1, 40), count=st.integers(1, 12))
    def remove(self, channel: int, first: int, count: int) -> None:
        keys = [(channel, message) for message in range(first, first + count)]
        self.tier.remove(keys)
        for key in keys:
            self.model.pop(key, None)

    @rule()
    def squeeze(self) -> None:
        self.tier._squeeze()

    @invariant()
    def finds_what_it_holds(self) -> None:
        chunks = [c for pieces in self.model.values() for c in pieces]
        assert len(self.tier) == len(chunks)
        found = self.tier.candidates(vector(1), TOPICS[:1], scope=Scope(), n=1000)
        assert sorted(zip(found.posts, found.ordinals.tolist(), found.texts, strict=True)) == sorted(
            ((c.channel_id, c.message_id), c.ordinal, c.text) for c in chunks
        )
        with_word = {text for text, score in zip(found.texts, found.lexical, strict=True) if score > 0}
        assert with_word == {c.text for c in chunks if c.text.startswith(TOPICS[0])}
        counts: dict[int, int] = {}
        for channel, _ in self.model:
            counts[channel] = counts.get(channel, 0) + 1
        assert self.tier.post_counts() == counts
        assert all((key in self.tier) for key in self.model)


TestEdits = Edits.TestCase
TestEdits.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
