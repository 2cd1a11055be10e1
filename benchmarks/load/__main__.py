"""Start an appliance over the sample channel, put load on it, keep HTML and CSV, and tell by the exit code."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks.results import RESULTS, ROOT, SHARED

HERE = Path(__file__).parent
START_S = 120.0


def main() -> int:
    """Run the load; ``LOAD_USERS``, ``LOAD_WORKERS``, ``LOAD_TIME`` set its size, the others are in the locustfile."""
    if not SHARED.exists():
        raise SystemExit(f"The load reads {SHARED}, which is absent: put the data folder beside the checkout.")
    kept = RESULTS / "load"
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            **os.environ,
            "POSTFINDER_DATA_DIR": str(Path(folder) / "data"),
            "POSTFINDER_WEIGHTS_DIR": str(ROOT / "weights"),
            "POSTFINDER_PORT": "0",
            "TELEGRAM_BOT_TOKEN": "",
        }
        beside = Path(sys.executable).parent
        with subprocess.Popen(
            [beside / "postfinder", "serve", "--demo"],
            env=settings,
            cwd=folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as server:
            late = threading.Timer(START_S, server.kill)
            late.start()
            try:
                url = address(server)
                late.cancel()
                code = subprocess.run(
                    [
                        *(beside / "locust", "-f", HERE / "locustfile.py", "--headless", "--only-summary"),
                        *("--host", url, "--users", os.environ.get("LOAD_USERS", "8"), "--spawn-rate", "8"),
                        *("--run-time", os.environ.get("LOAD_TIME", "60s"), "--stop-timeout", "10"),
                        *("--processes", os.environ.get("LOAD_WORKERS", "2")),
                        *("--html", kept / "load.html", "--csv", kept / "load"),
                    ],
                    cwd=ROOT,
                    check=False,
                ).returncode
                before_end = server.poll()
            finally:
                late.cancel()
                server.send_signal(signal.SIGTERM)
    if before_end is not None:
        raise SystemExit("The appliance ended before the load did.")
    return code


def address(server: subprocess.Popen[str]) -> str:
    """Return the page's address from the server's words; the rest of them is read and dropped."""
    lines = server.stdout
    if lines is None:
        raise SystemExit("The appliance has no output.")
    for line in lines:
        if found := re.search(r"(http://\S+?)\s+the page is open", re.sub(r"\x1b\[[0-9;]*m", "", line)):
            threading.Thread(target=lines.read, daemon=True).start()
            return found.group(1)
    raise SystemExit("The appliance did not start; `postfinder serve` says why.")


if __name__ == "__main__":
    sys.exit(main())
