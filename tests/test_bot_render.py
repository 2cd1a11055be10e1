"""Rendered answers: within Telegram's limits, entities in bounds, nothing clickable but links of the citations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from aiogram.utils.formatting import Text, sizeof
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.bot.render import (
    MAX_CHARS,
    MAX_ENTITIES,
    answer_messages,
    cut_to,
    draft_text,
    example_button,
    first_line,
    inert,
    packed,
    rating_buttons,
    read_button,
)
from appliance.schema import Answer, Channel, Citation, FoundPost, Language, Post, Searched, Sentence
from tests.servers.botapi_text import checked_markup, checked_text, clickable, cut

WHEN = datetime(2026, 3, 2, 12, tzinfo=UTC)
SAID = (("Встреча в субботу 🙂.", 1), ("Сбор у подъезда.", 1), ("Вход свободный.", 2))
HOSTILE = [
    "https://evil.com/x", "evil.com", "http://1.2.3.4/a", "t.me/joinchat/AAAA", "tg://resolve?domain=x", "@scammer",
    "/start", "/forget@postfinder_bot", "me@evil.org", "президент.рф", "вредный.сайт", "(evil.io)", "«@fake_admin»",
]  # fmt: skip
WORDS = ["Встреча", "в", "субботу,", "24/7", "TCP/IP", "v2.0", "🙂", "👩‍👩‍👧", "т.е.", "ё", "\n", "1.5", "C++", "$100"]

texts = st.lists(st.sampled_from(HOSTILE + WORDS) | st.text(max_size=12), max_size=60).map(" ".join)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    total = draw(st.integers(0, 12))
    citations = tuple(
        Citation(
            number=number,
            link=f"https://t.me/kanal/{number}",
            channel=draw(texts),
            date=WHEN,
            title=draw(texts),
            post=(1, number),
        )
        for number in range(1, total + 1)
    )
    sentences = tuple(
        Sentence(
            draw(texts) * draw(st.sampled_from([1, 1, 1, 20])), tuple(draw(st.lists(st.integers(1, 14), max_size=4)))
        )
        for _ in range(draw(st.integers(0, 8)))
    )
    outcome = draw(st.sampled_from(["answered", "not_found", "refused", "failed"]))
    searched = Searched(
        tuple(draw(st.lists(texts, max_size=8))), draw(st.integers(0, 5000)), draw(st.sampled_from([WHEN, None]))
    )
    return Answer(
        id="0" * 32, dialogue_id="d", outcome=outcome, sentences=sentences, citations=citations, searched=searched,
        language="ru", model="quotes", query="", note=draw(st.sampled_from(["", "model_down"])),
        searched_as=draw(st.one_of(st.just(""), texts)),
    )  # fmt: skip


def as_sent(message: Text) -> dict[str, Any]:
    """Pass a message through the checks of the Bot API server."""
    text, entities = message.render()
    given_entities = [entity.model_dump(exclude_none=True) for entity in entities]
    assert len(given_entities) <= MAX_ENTITIES
    shown, all_entities = checked_text(text, given_entities)
    return {"text": shown, "entities": all_entities}


@settings(max_examples=80, deadline=None)
@given(answers(), st.sampled_from(["ru", "en"]))
def test_any_answer_is_sendable_and_links_only_to_its_citations(answer: Answer, language: Language) -> None:
    messages = [as_sent(message) for message in answer_messages(answer, language)]
    links = {citation.link for citation in answer.citations}
    for message in messages:
        assert set(clickable(message)) <= links
        for entity in message["entities"]:
            if entity["type"] == "text_link" and cut(message["text"], entity["offset"], entity["length"])[0] == "[":
                number = int(cut(message["text"], entity["offset"] + 1, entity["length"] - 2))
                assert entity["url"] == answer.citations[number - 1].link
    if answer.outcome == "not_found" or answer.citations:
        assert messages


@settings(max_examples=150, deadline=None)
@given(texts)
@example("evil.com" * 300)
@example("слово@evil.com и /start@bot, https://a.b.рф/путь?x#y")
def test_inert_text_keeps_its_characters_and_loses_its_links(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    shown, entities = inert(text).render()
    assert shown == text
    if text.strip() and sizeof(text) <= MAX_CHARS:
        _, every = checked_text(text, [entity.model_dump(exclude_none=True) for entity in entities])
        assert clickable({"text": text, "entities": every}) == []


def test_the_same_text_untouched_would_be_clickable() -> None:
    for text in HOSTILE:
        assert clickable({"text": text, "entities": checked_text(text, [])[1]}), text


@pytest.mark.parametrize("text", ["24/7 и TCP/IP, т.е. v2.0 за $1.50", "км/ч; 12.03.2026; «дом 5/1»"])
def test_ordinary_text_stays_ordinary(text: str) -> None:
    assert inert(text).render()[1] == []


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="аб \n🙂x", max_size=300), st.integers(2, 40))
def test_cutting_loses_nothing_but_spaces(text: str, size: int) -> None:
    pieces = cut_to(text, size)
    assert all(0 < sizeof(piece) <= size for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def answer(**changes: Any) -> Answer:
    citations = (
        Citation(1, "https://t.me/sosedi/5", "Соседи", WHEN, "Встреча двора", (1, 5)),
        Citation(2, "https://t.me/c/77/9", "Закрытый", WHEN, "", (77, 9)),
    )
    fields: dict[str, Any] = {
        "id": "a" * 32, "dialogue_id": "d", "outcome": "answered", "citations": citations, "language": "ru",
        "sentences": tuple(Sentence(said, (n,)) for said, n in SAID),
        "searched": Searched(("Соседи", "Закрытый"), 3430, WHEN), "model": "quotes", "query": "",
    }  # fmt: skip
    return Answer(**{**fields, **changes})


def test_a_question_read_otherwise_is_said_first() -> None:
    (message,) = answer_messages(answer(searched_as="привет"), "ru")
    assert message.render()[0].startswith("Искал: привет\n\nВстреча в субботу")


def test_how_an_answer_looks() -> None:
    (message,) = answer_messages(answer(), "ru")
    text, entities = message.render()
    assert text == (
        "Встреча в субботу 🙂. Сбор у подъезда. [1]\n\nВход свободный. [2]\n\n"
        "Источники\n1. Соседи, 02.03.2026\nВстреча двора\n2. Закрытый, 02.03.2026"
    )
    assert [(entity.type, entity.url) for entity in entities if entity.url] == [
        ("text_link", "https://t.me/sosedi/5"),
        ("text_link", "https://t.me/c/77/9"),
        ("text_link", "https://t.me/sosedi/5"),
        ("text_link", "https://t.me/c/77/9"),
    ]
    (quote,) = [entity for entity in entities if entity.type == "expandable_blockquote"]
    assert cut(text, quote.offset, quote.length).startswith("Источники\n1.")


def test_how_a_refusal_looks() -> None:
    (message,) = answer_messages(answer(outcome="not_found", sentences=()), "en")
    text = message.render()[0]
    assert text.startswith(
        "The posts hold no answer to this.\n\nSearched: Соседи, Закрытый — 3\u00a0430 posts, up to 2 Mar 2026."
    )
    assert "Nearest posts\n1. Соседи, 2 Mar 2026" in text


def test_a_refusal_with_nothing_to_search() -> None:
    bare = answer(outcome="not_found", sentences=(), citations=(), searched=Searched((), 0, None))
    assert [m.render()[0] for m in answer_messages(bare, "ru")] == [
        "В постах ответа не нашлось.\n\nИскать пока негде: постов нет."
    ]


def test_a_remark_is_said() -> None:
    assert "quotes from the posts" in answer_messages(answer(note="model_down"), "en")[0].render()[0]


def test_a_long_answer_is_split_and_nothing_is_lost() -> None:
    sentences = tuple(Sentence(f"Предложение номер {n} " + "очень " * 50 + "длинное.", (n % 2 + 1,)) for n in range(40))
    messages = [as_sent(message) for message in answer_messages(answer(sentences=sentences), "ru")]
    assert len(messages) > 2
    everything = " ".join(message["text"] for message in messages)
    assert all(f"номер {n} " in everything for n in range(40))
    assert "Источники" in messages[-1]["text"]


def test_many_small_blocks_keep_to_the_entity_limit() -> None:
    messages = packed([inert("@someone evil.com") for _ in range(200)])
    assert all(len(message.render()[1]) <= MAX_ENTITIES for message in messages)
    assert sum(len(message.render()[1]) for message in messages) == 400


def test_drafts_are_short_and_inert() -> None:
    draft = draft_text([Sentence("слово evil.com " * 1000, (1,))])
    assert 0 < len(draft) <= MAX_CHARS
    assert clickable(as_sent(draft)) == []
    assert draft_text([]).render()[0] == ""


def test_buttons_are_read_back_and_fit() -> None:
    markup = rating_buttons("0123456789abcdef" * 2, "down")
    checked_markup(markup.model_dump(exclude_none=True))
    up, down = markup.inline_keyboard[0]
    assert (up.text, down.text) == ("👍", "👎 ✓")
    assert read_button(up.callback_data) == ("up", "0123456789abcdef" * 2)
    assert read_button(down.callback_data) == ("down", "0123456789abcdef" * 2)


def test_the_example_asks_about_a_post() -> None:
    post = Post(1465826763, 12, WHEN, "Как записаться\nв кружок " * 30)
    found = FoundPost(post, Channel(1465826763, "Соседи"), 1, 1, 1, 1, "", "https://t.me/c/1465826763/12")
    markup = example_button(found)
    assert markup is not None
    checked_markup(markup.model_dump(exclude_none=True))
    assert markup.inline_keyboard[0][0].text == "🔎 Как записаться"
    assert read_button(markup.inline_keyboard[0][0].callback_data) == (1465826763, 12)
    assert first_line("\u200b\n") == ""


@settings(max_examples=200)
@given(st.text(max_size=70) | st.from_regex(r"[rx]:[udx]?:?[0-9a-f]{0,40}"))
@example("r:u:" + "0" * 33)
@example("r:u:" + "A" * 32)
@example("x:1:2:3")
@example("x:١:٢")
@example("r:u:" + "0" * 32 + "\n")
def test_forged_buttons_are_nothing(data: str) -> None:
    read = read_button(data)
    if read is None:
        return
    shown = f"r:{read[0][0]}:{read[1]}" if isinstance(read[1], str) else f"x:{read[0]}:{read[1]}"
    assert len(shown) <= len(data)
    assert data.startswith(shown[:2])


def test_forged_buttons_that_are_nothing() -> None:
    for data in (
        None,
        "",
        "r",
        "r:u:",
        "r:u:" + "0" * 33,
        "x:1",
        "x:-1:2",
        "x:1:2:3",
        "x:١:٢",
        "r:u:" + "0" * 32 + "\n",
    ):
        assert read_button(data) is None
