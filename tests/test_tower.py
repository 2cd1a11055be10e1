"""The static query tower: near the embedder's own vector, honest about what it does not know."""

import numpy as np
import pytest

from appliance.dense import best_rows
from appliance.tower import Tower
from models.ports import Embedder

POSTS = [
    "Расписание гончарного круга: по вторникам и пятницам в семь вечера.",
    "Чётные грядки поливают по вторникам, четвергам и субботам.",
    "Абонемент можно заморозить на две недели, один раз за сезон.",
    "Ремонтное кафе принимает утюги, лампы и велосипеды.",
    "Парковка у реки закрыта до конца весны.",
    "Соберите урожай яблок: ящики стоят у сарая.",
]
ASKED = {
    "когда работает гончарный круг": 0,
    "в какие дни поливают грядки": 1,
    "заморозка абонемента": 2,
    "где починить велосипед": 3,
    "открыта ли парковка": 4,
}


def rarity(lemma: str) -> float:
    return 0.2 if lemma in {"в", "ли", "где", "когда", "какой"} else 2.0


@pytest.fixture(scope="module")
def tower(embedder: Embedder) -> Tower:
    from appliance.text import lemmas

    made = Tower(embedder.info.dim)
    words = made.missing(lemma for text in (*POSTS, *ASKED) for lemma in lemmas(text))
    for start in range(0, len(words), 7):
        made.learn(words[start : start + 7], embedder.embed_queries(words[start : start + 7]))
    made.settle(embedder.embed_queries([text.split(":")[0] for text in POSTS]))
    assert made.missing(words) == []
    assert len(made) == len(words)
    return made


def test_it_finds_what_the_embedder_finds(tower: Tower, embedder: Embedder) -> None:
    from appliance.text import lemmas

    posts = embedder.embed_passages(POSTS)
    for text, post in ASKED.items():
        vector = tower.encode(lemmas(text), rarity)
        assert vector is not None
        assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)
        assert best_rows(posts @ vector, 1).tolist() == [post], text


def test_a_query_of_unknown_words_is_left_to_the_embedder(tower: Tower) -> None:
    assert tower.encode(["zzyzx"], rarity) is None
    assert tower.encode(["zzyzx", "круг"], rarity) is None
    assert tower.encode(["круг", "гончарный", "вторник", "zzyzx"], rarity) is not None
    assert tower.encode([], rarity) is None
    assert Tower(4).encode(["круг"], rarity) is None
