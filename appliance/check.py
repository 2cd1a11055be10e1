"""`postfinder check`: the state of the stores, read from the running appliance or from the folder of a stopped one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from appliance import ingest
from appliance.backup import JOURNAL, LEDGER, RESTORING, STAGING, VERIFIED, Backups
from appliance.chunking import chunks_of
from appliance.config import Config
from appliance.errors import PostFinderError
from appliance.index import Index, tables_in
from appliance.journal import Journal
from appliance.journal_rows import waiting
from appliance.keyring import KEYRING, require_fit
from appliance.ledger import Ledger
from appliance.ledger.snapshot import contents, unsound
from appliance.probes import Finding, door, probe
from appliance.shelf import Shelf
from models.errors import GeneratorDown
from models.load import load_generator
from models.ports import Embedder

WAITING_LONG = 1000  # updates or messages that wait
FUTURE = timedelta(minutes=5)


async def check(
    *,
    config: Config,
    ledger: Ledger,
    journal: Journal,
    shelf: Shelf,
    backups: Backups,
    mended: tuple[str, ...],
    fix: bool = False,
) -> list[Finding]:
    """Look at the machine and at the open stores.

    Parameters
    ----------
    config : Config
    ledger, journal, shelf, backups
        Open.
    mended : tuple of str
        What the start healed.
    fix : bool
        Mend rights of keys, bring ledger and index together, make a missing backup.

    Returns
    -------
    list of Finding
    """
    found = await asyncio.to_thread(probe, config, fix=fix)
    found += door(config, is_served=True)
    found.append(await _agreement(ledger, shelf, fix=fix))
    found.append(await asyncio.to_thread(_embedder, shelf.now.embedder, shelf.now.index))
    found.append(await language_model(config))
    found += journal_findings(journal.counts())
    said = " ".join(mended)
    found.append(Finding("last start", "ok", f"It healed: {said}" if mended else "It had nothing to heal."))
    found.append(await asyncio.to_thread(_clock, ledger))
    lacks_backup = any(item.name == "backups" and item.status != "ok" for item in found)
    if fix and lacks_backup:
        made = await backups.make()
        await backups.verify(Path(made.file))
        found = [item for item in found if item.name != "backups"]
        found.append(Finding("backups", "ok", "There was no new one.", f"Done: {made.file}", is_mended=True))
    verified = await asyncio.to_thread(ledger.setting, VERIFIED)
    if verified:
        found.append(Finding("backup verified", "ok", f"{Path(verified['file']).name} was restored and compared."))
    else:
        found.append(Finding("backup verified", "warn", "No backup was verified yet.", "postfinder backup --verify"))
    return found


def check_stopped(config: Config, *, fix: bool = False) -> list[Finding]:
    """Look at the machine and at the stores of a stopped appliance, changing nothing there. Blocking.

    Parameters
    ----------
    config : Config
    fix : bool
        Mend rights of keys.

    Returns
    -------
    list of Finding
    """
    found = [*probe(config, fix=fix), *door(config, is_served=False)]
    data, master = config.data_dir, config.master_key()
    if master.exists() and master.with_name(KEYRING).exists():
        found += _tried("keys open", lambda: _fitting_keys(master, data))
    if (data / RESTORING).exists():
        found.append(Finding("restore", "fail", "A restore was cut off.", "Run it again: postfinder restore FILE"))
        return found
    leftovers = list(data.glob(f"{STAGING}*"))
    if leftovers:
        said = f"{len(leftovers)} drafts of backups that were cut off."
        found.append(Finding("drafts", "warn", said, "The next start removes them."))
    if not (data / LEDGER).exists():
        found.append(Finding("ledger", "ok", "None yet: the first start makes it."))
        return found
    found += _tried("ledger", lambda: _stopped_ledger(data))
    found += _tried("journal", lambda: journal_findings(waiting(data / JOURNAL)) if (data / JOURNAL).exists() else [])
    return found


async def language_model(config: Config) -> Finding:
    """Let the model server write a token: the only proof that it can."""
    if not config.generator_url:
        return Finding("language model", "ok", "None is set: the posts are quoted.")
    generator = load_generator(config.generator_url, config.generator_model, deadline_s=config.answer_deadline_s)
    try:
        usage = await generator.ready()
    except GeneratorDown as down:
        cure = down.cure or "Look at the model server's log; it is asked again with every question."
        return Finding("language model", "warn", f"{down.args[0]} The posts are quoted.", cure)
    finally:
        await generator.aclose()
    context = f", reads {generator.context_tokens} tokens" if generator.context_tokens else ""
    return Finding("language model", "ok", f"{generator.name} writes after {usage.first_token_ms:.0f} ms{context}.")


def journal_findings(counts: dict[str, int]) -> Iterator[Finding]:
    """Judge what waits in the journal and what went wrong there."""
    pending, queued = counts["inbox_pending"], counts["outbox_queued"] + counts["outbox_sending"]
    said = f"{pending} updates and {queued} messages wait; {counts['maybe_twice']} messages ever went out maybe twice."
    if pending + queued > WAITING_LONG:
        cure = "Look whether the bot runs (`postfinder check` reaches Telegram) and whether its answers take long."
        yield Finding("journal", "warn", said, cure)
    else:
        yield Finding("journal", "ok", said)
    aside = counts["inbox_quarantined"] + counts["outbox_failed"]
    if aside:
        said = (
            f"{counts['inbox_quarantined']} updates are quarantined, {counts['outbox_failed']} messages were refused."
        )
        yield Finding(
            "journal quarantine", "warn", said, "The log names each with its reason; report it if it is ours."
        )


async def _agreement(ledger: Ledger, shelf: Shelf, *, fix: bool) -> Finding:
    missing, orphans = await asyncio.to_thread(_apart, ledger, shelf.now.index)
    posts = sum(ledger.post_counts().values())
    if not missing and not orphans:
        return Finding("ledger and index", "ok", f"They hold the same {posts} posts.")
    said = f"{missing} posts of the ledger are not in the index, {orphans} of the index not in the ledger."
    if not fix:
        cure = "postfinder check --fix brings them together, as the next start does."
        return Finding("ledger and index", "fail", said, cure)
    pair = shelf.now
    await ingest.reconcile(index=pair.index, ledger=ledger, embedder=pair.embedder)
    return Finding("ledger and index", "ok", said, "Done: the index was brought to the ledger.", is_mended=True)


def _apart(ledger: Ledger, index: Index) -> tuple[int, int]:
    missing, orphans = ingest.difference(index, ledger)
    searchable = [post for post in ledger.posts(missing).values() if chunks_of(post)]
    return len(searchable), len(orphans)


def _embedder(embedder: Embedder, index: Index) -> Finding:
    (vector,) = embedder.embed_queries(["проверка"])
    info, stored = embedder.info, index.embedder
    if vector.shape != (stored.dim,) or info.card != stored.card or not np.isfinite(vector).all():
        said = f"The embedder {info.card} gives {vector.shape} values, the index holds {stored.card} of {stored.dim}."
        return Finding("embedder", "fail", said, f"postfinder reindex --model {info.card} --force")
    return Finding("embedder", "ok", f"{info.card} gives the {stored.dim} values the index holds.")


def _clock(ledger: Ledger) -> Finding:
    latest = max((status.last for status in ledger.channels() if status.last is not None), default=None)
    if latest is not None and latest > datetime.now(UTC) + FUTURE:
        said = f"The newest post is of {latest:%Y-%m-%d %H:%M} UTC, which is yet to come."
        return Finding("clock and posts", "warn", said, "Set the clock: timedatectl set-ntp true")
    return Finding("clock and posts", "ok", "No post is of the future.")


def _stopped_ledger(data: Path) -> Iterator[Finding]:
    torn = unsound(data / LEDGER)
    if torn:
        said = f"The end of {', '.join(torn)} is torn, as a kill or a power cut leaves it."
        yield Finding("ledger log", "warn", said, "The next start cuts and keeps it; or: postfinder check --fix")
        return
    began = time.monotonic()
    held = contents(data / LEDGER)
    took_s = time.monotonic() - began
    posts = held.rows.get("post", 0)
    yield Finding(
        "ledger", "ok", f"Readable in {took_s:.1f} s: {posts} posts, {held.rows.get('question', 0)} questions."
    )
    if not held.is_current:
        yield Finding(
            "ledger schema", "warn", f"Its schema is {held.schema}.", "Bring it up to date: postfinder upgrade"
        )
    yield from _stopped_index(data, posts)


def _stopped_index(data: Path, posts: int) -> Iterator[Finding]:
    tables = {folder.name: rows for folder in sorted(data.glob("index*")) for rows in [tables_in(folder)]}
    rows = max((count for found in tables.values() for count in found.values()), default=0)
    if posts and not rows:
        cure = "The next start rebuilds it from the ledger (about 60 posts a second on two cores)."
        yield Finding("ledger and index", "warn", f"The index is empty or torn, the ledger holds {posts} posts.", cure)
    else:
        yield Finding("index", "ok", f"{rows} pieces of {posts} posts; compared post by post while it runs.")


def _fitting_keys(master: Path, data: Path) -> Iterator[Finding]:
    require_fit(master, data)
    yield Finding("keys open", "ok", "The master key opens the keyring, and they are this data's.")


def _tried(name: str, look: Callable[[], Iterator[Finding] | list[Finding]]) -> list[Finding]:
    try:
        return list(look())
    except PostFinderError as error:
        return [Finding(name, "fail", str(error.args[0]), error.cure)]
