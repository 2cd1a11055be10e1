"""The ledger's rooms of members: settings of chats, dialogues, alerts, notices, held answers, surveys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.ledger import Ledger
from appliance.ledger.notices import Notice
from appliance.schema import Channel, Post, QuestionRow
from appliance.vault import Vault

NOW = datetime.now(UTC)
CHANNEL = Channel(id=1500000001, title="Соседи", username="sosedi")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with (
        closing(Vault.open(tmp_path / "master.key", tmp_path)) as vault,
        Ledger.open(tmp_path / "l.duckdb", vault) as opened,
    ):
        yield opened


def person(ledger: Ledger, telegram_id: int = 501) -> int:
    asker = ledger.save_user(telegram_id=telegram_id, username=None, first_name="Анна")
    assert asker.user_id is not None
    return asker.user_id


def asked(ledger: Ledger, user_id: int, at: datetime, dialogue_id: str = "d") -> None:
    row = QuestionRow(
        id=f"{user_id}-{at.timestamp()}", dialogue_id=dialogue_id, user_id=user_id, door="telegram", asked_at=at,
        text="?", query="?", language="ru", outcome="answered", model="quotes", posts=(), answer_text="",
        relevance=1.0, tokens=0, times_ms={},
    )  # fmt: skip
    ledger.questions.save(row)


def test_a_topic_has_its_own_setting_its_chats_or_the_default(ledger: Ledger, tmp_path: Path) -> None:
    chats = ledger.chats
    assert chats.get(-1, 7, "mode", "mention") == "mention"
    chats.set(-1, None, "mode", "off")
    chats.set(-1, 7, "mode", {"is": "auto", "above": 0.7})
    assert chats.get(-1, None, "mode") == chats.get(-1, 8, "mode") == "off"
    assert chats.get(-1, 7, "mode") == {"is": "auto", "above": 0.7}
    chats.move(-1, -100)
    assert chats.get(-1, None, "mode") is None
    assert chats.of("mode") == {(-100, 0): "off", (-100, 7): {"is": "auto", "above": 0.7}}
    chats.set(-100, 7, "mode", None)
    assert chats.get(-100, 7, "mode") == "off"
    assert type(chats)(ledger._database).of("mode") == {(-100, 0): "off"}


def test_dialogues_go_on_until_a_pause_a_new_one_or_another_topic(ledger: Ledger) -> None:
    anna, boris = person(ledger), person(ledger, 502)
    talks, hour = ledger.talks, timedelta(hours=1)
    first = talks.dialogue(anna, 0, hour)
    assert talks.dialogue(anna, 0, hour) == first != talks.dialogue(boris, 0, hour)
    assert talks.dialogue(anna, 5, None) not in {first, talks.dialogue(anna, 6, None)}
    assert talks.begin(anna, 0) != first
    second = talks.dialogue(anna, 0, hour)
    asked(ledger, anna, NOW - timedelta(hours=3), second)
    assert talks.dialogue(anna, 0, hour) != second
    in_topic = talks.dialogue(anna, 5, None)
    asked(ledger, anna, NOW - timedelta(days=90), in_topic)
    assert talks.dialogue(anna, 5, None) == in_topic


def test_who_was_away_and_since_when(ledger: Ledger) -> None:
    anna = person(ledger)
    gap = timedelta(hours=3)
    assert ledger.talks.away_since(anna, gap) is None
    asked(ledger, anna, NOW - timedelta(minutes=5))
    asked(ledger, anna, NOW - timedelta(hours=1))
    assert ledger.talks.away_since(anna, gap) is None
    last = NOW - timedelta(days=4)
    asked(ledger, anna, last)
    found = ledger.talks.away_since(anna, gap)
    assert found is not None
    assert abs(found - last) < timedelta(seconds=1)


def test_alerts_are_few_and_a_persons_own(ledger: Ledger) -> None:
    anna, boris = person(ledger), person(ledger, 502)
    made = ledger.alerts.add(anna, "отключат воду", 0.4, 2)
    assert made is not None
    assert ledger.alerts.add(anna, "субботник", 0.4, 2) is not None
    assert ledger.alerts.add(anna, "лишнее", 0.4, 2) is None
    assert not ledger.alerts.remove(boris, made.alert_id)
    assert not ledger.alerts.change(boris, made.alert_id, 0.9)
    assert ledger.alerts.change(anna, made.alert_id, 0.9)
    assert [(one.text, one.above) for one in ledger.alerts.listed(anna)] == [("отключат воду", 0.9), ("субботник", 0.4)]
    assert "отключат" in str(ledger.people.archive(anna)["alert"])
    assert ledger.alerts.remove(anna, made.alert_id)
    ledger.people.erase(anna)
    assert ledger.alerts.listed() == []


def test_only_new_recent_indexed_posts_wait_to_be_compared(ledger: Ledger) -> None:
    ledger.save_channel(CHANNEL)
    posts = [Post(CHANNEL.id, 1, NOW - timedelta(days=30), "давно"), Post(CHANNEL.id, 2, NOW, "сейчас")]
    ledger.save_posts(posts)
    assert ledger.alerts.fresh() == []  # not indexed yet
    ledger.mark_indexed([post.key for post in posts])
    assert ledger.alerts.fresh() == [posts[1].key]
    ledger.save_posts([Post(CHANNEL.id, 2, NOW, "сейчас исправлено", edited_at=NOW)])
    ledger.mark_indexed([posts[1].key])
    told = Notice("alert:1", person(ledger), "alert", {"post": [1, 2]}, NOW)
    assert ledger.alerts.heard([posts[1].key], [told]) == 1
    assert ledger.alerts.fresh() == []
    assert ledger.alerts.heard([], [told]) == 0
    ledger.save_posts([Post(CHANNEL.id, 2, NOW, "исправлено ещё раз", edited_at=NOW + timedelta(minutes=1))])
    ledger.mark_indexed([posts[1].key])
    assert ledger.alerts.fresh() == []  # an edit is not new


def test_notices_are_told_once_when_it_is_time_with_todays_rights(ledger: Ledger) -> None:
    anna = person(ledger)
    later = NOW + timedelta(hours=8)
    notices = [Notice("a", anna, "alert", {"слово": 1}, NOW), Notice("b", anna, "alert", {}, later)]
    assert ledger.notices.add(notices) == 2
    assert ledger.notices.add(notices) == 0
    ledger.grant(anna, 77)
    (due,) = ledger.notices.due(NOW)
    assert (due.id, due.telegram_id, due.body) == ("a", 501, {"слово": 1})
    assert due.asker.private_channels == {77}
    ledger.notices.queued(["a"])
    assert ledger.notices.due(NOW) == []
    assert ledger.notices.next_at() is not None
    assert [one.id for one in ledger.notices.due(later)] == ["b"]
    assert ledger.notices.add(notices) == 0
    ledger.people.erase(anna)
    assert ledger.notices.due(later) == []


def test_a_held_answer_is_decided_by_the_first_press_which_may_repeat(ledger: Ledger) -> None:
    anna = person(ledger)
    calls = [{"method": "sendMessage", "payload": {"chat_id": -5, "text": "Ответ"}}]
    held = ledger.talks.hold(anna, -5, calls)
    assert ledger.talks.held(held) == (anna, -5)
    assert ledger.talks.decide(held, 10) == calls
    assert ledger.talks.decide(held, 10) == calls
    assert ledger.talks.decide(held, 11) is None
    assert ledger.talks.decide("0" * 16, 10) is None
    ledger.people.erase(anna)
    assert ledger.talks.held(held) is None


def test_a_survey_comes_at_most_once_in_its_time_after_some_questions(ledger: Ledger) -> None:
    anna = person(ledger)
    month = timedelta(days=30)
    assert ledger.talks.ask_survey(anna, month, 2) is None
    asked(ledger, anna, NOW - timedelta(hours=2))
    asked(ledger, anna, NOW - timedelta(hours=1))
    named = ledger.talks.ask_survey(anna, month, 2)
    assert named is not None
    assert ledger.talks.ask_survey(anna, month, 0) is None
    assert ledger.talks.answer_survey(anna, named, 4)
    assert not ledger.talks.answer_survey(anna, NOW - timedelta(days=99), 5)
    assert ledger.talks.scores(NOW - month) == [4]
    assert ledger.talks.setting(anna, "quiet") is None
    ledger.talks.set(anna, "quiet", [23, 8])
    ledger.talks.set(anna, "quiet", [22, 7])
    assert ledger.talks.setting(anna, "quiet") == [22, 7]
    assert ledger.talks.settings("quiet") == {anna: [22, 7]}
