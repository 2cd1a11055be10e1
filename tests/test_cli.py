"""The command as an operator types it, in its own process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from appliance import sample
from tests.conftest import copy_data

ROOT = Path(__file__).parents[1]


def environment(data: Path, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTFINDER", "TELEGRAM"))}
    return kept | {"POSTFINDER_DATA_DIR": str(data), "POSTFINDER_WEIGHTS_DIR": str(ROOT / "weights"), **settings}


def postfinder(data: Path, *words: str, code: int = 0, **settings: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "appliance.cli", *words],
        cwd=data.parent,
        env=environment(data, **settings),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def serving(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of an appliance that runs in its own process; it must stop in order."""
    data = tmp_path_factory.mktemp("serving") / "data"
    copy_data(sample_data, data)
    command = [sys.executable, "-m", "appliance.cli", "serve"]
    process = subprocess.Popen(command, cwd=data.parent, env=environment(data, POSTFINDER_PORT="0"))
    try:
        deadline = monotonic() + 60
        while not (data / "serving.json").exists():
            assert process.poll() is None
            assert monotonic() < deadline
            sleep(0.05)
        yield data
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not (data / "serving.json").exists()
    finally:
        process.kill()
        process.wait()


def test_a_command_opens_the_appliance_where_none_runs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with sample.export() as path:
        small = tmp_path / "small"
        small.mkdir()
        export = json.loads(path.read_bytes())
        export["messages"] = export["messages"][:12]
        (small / "result.json").write_text(json.dumps(export, ensure_ascii=False), encoding="utf-8")
    done = postfinder(data, "import", str(small), "--username", sample.USERNAME)
    assert "new" in done.stdout
    assert list((data).glob("serving.json")) == []


def test_care_reaches_the_running_appliance(serving: Path, tmp_path: Path) -> None:
    names = {item["name"] for item in json.loads(postfinder(serving, "check", "--json").stdout)}
    assert "last start" in names  # only the running one knows
    made = json.loads(postfinder(serving, "backup", str(tmp_path / "copies"), "--json").stdout)
    assert "204 posts" in postfinder(serving, "restore", made["file"], "--into", str(tmp_path / "back")).stdout
    assert (tmp_path / "back" / "ledger.duckdb").exists()
    assert "is being served" in postfinder(serving, "restore", made["file"], code=1).stderr


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (["erase", "nobody"], "Give @username"),
        (["forget", "https://t.me/nowhere/1"], "Copy the link"),
        (["role", "nobody", "admin"], "written to the bot first"),
        (["opt-out", "x"], "Write user123456"),
        (["restore", "nothing.pfbackup", "--into", "new"], "Name a backup"),
        (["reindex", "--model", "nothing"], "Known cards"),
    ],
)
def test_what_is_refused_to_the_operator_names_its_cure(serving: Path, words: list[str], cure: str) -> None:
    assert cure in postfinder(serving, *words, code=1).stderr


def test_commands_reach_the_running_appliance(serving: Path) -> None:
    with sample.export() as path:
        again = json.loads(postfinder(serving, "import", str(path), "--username", sample.USERNAME, "--json").stdout)
    assert (again["new"], again["edited"]) == (0, 0)
    assert again["same"] >= 150
    asked = json.loads(postfinder(serving, "ask", "По каким дням поливают чётные грядки?", "--json").stdout)
    assert asked["outcome"] == "answered"
    shown = postfinder(serving, "search", "керамика", "--limit", "3").stdout
    assert f"https://t.me/{sample.USERNAME}/" in shown
    assert json.loads(postfinder(serving, "channels", "--json").stdout)[0]["channel"]["username"] == sample.USERNAME
    assert json.loads(postfinder(serving, "stats").stdout)["questions"]["total"] >= 1


def test_a_file_cut_off_is_told_in_whole_sentences(serving: Path, tmp_path: Path) -> None:
    cut = '{"name": "Двор", "type": "public_channel", "id": 7, "messages": [{"id": 1, "type": "message", "text": "пр'
    (tmp_path / "result.json").write_text(cut, encoding="utf-8")
    told = postfinder(serving, "import", str(tmp_path), "--dry-run", COLUMNS="80").stderr
    assert "the file ends inside this message. Export the chat again" in told


def test_an_id_is_listed_whole_for_the_next_command(serving: Path) -> None:
    asked = "Какой курс доллара к песо назначил вчера вечером центральный банк Уругвая?"
    postfinder(serving, "ask", asked)
    listed = postfinder(serving, "unanswered", "list", COLUMNS="80").stdout
    question_id = re.search(r"[0-9a-f]{32}", listed)
    assert question_id is not None, listed
    postfinder(serving, "unanswered", "drop", question_id[0])
    for command in (["channels"], ["channel", "list"]):
        listed = postfinder(serving, *command, COLUMNS="80").stdout
        assert f"@{sample.USERNAME}" in listed, listed


def test_answering_is_paused_and_resumed_and_what_is_unknown_says_so(serving: Path) -> None:
    postfinder(serving, "pause", "--word", "Переезжаем, вернёмся к вечеру")
    assert "Переезжаем" in postfinder(serving, "ask", "Чем покрыть доску?", code=1).stderr
    assert json.loads(postfinder(serving, "resume").stdout) == {"resumed": True}
    assert "nobody of that name" in postfinder(serving, "ban", "@nobody_here", code=1).stderr
    assert "refunded before" in postfinder(serving, "plan", "refund", "tg-none", code=1).stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ask", ""), "question"),
        (("ask", "вопрос", "--channel", "@nobody"), "channel"),
        (("import", "/nowhere/result.json"), "/nowhere"),
    ],
)
def test_bad_input_is_one_line_with_a_cure(serving: Path, words: tuple[str, ...], says: str) -> None:
    assert says in postfinder(serving, *words, code=1).stderr


def test_a_second_appliance_is_refused_with_the_cure(serving: Path) -> None:
    assert "stop" in postfinder(serving, "serve", code=1, POSTFINDER_PORT="0").stderr.lower()


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    done = postfinder(tmp_path / "data", "channels", code=1, POSTFINDER_PORT="many")
    assert "PORT" in done.stderr


def test_settings_are_printed() -> None:
    done = postfinder(ROOT / "data", "settings", "--env")
    assert done.stdout.strip() == (ROOT / ".env.example").read_text(encoding="utf-8").strip()
