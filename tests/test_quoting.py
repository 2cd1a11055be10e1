"""Quotes: the sentences that answer, from the posts that answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.quoting import MAX_SENTENCE_CHARS, MAX_SENTENCES, quote, shorten
from tests.posts import a_post, found

LONG = (
    "Всем привет! Сегодня много новостей.\nЗанятие керамикой стоит 900 рублей.\nВ субботу чиним велосипеды.\n"
    "Дрель можно взять на три дня.\nДо встречи!"
)


def same_weight(lemma: str) -> float:
    return 1.0


def test_the_answering_sentence_comes_first_and_is_cited() -> None:
    sentences = quote([found(a_post(1, LONG))], "сколько стоит занятие по керамике", same_weight)
    assert sentences[0].text == "Занятие керамикой стоит 900 рублей."
    assert sentences[0].citations == (1,)
    assert not any("привет" in one.text for one in sentences)


def test_a_far_less_relevant_post_is_not_quoted() -> None:
    hits = [found(a_post(1, LONG)), found(a_post(2, "Занятие керамикой перенесли."), relevance=0.2)]
    assert {number for one in quote(hits, "занятие керамикой", same_weight) for number in one.citations} == {1}


def test_a_post_without_words_says_nothing() -> None:
    assert quote([found(a_post(1, "🎉🎉🎉"))], "что нового", same_weight) == []
    assert quote([], "что нового", same_weight) == []


@given(st.lists(st.text(max_size=300), max_size=5), st.text(max_size=60))
def test_quotes_are_bounded_and_stand_in_their_posts(texts: list[str], query: str) -> None:
    hits = [found(a_post(number, text)) for number, text in enumerate(texts, start=1)]
    sentences = quote(hits, query, same_weight)
    assert len(sentences) <= MAX_SENTENCES
    for one in sentences:
        assert 0 < len(one.text) <= MAX_SENTENCE_CHARS
        assert 1 <= one.citations[0] <= len(texts)


def test_shorten_cuts_between_words() -> None:
    assert shorten("раз два три", 8) == "раз два…"
    assert shorten("раз\nдва") == "раз два"
