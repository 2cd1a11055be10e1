"""Starts real vLLM on the CPU as a child process, waits until it listens, kills it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

START_TIMEOUT_S = 900


class Vllm:
    """One vLLM server; `start` again after `kill` keeps the port."""

    def __init__(self, folder: Path, *args: str, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.log = log
        self._args = (
            *("--model", str(folder)),
            *("--served-model-name", folder.name),
            *("--port", str(self.port)),
            *("--host", "127.0.0.1"),
            "--enforce-eager",
            *args,
        )
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> float:
        """Start and wait; returns the seconds it took."""
        env = os.environ | {
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_LOGGING_LEVEL": "INFO",
        }
        started = time.monotonic()
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *self._args],
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )
        while time.monotonic() < started + START_TIMEOUT_S:
            if self._child.poll() is not None:
                raise AssertionError(f"vLLM ended: {self.log.read_text()[-3000:]}")
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5).status_code == 200:
                    return time.monotonic() - started
            except httpx.HTTPError:
                time.sleep(1)
        raise AssertionError(f"vLLM did not start: {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL to the server and its engine."""
        if self._child is not None and self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait(30)

    def metric(self, name: str) -> float:
        """Sum of a metric's samples; 0 where there are none."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=20).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))
