"""The suites of faults, shortened; each with its control, which must fail. The long ones are run by ``make faults``."""

from __future__ import annotations

import importlib
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cli
from benchmarks.faults import canary, power
from benchmarks.faults.kill import text_of
from benchmarks.faults.power import left_of
from benchmarks.results import judge

SHORT = {"kill": 500, "power": 60, "telegram": 1500, "garbage": 5000, "restore": 20_000}
NOT_HERE = {"images", "posts"}  # figures that say how long the whole suite is


def misses(name: str, result: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in judge(name, result) if not row["ok"] and row["figure"] not in NOT_HERE]


def test_every_suite_has_a_command_and_says_what_it_expects_of_its_control() -> None:
    for name in cli.FAULTS:
        figures = [row["figure"] for row in judge(name, {})]
        assert any("control" in figure for figure in figures), name


def test_canaries_leave_no_trace() -> None:
    assert misses("faults-canary", canary.run(rounds=30)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_faults(name: str) -> None:
    if name == "power" and shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    module = importlib.import_module(f"benchmarks.faults.{name}")
    assert misses(f"faults-{name}", module.run(rounds=SHORT[name], seed=7)) == []


def test_what_a_power_cut_leaves_is_made_of_what_was_there(tmp_path: Path) -> None:
    forced, written = tmp_path / "forced", tmp_path / "written"
    forced.write_bytes(b"a" * 6000)
    written.write_bytes(b"a" * 5000 + b"b" * 9000)
    shapes: Counter[str] = Counter()
    for seed in range(200):
        left = left_of(forced, written, random.Random(seed), shapes)
        assert left is not None
        assert left[:4608] == b"a" * 4608  # what was forced and not touched since is never lost
    assert set(shapes) == set(power.TORN) - {"empty"}
    assert left_of(forced, None, random.Random(1), shapes) == b"a" * 6000


def test_texts_of_posts_are_the_same_every_time() -> None:
    assert text_of(3, 1) == text_of(3, 1) != text_of(3, 2)
