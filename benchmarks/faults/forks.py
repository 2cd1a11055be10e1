"""Processes forked by one that has imported everything: a start costs no imports, and each dies a real death."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from time import monotonic

from benchmarks.results import ROOT


class Forks:
    """The process that forks others; a context.

    Parameters
    ----------
    module : str
        Run with ``python -m``; forks a process for each line of its standard input and prints the process id.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._one_at_a_time = asyncio.Lock()

    def __enter__(self) -> Forks:
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    async def start(self, *words: str) -> int:
        """Fork a process, told these words; return its id."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("no pipes")
        async with self._one_at_a_time:
            self._process.stdin.write(f"{' '.join(words)}\n")
            self._process.stdin.flush()
            return int(await asyncio.to_thread(self._process.stdout.readline))


def is_alive(pid: int) -> bool:
    """Whether a process lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def kill(pid: int, patience_s: float = 0.0) -> None:
    """End a process the hard way, once it was given some time, and wait until it is gone."""
    deadline = monotonic() + patience_s
    while is_alive(pid):
        if monotonic() >= deadline:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        await asyncio.sleep(0.005)
