"""Links at a fixed rate: POST /search from one lean process, timed from the moment a request was due.

``python -m benchmarks.load.links URL RATE SECONDS`` prints one line of JSON. A late server makes the next requests late
too, and that counts (no coordinated omission). Locust would take half of two cores for this; here a request costs its
sender about 0.2 ms.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from benchmarks.load.questions import chooser

MOST_CONNECTIONS = 256
SETTLE_S = 60.0  # to wait for the last answers


async def drive(url: str, rate: float, seconds: float) -> dict[str, Any]:
    """Ask at a rate; returns counts and times in milliseconds.

    Parameters
    ----------
    url : str
        Base URL of the web door.
    rate : float
        Requests a second.
    seconds : float

    Returns
    -------
    dict
        ``asked``, ``answered``, ``shed`` (429), ``failed``, ``recalled``; ``p50_ms``, ``p95_ms``, ``p99_ms`` of what
        was answered; ``shed_p95_ms``; ``sender_cpu_s``.
    """
    parts, choose = urlsplit(url), chooser(11)
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    room = asyncio.Semaphore(MOST_CONNECTIONS)
    took: list[float] = []
    shed: list[float] = []
    counts = {"failed": 0, "recalled": 0}

    async def one(due: float) -> None:
        body = json.dumps({"query": choose()}).encode()
        head = f"POST /search HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        async with room:
            while True:
                is_used = bool(free)  # the server closes idle connections: only a fresh one's failure counts
                try:
                    reader, writer = free.pop() if free else await asyncio.open_connection(parts.hostname, parts.port)
                    writer.write(request)
                    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                    length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
                    content = await reader.readexactly(length)
                except (OSError, EOFError, ValueError):
                    if is_used:
                        continue
                    counts["failed"] += 1
                    return
                break
            now = (perf_counter() - due) * 1000
            free.append((reader, writer))
        status = answer.split(b" ", 2)[1]
        if status == b"200" and b'"found":[' in content:
            took.append(now)
            counts["recalled"] += b'"recall":' in content
        elif status == b"429":
            shed.append(now)
        else:
            counts["failed"] += 1

    tasks: set[asyncio.Task[None]] = set()
    began, total = perf_counter(), int(rate * seconds)
    for number in range(total):
        due = began + number / rate
        if (wait := due - perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks, timeout=SETTLE_S)
    for _, writer in free:
        writer.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    took.sort()
    return {
        "rate": rate,
        "seconds": seconds,
        "asked": total,
        "answered": len(took),
        "shed": len(shed),
        **counts,
        "per_s": len(took) / max(perf_counter() - began, seconds),
        **{f"p{share}_ms": at(took, share) for share in (50, 95, 99)},
        "shed_p95_ms": at(sorted(shed), 95),
        "sender_cpu_s": used.ru_utime + used.ru_stime,
    }


def at(ordered: list[float], share: int) -> float:
    """Return a percentile of ordered figures; 0 of none."""
    return ordered[min(len(ordered) * share // 100, len(ordered) - 1)] if ordered else 0.0


if __name__ == "__main__":
    print(json.dumps(asyncio.run(drive(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))))
