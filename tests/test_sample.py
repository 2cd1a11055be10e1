"""The sample channel reads as an export, and every list over it points at posts that answer."""

import json
import re
import tomllib
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance import sample
from appliance.schema import Channel, Post
from appliance.telegram_export import Skipped, read_export

SUITES = Path(__file__).parents[1] / "benchmarks" / "suites"
RUSSIAN_KEYS, ENGLISH_KEYS = "йцукенгшщзхъфывапролджэячсмитьбюё", "qwertyuiop[]asdfghjkl;'zxcvbnm,.`"
MONTHS = "января февраля марта апреля мая июня июля августа сентября октября ноября декабря".split()
WEEKDAYS = ("понедельник", "вторник", "сред", "четверг", "пятниц", "суббот", "воскресень")


@pytest.fixture(scope="module")
def export() -> dict[str, Any]:
    with sample.export() as path:
        return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def messages(export: dict[str, Any]) -> list[dict[str, Any]]:
    return [message for message in export["messages"] if message["type"] == "message"]


@pytest.fixture(scope="module")
def read() -> list[Any]:
    with sample.export() as path:
        return list(read_export(path, username=sample.USERNAME))


@pytest.fixture(scope="module")
def posts(read: list[Any]) -> dict[int, Post]:
    return {item.message_id: item for item in read if isinstance(item, Post)}


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    catalogue = sample.catalogue()
    return [*catalogue["demo"], *catalogue["question"]]


def suite(name: str) -> dict[str, Any]:
    return tomllib.loads((SUITES / f"{name}.toml").read_text(encoding="utf-8"))


# the export


def test_it_is_one_public_channel_of_telegram_desktop(export: dict[str, Any]) -> None:
    assert list(export) == ["name", "type", "id", "messages"]
    assert export["type"] == "public_channel"
    assert isinstance(export["id"], int)
    ids = [message["id"] for message in export["messages"]]
    assert ids == sorted(set(ids))
    times = [int(message["date_unixtime"]) for message in export["messages"]]
    assert times == sorted(times)


def test_every_message_has_the_fields_telegram_desktop_writes(export: dict[str, Any]) -> None:
    for message in export["messages"]:
        assert list(message)[:4] == ["id", "type", "date", "date_unixtime"]
        moscow = datetime.fromtimestamp(int(message["date_unixtime"]), UTC) + timedelta(hours=3)
        assert message["date"] == moscow.strftime("%Y-%m-%dT%H:%M:%S")
        assert ("edited" in message) == ("edited_unixtime" in message)
        who = "actor" if message["type"] == "service" else "from"
        assert message[who] == export["name"]
        assert message[f"{who}_id"] == f"channel{export['id']}"


def test_text_and_entities_say_the_same(export: dict[str, Any]) -> None:
    for message in export["messages"]:
        entities = message["text_entities"]
        text = [entity["text"] if entity["type"] == "plain" else entity for entity in entities]
        if len(text) < 2 and all(isinstance(piece, str) for piece in text):
            assert message["text"] == "".join(text)
        else:
            assert message["text"] == text
        assert all(entity["text"] for entity in entities)


def test_it_shows_every_kind_of_message(messages: list[dict[str, Any]]) -> None:
    for key in ("author", "edited", "forwarded_from", "reply_to_message_id", "photo", "file", "poll", "reactions"):
        assert any(key in message for message in messages), key
    kinds = {entity["type"] for message in messages for entity in message["text_entities"]}
    assert {"bold", "italic", "code", "hashtag", "mention", "link", "text_link", "email"} <= kinds
    lengths = [sum(len(entity["text"]) for entity in message["text_entities"]) for message in messages]
    assert max(lengths) > 1900
    assert sum(0 < length < 120 for length in lengths) > 20


def test_replies_and_pins_point_at_earlier_messages(export: dict[str, Any]) -> None:
    seen: set[int] = set()
    for message in export["messages"]:
        for key in ("reply_to_message_id", "message_id"):
            assert key not in message or message[key] in seen
        seen.add(message["id"])


def test_the_reader_takes_all_of_it(read: list[Any], posts: dict[int, Post]) -> None:
    channels = [item for item in read if isinstance(item, Channel)]
    assert [(channel.username, channel.kind) for channel in channels] == [(sample.USERNAME, "public_channel")]
    assert {item.reason for item in read if isinstance(item, Skipped)} == {"service"}
    assert {type(item).__name__ for item in read} == {"Channel", "Post", "Skipped", "BytesRead"}
    assert sum(bool(post.text) for post in posts.values()) >= 180
    assert [len(post.album_ids) for post in posts.values() if post.album_ids] == [3, 2, 3]
    days = [post.date for post in posts.values()]
    assert max(days) - min(days) > timedelta(days=540)


def test_texts_are_written_one_by_one(posts: dict[int, Post]) -> None:
    firsts = Counter(post.text.split("\n")[0] for post in posts.values() if post.text)
    repeated = {line for line, count in firsts.items() if count > 1}
    assert repeated == {"Отмена записи на курс: как возвращаем деньги"}  # the forwarded post


def test_weekdays_named_with_a_date_are_right(posts: dict[int, Post]) -> None:
    day = rf"(\d+) ({'|'.join(MONTHS)})"
    named = rf"({'|'.join(WEEKDAYS)})\w*+"
    checked = 0
    for post in posts.values():
        text = re.sub(r"\d+ и (?=\d)", "", post.text)  # «24 и 25 мая, суббота и воскресенье» names both
        found = [(m[2], m[3], m[1]) for m in re.finditer(rf"{named}, {day}", text)]
        found += [m.groups() for m in re.finditer(rf"{day}, {named}(?! и )", text)]
        for number, month, weekday in found:
            when = date(post.date.year, MONTHS.index(month) + 1, int(number))
            assert WEEKDAYS[when.weekday()] == weekday, post.message_id
            checked += 1
    assert checked >= 10


def test_nothing_leads_to_real_people(export: dict[str, Any]) -> None:
    text = json.dumps(export, ensure_ascii=False)
    hosts = set(re.findall(r"https?://([^/\s\"\\]+)", text))
    assert hosts
    assert all(host.endswith(".example") for host in hosts)
    assert set(re.findall(r"[\w.+-]+@([\w-]+\.[\w.-]*\w)", text)) == {"masterskaya.example"}
    assert set(re.findall(r"(?<![\w.])@(\w+)", text)) == {sample.USERNAME}
    assert not re.search(r"t\.me/", text)
    plain = " ".join(entity["text"] for message in export["messages"] for entity in message["text_entities"])
    assert not re.search(r"(?:\+7|(?<!\d)8)[\s(-]*\d{3}[\s)-]*\d{3}[\s-]*\d{2}[\s-]*\d{2}", plain)


# the questions


def test_questions_are_enough_of_each_kind(questions: list[dict[str, Any]]) -> None:
    assert [item["kind"] for item in sample.catalogue()["demo"]] == ["schedule", "conflict", "none"]
    kinds = Counter(item["kind"] for item in questions)
    assert set(kinds) == {"fact", "schedule", "howto", "conflict", "followup", "none"}
    assert kinds["none"] >= 16
    assert kinds["followup"] >= 8
    assert sum(kinds.values()) - kinds["none"] >= 60
    texts = [(item.get("before"), item["text"]) for item in questions]
    assert len(set(texts)) == len(texts)


def test_every_answer_stands_in_its_post(questions: list[dict[str, Any]], posts: dict[int, Post]) -> None:
    for item in questions:
        if item["kind"] == "none":
            assert not item["posts"], item["text"]
            assert not item["answer"], item["text"]
            continue
        assert item["posts"], item["text"]
        texts = {number: posts[number].text for number in item["posts"]}
        for answer in item["answer"]:
            assert any(answer in text for text in texts.values()), (item["text"], answer)
        for number, text in texts.items():
            assert any(answer in text for answer in item["answer"]), (item["text"], number)


def test_outdated_posts_are_older_and_say_otherwise(questions: list[dict[str, Any]], posts: dict[int, Post]) -> None:
    for item in questions:
        assert item["kind"] != "conflict" or item["outdated"], item["text"]
        for number in item.get("outdated", []):
            assert posts[number].date < min(posts[valid].date for valid in item["posts"]), item["text"]
            assert not any(answer in posts[number].text for answer in item["answer"]), (item["text"], number)


def test_follow_ups_need_the_turn_before(questions: list[dict[str, Any]]) -> None:
    for item in questions:
        assert (item["kind"] == "followup") == ("before" in item) == ("standalone" in item)
        assert item["kind"] != "followup" or len(item["text"]) < len(item["standalone"])


# the lists over the channel


def test_queries_as_people_type_them(posts: dict[int, Post]) -> None:
    data = suite("russian")
    counts = Counter(item["kind"] for item in data["query"])
    assert set(counts) == set(data["kinds"])
    assert min(counts.values()) >= 12
    for item in data["query"]:
        assert item["text"] != item["clean"], item
        assert item["posts"], item
        assert set(item["posts"]) <= set(posts), item


def test_each_kind_of_typing_is_what_it_says() -> None:
    switched = str.maketrans(ENGLISH_KEYS, RUSSIAN_KEYS)
    for item in suite("russian")["query"]:
        text, clean = item["text"], item["clean"]
        if item["kind"] == "layout":
            assert text.translate(switched) == clean
        if item["kind"] == "yo":
            assert text == clean.replace("ё", "е")
        if item["kind"] == "translit":
            assert text.isascii()
            assert not clean.isascii()
        if item["kind"] == "number":
            assert re.search(r"\d", clean)
        if item["kind"] == "part":
            whole = clean.split()
            assert all(any(word.startswith(piece) for word in whole) for piece in text.split())


def test_near_misses_are_two_different_questions() -> None:
    data = suite("near_miss")
    assert len(data["different"]) >= 60
    assert len(data["same"]) >= 40
    assert len({item["differ"] for item in data["different"]}) >= 6
    pairs = [frozenset((item["a"], item["b"])) for item in data["different"] + data["same"]]
    assert all(len(pair) == 2 for pair in pairs)
    assert len(set(pairs)) == len(pairs)


def test_commands_and_what_only_looks_like_them() -> None:
    data = suite("intents")
    counts = Counter(item["intent"] for item in data["command"])
    intents = {"subscribe", "unsubscribe", "digest", "forget", "export", "new", "help", "plan", "language"}
    assert set(counts) == intents
    assert sum(counts.values()) >= 150
    assert min(counts.values()) >= 15
    assert len(data["question"]) >= 80
    assert {item["near"] for item in data["question"]} <= intents
    assert all(set(item["between"]) <= {*intents, "question"} for item in data["ambiguous"])
    texts = [item["text"].casefold() for kind in ("command", "question", "ambiguous") for item in data[kind]]
    assert len(set(texts)) == len(texts)
    for item in data["command"]:
        assert item.get("topic", "") in item["text"]
        assert item.get("period", "") in item["text"]
