"""The pacer keeps every limit the server enforces, obeys its waits, and is no slower than it must be."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.bot import pacing
from appliance.bot.pacing import Pace, Pacer
from tests.servers.botapi_limits import Flood, Limits


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, -1, -2]), st.floats(0, 2)), min_size=1, max_size=200),
    st.sampled_from([1.0, 10.0]),
)
def test_what_the_pacer_allows_the_server_never_refuses(sends: list[tuple[int, float]], speed: float) -> None:
    clock = Clock()
    pacer, flood = Pacer(Pace(speed=speed), clock), Flood(Limits(speed=speed), clock)
    for chat_id, pause in sends:
        clock.now += pause
        while (wait := pacer.wait_s(chat_id)) > 0:
            clock.now += wait + 1e-6
        pacer.sent(chat_id)
        assert flood.retry_after(chat_id, is_group=chat_id < 0) == 0


@pytest.mark.parametrize("is_told", [True, False])
def test_what_comes_late_is_not_too_close_to_what_follows(is_told: bool) -> None:
    """The control is not told when the answers came."""
    clock = Clock()
    pacer, flood = Pacer(Pace(), clock), Flood(Limits(), clock)
    sent = [pacer.sent(chat_id) for chat_id in range(1, 29)]
    clock.now += 0.4  # the network, or a machine that stood still
    refused = sum(flood.retry_after(chat_id, is_group=False) > 0 for chat_id in range(1, 29))
    for at in sent if is_told else ():
        pacer.answered(at)
    for chat_id in range(29, 57):
        while (wait := pacer.wait_s(chat_id)) > 0:
            clock.now += wait
        pacer.sent(chat_id)
        refused += flood.retry_after(chat_id, is_group=False) > 0
    assert (refused == 0) == is_told


def test_without_the_pacer_the_server_refuses() -> None:
    flood = Flood(Limits(), Clock())
    assert any(flood.retry_after(1, is_group=False) for _ in range(4))


def test_rates_are_close_to_the_limits() -> None:
    clock = Clock()
    pacer = Pacer(Pace(), clock)
    for number in range(300):
        while (wait := pacer.wait_s(number % 50)) > 0:
            clock.now += wait
        pacer.sent(number % 50)
    assert 300 / (clock.now - 1000) == pytest.approx(28, rel=0.15)
    pacer = Pacer(Pace(), clock)
    began = clock.now
    for _ in range(19 * 3 + 1):
        while (wait := pacer.wait_s(-5)) > 0:
            clock.now += wait
        pacer.sent(-5)
    assert clock.now - began == pytest.approx(3 * 61, rel=0.1)


def test_a_blocked_chat_waits_and_others_do_not() -> None:
    clock = Clock()
    pacer = Pacer(Pace(), clock)
    pacer.block(1, 7)
    pacer.block(1, 3)  # a shorter wait does not end a longer one
    assert pacer.wait_s(1) == 7
    assert pacer.wait_s(2) == 0
    assert pacer.is_blocked(1)
    assert not pacer.is_blocked(2)
    pacer.block(None, 2)
    assert pacer.wait_s(2) == 2
    clock.now += 7
    assert pacer.wait_s(1) == 0
    assert not pacer.is_blocked(1)


def test_what_is_not_urgent_leaves_room_for_what_is() -> None:
    pacer = Pacer(Pace(), Clock())
    for _ in range(2):
        pacer.sent(1)
    assert pacer.wait_s(1, spare=True) > 0
    assert pacer.wait_s(1) == 0
    for chat_id in range(2, 16):
        pacer.sent(chat_id)
    assert pacer.wait_s(99, spare=True) > 0
    assert pacer.wait_s(99) == 0


def test_idle_chats_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "MAX_CHATS_KEPT", 10)
    clock = Clock()
    pacer = Pacer(Pace(), clock)
    for chat_id in range(1000):
        clock.now += 1
        pacer.sent(chat_id)
        pacer.block(chat_id, 0.5)
    assert len(pacer._chats) <= 11
    assert len(pacer._blocked) <= 11
