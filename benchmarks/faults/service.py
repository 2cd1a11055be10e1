"""The whole service as a process to be killed: forked from one that has imported everything and read the weights.

Run as ``python -m benchmarks.faults.service``; each line ``DATA API KIND`` on standard input forks a service of the
data folder for the Bot API server and prints its id. ``careful`` is the product as it is; ``hasty`` says "stored" first
and stores a moment later.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

from appliance.client import import_app
from appliance.config import Config
from appliance.journal import Journal
from appliance.ledger import Ledger
from appliance.ledger.questions import Questions
from appliance.logs import configure_logs
from appliance.text import lemmas
from benchmarks.results import ROOT
from models.load import load_embedder
from models.ports import Embedder

LATER = (  # what a start imports when it comes to it
    "appliance.bot", "onnxruntime", "models.embed_e5", "duckdb_sqlalchemy", "alembic.command", "pydantic.v1",
    "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto", "uvicorn.lifespan.off",
)  # fmt: skip
LATE_S = 0.3  # of the hasty one
PR_SET_PDEATHSIG = 1


def config_of(data: Path, api: str = "") -> Config:
    """Return the settings of a service; nothing is read from the environment."""
    return Config(
        _env_file=None,
        TELEGRAM_BOT_TOKEN="1000001:loopback-token-for-tests",
        data_dir=data,
        weights_dir=ROOT / "weights",
        threads=2,
        telegram_api=api,
        backup_every_hours=0,
    )


def hasten() -> None:
    """Make stores say yes first and write later: what a kill between loses is lost."""

    def late(write: Callable[..., Any], said: Callable[..., Any]) -> Callable[..., Any]:
        def hasty(self: Any, *words: Any, **more: Any) -> Any:
            answer = said(self, *words)
            Timer(LATE_S, write, (self, *words), more).start()
            return answer

        return hasty

    Journal.take_in = late(Journal.take_in, lambda self, bot_id, updates: len(updates))  # type: ignore[method-assign]
    Questions.save = late(Questions.save, lambda self, row: None)  # type: ignore[method-assign]
    Questions.rate = late(Questions.rate, lambda self, *words: True)  # type: ignore[method-assign]
    Ledger.save_posts = late(Ledger.save_posts, Ledger.classify)  # type: ignore[method-assign]


async def serve(data: Path, api: str) -> None:
    """Serve until told to stop, as the command does."""
    app_room = import_app()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with app_room.open_app(config_of(data, api)) as app, app_room.open_doors(app, port=0):
        await stop.wait()


def main() -> None:
    """Fork a service for each line."""
    app_room = import_app()
    for name in LATER:
        importlib.import_module(name)
    lemmas("слово")
    configure_logs("json", least="warning")
    config = config_of(Path())
    embedder = load_embedder(config.embedder, weights_dir=config.weights_dir, threads=config.threads)

    def ready(card: str, **_: Any) -> Embedder:
        return embedder

    app_room.load_embedder = ready  # type: ignore[attr-defined]  # it keeps nothing, and has no threads of its own
    gc.freeze()  # children copy no pages of it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    warnings.simplefilter("ignore", RuntimeWarning)  # LanceDB starts its loop anew in the child
    for line in sys.stdin:
        data, api, kind = line.split()
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            log = os.open(f"{data}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if kind == "hasty":
                hasten()
            asyncio.run(serve(Path(data), api))
            os._exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
