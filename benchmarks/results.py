"""Results of suites: kept as JSON with machine and commit, compared with what is expected, rendered into docs."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SUITES = ROOT / "benchmarks" / "suites"
SHARED = ROOT.parent / "shared" / "data"
COMMANDS = {  # others are `postfinder bench NAME`
    "load": "make load",
    "load-people": "make load",
    "answers-model": "POSTFINDER_GENERATOR_URL=… postfinder bench answers",
}


def machine() -> dict[str, str | int]:
    """Describe what a suite ran on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "memory_gb": round(pages / 2**30),
        "python": platform.python_version(),
        **{name: version(name) for name in ("lancedb", "duckdb", "onnxruntime", "aiogram")},
    }


def commit() -> str:
    """Return the commit the suite ran at, with ``+`` when files differ from it."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "*.py"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def expected(suite: str) -> list[dict[str, Any]]:
    """Return the expectations of ``suites/<suite>.toml``: ``{figure, at_least | at_most}`` each."""
    path = SUITES / f"{suite}.toml"
    return list(tomllib.loads(path.read_text(encoding="utf-8")).get("expect", [])) if path.exists() else []


def figure(result: dict[str, Any], path: str) -> Any:
    """Look up a dotted path in a result; None when it is absent."""
    value: Any = result
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return value


def judge(suite: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare a result with the suite's expectations.

    Returns
    -------
    list of dict
        ``figure, value, bound, ok`` each; a figure that is absent is not ok.
    """
    rows = []
    for item in expected(suite):
        value = figure(result, item["figure"])
        slack = item.get("tolerance", 0.0)
        if "at_least" in item:
            bound, ok = f"≥ {item['at_least']}", value is not None and value >= item["at_least"] - slack
        else:
            bound, ok = f"≤ {item['at_most']}", value is not None and value <= item["at_most"] + slack
        rows.append({"figure": item["figure"], "value": value, "bound": bound, "ok": ok})
    return rows


def keep(suite: str, result: dict[str, Any], options: str = "") -> dict[str, Any]:
    """Write a result with its machine, commit and judgement to ``results/<suite>.json``."""
    document = {
        "suite": suite,
        "command": COMMANDS.get(suite, f"postfinder bench {suite}") + options,
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "judgement": judge(suite, result),
        "result": result,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{suite}.json").write_bytes(
        orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    )
    return document


def load(suite: str) -> dict[str, Any] | None:
    """Return the kept result of a suite, or None."""
    path = RESULTS / f"{suite}.json"
    return orjson.loads(path.read_bytes()) if path.exists() else None


def render_into(path: Path, blocks: dict[str, str]) -> bool:
    """Replace the text between ``<!-- NAME -->`` and ``<!-- /NAME -->`` in a document.

    Parameters
    ----------
    path : Path
        Markdown document.
    blocks : dict of str to str
        Text by block name; a block that the document does not have is skipped.

    Returns
    -------
    bool
        Whether the document changed.
    """
    before = path.read_text(encoding="utf-8")
    after = before
    for name, text in blocks.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        body = text.rstrip().replace("\\", r"\\")
        after = pattern.sub(rf"\g<1>{body}\n\g<2>", after)
    if after != before:
        path.write_text(after, encoding="utf-8")
    return after != before
