"""A model hub on loopback: file lists, downloads with ranges, and connections that break when told."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        self.repo = repo
        self.files = files
        self.lies: dict[str, bytes] = {}  # served instead of what is listed
        self.breaks = 0  # so many downloads break off half-way
        self.ranges = True
        self.asked: list[tuple[str, str]] = []  # (path, Range)
        self.token = ""
        self.url = ""

    def listing(self) -> dict[str, object]:
        siblings = []
        for name, data in self.files.items():
            entry: dict[str, object] = {"rfilename": name, "size": len(data)}
            if name.endswith((".safetensors", ".bin", ".pt")):
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            else:
                entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            siblings.append(entry)
        return {"sha": REVISION, "siblings": siblings}


@contextlib.contextmanager
def serving_hub(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            wanted = self.headers.get("Range", "")
            hub.asked.append((path, wanted))
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self.give(401, b"{}")
            elif path.startswith(f"/api/models/{hub.repo}/revision/"):
                self.give(200, json.dumps(hub.listing()).encode())
            elif path.startswith(f"/{hub.repo}/resolve/{REVISION}/"):
                self.file(path.rsplit("/", 1)[1], wanted)
            else:
                self.give(404, b"{}")

        def file(self, name: str, wanted: str) -> None:
            data = hub.lies.get(name, hub.files[name])
            first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and hub.ranges else 0
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(data) - first))
            self.end_headers()
            if hub.breaks and len(data) - first > 100:
                hub.breaks -= 1
                self.wfile.write(data[first : first + (len(data) - first) // 2])
                self.close_connection = True
                return
            self.wfile.write(data[first:])

        def give(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
