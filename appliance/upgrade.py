"""`postfinder upgrade`: check, back up, migrate, try it, and go back when it does not work.

The new version is installed, the old one is stopped. Its folder is backed up file by file before the new version opens
anything; whatever then fails, the folder is put back as it was, and what the attempt left is kept aside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from appliance.app import App, open_app
from appliance.backup import LEDGER, make_stopped, restore, vault_for, verify
from appliance.check import check_stopped
from appliance.client import running
from appliance.config import Config
from appliance.errors import PostFinderError, StartupError, StoreError
from appliance.ledger.snapshot import contents
from appliance.schema import Asker, Filters, Final, Question

FAILED = ".failed-"  # in the data folder: what an upgrade left that did not work
TRIED = 5  # posts that must find themselves
LEAST_WORDS, MOST_WORDS = 5, 25  # of a post that is tried, asked
REGARDLESS = frozenset({"port", "telegram", "backups"})  # findings that stop no upgrade
OPERATOR = Asker(sees_everything=True)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What an upgrade did.

    Attributes
    ----------
    backup : str
        The file made before.
    before, after : str
        Schema of the ledger.
    posts, questions : int
        After.
    found : int
        Posts that found themselves.
    """

    backup: str
    before: str
    after: str
    posts: int
    questions: int
    found: int


Smoke = Callable[[App], Awaitable[int]]


async def upgrade(config: Config, *, tell: Callable[[str], None], smoke: Smoke | None = None) -> Upgraded:
    """Bring the data folder of a stopped appliance to this version, or leave it as it was.

    Parameters
    ----------
    config : Config
    tell : callable
        Gets one line a step.
    smoke : callable, optional
        Tries the opened appliance; by default `try_answers`.

    Returns
    -------
    Upgraded

    Raises
    ------
    PostFinderError
        The check failed and nothing was touched; or the new version did not work and the folder is as it was.
    """
    client = await running(config)
    if client is not None:
        async with aclosing(client):
            raise StartupError("The appliance runs.", cure="Stop it, upgrade, start it again.")
    data = config.data_dir
    if not (data / LEDGER).exists():
        raise StartupError(f"There is nothing to upgrade in {data}.", cure="Start it: postfinder serve")
    found = await asyncio.to_thread(check_stopped, config)
    if bad := [item for item in found if item.status == "fail" and item.name not in REGARDLESS]:
        raise StoreError(f"The check failed ({bad[0].name}): {bad[0].what}", cure=f"{bad[0].cure} Nothing was touched.")
    tell(f"Checked: {len(found)} findings, none in the way.")
    before = await asyncio.to_thread(contents, data / LEDGER)
    with vault_for(config) as vault:
        made = await asyncio.to_thread(make_stopped, config, vault)
        await asyncio.to_thread(verify, Path(made.file), vault)
    tell(f"Backed up and verified: {made.file}")
    try:
        async with open_app(config) as app:
            count = await (smoke or try_answers)(app)
        after = await asyncio.to_thread(contents, data / LEDGER)
        _require_kept(before.rows, after.rows)
    except Exception as error:
        why = str(error) if isinstance(error, PostFinderError) else type(error).__name__
        log.error("upgrade failed", kind=type(error).__name__)
        aside = await asyncio.to_thread(_go_back, config, Path(made.file))
        raise StoreError(
            f"This version does not work with the data: {why} The folder is as it was; the attempt's is {aside}.",
            cure="Install the version before, start it, and report what this says.",
        ) from error
    tell(f"Migrated from {before.schema} to {after.schema}; {count} posts found themselves.")
    return Upgraded(made.file, before.schema, after.schema, after.rows["post"], after.rows["question"], count)


async def try_answers(app: App) -> int:
    """Search a few posts by their own words and ask one question.

    Parameters
    ----------
    app : App

    Returns
    -------
    int
        Posts that were found, all that were tried.

    Raises
    ------
    StoreError
        A post does not find itself, or a question has no end.
    """
    tried = 0
    text = ""
    for channel_id in app.ledger.post_counts():
        for message_id in reversed(app.ledger.post_ids(channel_id)):
            if tried == TRIED:
                break
            (post,) = app.ledger.posts([(channel_id, message_id)]).values()
            words = post.text.split()
            if len(words) < LEAST_WORDS:
                continue
            text = " ".join(words[:MOST_WORDS])
            result = await app.verbs.search(text, asker=OPERATOR, filters=Filters(), limit=10)
            same = {hit.post.text for hit in result.found}
            if post.key not in {hit.post.key for hit in result.found} and post.text not in same:
                raise StoreError(f"Post {message_id} of channel {channel_id} does not find itself.")
            tried += 1
    if text:
        last = None
        async for part in app.verbs.ask(Question(text, OPERATOR, door="cli")):
            last = part
        if not isinstance(last, Final) or last.answer.outcome == "failed":
            raise StoreError("A question got no answer.")
    return tried


def _require_kept(before: dict[str, int], after: dict[str, int]) -> None:
    for table in ("post", "user", "feedback", "channel"):
        if after.get(table, 0) < before.get(table, 0):
            raise StoreError(f"{before[table] - after.get(table, 0)} rows of {table} are gone.")


def _go_back(config: Config, backup: Path) -> Path:
    """Set aside what the attempt left and put the backup in place; returns where it is set aside."""
    aside = config.data_dir / f"{FAILED}{datetime.now(UTC):%Y%m%dT%H%M%S}"
    aside.mkdir()
    for path in list(config.data_dir.iterdir()):
        if not path.name.startswith("."):
            path.rename(aside / path.name)
    with vault_for(config) as vault:
        restore(backup, config.data_dir, vault)
    return aside
