"""Signs of abuse and the ladder; every test of an attack stands beside ordinary people whom it must not touch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.abuse import Bucket, Buckets, Watch, channel_signs, is_rude, words_of
from appliance.antifraud import STOPS_S, Antifraud
from appliance.ledger import Ledger
from appliance.wordmarks import BUCKETS, chance, marks

NOW = 1_800_000_000.0
SPAM = "Заработок на дому от 5 000 рублей в день, пишите в личку @money_fast, ссылка https://t.me/+aBcDeF 💰"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("antifraud") / "ledger.duckdb") as opened:
        yield opened


class World:
    """A guard with a clock of its own."""

    def __init__(self, ledger: Ledger, mode: Any = "on") -> None:
        self.now = NOW
        self.guard = Antifraud(ledger, mode, _no_ban, clock=lambda: self.now)

    def ask(self, who: int, text: str, after_s: float) -> str:
        self.now += after_s
        return self.guard.look(who, "question", text=text).step


async def _no_ban(*_: object, **__: object) -> None:
    return None


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 20)), max_size=60))
@settings(max_examples=60, deadline=None)
def test_nobody_gets_more_than_the_allowance(steps: list[tuple[float, float]]) -> None:
    bucket, now, taken = Bucket(1.0, 60.0, 60.0, NOW), NOW, 0.0
    for wait, cost in steps:
        now += wait
        if bucket.take(cost, now) == 0.0:
            taken += cost
    assert taken <= 60.0 + (now - NOW) + 1e-6


def test_memory_is_bounded() -> None:
    buckets, watch = Buckets(1.0, 5.0, limit=100), Watch(limit=100, texts=50)
    for number in range(1000):
        buckets.take(number, 1.0, NOW)
        watch.look(number, "question", NOW + number, text=f"Где лежит вещь номер {number}?", is_new=True)
    assert len(buckets) == 100
    assert len(watch) == 100
    assert len(watch._said) <= 50


def test_a_person_in_a_hurry_is_left_alone(ledger: Ledger) -> None:
    world, rng = World(ledger), random.Random(1)
    for number in range(12):
        step = world.ask(1, f"Сколько стоит зал номер {number}?", rng.lognormvariate(2.3, 0.8) + 2)
        assert step != "stop"
    for _ in range(3):
        assert world.ask(2, "Когда откроется мастерская?", 20) == "pass"  # impatience


def test_a_clock_set_back_is_nobodys_debt(ledger: Ledger) -> None:
    world = World(ledger)
    for who in range(40, 60):
        assert world.ask(who, "Где лежат ключи от подвала?", 1) == "pass"
    world.now -= 3600
    assert [world.ask(who, "Когда собрание в холле?", 5) for who in range(40, 60)] == ["pass"] * 20


def test_a_flood_is_slowed_then_stopped_for_longer_each_time(ledger: Ledger) -> None:
    world = World(ledger)
    lengths = []
    for _ in range(4):
        steps = []
        for number in range(60):
            world.now += 0.3
            verdict = world.guard.look(7, "question", text=f"Где лежит вещь номер {number}?")
            steps.append(verdict.step)
            if verdict.is_first and verdict.step == "stop":
                lengths.append(verdict.wait_s)
                assert verdict.sign == "flood"
        assert {"pass", "stop"} <= set(steps)
        world.now += lengths[-1] + 1
    assert lengths == [*STOPS_S, STOPS_S[-1]]
    world.guard.pardon(7)
    assert world.ask(7, "Где лежит вещь?", 1) == "pass"


def test_shadow_mode_sees_the_same_and_touches_nobody(ledger: Ledger) -> None:
    """The control of the test above: without the protection a flood goes through."""
    world = World(ledger, "shadow")
    assert {world.ask(7, f"Где лежит вещь номер {number}?", 0.3) for number in range(60)} == {"pass"}
    assert world.guard.view()["hour"]["stopped"] > 0
    assert not any(line["real"] for line in world.guard.view()["incidents"])
    off = World(ledger, "off")
    assert {off.ask(7, f"Где лежит вещь номер {number}?", 0.3) for number in range(60)} == {"pass"}
    assert off.guard.view()["hour"]["seen"] == 0


def test_the_same_words_again_and_again_whatever_their_marks(ledger: Ledger) -> None:
    world = World(ledger)
    steps = [world.ask(3, "Пишите мне про гараж" + "!" * number, 20) for number in range(12)]
    assert steps[:3] == ["pass"] * 3
    assert "stop" in steps
    assert words_of("Где зал 12?") != words_of("Где зал 13?")
    assert words_of("да") is None


def test_advertisements_are_stopped_and_questions_of_money_are_not(ledger: Ledger) -> None:
    world = World(ledger)
    adverts = [f"{SPAM} {number} вариант" for number in range(8)]
    assert "stop" in [world.ask(4, text, 60) for text in adverts]
    assert chance("spam", SPAM) > 0.8
    for text in (
        "Сколько стоит абонемент на керамику в рублях и можно ли платить картой?",
        "Подскажите, кому писать про аренду зала на субботу, чтобы успеть к концерту?",
        "В посте https://t.me/masterskaya_rechnaya/73 говорится про масло, а какое лучше купить?",
    ):
        assert chance("spam", text) < 0.8, text


def test_accounts_of_one_hand_share_an_allowance_and_a_class_does_not(ledger: Ledger) -> None:
    world = World(ledger)
    asked = [
        f"Расскажите подробно про услугу {word} и цену" for word in ("сварки", "керамики", "йоги", "хора", "печати")
    ]
    for who in range(100, 112):
        for text in asked:
            world.ask(who, text, 3)
    ringed = {who for who in range(100, 112) if world.guard._people.trace(who, world.now).ring is not None}
    assert len(ringed) >= 10
    room = World(ledger)
    for who in range(200, 225):  # told in one room to ask the same three
        for text in asked[:3]:
            room.ask(who, text, 3)
    assert not any(room.guard._people.trace(who, room.now).ring for who in range(200, 225))


def test_clockwork_is_told_from_people(ledger: Ledger) -> None:
    world, rng = World(ledger), random.Random(2)
    steps = [world.ask(5, f"Где лежит вещь номер {number}?", 200 * rng.uniform(0.9, 1.1)) for number in range(80)]
    assert "stop" in steps
    human = World(ledger)
    steps = [human.ask(6, f"Где лежит вещь номер {number}?", 6 + rng.expovariate(1 / 200)) for number in range(120)]
    assert "stop" not in steps


def test_forged_buttons_are_probing(ledger: Ledger) -> None:
    world = World(ledger)
    steps = []
    for _ in range(20):
        world.now += 5
        steps.append(world.guard.look(8, "bad").step)
    assert steps[:3] == ["pass"] * 3
    assert "stop" in steps


def test_rudeness_is_a_flag_alone(ledger: Ledger) -> None:
    world = World(ledger)
    assert not is_rude("Когда откроется мастерская?")
    for number in range(6):
        assert world.ask(9, f"Что за вопрос номер {number}", 60) == "pass"


def test_a_channel_of_advertisements_is_suspicious() -> None:
    honest = [f"Субботник номер {n}: приносите перчатки, чай за нами, начало у ворот." for n in range(30)]
    assert not channel_signs(honest, 0)["suspicious"]
    assert channel_signs([f"{SPAM} {n}" for n in range(30)], 0)["suspicious"]
    assert channel_signs(["Продаю гараж у реки недорого"] * 30, 0)["suspicious"]
    assert not channel_signs([], 0)["suspicious"]


@given(st.text(max_size=3000))
@settings(max_examples=80, deadline=None)
def test_any_text_has_its_marks(text: str) -> None:
    assert all(0 <= place < BUCKETS for place in marks(text))
    assert 0.0 <= chance("spam", text) <= 1.0
    words_of(text)


def test_the_coefficients_hold_no_text() -> None:
    import orjson

    from appliance.wordmarks import FILE

    kept = orjson.loads(Path(FILE).read_bytes())
    assert set(kept) == {"spam", "toxic"}
    for one in kept.values():
        assert set(one) == {"origin", "intercept", "places", "weights"}
        assert all(isinstance(value, int | float) for value in (*one["places"], *one["weights"]))
