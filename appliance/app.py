"""Builds the parts, binds the verbs, runs the doors: one process, one event loop."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import orjson
import structlog
import uvicorn

from appliance import answer, feedback, ingest, members, reindex, texts
from appliance.access import Access
from appliance.admission import Admission
from appliance.alerts import Alerts
from appliance.antifraud import Antifraud
from appliance.backup import RESTORING, Backups, keep_forever
from appliance.cache import Kept, Memory
from appliance.chats import Chats
from appliance.check import check
from appliance.community import Community
from appliance.config import SERVING_FILE, Config
from appliance.crowd import Crowd
from appliance.digest import digest
from appliance.errors import PostFinderError, StartupError, StoreError
from appliance.gate import Gate
from appliance.index import Index
from appliance.journal import Journal
from appliance.ledger import Ledger
from appliance.limits import Limits
from appliance.metrics import Metrics
from appliance.notices import Notices
from appliance.numbers import numbers
from appliance.phrasing import Phrasing
from appliance.plans import Plans
from appliance.pool import Pool
from appliance.privacy import Privacy
from appliance.probes import Finding
from appliance.readers import Readers
from appliance.related import related
from appliance.repeats import Repeats
from appliance.reranking import READ, open_reranking
from appliance.schema import (
    Asker,
    ChannelStatus,
    Door,
    Filters,
    ImportProgress,
    Part,
    Post,
    PostKey,
    Question,
    QuestionRow,
    SearchResult,
)
from appliance.search import search, visible_post
from appliance.sessions import Sessions
from appliance.shelf import Pair, Shelf, Writer, folder_of, read_choice
from appliance.story import story
from appliance.talks import Talks
from appliance.telling import teller
from appliance.vault import Vault
from appliance.verbs import Verbs
from appliance.web.api import create_api
from models.errors import GeneratorDown, ModelError
from models.load import load_embedder, load_generator

if TYPE_CHECKING:
    from appliance.bot.webhook import Webhook
    from models.generate_openai import OpenAIGenerator

FIRST_EXPIRY_S = 60.0  # after the start, so that the first questions come first
EXPIRE_EVERY_S = 86_400.0
TEND_EVERY_S = 60.0
FIRST_BACKUP_S = 30.0  # after the start; then looked for once a minute
BACKUP_LOOK_EVERY_S = 60.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class App:
    """The opened parts."""

    config: Config
    verbs: Verbs
    index: Index  # in service at the start
    shelf: Shelf
    ledger: Ledger
    journal: Journal
    metrics: Callable[[], bytes]
    troubles: list[str]  # why questions cannot be answered at some door; empty when all is well


@asynccontextmanager
async def open_app(config: Config) -> AsyncIterator[App]:
    """Open stores and models, heal what needs healing, and bind the verbs.

    Parameters
    ----------
    config : Config

    Yields
    ------
    App
        Ready to answer.

    Raises
    ------
    StartupError
        The folder cannot be written, another process owns it, or the CPU cannot run the models.
    """
    make_data_dir(config.data_dir)
    async with AsyncExitStack() as stack:
        choice = read_choice(config.data_dir, config.embedder)
        load = partial(
            load_embedder,
            weights_dir=config.weights_dir,
            threads=config.threads,
            urls={config.embedder: config.embedder_url} if config.embedder_url else {},
        )
        loading = asyncio.create_task(asyncio.to_thread(load, choice.card))
        stack.push_async_callback(_settle, loading)
        vault = await asyncio.to_thread(Vault.open, config.master_key(), config.data_dir)
        stack.callback(vault.close)
        ledger = await asyncio.to_thread(Ledger.open, config.data_dir / "ledger.duckdb", vault)
        stack.callback(ledger.close)
        journal = await asyncio.to_thread(Journal.open, config.data_dir / "journal.sqlite", vault)
        stack.callback(journal.close)
        try:
            embedder = await loading
        except ModelError as error:
            raise StartupError(str(error)) from error
        folder = folder_of(config.data_dir, choice.card)
        limit = config.chunks_in_ram
        index = await asyncio.to_thread(Index.open, folder, embedder=embedder.info, hot_limit=limit, vault=vault)
        shelf = Shelf(Pair(embedder, index), config.data_dir, choice, vault)
        memory = Memory(config.remembered_answers)
        searches: Kept[SearchResult] = Kept(config.remembered_searches)

        def forget() -> None:
            memory.clear()
            searches.clear()

        shelf.forget = forget
        stack.callback(shelf.close)
        stack.push_async_callback(reindex.stop, shelf)
        await asyncio.to_thread(shelf.open_beside)

        def writer() -> Index:
            return cast(Index, Writer(shelf, shelf.now))  # as much of an index as the flows that write need

        generator = None
        if config.generator_url:
            generator = load_generator(
                config.generator_url, config.generator_model, deadline_s=config.answer_deadline_s
            )
            stack.push_async_callback(generator.aclose)
            stack.push_async_callback(_settle, asyncio.create_task(_meet(generator)))
        mended = (*ledger.notes, *await ingest.reconcile(index=writer(), ledger=ledger, embedder=embedder))
        for note in mended:
            log.warning("healed", what=note)
        troubles: list[str] = []
        metrics = Metrics(ledger, journal, troubles)

        reranking = await stack.enter_async_context(open_reranking(config))

        async def find(text: str, *, asker: Asker, filters: Filters, limit: int = 10) -> SearchResult:
            now, wide = shelf.now, max(limit, READ) if reranking else limit
            try:
                found = await search(
                    text,
                    asker=asker,
                    filters=filters,
                    limit=wide,
                    index=now.index,
                    ledger=ledger,
                    embedder=now.embedder,
                )
            except ModelError as error:
                raise StoreError(f"The embedder does not answer. {error}", cure="Try again in a minute.") from error
            return await reranking.order(found, limit) if reranking else found

        notices = Notices(ledger)
        alerts = Alerts(config, ledger, lambda: shelf.now, notices)
        ringing: set[asyncio.Task[None]] = set()
        stack.push_async_callback(_end_all, ringing)

        def ring_soon() -> None:
            task = asyncio.create_task(_ring(alerts))
            ringing.add(task)
            task.add_done_callback(ringing.discard)

        privacy = Privacy(
            config,
            ledger,
            cast(Index, shelf),
            journal,
            vault,
            removing=lambda keys: community.removed(keys),
            erasing=lambda user_id: erasing(user_id),
        )

        async def take(posts: list[Post]) -> int:
            changed = await ingest.ingest(
                posts, index=writer(), ledger=ledger, embedder=shelf.now.embedder, edited=community.edited
            )
            if changed:
                ring_soon()
            return changed

        community = Community(config, ledger, privacy, journal, notices, take)
        repeats = Repeats(ledger, find, lambda: shelf.now.embedder)

        def erasing(user_id: int) -> list[PostKey]:
            repeats.forget()
            return community.erasing(user_id)

        pool = Pool(config, ledger, cast(Index, shelf), privacy, notices, take, community.edited)

        async def catch_up() -> int:
            caught = await ingest.catch_up(index=writer(), ledger=ledger, embedder=shelf.now.embedder)
            if caught:
                ring_soon()
            return caught

        async def import_export(
            path: Path, *, username: str | None = None, dry_run: bool = False
        ) -> AsyncIterator[ImportProgress]:
            progress = ingest.import_export(
                path,
                username=username,
                dry_run=dry_run,
                index=writer(),
                ledger=ledger,
                embedder=shelf.now.embedder,
                edited=community.edited,
            )
            async with aclosing(cast(AsyncGenerator[ImportProgress], progress)) as going:
                async for part in going:
                    yield part
            ring_soon()

        # What the first question would wait for (morphology, the words' index) is loaded now.
        await find("разогрев", asker=Asker(sees_everything=True), filters=Filters())

        async def channels(asker: Asker) -> list[ChannelStatus]:
            return await asyncio.to_thread(ledger.channels, asker)

        async def post(key: PostKey, asker: Asker) -> tuple[Post, str] | None:
            return await asyncio.to_thread(visible_post, ledger, key, asker)

        async def question(question_id: str, asker: Asker) -> QuestionRow | None:
            row = await asyncio.to_thread(ledger.questions.get, question_id)
            return None if row is None or row.user_id != asker.user_id else row

        async def stats() -> dict[str, Any]:
            def counted() -> dict[str, Any]:
                return {**ledger.stats(), "repeats": repeats.figures(), "community": community.figures()}

            return await asyncio.to_thread(counted)

        async def ready() -> list[str]:
            return troubles

        limits = Limits(
            search=find,
            channels=ledger.channels,
            authors=shelf.authors,
            zone=config.zone(),
            answer_above=config.answer_above,
            kept=searches,
            version=shelf.version,
        )
        telling = partial(
            digest,
            config=config,
            pair=lambda: shelf.now,
            ledger=ledger,
            generator=generator,
            saved=metrics.saved,
        )
        asking = partial(
            answer.ask,
            config=config,
            search=limits,
            index=cast(Index, shelf),
            ledger=ledger,
            generator=generator,
            saved=metrics.saved,
            memory=memory,
            tell=telling,
        )
        backups = Backups.of(config, ledger, journal, shelf, vault)
        stack.push_async_callback(backups.close)

        async def look(fix: bool) -> list[Finding]:
            return await check(
                config=config, ledger=ledger, journal=journal, shelf=shelf, backups=backups, mended=mended, fix=fix
            )

        plans = await Plans.open(config, ledger, journal=journal, notices=notices)
        crowd = Crowd(asking, config.max_questions_at_once)

        def ask(question: Question) -> AsyncIterator[Part]:
            return plans.metered(crowd.ask(question), question.asker, question.id)

        def told(
            asker: Asker,
            filters: Filters,
            *,
            days: int | None = 7,
            door: Door = "api",
            question_id: str | None = None,
        ) -> AsyncIterator[Part]:
            parts = telling(asker, filters, days=days, door=door, question_id=question_id)
            return plans.metered(parts, asker, question_id)

        tell = teller(journal, has_bot=bool(config.bot_token()))
        admission = await asyncio.to_thread(Admission, ledger, config.admission, tell, notices, config.zone())
        antifraud = await asyncio.to_thread(Antifraud, ledger, config.antifraud, admission.ban)
        admission.pardon = antifraud.pardon
        gate = Gate(admission, antifraud)
        guarded = replace(limits, search=crowd.search(find), admit=gate.admit)
        phrasing = await asyncio.to_thread(Phrasing, ledger)
        stack.callback(texts.change, {})

        async def register(**said: Any) -> Asker:
            asker = await members.register(**said, ledger=ledger)
            if asker.user_id is not None:
                antifraud.met(asker.user_id, said["telegram_id"])
            return asker

        async def open_channel(channel_id: int, is_open: bool) -> None:
            await asyncio.to_thread(ledger.set_open, channel_id, is_open)

        verbs = Verbs(
            ask=gate.ask(ask),
            search=gate.search(crowd.search(find)),
            import_export=import_export,
            ingest=take,
            register=register,
            rate=partial(feedback.rate, ledger=ledger),
            channels=gate.channels(channels),
            post=gate.post(post),
            stats=stats,
            ready=ready,
            privacy=privacy,
            access=Access(ledger, notices),
            backups=backups,
            check=look,
            limits=guarded,
            question=question,
            digest=gate.digest(told),
            plans=plans,
            related=gate.related(partial(related, pair=lambda: shelf.now, ledger=ledger)),
            story=partial(story, limits=guarded, rarity=shelf.rarity),
            reindex=partial(reindex.reindex, shelf=shelf, ledger=ledger, load=load),
            pool=pool,
            community=community,
            catch_up=catch_up,
            repeats=repeats,
            readers=Readers(config, ledger, pool),
            alerts=alerts,
            notices=notices,
            chats=Chats(ledger),
            talks=Talks(ledger),
            guests=config.guests,
            admission=admission,
            antifraud=antifraud,
            phrasing=phrasing,
            numbers=partial(numbers, ledger=ledger, plans=plans.use),
            open_channel=open_channel,
            sessions=Sessions(config.bot_token(), config.public_url),
        )
        ring_soon()  # what a stop left over
        yield App(config, verbs, index, shelf, ledger, journal, metrics.render, troubles)


async def _meet(generator: OpenAIGenerator) -> None:
    """Learn what the model server serves, and tell; questions do not wait for it."""
    try:
        served = await generator.served()
    except GeneratorDown as down:
        log.warning("generator down", reason=down.reason, cure=down.cure, until_then="posts are quoted")
    else:
        log.info("generator found", model=served.name, context_tokens=served.context_tokens)


async def _ring(alerts: Alerts) -> None:
    try:
        await alerts.ring()
    except Exception as error:  # posts are in; what was not compared is at the next ring
        log.error("alerts not compared", kind=type(error).__name__)


async def _end_all(tasks: set[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        await _settle(task)


async def _settle(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, ModelError):
        await task


def make_data_dir(folder: Path) -> None:
    """Create the data folder, readable by its owner alone.

    Raises
    ------
    StartupError
        It cannot be created or written.
    """
    if (folder / RESTORING).exists():
        raise StartupError(
            f"A restore into {folder} was cut off.",
            cure="Run it again: postfinder restore FILE; it goes on from there.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StartupError(
            f"The data folder {folder} cannot be written ({error.strerror}).",
            cure="Set POSTFINDER_DATA_DIR to a folder of this user.",
        ) from error


@asynccontextmanager
async def open_doors(app: App, *, port: int | None = None, with_bot: bool = True) -> AsyncIterator[str]:
    """Run the web door, and the bot where a token is set, until the block ends.

    Parameters
    ----------
    app : App
    port : int, optional
        Instead of the configured one; 0 takes a free port.
    with_bot : bool
        False for a command's short life.

    Yields
    ------
    str
        Base URL of the web door.

    Raises
    ------
    StartupError
        The port is taken.
    """
    config = app.config
    token = secrets.token_urlsafe(32)
    hook = _webhook(app) if with_bot else None
    api = create_api(app.verbs, config=config, metrics=app.metrics, admin_token=token, hook=hook)
    server = uvicorn.Server(
        uvicorn.Config(
            api,
            host=config.host,
            port=config.port if port is None else port,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
            server_header=False,
        )
    )
    running = asyncio.create_task(_serve(server))
    while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    if running.done():
        raise StartupError(
            f"Port {config.port} of {config.host} is taken.", cure="Stop the other program or set POSTFINDER_PORT."
        )
    url = f"http://{_reachable(config.host)}:{server.servers[0].sockets[0].getsockname()[1]}"
    app.verbs.sessions.address = config.public_url.rstrip("/") or url
    serving = config.data_dir / SERVING_FILE
    write_private(serving, orjson.dumps({"url": url, "token": token, "pid": os.getpid()}))
    keeping = asyncio.create_task(_keep_periods(app))
    tending = asyncio.create_task(_tend(app))
    reading = asyncio.create_task(app.verbs.readers.run())
    copying = asyncio.create_task(
        keep_forever(
            app.verbs.backups,
            first_s=FIRST_BACKUP_S,
            every_s=BACKUP_LOOK_EVERY_S,
            failed=lambda why: log.error("backup failed", why=why),
        )
    )
    bot: asyncio.Task[None] | None = None
    if with_bot and config.bot_token():
        bot = asyncio.create_task(_run_bot(app, hook))
        bot.add_done_callback(partial(_report, app.troubles))
    try:
        yield url
    finally:
        serving.unlink(missing_ok=True)
        await _settle(keeping)
        await _settle(tending)
        await _settle(reading)
        await _settle(copying)
        if bot is not None:
            bot.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await bot
        server.should_exit = True
        await running


async def _keep_periods(app: App) -> None:
    """Delete once a day what is older than its retention period."""
    while True:
        await asyncio.sleep(FIRST_EXPIRY_S)
        try:
            await app.verbs.privacy.expire()
            await app.verbs.admission.end_bans()
        except PostFinderError as error:
            log.error("retention failed", error=str(error))
        await asyncio.sleep(EXPIRE_EVERY_S)


async def _tend(app: App) -> None:
    """Index what an embedder that was away left over, once a minute; look for frequent questions once a day."""
    looked_at = 0.0
    while True:
        await asyncio.sleep(TEND_EVERY_S)
        try:
            if caught := await app.verbs.catch_up():
                log.info("caught up", posts=caught)
            if monotonic() - looked_at > EXPIRE_EVERY_S or not looked_at:
                looked_at = monotonic()
                await app.verbs.community.mine()
        except (PostFinderError, ModelError) as error:
            log.warning("tending failed; trying again", kind=type(error).__name__)


def _webhook(app: App) -> Webhook | None:
    """Make the intake of a webhook where one is set.

    Raises
    ------
    StartupError
        It has no secret, or no HTTPS address.
    """
    config, token = app.config, app.config.bot_token()
    if not token or not config.telegram_webhook_url:
        return None
    from appliance.bot.webhook import Webhook

    secret = config.telegram_webhook_secret.get_secret_value()
    return Webhook.of(config.telegram_webhook_url, secret, token=token, journal=app.journal)


async def _run_bot(app: App, hook: Webhook | None) -> None:
    from appliance.bot import run_bot  # aiogram's types take seconds to import: the page opens first

    token = app.config.bot_token()
    await run_bot(app.verbs, token=token, api_base=app.config.telegram_api, journal=app.journal, hook=hook)


async def _serve(server: uvicorn.Server) -> None:
    with suppress(SystemExit):  # uvicorn's word for a port that is taken
        await server._serve()


def _report(troubles: list[str], task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        reason = str(error) if isinstance(error, PostFinderError) else type(error).__name__
        troubles.append(f"The bot stopped: {reason}")
        log.error("bot stopped", reason=reason)


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in {"", "0.0.0.0", "::"} else host  # noqa: S104


def write_private(path: Path, data: bytes) -> None:
    """Write a file that its owner alone may read, whole or not at all."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    draft.replace(path)
