"""Ways to search side by side, learned fusion, and the report, on small things whose answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.lexical import Lexicon
from benchmarks import report, results
from benchmarks.learned import Learned, fit
from benchmarks.methods import CUTS, Postings, normalised_sum, reciprocal_ranks, top
from benchmarks.metrics import needed, paired_p

TEXTS = [
    "Обжиг керамики по средам",
    "Керамику обжигаем в печи",
    "Сварка по субботам",
    "Расписание: среда и суббота",
    "Печь остывает сутки",
]


def test_bm25_is_the_products() -> None:
    rows = [CUTS["lemmas"](text) for text in TEXTS]
    lexicon = Lexicon()
    lexicon.add(rows)
    query = CUTS["lemmas"]("обжиг керамики в печи")
    prepared = lexicon.prepare(query)
    expected, *_ = lexicon.detail(prepared, np.arange(len(rows)))
    assert Postings.of(rows).bm25(query) == pytest.approx(expected, rel=1e-4)


def test_cuts_see_what_they_should() -> None:
    found = {}
    for name, cut in CUTS.items():
        if name == "stems":
            pytest.importorskip("snowballstemmer")
        scores = Postings.of([cut(text) for text in TEXTS]).bm25(cut("керамика обжигом"))
        found[name] = set(np.flatnonzero(scores).tolist())
    assert found["raw"] == set()  # neither form was written
    assert {0, 1} <= found["stems"]
    assert 0 in found["lemmas"]  # «керамику» is also a potter in the dative
    assert {0, 1} <= found["n-grams"]
    jaccard = Postings.of([CUTS["lemmas"](text) for text in TEXTS]).jaccard(CUTS["lemmas"](TEXTS[2]))
    assert jaccard[2] == pytest.approx(1.0)
    assert jaccard.max() == jaccard[2]


def test_fusions_keep_what_both_lists_say() -> None:
    first = np.array([0.9, 0.8, 0.1, 0.0, 0.2], np.float32)
    second = np.array([0.0, 5.0, 4.0, 0.0, 0.0], np.float32)
    assert top(second, 5).tolist() == [1, 2]
    assert reciprocal_ranks(first, second).argmax() == 1
    assert normalised_sum((first, second), (1.0, 0.0)).argmax() == 0
    assert normalised_sum((first, second), (1.0, 1.0)).argmax() == 1


def test_learned_weights_find_the_feature_that_tells_and_leave_the_served_set_out() -> None:
    rng = np.random.default_rng(0)

    def cases(telling: int) -> list[Any]:
        made = []
        for _ in range(60):
            features = rng.normal(size=(20, 4)).astype(np.float32)
            truths = np.zeros(20, bool)
            truths[features[:, telling].argmax()] = True
            made.append((features, np.arange(20), truths))
        return made

    assert int(np.argmax(fit([cases(2)]))) == 2
    learned = Learned()
    learned.take("a", cases(0))
    learned.take("b", cases(1))
    assert max(learned.weights("a"), key=lambda name: learned.weights("a")[name]) == "lexical"  # learned on b
    assert max(learned.weights("b"), key=lambda name: learned.weights("b")[name]) == "dense"


def test_the_gain_that_is_needed_is_one_that_shows_four_times_in_five() -> None:
    rng = np.random.default_rng(1)
    spread = rng.normal(0, 0.3, 71)
    gain = needed(spread)
    shown = [paired_p(rng.normal(gain, 0.3, 71), np.zeros(71), seed=n, rounds=500) < 0.05 for n in range(60)]
    assert 0.6 < np.mean(shown) < 0.97


def test_the_report_says_the_results_and_draws_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "OUT", tmp_path / "report.html")
    kept = results.load("retrieval")
    assert kept is not None
    page = report.main().read_text("utf-8")
    assert page.count("<svg") >= 2
    chosen = kept["result"]["sets"]["wiki-qa"]["methods"]["fused"]["ndcg@10"]
    assert f"{chosen:.3f}" in page
    assert f"{kept['result']['margin']:+.3f}" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )  # nothing is fetched
    monkeypatch.setattr(results, "load", lambda suite: None)
    with pytest.raises(SystemExit, match="bench retrieval"):
        report.main()
