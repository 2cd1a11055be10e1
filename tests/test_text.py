"""Cleaning, words, lemmas, sentences, language, fingerprints."""

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.text import clean, distance, fingerprint, language_of, lemmas, sentences, words

MESSY = st.text(
    alphabet=st.one_of(
        st.characters(),
        st.sampled_from(
            list("абвгёйЁ  \n\t.!?…«»\"'()1234567890-–—_/\u200b\u200d\u202e\u00ad\ufe0f\u0301👩💻🔘👉\ud800")
        ),
    ),
    max_size=80,
)


@given(MESSY)
@example("а\u200d\u200dб")
@example("👩\u200d\u200b💻")
@example("и\u200b\u0306")
@example("\u200d\ufe0f")
def test_clean_is_stable_and_leaves_nothing_hidden(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)
    hidden = {c for c in once if unicodedata.category(c) in {"Cc", "Cf", "Cs"}} - {"\n", "\u200d"}
    # Marks of other scripts (Arabic number signs and the like) are text; what hides text is not.
    assert not hidden & set("\u200b\u200c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2069\ufeff\u00ad\x00\x7f")
    assert not any(unicodedata.category(c) == "Cs" for c in once)
    once.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("при\u200bвет", "привет"),
        ("\u202eтевирп\u202c", "тевирп"),
        ("а\u00a0\u2009 б\t\tв", "а б в"),
        ("1\r\n2\r3\u20284", "1\n2\n3\n4"),
        ("а \n\n\n\n б", "а\n\nб"),
        ("и\u0306", "й"),
        ("👩\u200d💻", "👩\u200d💻"),
        ("а\u200dб", "аб"),
        ("tag\U000e0041\U000e0042", "tag"),
        ("\ud83d", "\ufffd"),
        ("a  b", "a b"),
        ("\x00\x1b", ""),
    ],
)
def test_clean_examples(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_words_keep_names_whole() -> None:
    assert words("Использовал sync.Mutex, C++ и HTTP/2 в web-сервисе; io_uring, C#, node.js!") == [
        *["использовал", "sync.mutex", "c++", "и", "http/2", "в", "web-сервисе", "io_uring", "c#", "node.js"]
    ]
    assert words("Ёлка — 1,5 ГБ в 3.11 за 10:30") == ["елка", "1.5", "гб", "в", "3.11", "за", "10", "30"]
    assert words("за\u0301мок") == ["замок"]
    assert words("😀 … — !") == []


def test_words_of_a_url_are_its_host_and_path() -> None:
    assert words("https://naked-science.ru/article/dialekty-popugaev?utm=1#x и www.ozon.ru") == [
        *["naked-science.ru", "article", "dialekty", "popugaev", "и", "ozon.ru"]
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("горутинами", "горутины"),
        ("Библиотеку питониста", "библиотека питонист"),
        ("ёлки", "елка"),
        ("люди", "человеку"),
        ("goroutines", "goroutine"),
        ("libraries", "library"),
        ("классами", "КЛАСС"),
    ],
)
def test_word_forms_share_a_lemma(one: str, other: str) -> None:
    assert lemmas(one) == lemmas(other)


def test_joined_words_give_their_parts() -> None:
    assert lemmas("sync.Mutex") == ["sync.mutex", "sync", "mutex"]
    assert lemmas("веб-сервисами") == ["веб-сервис", "веб", "сервис"]
    assert lemmas("pub/sub") == ["pub", "sub"]
    assert lemmas("3.11") == ["3.11"]


@given(MESSY)
def test_lemmas_are_single_words(text: str) -> None:
    for lemma in lemmas(text):
        assert lemma
        assert lemma.split() == [lemma]
        assert "ё" not in lemma


@given(MESSY)
def test_sentences_cover_every_letter_once(text: str) -> None:
    spans = sentences(text)
    covered = [False] * len(text)
    last = 0
    for start, end in spans:
        assert last <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        assert any(c.isalnum() for c in text[start:end])
        covered[start:end] = [True] * (end - start)
        last = end
    assert all(seen for c, seen in zip(text, covered, strict=True) if c.isalnum())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Это раз. Это два! Это три?", ["Это раз.", "Это два!", "Это три?"]),
        (
            "А. С. Пушкин родился в г. Москве в 1799 г. Он писал т. е. много, и т. д. Конец.",
            ["А. С. Пушкин родился в г. Москве в 1799 г.", "Он писал т. е. много, и т. д.", "Конец."],
        ),
        (
            "Версия 1.22 вышла. См. https://go.dev/a?b=c. Дальше",
            ["Версия 1.22 вышла.", "См. https://go.dev/a?b=c.", "Дальше"],
        ),
        ("1. Установка. 2. Запуск\n🔘Первый. 👉 Второй", ["1. Установка.", "2. Запуск", "🔘Первый.", "👉 Второй"]),
        ("Он сказал: «Да!» И ушёл.", ["Он сказал: «Да!»", "И ушёл."]),
        ("Вызов sync.Mutex.Lock() безопасен. Да", ["Вызов sync.Mutex.Lock() безопасен.", "Да"]),
        ("Use it, e.g. Redis. Then stop.", ["Use it, e.g. Redis.", "Then stop."]),
        ("строка один\nстрока два", ["строка один", "строка два"]),
        ("👉\n— \n", []),
    ],
)
def test_sentences_examples(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text)] == expected


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Как работает сборщик мусора?", "ru"),
        ("new vs make в Go: В чем разница?", "ru"),
        ("Kubernetes Deployment rollback как?", "ru"),
        ("How does the garbage collector work?", "en"),
        ("what is the meaning of the word слово", "en"),
        ("Docker", "en"),
        ("😀 42", "ru"),
    ],
)
def test_language(text: str, language: str) -> None:
    assert language_of(text) == language


def test_fingerprints_of_copies_and_others() -> None:
    post = (
        "Утечки памяти в Go: как их обнаружить и устранить. Рассказываем про pprof, профили кучи и горутин, частые "
        "ошибки с каналами и таймерами, а также о том, как настроить наблюдение за сервисом в промышленной среде."
    )
    copy = "🔥 " + post.replace("ё", "е").upper() + "\n\n👉 https://t.me/goproglib/1"
    signed = post + " Подписаться"
    other = "Европейцы начали употреблять кокаин намного раньше, чем предполагалось, показало исследование."
    assert fingerprint(post) == fingerprint(copy)
    assert 0 < distance(fingerprint(post), fingerprint(signed)) <= 10
    assert distance(fingerprint(post), fingerprint(other)) > 16
    assert fingerprint("😀") == 0


@given(st.text(max_size=60))
def test_fingerprint_fits_the_index(text: str) -> None:
    assert -(2**63) <= fingerprint(text) < 2**63


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_distance_is_a_distance(a: int, b: int) -> None:
    assert distance(a, b) == distance(b, a)
    assert 0 <= distance(a, b) <= 64
    assert (distance(a, b) == 0) == (a == b)


def test_importing_loads_no_morphology() -> None:
    code = "import sys, appliance.text; sys.exit('pymorphy3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
