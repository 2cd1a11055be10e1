"""Damaged exports and what is no export: named, with the cure; the rest is kept; memory stays small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import BadExport
from appliance.schema import Channel
from appliance.telegram_export import find_export
from appliance.telegram_json import CHUNK_BYTES, MAX_MESSAGE_BYTES
from tests.exports import CHANNEL, GROUP, account, broken_of, message, posts_of, read, save, texts, written

# --- what cannot be read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "number", "reason"),
    [
        ({"id": 2, "type": "message", "text": "x"}, 2, "no date"),
        (message(2) | {"date_unixtime": "вчера"}, 2, "not a time"),
        (message(2) | {"date_unixtime": "9" * 30}, 2, "not a time"),
        (message(2) | {"date_unixtime": None, "date": 5}, 2, "not a time"),
        (message(2, 5), 2, "not a text"),
        (message(2, [["x"]]), 2, "not a text"),
        (message(2, [{"type": "bold"}]), 2, "not a text"),
        (message(2) | {"id": "2"}, None, "without an id"),
        (message(2) | {"id": 2.5}, None, "without an id"),
        (message(2) | {"id": None}, None, "without an id"),
        ({key: value for key, value in message(2).items() if key != "id"}, None, "without an id"),
        (message(2) | {"type": 5}, 2, "known"),
    ],
)
def test_a_broken_message_is_named_and_the_rest_kept(
    tmp_path: Path, wrong: dict[str, Any], number: int | None, reason: str
) -> None:
    path = save(tmp_path, {**CHANNEL, "messages": [message(1), wrong, message(3)]})
    items = read(path)
    assert [post.message_id for post in posts_of(items)] == [1, 3]
    (broken,) = broken_of(items)
    assert (broken.message_id, broken.file) == (number, str(path))
    assert reason in broken.reason
    assert broken.cure


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('"Второй"', '"Втор', "damaged JSON"),
        ('"Второй"', '"Вто"рой"', "damaged JSON"),
        ('"Второй"', "[" * 100_000, "damaged JSON"),
        ('"Второй"', "9" * 10_000, "damaged JSON"),
        ('"Второй"', "NaN", "damaged JSON"),
        ('"Второй"', r'"\ud800"', "damaged JSON"),
        ("Второй", "Вто\x00рой", "damaged JSON"),
        ("Второй", "Вто\nрой", "damaged JSON"),
        ("Второй", "\udcff", "bytes that are not UTF-8"),
    ],
)
def test_damage_inside_a_message(tmp_path: Path, before: str, after: str, reason: str) -> None:
    data = written({**CHANNEL, "messages": [message(1), message(2, "Второй"), message(3)]}).decode()
    items = read(save(tmp_path, data.replace(before, after).encode("utf-8", "surrogateescape")))
    assert [post.message_id for post in posts_of(items)] == [1, 3]
    assert [(item.message_id, item.reason) for item in broken_of(items)] == [(2, reason)]


@pytest.mark.parametrize("cut", [30, 200, 500, 800])
def test_a_file_that_ends_too_early(tmp_path: Path, cut: int) -> None:
    data = written({**CHANNEL, "messages": [message(number) for number in range(1, 5)]})
    items = read(save(tmp_path, data[:-cut]))
    assert [post.message_id for post in posts_of(items)] == list(range(1, 5))[: len(posts_of(items))]
    assert "ends" in broken_of(items)[-1].reason
    if cut == 200:
        assert broken_of(items)[0].message_id == 4


def test_a_message_of_impossible_size(tmp_path: Path) -> None:
    huge = message(2, "я" * (MAX_MESSAGE_BYTES // 2 + CHUNK_BYTES))
    items = read(save(tmp_path, {**CHANNEL, "messages": [message(1), huge, message(3)]}))
    assert [post.message_id for post in posts_of(items)] == [1, 3]
    assert [(item.message_id, item.reason) for item in broken_of(items)] == [(2, "larger than 4 MB")]


def test_a_damaged_head_is_put_together(tmp_path: Path) -> None:
    data = written({**CHANNEL, "messages": [message(1), message(2)]}).replace(b'"messages": [', b'"mess\x00ges": [', 1)
    items = read(save(tmp_path, data))
    assert next(item for item in items if isinstance(item, Channel)).id == 1234567890
    assert [post.message_id for post in posts_of(items)] == [1, 2]


def test_a_damaged_head_in_an_account_takes_no_messages_with_it(tmp_path: Path) -> None:
    talk = {"name": "Мама", "type": "personal_chat", "id": 11, "messages": [message(1, "СЕКРЕТ"), message(9, "СЕКРЕТ")]}
    data = written(
        account({**CHANNEL, "messages": [message(5), message(6)]}, talk, {**GROUP, "messages": [message(1)]})
    )
    for before, after in (
        (b'"personal_chat"', b'"\x00\x00\x00"'),
        (b'"personal_chat",\n    "id": 11,\n    "messages": [', b'"\x00\x00'),
        (b'"id": 11,', b""),
    ):
        assert before in data
        items = read(save(tmp_path, data.replace(before, after)))
        assert "СЕКРЕТ" not in repr(items)
        assert [post.key for post in posts_of(items)] == [(1234567890, 5), (1234567890, 6), (1987654321, 1)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"PK\x03\x04rest", "archive"),
        (b"\x1f\x8brest", "archive"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"\xff\xfe{\x00", "UTF-16"),
        (b"hello", "not a Telegram export"),
        (b"[]", "not a Telegram export"),
        (b"{}", "no chat"),
        (b'{"name": "x", "type": "public_channel"}', "no chat"),
        (b"{" * 3_000_000, "no chat"),
        (b"\x00" * 100, "not a Telegram export"),
        (b'{"id": 5, "messages": [{"id": 1, "type": "message", "date": 5}]}', "no channel and no group"),
        (written({"name": "Мама", "type": "personal_chat", "id": 1, "messages": [message(1)]}), "no channel"),
        (written({"chats": {"about": "", "list": []}}), "no channel"),
    ],
)
def test_what_is_no_export(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(BadExport, match=reason) as raised:
        read(save(tmp_path, content))
    assert raised.value.cure


def test_folders_without_an_export(tmp_path: Path) -> None:
    with pytest.raises(BadExport, match=r"no result\.json"):
        read(tmp_path)
    (tmp_path / "messages.html").write_text("<html>")
    with pytest.raises(BadExport, match="HTML"):
        read(tmp_path)
    (tmp_path / "ChatExport_2026").mkdir()
    save(tmp_path / "ChatExport_2026", {**CHANNEL, "messages": []})
    with pytest.raises(BadExport, match="ChatExport_2026"):
        read(tmp_path)
    with pytest.raises(BadExport, match="no "):
        read(tmp_path / "absent.json")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadExport, match="not a file"):
        find_export(tmp_path / "pipe")


def laid_out(messages: list[dict[str, Any]], *, compact: bool) -> tuple[bytes, list[tuple[int, int]]]:
    """An export, as Telegram Desktop lays it out or on one line, and where each message stands in it."""
    if compact:
        head = json.dumps(CHANNEL, ensure_ascii=False, separators=(",", ":")).encode()[:-1] + b',"messages":['
        pieces = [json.dumps(source, ensure_ascii=False, separators=(",", ":")).encode() for source in messages]
        comma, end = b",", b"]}"
    else:
        head = written(CHANNEL)[:-2] + b',\n "messages": [\n  '
        pieces = [written(source).replace(b"\n", b"\n  ") for source in messages]
        comma, end = b",\n  ", b"\n ]\n}"
    spans = []
    place = len(head)
    for piece in pieces:
        spans.append((place, place + len(piece)))
        place += len(piece) + len(comma)
    data = head + comma.join(pieces) + end
    assert compact or data == written({**CHANNEL, "messages": messages})
    return data, spans


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.lists(texts, min_size=1, max_size=8),
    where=st.floats(0, 1),
    length=st.integers(0, 400),
    junk=st.binary(max_size=40)
    | st.sampled_from(
        [b"\0" * 512, b"}", b"]", b"{", b'"', b"\\", b",", b"]}", b'"}]}', b"\xff\xfe", b'{"id": 3, "type": "m']
    )
    | texts.map(str.encode),
    compact=st.booleans(),
)
def test_damage_stays_where_it_is(
    tmp_path: Path, seed: list[str], where: float, length: int, junk: bytes, compact: bool
) -> None:
    messages = [message(10 * number, text) for number, text in enumerate(seed, 1)]
    data, spans = laid_out(messages, compact=compact)
    begin = int(where * len(data))
    end = min(len(data), begin + length)
    path = save(tmp_path, data[:begin] + junk + data[end:])
    whole = {m["id"]: m for m, (a, b) in zip(messages, spans, strict=True) if b <= begin or a >= end}
    try:
        items = read(path)
    except BadExport:
        assert begin < spans[0][0]  # only damage to the head of the file may cost the file
        return
    found = {post.message_id: post.text for post in posts_of(items)}
    head_is_whole = begin >= spans[0][0]
    assert {number: found.get(number) for number in whole} == {number: m["text"] for number, m in whole.items()}
    if head_is_whole:
        assert {post.channel_id for post in posts_of(items)} <= {CHANNEL["id"]}
    if b"\0" in junk and len(whole) < len(messages):
        assert broken_of(items)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1), length=st.integers(0, 300), junk=st.binary(max_size=20) | st.just(b"\0" * 100))
def test_damage_moves_no_message_to_another_chat(tmp_path: Path, where: float, length: int, junk: bytes) -> None:
    secret = {"name": "Мама", "type": "personal_chat", "id": 11, "messages": [message(n, "СЕКРЕТ") for n in (2, 4, 6)]}
    open_chat = {**CHANNEL, "messages": [message(number, f"сад {number}") for number in range(100, 110)]}
    group = {**GROUP, "messages": [message(number, f"сосед {number}") for number in range(1, 10)]}
    data = written(account(open_chat, secret, group))
    begin = int(where * len(data))
    path = save(tmp_path, data[:begin] + junk + data[begin + length :])
    try:
        items = read(path)
    except BadExport:
        return
    for post in posts_of(items):
        if "сад" in post.text:
            assert post.channel_id != GROUP["id"]
        if "сосед" in post.text:
            assert post.channel_id != CHANNEL["id"]
    assert sum("СЕКРЕТ" in post.text for post in posts_of(items)) <= (length > 0)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=400)
    | st.binary(max_size=200).map(lambda tail: b'{"name":"x","type":"public_channel","id":5,"messages":[' + tail)
)
def test_any_bytes_give_an_export_or_a_refusal(tmp_path: Path, content: bytes) -> None:
    try:
        read(save(tmp_path, content))
    except BadExport:
        return


# --- memory ---


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    body = written({**CHANNEL, "messages": [message(n, "Текст поста. " * 60) for n in range(1000)]})
    begin, end = body.index(b"[") + 1, body.rindex(b"]")
    path = tmp_path / "result.json"
    with path.open("wb") as file:
        file.write(body[:begin])
        for _ in range(40):
            file.write(body[begin:end].rstrip() + b",")
        file.write(body[begin:])
    assert path.stat().st_size > 60_000_000
    program = (
        "import sys; from pathlib import Path; from appliance.telegram_export import read_export\n"
        "peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) // 1024\n"
        "before = peak(); n = sum(1 for _ in read_export(Path(sys.argv[1]))); print(n, peak() - before)"
    )
    out = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True).stdout
    count, grown_mb = map(int, out.split())
    assert count > 41_000
    assert grown_mb < 30
