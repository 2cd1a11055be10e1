"""Documents agree with the code: settings, tree, tables."""

from __future__ import annotations

import re
from pathlib import Path

from appliance import settings_docs
from appliance.config import Config
from benchmarks import tables

ROOT = Path(__file__).parents[1]


def test_every_setting_is_described() -> None:
    rows = settings_docs.rows()
    assert len(rows) == len(Config.model_fields)
    assert all(description.endswith(".") for _, _, description in rows)


def test_documents_are_rendered_from_the_code_and_the_results() -> None:
    assert tables.render_all(write=False) == [], "run `postfinder bench render`"


def test_links_between_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
