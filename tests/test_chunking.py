"""Posts cut into chunks."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.chunking import MAX_CHARS, chunks_of, title_of
from appliance.schema import Post
from appliance.text import clean

DATE = datetime(2024, 5, 1, tzinfo=UTC)


def post(text: str, **more: object) -> Post:
    return Post(channel_id=7, message_id=3, date=DATE, text=text, **more)  # type: ignore[arg-type]


def test_most_posts_are_one_chunk() -> None:
    (chunk,) = chunks_of(post("Заголовок\n\nТекст  поста.", author="Анна", media="photo"))
    assert chunk.text == "Заголовок\n\nТекст поста."
    assert (chunk.channel_id, chunk.message_id, chunk.ordinal, chunk.date) == (7, 3, 0, DATE)
    assert (chunk.author, chunk.media) == ("Анна", "photo")


@pytest.mark.parametrize("text", ["", "  \n", "🔥🔥🔥", "— … !", "\u200b\u202e"])
def test_nothing_to_search_gives_no_chunk(text: str) -> None:
    assert chunks_of(post(text)) == []


def test_long_posts_carry_the_title() -> None:
    text = "🔥 Десять советов\n\n" + "\n\n".join(f"Совет {n}. " + "Пишите тесты чаще. " * 12 for n in range(10))
    chunks = chunks_of(post(text))
    assert len(chunks) == 2
    assert all(chunk.text.startswith("🔥 Десять советов\n") for chunk in chunks)
    assert [chunk.ordinal for chunk in chunks] == [0, 1]
    assert len({chunk.fingerprint for chunk in chunks}) == 1
    # Cut between paragraphs: every chunk's body starts with a piece of advice.
    assert all(chunk.text.removeprefix("🔥 Десять советов\n").lstrip().startswith("Совет") for chunk in chunks)


PIECES = st.lists(
    st.sampled_from(["слово", "a" * 90, "Конец. ", "\n", "\n\n", " ", "🔘 пункт", "т. е. ", "12", "?! ", "б" * 700]),
    max_size=120,
)


@given(PIECES, st.integers(200, 700))
def test_chunks_keep_every_letter_in_order_and_their_size(pieces: list[str], max_chars: int) -> None:
    text = "".join(pieces)
    chunks = chunks_of(post(text), max_chars=max_chars)
    title = title_of(clean(text))
    bodies = [chunk.text if n == 0 else chunk.text.removeprefix(title + "\n") for n, chunk in enumerate(chunks)]
    assert [c for body in bodies for c in body if c.isalnum()] == [c for c in clean(text) if c.isalnum()]
    assert all(len(chunk.text) <= max_chars for chunk in chunks)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))


def test_title_is_the_first_line_with_words() -> None:
    assert title_of("🔥\n\nУтечки памяти\nтекст") == "Утечки памяти"
    assert title_of("слово " * 60).endswith("…")
    assert len(title_of("слово " * 60)) <= 121
    assert title_of("🔥") == ""


def test_too_small_chunks_are_refused() -> None:
    with pytest.raises(ValueError, match="200"):
        chunks_of(post("а"), max_chars=100)
    assert MAX_CHARS >= 200
