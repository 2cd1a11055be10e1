"""`postfinder upgrade`: backed up, migrated and tried, or left exactly as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import appliance.ledger.database
from appliance.app import App, open_app
from appliance.config import Config
from appliance.errors import PostFinderError, StartupError, StoreError
from appliance.upgrade import FAILED, upgrade
from tests.conftest import config_for, copy_data

MIGRATIONS = Path(appliance.ledger.database.__file__).parent / "migrations"


@pytest.fixture
def stopped(sample_data: Path, tmp_path: Path) -> Config:
    copy_data(sample_data, tmp_path / "data")
    return config_for(tmp_path / "data").model_copy(update={"port": 0})


def newer_version(monkeypatch: pytest.MonkeyPatch, folder: Path, step: str) -> str:
    """Give the ledger one more migration, as a newer PostFinder has."""
    current = appliance.ledger.database.SCHEMA
    following = f"{int(current) + 1:04d}"
    shutil.copytree(MIGRATIONS, folder)
    (folder / "versions" / f"{following}_next.py").write_text(
        f'from alembic import op\nrevision = "{following}"\ndown_revision = "{current}"\n'
        f"def upgrade() -> None:\n    {step}\n"
    )
    monkeypatch.setattr(appliance.ledger.database, "MIGRATIONS", folder)
    monkeypatch.setattr(appliance.ledger.database, "SCHEMA", following)
    return following


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith((".lock", "LOCK")) and FAILED not in str(path)
    }


async def test_a_newer_version_migrates_and_finds_the_posts(
    stopped: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = newer_version(monkeypatch, tmp_path / "steps", 'op.execute("CREATE TABLE later (x INTEGER)")')
    lines: list[str] = []
    done = await upgrade(stopped, tell=lines.append)
    assert (done.after, done.posts, done.found) == (following, 204, 5)
    assert done.before != done.after
    assert len(lines) == 3
    assert Path(done.backup).exists()  # noqa: ASYNC240


@pytest.mark.parametrize("step", ['op.execute("CREATE TABLE post (x INTEGER)")', 'op.execute("DELETE FROM post")'])
async def test_a_migration_that_fails_or_loses_rows_is_rolled_back(
    stopped: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = files(stopped.data_dir)
    with monkeypatch.context() as newer:
        newer_version(newer, tmp_path / "steps", step)
        with pytest.raises(StoreError, match=r"as it was.*Install the version before"):
            await upgrade(stopped, tell=lambda _: None)
    assert files(stopped.data_dir) == before
    assert len(list(stopped.data_dir.glob(f"{FAILED}*"))) == 1
    async with open_app(stopped) as app:
        assert sum(app.ledger.post_counts().values()) == 204


async def test_a_version_that_does_not_answer_is_rolled_back(stopped: Config) -> None:
    before = files(stopped.data_dir)

    async def mute(app: App) -> int:
        app.ledger.set_setting("spoiled", 1)
        raise StoreError("It does not answer.")

    with pytest.raises(StoreError, match="does not answer"):
        await upgrade(stopped, tell=lambda _: None, smoke=mute)
    assert files(stopped.data_dir) == before


async def test_a_failed_check_touches_nothing(stopped: Config) -> None:
    stopped.master_key().chmod(0o644)
    before = files(stopped.data_dir)
    with pytest.raises(PostFinderError, match="chmod 600"):
        await upgrade(stopped, tell=lambda _: None)
    assert files(stopped.data_dir) == before
    assert not stopped.backups().exists()


async def test_there_must_be_something_to_upgrade(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="nothing to upgrade"):
        await upgrade(config_for(tmp_path / "none"), tell=lambda _: None)
