"""Telegram Desktop's export: every shape of message becomes the right post."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import BadExport
from appliance.schema import Channel, Post
from appliance.telegram_export import BytesRead, Skipped, Topic
from tests.exports import CHANNEL, GROUP, NOON, account, broken_of, message, posts_of, read, save, texts, written

EXPORTS = Path(__file__).parents[1].parent / "shared" / "data" / "telegram-export"


def one(folder: Path, **fields: Any) -> Post:
    """The post that a message with these fields becomes."""
    items = read(save(folder, {**CHANNEL, "messages": [message(7, **fields)]}))
    assert not broken_of(items)
    (post,) = posts_of(items)
    return post


# --- shapes ---------------------------------------------------------------------------------------------------------


def test_a_channel(tmp_path: Path) -> None:
    save(tmp_path, {**CHANNEL, "messages": [message(1), message(2, "Второй")]})
    items = read(tmp_path, username="@sadovody")
    assert items[0] == Channel(1234567890, "Садоводы Подмосковья", "sadovody", "public_channel", True)
    assert [post.text for post in posts_of(items)] == ["Привет", "Второй"]
    assert posts_of(items)[0].date == datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC)
    size = (tmp_path / "result.json").stat().st_size
    assert BytesRead(size, size) in items
    assert read(tmp_path / "result.json", username="sadovody") == items


@pytest.mark.parametrize(
    "username", ["sadovody", "@sadovody", "t.me/sadovody", "https://t.me/sadovody/", " sadovody ", None, ""]
)
def test_usernames_as_typed(tmp_path: Path, username: str | None) -> None:
    path = save(tmp_path, {**CHANNEL, "messages": []})
    channel = next(item for item in read(path, username=username) if isinstance(item, Channel))
    assert channel.username == ("sadovody" if username else None)


@pytest.mark.parametrize("username", ["сад", "a b", "x", "name/1", "@@name", "1name"])
def test_what_is_no_username(tmp_path: Path, username: str) -> None:
    with pytest.raises(BadExport, match="not a Telegram username"):
        read(save(tmp_path, {**CHANNEL, "messages": []}), username=username)


@pytest.mark.parametrize(
    ("kind", "is_open"),
    [
        ("public_channel", True),
        ("private_channel", False),
        ("public_supergroup", True),
        ("private_supergroup", False),
        ("private_group", False),
    ],
)
def test_kinds_of_chats(tmp_path: Path, kind: str, is_open: bool) -> None:
    items = read(save(tmp_path, {**CHANNEL, "type": kind, "messages": [message(1)]}))
    (channel,) = [item for item in items if isinstance(item, Channel)]
    assert (channel.kind, channel.is_open) == (kind, is_open)
    assert not broken_of(items)


def test_text_as_entities(tmp_path: Path) -> None:
    parts = [
        "Смотрите ",
        {"type": "bold", "text": "новый курс"},
        " на ",
        {"type": "text_link", "text": "сайте", "href": "https://example.org/курс?a=1&b=2"},
        ", ",
        {"type": "link", "text": "example.com/путь"},
        ", ",
        {"type": "link", "text": "https://example.org/курс?a=1&b=2"},
        {"type": "mention_name", "text": "Анна", "user_id": 42},
        {"type": "pre", "text": "print('ё')", "language": "python"},
        {"type": "blockquote", "text": "цитата", "collapsed": True},
        {"type": "something_of_tomorrow", "text": "!"},
        "",
    ]
    post = one(tmp_path, text=parts)
    assert post.text == (
        "Смотрите новый курс на сайте, example.com/путь, https://example.org/курс?a=1&b=2Аннаprint('ё')цитата!"
    )
    assert post.links == ("https://example.org/курс?a=1&b=2", "http://example.com/путь")


def test_a_link_inside_another_entity_is_found(tmp_path: Path) -> None:
    post = one(tmp_path, text=[{"type": "bold", "text": "Запись: https://example.org/a_(b)."}])
    assert post.links == ("https://example.org/a_(b",)


def test_text_only_in_entities(tmp_path: Path) -> None:
    entities = [{"type": "plain", "text": "Только "}, {"type": "italic", "text": "здесь"}]
    data = message(7)
    del data["text"]
    (post,) = posts_of(read(save(tmp_path, {**CHANNEL, "messages": [{**data, "text_entities": entities}]})))
    assert post.text == "Только здесь"
    assert one(tmp_path, text="", text_entities=entities).text == "Только здесь"


@pytest.mark.parametrize(
    ("fields", "media", "text"),
    [
        ({"photo": "photos/1.jpg", "width": 1, "height": 1}, "photo", "Подпись"),
        ({"file": "a.mp4", "media_type": "video_file", "file_name": "IMG_1.MP4"}, "video", "Подпись"),
        ({"file": "f.pdf", "file_name": "Устав.pdf", "mime_type": "application/pdf"}, "file", "Подпись\nУстав.pdf"),
        ({"file": "a.ogg", "media_type": "voice_message"}, "voice", "Подпись"),
        ({"file": "a.mp4", "media_type": "video_message"}, "video_message", "Подпись"),
        ({"file": "a.mp4", "media_type": "animation"}, "animation", "Подпись"),
        ({"file": "s.webp", "media_type": "sticker", "sticker_emoji": "🙂"}, "sticker", "Подпись"),
        (
            {"file": "a.mp3", "media_type": "audio_file", "performer": "Хор", "title": "Гимн"},
            "audio",
            "Подпись\nХор — Гимн",
        ),
        (
            {
                "contact_information": {"first_name": "Анна", "last_name": "", "phone_number": "+7 900 000-00-00"},
                "contact_vcard": "(File not included.)",
            },
            "contact",
            "Подпись\nАнна +7 900 000-00-00",
        ),
        ({"location_information": {"latitude": 55.7, "longitude": 37.6}}, "place", "Подпись"),
        ({"location_information": None}, "place", "Подпись"),
        (
            {"place_name": "Дом культуры", "address": "ул. Мира, 1", "location_information": {"latitude": 1}},
            "place",
            "Подпись\nДом культуры\nул. Мира, 1",
        ),
        ({"game_title": "2048", "game_description": "Сложи числа"}, "game", "Подпись\n2048\nСложи числа"),
        (
            {"invoice_information": '{\n "title": "Билет",\n "description": "На лекцию",\n "amount": 100\n}'},
            "invoice",
            "Подпись\nБилет\nНа лекцию",
        ),
        ({"giveaway_information": {"quantity": 3, "additional_prize": "Кружка"}}, "giveaway", "Подпись\nКружка"),
        ({"paid_stars_amount": 5}, "paid", "Подпись"),
        (
            {
                "poll": {
                    "question": "Когда встреча?",
                    "closed": False,
                    "total_voters": 5,
                    "answers": [
                        {"text": "Суббота", "voters": 3, "chosen": False},
                        {"text": [{"type": "plain", "text": "Воскре"}, "сенье"], "voters": 2, "chosen": True},
                    ],
                }
            },
            "poll",
            "Подпись\nКогда встреча?\n• Суббота\n• Воскресенье",
        ),
        (
            {"todo_list": {"title": "Купить", "answers": [{"text": "Рассаду", "id": 1}]}},
            "checklist",
            "Подпись\nКупить\n• Рассаду",
        ),
        ({"media_type": "hologram"}, None, "Подпись"),
    ],
)
def test_media(tmp_path: Path, fields: dict[str, Any], media: str | None, text: str) -> None:
    post = one(tmp_path, text="Подпись", **fields)
    assert (post.media, post.text) == (media, text)


def test_people_replies_edits_reactions_buttons(tmp_path: Path) -> None:
    post = one(
        tmp_path,
        edited="2023-11-15T02:00:00",
        edited_unixtime=str(NOON + 100),
        author="И. Петров",
        forwarded_from="Наука",
        reply_to_message_id=3,
        reactions=[
            {"type": "emoji", "count": 5, "emoji": "👍"},
            {"type": "paid", "count": 2},
            {"type": "custom_emoji", "count": 1, "document_id": "stickers/a.webp", "recent": []},
        ],
        inline_bot_buttons=[
            [{"type": "url", "text": "Сайт", "data": "https://example.org"}, {"type": "callback", "data": "like"}]
        ],
    )
    assert post.edited_at == datetime.fromtimestamp(NOON + 100, UTC)
    assert (post.author, post.author_id, post.forwarded_from) == ("И. Петров", "channel1234567890", "Наука")
    assert (post.reply_to_id, post.reactions, post.links) == (3, 8, ("https://example.org",))


def test_absent_people_and_foreign_replies(tmp_path: Path) -> None:
    post = one(
        tmp_path,
        **{"from": None},
        from_id=123,
        forwarded_from=None,
        reply_to_message_id=3,
        reply_to_peer_id="channel5",
    )
    assert (post.author, post.author_id, post.forwarded_from) == (None, "user123", "Deleted Account")
    assert post.reply_to_id is None


def test_optional_fields_of_unknown_shape_do_not_cost_the_message(tmp_path: Path) -> None:
    post = one(
        tmp_path,
        reactions="много",
        poll=[1],
        inline_bot_buttons={"a": 1},
        forwarded_from=5,
        reply_to_message_id="3",
        author={},
        contact_information=[],
    )
    assert (post.text, post.reactions, post.reply_to_id, post.forwarded_from) == ("Привет", 0, None, None)


def test_dates_without_unixtime_are_taken_for_utc(tmp_path: Path) -> None:
    data = message(7, edited="2020-02-03T04:05:06")
    del data["date_unixtime"]
    (post,) = posts_of(read(save(tmp_path, {**CHANNEL, "messages": [data]})))
    assert post.date == datetime(2023, 11, 15, 1, 13, 20, tzinfo=UTC)
    assert post.edited_at == datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)


def test_service_and_unsupported_messages_are_skipped(tmp_path: Path) -> None:
    service = {"id": 1, "type": "service", "date": "2023-11-15T01:13:20", "actor": "А", "action": "pin_message"}
    items = read(save(tmp_path, {**CHANNEL, "messages": [service, {"id": 2, "type": "unsupported"}, message(3)]}))
    skipped = [item for item in items if isinstance(item, Skipped)]
    assert [(item.message_id, item.reason) for item in skipped] == [(1, "service"), (2, "unsupported")]
    assert [post.message_id for post in posts_of(items)] == [3]
    assert not broken_of(items)


def test_topics(tmp_path: Path) -> None:
    topic = {
        "id": 10,
        "type": "service",
        "date": "2023-11-15T01:13:20",
        "date_unixtime": "1",
        "action": "topic_created",
        "title": "Рассада",
    }
    messages = [
        message(9, reply_to_message_id=8),
        topic,
        {**topic, "id": 11, "title": "Теплицы"},
        message(12, reply_to_message_id=10),
        message(13, reply_to_message_id=12),  # a reply inside the topic
        message(14, reply_to_message_id=13),
        message(15, reply_to_message_id=11),
        message(16),  # the general topic
        message(17, reply_to_message_id=16),
    ]
    items = read(save(tmp_path, {**GROUP, "messages": messages}))
    assert [item for item in items if isinstance(item, Topic)] == [
        Topic(1987654321, 10, "Рассада"),
        Topic(1987654321, 11, "Теплицы"),
    ]
    assert [(post.message_id, post.topic_id, post.reply_to_id) for post in posts_of(items)] == [
        (9, None, 8),
        (12, 10, None),
        (13, 10, 12),
        (14, 10, 13),
        (15, 11, None),
        (16, None, None),
        (17, None, 16),
    ]


def pictured(number: int, text: str = "", second: int = 0, **fields: Any) -> dict[str, Any]:
    return message(number, text, **{"photo": "photos/1.jpg", **fields}) | {"date_unixtime": str(NOON + second)}


def test_an_album_is_one_post(tmp_path: Path) -> None:
    album = [
        pictured(20, "Фото с субботника", reactions=[{"type": "emoji", "count": 2, "emoji": "👍"}]),
        pictured(21, photo="photos/2.jpg", reactions=[{"type": "emoji", "count": 1, "emoji": "👍"}]),
        message(22, "", file="v.mp4", media_type="video_file") | {"date_unixtime": str(NOON)},
    ]
    items = read(save(tmp_path, {**CHANNEL, "messages": [message(1), *album, pictured(23, second=1)]}))
    first, joined, next_one = posts_of(items)
    assert (joined.message_id, joined.album_ids, joined.text) == (20, (21, 22), "Фото с субботника")
    assert (joined.media, joined.reactions) == ("photo", 3)
    assert (first.album_ids, next_one.message_id, next_one.album_ids) == ((), 23, ())


def test_a_caption_may_come_last_and_files_keep_their_names(tmp_path: Path) -> None:
    def paper(number: int, text: str = "") -> dict[str, Any]:
        return message(number, text, file="f", file_name=f"{number}.pdf") | {"date_unixtime": str(NOON)}

    (post,) = posts_of(read(save(tmp_path, {**CHANNEL, "messages": [paper(5), paper(6, "Документы")]})))
    assert (post.text, post.album_ids) == ("5.pdf\nДокументы\n6.pdf", (6,))


@pytest.mark.parametrize(
    "second",
    [
        pictured(21, "Вторая подпись"),  # forwarded together: two posts, each with its caption
        pictured(21, from_id="user5"),
        pictured(21, forwarded_from="Наука"),
        pictured(21, second=5),
        pictured(90),
        message(21, "", file="f.pdf", file_name="f.pdf") | {"date_unixtime": str(NOON)},
        message(21, "") | {"date_unixtime": str(NOON)},
    ],
)
def test_neighbours_that_are_no_album(tmp_path: Path, second: dict[str, Any]) -> None:
    items = read(save(tmp_path, {**CHANNEL, "messages": [pictured(20, "Подпись"), second]}))
    assert [post.message_id for post in posts_of(items)] == [20, second["id"]]


def test_albums_hold_ten_at_most(tmp_path: Path) -> None:
    found = posts_of(read(save(tmp_path, {**CHANNEL, "messages": [pictured(20 + n) for n in range(12)]})))
    assert [len(post.album_ids) for post in found] == [9, 1]


def test_a_whole_account(tmp_path: Path) -> None:
    talk = {"name": "Мама", "type": "personal_chat", "id": 11, "messages": [message(1, "СЕКРЕТ"), message(2, "СЕКРЕТ")]}
    saved = {"type": "saved_messages", "id": 5, "messages": [message(1, "СЕКРЕТ")]}
    empty = {"name": "Пусто", "type": "public_channel", "id": 12, "messages": []}
    gone = {"name": None, "type": "private_supergroup", "id": 13, "messages": [message(4, "Ушёл")]}
    data = account(
        talk,
        {**CHANNEL, "messages": [message(1), message(2)]},
        saved,
        empty,
        {**GROUP, "messages": [message(1)]},
        talk,
        left=(gone,),
    )
    items = read(save(tmp_path, data))
    assert [item.title for item in items if isinstance(item, Channel)] == [
        "Садоводы Подмосковья",
        "Пусто",
        "Соседи",
        "13",
    ]
    assert [post.key for post in posts_of(items)] == [(1234567890, 1), (1234567890, 2), (1987654321, 1), (13, 4)]
    skipped = [item for item in items if isinstance(item, Skipped)]
    assert [(item.reason, item.count) for item in skipped] == [
        ("personal_chat", 2),
        ("saved_messages", 1),
        ("personal_chat", 2),
    ]
    assert not broken_of(items)
    assert "СЕКРЕТ" not in repr(items)


def test_a_username_does_not_go_with_an_account(tmp_path: Path) -> None:
    with pytest.raises(BadExport, match="one chat"):
        read(save(tmp_path, account({**CHANNEL, "messages": []})), username="sadovody")


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\r\n\t", " :  ")])
def test_other_layouts(tmp_path: Path, separators: tuple[str, str]) -> None:
    data = account(
        {**CHANNEL, "messages": [message(1), message(2, 'Кавычки: {"id": 5, "type": "message"}, "messages": [')]}
    )
    save(tmp_path, json.dumps(data, separators=separators).encode())
    items = read(tmp_path)
    assert [post.text for post in posts_of(items)] == ["Привет", 'Кавычки: {"id": 5, "type": "message"}, "messages": [']
    assert not broken_of(items)


def test_a_byte_order_mark(tmp_path: Path) -> None:
    items = read(save(tmp_path, b"\xef\xbb\xbf" + written({**CHANNEL, "messages": [message(1)]})))
    assert len(posts_of(items)) == 1
    assert not broken_of(items)


def test_telegram_desktops_own_faults_are_mended(tmp_path: Path) -> None:
    emoji = {"type": "custom_emoji", "text": "🌱", "document_id": "BARE"}
    data = written({**CHANNEL, "messages": [message(1, "a\\b CTRL c\\\\"), message(2, ["Рост ", emoji]), message(3)]})
    data = data.replace(b"CTRL", rb"\x1F\x00\x0A").replace(b'"BARE"', b"video_files/sticker (2).webm")
    items = read(save(tmp_path, data))
    assert not broken_of(items)
    assert [post.text for post in posts_of(items)] == ["a\\b \x1f\n c\\\\", "Рост 🌱", "Привет"]


def test_messages_of_a_group_that_grew_have_negative_ids(tmp_path: Path) -> None:
    items = read(save(tmp_path, {**GROUP, "messages": [message(-999_999_990), message(5)]}))
    assert [post.message_id for post in posts_of(items)] == [-999_999_990, 5]


# --- properties -----------------------------------------------------------------------------------------------------

entities = st.one_of(
    texts,
    st.builds(lambda text: {"type": "bold", "text": text}, texts),
    st.builds(lambda text, href: {"type": "text_link", "text": text, "href": href}, texts, texts),
)


@st.composite
def chats(draw: st.DrawFn) -> dict[str, Any]:
    """A chat of messages with rising ids."""
    numbers = sorted(draw(st.sets(st.integers(1, 10**6), max_size=12)))
    messages = [
        message(
            number,
            draw(texts | st.lists(entities, max_size=4)),
            **draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "edited_unixtime": st.integers(1, 2**32).map(str),
                        "reply_to_message_id": st.integers(1, 2**40),
                        "forwarded_from": st.none() | texts,
                        "author": texts,
                        "unknown_field": st.recursive(st.none() | texts | st.integers(0, 9), st.lists, max_leaves=4),
                    },
                )
            ),
        )
        for number in numbers
    ]
    return {
        "name": draw(st.none() | texts),
        "type": "private_channel",
        "id": draw(st.integers(1, 2**40)),
        "messages": messages,
    }


def shown(value: object) -> str:
    """The text that a reader sees."""
    return value if isinstance(value, str) else "".join(p if isinstance(p, str) else p["text"] for p in value)  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chat=chats(), compact=st.booleans(), escaped=st.booleans(), in_account=st.booleans())
def test_what_is_written_is_read(
    tmp_path: Path, chat: dict[str, Any], compact: bool, escaped: bool, in_account: bool
) -> None:
    data = account(chat) if in_account else chat
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    path = save(tmp_path, json.dumps(data, ensure_ascii=escaped, **layout).encode())
    items = read(path)
    assert not broken_of(items)
    found = posts_of(items)
    assert [post.message_id for post in found] == [m["id"] for m in chat["messages"]]
    for post, source in zip(found, chat["messages"], strict=True):
        assert post.text == shown(source["text"])
        assert post.channel_id == chat["id"]
        assert int(post.date.timestamp()) == NOON + source["id"]
        assert post.reply_to_id == source.get("reply_to_message_id")
        assert (post.edited_at is None) == ("edited_unixtime" not in source)


# --- real files, speed and memory -----------------------------------------------------------------------------------


@pytest.mark.skipif(not EXPORTS.exists(), reason="the channel exports are not beside the checkout")
@pytest.mark.parametrize(
    ("name", "count"), [("proglibrary", 715), ("pyproglib", 751), ("goproglib", 998), ("nsmag", 966)]
)
def test_real_channels(name: str, count: int) -> None:
    items = read(EXPORTS / name, username=name)
    found = posts_of(items)
    assert len(found) == count
    assert not broken_of(items)
    known = next(c for c in json.loads((EXPORTS / "channels.json").read_bytes()) if c["username"] == name)
    (channel,) = [item for item in items if isinstance(item, Channel)]
    assert (channel.id, channel.title, channel.username) == (known["id"], known["title"], name)
    assert found[0].date.isoformat() == known["first_utc"]
    assert found[-1].date.isoformat() == known["last_utc"]


@pytest.mark.parametrize("kind", [[], {}, None, 7, True, "x"])
def test_a_kind_that_is_no_word_breaks_one_message_alone(tmp_path: Path, kind: object) -> None:
    items = read(save(tmp_path, {**CHANNEL, "messages": [message(7, type=kind), message(8)]}))
    assert len(broken_of(items)) == 1
    assert [post.message_id for post in posts_of(items)] == [8]
