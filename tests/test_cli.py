"""The command as an operator types it, in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance import sample

ROOT = Path(__file__).parents[1]


def postfinder(data: Path, *words: str, code: int = 0, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTFINDER", "TELEGRAM"))}
    environment = kept | {"POSTFINDER_DATA_DIR": str(data), "POSTFINDER_WEIGHTS_DIR": str(ROOT / "weights"), **settings}
    done = subprocess.run(
        [sys.executable, "-m", "appliance.cli", *words],
        cwd=data.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return done


def test_import_search_ask_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with sample.export() as path:
        first = json.loads(postfinder(data, "import", str(path), "--username", sample.USERNAME, "--json").stdout)
        again = json.loads(postfinder(data, "import", str(path), "--username", sample.USERNAME, "--json").stdout)
    assert first["new"] >= 150
    assert first["broken"] == []
    assert (again["new"], again["edited"], again["same"]) == (0, 0, first["new"])
    answer = json.loads(postfinder(data, "ask", "Сколько стоит занятие керамикой?", "--json").stdout)
    assert answer["outcome"] in {"answered", "not_found"}
    shown = postfinder(data, "search", "керамика", "--limit", "3").stdout
    assert f"https://t.me/{sample.USERNAME}/" in shown
    assert json.loads(postfinder(data, "channels", "--json").stdout)[0]["channel"]["username"] == sample.USERNAME
    assert json.loads(postfinder(data, "stats").stdout)["questions"]["total"] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ask", ""), "words"),
        (("ask", "вопрос", "--channel", "@nobody"), "nobody"),
        (("import", "/nowhere/result.json"), "/nowhere"),
    ],
)
def test_bad_input_is_one_line_with_a_cure(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    assert says in postfinder(tmp_path / "data", *words, code=1).stderr


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    done = postfinder(tmp_path / "data", "channels", code=1, POSTFINDER_PORT="many")
    assert "PORT" in done.stderr


def test_settings_are_printed() -> None:
    done = postfinder(ROOT / "data", "settings", "--env")
    assert done.stdout.strip() == (ROOT / ".env.example").read_text(encoding="utf-8").strip()
