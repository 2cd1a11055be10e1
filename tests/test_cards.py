"""Model cards: the catalogue holds together, and a faulty card is refused with every fault named."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from models.cards import CARDS_DIR, AnswererCard, EmbedderCard, RerankerCard, all_cards, card_from, load_card, read_card
from models.errors import CardError
from models.plan import plan

SHAPE = {"layers": 2, "hidden": 8, "intermediate": 8, "vocab": 8}
TEXT = (CARDS_DIR / "t-lite-it-2.1-fp8.toml").read_text(encoding="utf-8")


def fields(**changes: object) -> dict[str, object]:
    return {**tomllib.loads(TEXT), **changes}


def test_every_card_of_the_catalogue_reads() -> None:
    cards = all_cards()
    assert {"bge-m3", "multilingual-e5-small", "multilingual-e5-large", "frida", "bge-reranker-v2-m3"} <= set(cards)
    kinds = {type(card) for card in cards.values()}
    assert kinds == {AnswererCard, EmbedderCard, RerankerCard}
    for card in cards.values():
        assert card.licence
        assert "ru" in card.languages or "An exercise" in card.note
        assert card.sources


@pytest.mark.parametrize("vram", [8, 12, 16, 24, 48, 80])
def test_there_is_an_answerer_for_each_common_amount_of_memory(vram: int) -> None:
    fitting = [c for c in all_cards().values() if isinstance(c, AnswererCard) and 0 < c.min_vram_gb <= vram]
    best = max(fitting, key=lambda c: c.min_vram_gb)
    assert plan(best, vram_gib=vram, answers_at_once=2, context=4096).answers_at_once >= 2
    assert vram / best.min_vram_gb <= 16 / 12


def test_bge_m3_is_the_shape_its_paper_gives() -> None:
    card = load_card("bge-m3")
    assert isinstance(card, EmbedderCard)
    assert (card.dim, card.context, card.heads) == (1024, 8192, ("dense", "sparse", "multi_vector"))


def test_unknown_card_names_the_known_ones() -> None:
    with pytest.raises(CardError, match="bge-m3"):
        load_card("bge-m4")


@pytest.mark.parametrize("name", ["../pyproject", "", "a/b", "BGE-M3"])
def test_a_name_is_never_a_path(name: str) -> None:
    with pytest.raises(CardError, match="no model card"):
        load_card(name)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "oracle"}, "kind"),
        ({"revision": "main"}, "revision"),
        ({"parameters": -1}, "parameters"),
        ({"parameters": 1000}, "token table"),
        ({"quantisation": "q4"}, "quantisation"),
        ({"name": "other"}, "the file says"),
        ({"colour": "red"}, "colour"),
        ({"sources": []}, "sources"),
        ({"files": {"model.safetensors": "abc"}}, "files"),
        ({"vllm_args": ["--trust-remote-code"]}, "remote code"),
        ({"shape": SHAPE}, "KV cache"),
        ({"shape": {**SHAPE, "kv_heads": 2}}, "go together"),
        ({"shape": {**SHAPE, "kv_heads": 2, "head_dim": 4, "kv_latent": 4}}, "either"),
    ],
)
def test_a_faulty_card_is_refused_and_the_fault_named(changes: dict[str, object], says: str) -> None:
    with pytest.raises(CardError, match=says):
        card_from(fields(**changes), name="t-lite-it-2.1-fp8")


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(CardError, match=r"licence.*context|context.*licence"):
        card_from({k: v for k, v in fields(context=0).items() if k != "licence"}, name="t-lite-it-2.1-fp8")


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("name = ", encoding="utf-8")
    with pytest.raises(CardError, match=r"x\.toml"):
        read_card(tmp_path / "x.toml")
