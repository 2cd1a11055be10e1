"""Links: what is built is read back; what is no message link is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.links import parse_link, post_link
from appliance.schema import Channel

RESERVED = {"joinchat", "share", "proxy", "addlist", "boost", "contact", "login", "socks", "call", "message"}
usernames = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{3,31}", fullmatch=True).filter(
    lambda name: name.lower() not in RESERVED and not name.lower().startswith(("add", "gift", "star", "set"))
)
ids = st.integers(1, 2**63 - 1)


def channel(username: str | None = None, number: int = 1465826763, kind: str = "public_channel") -> Channel:
    return Channel(id=number, title="Канал", username=username, kind=kind)


def test_shapes() -> None:
    assert post_link(channel("goproglib"), 42) == "https://t.me/goproglib/42"
    assert post_link(channel("goproglib"), 42, 7) == "https://t.me/goproglib/7/42"
    assert post_link(channel(), 42) == "https://t.me/c/1465826763/42"
    assert post_link(channel(), 42, 7) == "https://t.me/c/1465826763/7/42"
    assert post_link(channel(), 7, 7) == "https://t.me/c/1465826763/7"  # the topic's own first message


def test_messages_without_a_link_of_their_own() -> None:
    assert post_link(channel(kind="private_supergroup"), -999_999_958) == "https://t.me/c/1465826763/1"
    assert post_link(channel(kind="private_group"), 42) == ""


@given(usernames, ids, st.none() | ids)
def test_public_links_come_back(name: str, message: int, topic: int | None) -> None:
    assert parse_link(post_link(channel(name), message, topic)) == (name, message)


@given(ids, ids, st.none() | ids)
def test_private_links_come_back(number: int, message: int, topic: int | None) -> None:
    assert parse_link(post_link(channel(None, number), message, topic)) == (number, message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t.me/goproglib/42", ("goproglib", 42)),
        (" https://t.me/goproglib/42?single ", ("goproglib", 42)),
        ("http://telegram.me/goproglib/42#x", ("goproglib", 42)),
        ("https://www.t.me/goproglib/42/", ("goproglib", 42)),
        ("https://t.me/s/goproglib/42", ("goproglib", 42)),
        ("https://T.ME/goproglib/42", ("goproglib", 42)),
        ("goproglib.t.me/42", ("goproglib", 42)),
        ("https://t.me/c/1465826763/7/42?thread=7", (1465826763, 42)),
        ("tg://resolve?domain=goproglib&post=42&thread=7", ("goproglib", 42)),
        ("tg://privatepost?channel=1465826763&post=42", (1465826763, 42)),
    ],
)
def test_what_people_paste(text: str, expected: tuple[str | int, int]) -> None:
    assert parse_link(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "goproglib",
        "https://t.me/goproglib",
        "https://t.me/c/1465826763",
        "https://t.me/goproglib/0",
        "https://t.me/goproglib/-5",
        "https://t.me/goproglib/٤٢",
        "https://t.me/goproglib/42/43/44",
        "https://t.me/goproglib/topic/44",
        "https://t.me/joinchat/12345678",
        "https://t.me/share/42",
        "https://t.me/+AbCdEf/42",
        "https://t.me.evil.example/goproglib/42",
        "https://evil.example/t.me/goproglib/42",
        "https://t.me@evil.example/goproglib/42",
        "https://goproglib@t.me/goproglib/42",
        "https://t.me:8080/goproglib/42",
        "javascript://t.me/goproglib/42",
        "https://t.me/goproglib/42 https://t.me/goproglib/43",
        "https://[t.me/goproglib/42",
        "https://t.me:99999999/goproglib/42",
        "https://t.me/goproglib/" + "9" * 5000,
        "tg://resolve?domain=goproglib",
        "tg://user?id=42",
    ],
)
def test_what_is_no_message_link(text: str) -> None:
    assert parse_link(text) is None


@given(st.text(max_size=200) | st.text(max_size=60).map(lambda tail: f"https://t.me/{tail}"))
def test_any_text_gives_a_pair_or_nothing(text: str) -> None:
    found = parse_link(text)
    if found is not None:
        name, message = found
        where = channel(name) if isinstance(name, str) else channel(None, name)
        assert parse_link(post_link(where, message)) == found
