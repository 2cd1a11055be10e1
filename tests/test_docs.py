"""Documents agree with the code: settings, tree, tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance import settings_docs
from appliance.alerts import LEVELS
from appliance.config import Config
from benchmarks import results, tables

ROOT = Path(__file__).parents[1]


def test_every_setting_is_described() -> None:
    rows = settings_docs.rows()
    assert len(rows) == len(Config.model_fields)
    assert all(description.endswith(".") for _, _, description in rows)


def test_documents_are_rendered_from_the_code_and_the_results() -> None:
    assert tables.render_all(write=False) == [], "run `postfinder bench render`"


def test_the_levels_of_alerts_are_those_their_suite_chose() -> None:
    document = results.load("alerts")
    assert document is not None
    assert pytest.approx(tuple(document["result"]["chosen"].values())) == LEVELS


def test_links_between_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
