"""Suite `import`: how fast an export gets in, against the embedder alone on the same texts."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from appliance.chunking import chunks_of
from appliance.index import Index
from appliance.ingest import import_export
from appliance.ledger import Ledger
from appliance.schema import Post
from appliance.telegram_export import find_export, read_export
from benchmarks.results import ROOT, SHARED
from models.load import load_embedder
from models.ports import Embedder

EXPORTS = ("nsmag", "proglibrary", "pyproglib", "goproglib")
BIG_MB = 256


def run() -> dict[str, Any]:
    """Import every channel into an empty folder, each after the bare embedder had its texts.

    Returns
    -------
    dict
        ``posts``, ``chunks``; ``posts_per_s`` of the import and ``embedder_posts_per_s`` of the embedder alone on the
        same texts; ``share_of_embedder``, the ratio of the two, and ``share_of_cpu``, the same in processor time
        (steadier on a busy machine); ``again_posts_per_s``, of the same exports once more; ``peak_rss_mb``, of the
        process; ``read_mb_per_s`` and ``read_rss_mb``, of reading alone a file of ``read_file_mb``.
    """
    if not SHARED.exists():
        raise SystemExit(f"The suite reads {SHARED}, which is absent: put the data folder beside the checkout.")
    embedder = load_embedder("multilingual-e5-small", weights_dir=ROOT / "weights")
    with tempfile.TemporaryDirectory() as folder:
        return {**asyncio.run(measure(Path(folder), embedder)), **measure_reading(Path(folder))}


async def measure(folder: Path, embedder: Embedder) -> dict[str, Any]:
    """Time the embedder and the import in turn, channel by channel, so that both see the same machine."""
    bare_s = bare_cpu_s = import_s = import_cpu_s = again_s = 0.0
    posts = chunks = embedded = 0
    ledger = Ledger.open(folder / "ledger.duckdb")
    index = Index.open(folder / "index", embedder=embedder.info)
    try:
        for name in EXPORTS:
            path = SHARED / "telegram-export" / name
            texts = texts_of(path)
            embedded += len(texts)
            wall, cpu = perf_counter(), process_time()
            embedder.embed_passages(texts)
            bare_s, bare_cpu_s = bare_s + perf_counter() - wall, bare_cpu_s + process_time() - cpu
            wall, cpu = perf_counter(), process_time()
            async for progress in import_export(path, username=name, index=index, ledger=ledger, embedder=embedder):
                last = progress
            import_s, import_cpu_s = import_s + perf_counter() - wall, import_cpu_s + process_time() - cpu
            posts, chunks = posts + last.new, chunks + last.chunks
            wall = perf_counter()
            async for _ in import_export(path, username=name, index=index, ledger=ledger, embedder=embedder):
                pass
            again_s += perf_counter() - wall
    finally:
        index.close()
        ledger.close()
    return {
        "posts": posts,
        "chunks": chunks,
        "texts": embedded,
        "posts_per_s": posts / import_s,
        "embedder_posts_per_s": posts / bare_s,
        "share_of_embedder": bare_s / import_s,
        "share_of_cpu": bare_cpu_s / import_cpu_s,
        "again_posts_per_s": posts / again_s,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def texts_of(path: Path) -> list[str]:
    """List the different texts that an import of this export must embed."""
    found = (chunk.text for post in read_export(path) if isinstance(post, Post) for chunk in chunks_of(post))
    return list(dict.fromkeys(found))


READING = """
import sys, time
from pathlib import Path
from appliance.telegram_export import read_export
started = time.perf_counter()
for _ in read_export(Path(sys.argv[1])):
    pass
seconds = time.perf_counter() - started
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(seconds, int(peak.split()[1]) * 1024)
"""


def measure_reading(folder: Path, megabytes: int = BIG_MB) -> dict[str, float]:
    """Read a large file, made of one export's messages over and over, in a process of its own."""
    path = write_big(folder / "result.json", megabytes)
    command = [sys.executable, "-c", READING, str(path)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    seconds, rss = map(float, out.split())
    size = path.stat().st_size
    return {"read_file_mb": size / 1e6, "read_mb_per_s": size / 1e6 / seconds, "read_rss_mb": rss / 1e6}


def write_big(path: Path, megabytes: int) -> Path:
    """Write an export of about this many MB."""
    data = find_export(SHARED / "telegram-export" / "goproglib").read_bytes()
    begin, end = data.index(b'"messages": [') + len(b'"messages": ['), data.rindex(b"]")
    messages = data[begin:end].rstrip()
    with path.open("wb") as file:
        file.write(data[:begin])
        for _ in range(max(1, megabytes * 1_000_000 // len(messages)) - 1):
            file.write(messages + b",")
        file.write(messages + data[end:])
    return path


if __name__ == "__main__":
    from benchmarks.cli import run_suite

    sys.exit(not run_suite("import", json=True))
