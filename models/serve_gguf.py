"""Serves a GGUF on the CPU: llama.cpp's own OpenAI-compatible server, as the Python package `xllamacpp` carries it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from models.errors import ModelError


def run(
    file: Path, *, name: str, host: str, port: int, context: int, answers_at_once: int = 1, threads: int = 0
) -> None:
    """Serve until stopped (SIGINT or SIGTERM).

    Parameters
    ----------
    file : Path
        The ``.gguf`` file.
    name : str
        Served model name.
    host, port : str, int
        Where to listen; 0 takes a free port. There is no key: keep it internal.
    context : int
        Tokens of a prompt and its answer.
    answers_at_once : int, optional
        Answers written at the same time; more wait their turn.
    threads : int, optional
        Threads that compute; 0 takes all cores.

    Raises
    ------
    ModelError
        If xllamacpp is not installed, or cannot load the file.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise ModelError(
            "llama.cpp is not installed.", cure="Run: pip install 'postfinder[gguf]', or start llama-server yourself."
        ) from error
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {name}
    params.hostnames = [host]
    params.port = port
    params.n_ctx = context * answers_at_once
    params.n_parallel = answers_at_once
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or len(os.sched_getaffinity(0))
    params.enable_reasoning = 0
    params.ui = False
    params.endpoint_slots = False
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise ModelError(f"{file} cannot be served ({error}).", cure="Verify the model; take a free port.") from error
    stop = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):  # after llama.cpp, which may have its own
        signal.signal(one, lambda *_: stop.set())
    print(f"{name} listens on {server.listening_address}", flush=True)  # noqa: T201
    stop.wait()
    os._exit(0)  # there is nothing to keep, and llama.cpp would first write its answers to the end
