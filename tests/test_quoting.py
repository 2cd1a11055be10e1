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


SIGNATURE = "🛠 Мастерская на Речной\nПодписывайтесь: @masterskaya"


def quoted(query: str, *texts: str) -> list[str]:
    hits = [found(a_post(number, text)) for number, text in enumerate(texts, start=1)]
    return [one.text for one in quote(hits, query, same_weight) if one.citations == (1,)]


def test_how_a_channel_ends_its_posts_is_no_answer() -> None:
    """The words of the question stand in the signature alone; seen once, it could be anything."""
    hours = f"Часы работы с 1 сентября.\nВторник — пятница: 13:00–22:00.\n{SIGNATURE}"
    query = "во сколько закрывается мастерская"
    assert quoted(query, hours)[0] == "🛠 Мастерская на Речной"
    said = quoted(query, hours, f"Новый курс керамики.\nНачало в мае.\n{SIGNATURE}")
    assert said == ["Часы работы с 1 сентября.", "Вторник — пятница: 13:00–22:00."]


def test_what_was_said_again_is_still_quoted() -> None:
    rules = "Занятие стоит 900 рублей.\nАбонемент стоит 5000 рублей."
    for intro in ("Напоминаем цены.\n", ""):
        assert quoted("сколько стоит занятие", rules, f"{intro}{rules}")[0] == "Занятие стоит 900 рублей."
        assert "Занятие стоит 900 рублей." in quoted("сколько стоит занятие", f"{intro}{rules}", rules)


def test_a_sentence_that_only_repeats_the_question_gives_way_to_what_follows() -> None:
    chair = "Шатается стул.\nВысох клей в шипах: разберите, почистите и склейте заново.\nДо встречи!"
    assert quoted("почему шатается стул", chair)[0] == "Высох клей в шипах: разберите, почистите и склейте заново."


def test_a_part_of_a_word_is_found_where_no_whole_word_is() -> None:
    text = "Как нас найти.\nРечная, дом 14.\nВелопарковка на 16 мест под навесом.\nДо встречи!"
    assert quoted("парковка", text)[0] == "Велопарковка на 16 мест под навесом."
    assert quoted("парковка", f"{text}\nПарковка во дворе запрещена.")[0] == "Парковка во дворе запрещена."


def test_who_asks_for_a_number_gets_the_sentence_with_one() -> None:
    text = "Курс керамики ведёт Анна, приходите.\nКерамика — 7000 за месяц, курс идёт весь год.\nПриходите с семьёй!"
    assert quoted("сколько стоит курс керамики", text) == ["Керамика — 7000 за месяц, курс идёт весь год."]
    assert quoted("кто ведёт курс керамики", text)[0] == "Курс керамики ведёт Анна, приходите."


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
