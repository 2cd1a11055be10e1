"""The bot's life: introduces itself, runs intake, lanes and sender, and stops in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Any, cast

import structlog
from aiogram import Bot
from aiogram.client.default import DefaultBotProperties
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.session.middlewares.base import BaseRequestMiddleware, NextRequestMiddlewareType
from aiogram.client.telegram import PRODUCTION, TelegramAPIServer
from aiogram.exceptions import (
    AiogramError,
    TelegramBadRequest,
    TelegramNotFound,
    TelegramRetryAfter,
    TelegramUnauthorizedError,
)
from aiogram.methods import Response, TelegramMethod
from aiogram.types import LinkPreviewOptions
from aiogram.utils.token import TokenValidationError

from appliance.bot.courtesies import Courtesies
from appliance.bot.intake import backoff_s, feed, poll
from appliance.bot.lanes import Job, Lanes
from appliance.bot.menus import menus, menus_of
from appliance.bot.notices import tell
from appliance.bot.outbox import Outbox
from appliance.bot.pacing import Pace, Pacer
from appliance.bot.routers import create_dispatcher
from appliance.bot.webhook import Webhook
from appliance.bot.work import Alone, work_on
from appliance.errors import StartupError
from appliance.journal import Journal, Update
from appliance.ledger.order import Member
from appliance.verbs import Verbs

log = structlog.get_logger()

LANES_AT_ONCE = 32
PRUNE_EVERY_S = 6 * 3600
NEW_TOKEN = "Take a token from @BotFather and set TELEGRAM_BOT_TOKEN."  # noqa: S105


async def run_bot(
    verbs: Verbs,
    *,
    token: str,
    api_base: str,
    journal: Journal,
    pace: Pace | None = None,
    grace_s: float = 8.0,
    hook: Webhook | None = None,
) -> None:
    """Serve Telegram until cancelled; what is not finished then waits in the journal.

    Parameters
    ----------
    verbs : Verbs
    token : str
        The bot's.
    api_base : str
        Base URL of the Bot API server; empty takes Telegram's own.
    journal : Journal
    pace : Pace, optional
        How fast to send; a little under Telegram's limits by default.
    grace_s : float
        How long work under way may take to end at a stop.
    hook : Webhook, optional
        Takes updates in that Telegram posts; without one they are fetched.

    Raises
    ------
    StartupError
        The token is malformed or refused.
    """
    pacer = Pacer(pace or Pace())
    bot = open_bot(token, api_base, pacer)
    outbox = Outbox(bot, journal, pacer)

    async def shown(update_id: int, message_id: int | None) -> int | None:
        return await asyncio.to_thread(journal.show, (bot.id, update_id), message_id)

    courtesies = Courtesies(bot, pacer, shown)
    lanes = Lanes(LANES_AT_ONCE)
    arrived, alone = hook.arrived if hook else asyncio.Event(), Alone()

    async def dialogue_of(chat_id: int, message_id: int) -> str | None:
        return await asyncio.to_thread(journal.dialogue_of, chat_id, message_id)

    loop = asyncio.get_running_loop()
    journal.queued = lambda: cast(None, loop.call_soon_threadsafe(outbox.wake))
    dispatcher = create_dispatcher(verbs, courtesies, dialogue_of)
    wanted = dispatcher.resolve_used_update_types()

    def job(update: Update) -> Job:
        return partial(work_on, update, bot=bot, dispatcher=dispatcher, journal=journal, outbox=outbox, alone=alone)

    tasks: list[asyncio.Task[Any]] = []
    try:
        staff = [*await verbs.admission.staff(), *await verbs.admission.trusted()]
        await introduce(bot, hook, wanted, with_plans=verbs.plans.is_on, staff=staff)
        await verbs.community.know((await bot.me()).username or "")
        sender = asyncio.create_task(_keep(outbox.run))
        tasks = [
            asyncio.create_task(asyncio.Event().wait() if hook else poll(bot, journal, arrived.set, wanted)),
            asyncio.create_task(feed(journal, lanes, job, arrived)),
            asyncio.create_task(_keep(partial(_prune, journal))),
            asyncio.create_task(_keep(partial(tell, verbs, journal))),
            sender,
        ]
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        journal.queued = _nobody
        await _end(tasks[:-1])
        await lanes.close(grace_s)
        await courtesies.close()
        await outbox.close(grace_s)
        await _end(tasks[-1:])
        await bot.session.close()
        log.info("bot stopped")


class Session(AiohttpSession):
    """aiogram's session, which keeps the models of replies.

    pydantic forgets a generic model that nobody holds, and builds it anew for nearly every reply: 9 ms each.
    """

    def check_response(self, bot: Bot, method: TelegramMethod[Any], status_code: int, content: str) -> Response[Any]:
        """Read a reply; see aiogram."""
        _model_of(method.__returning__)
        return super().check_response(bot, method, status_code, content)


@cache
def _model_of(returned: Any) -> Any:
    return Response.__class_getitem__(returned)


class Obey(BaseRequestMiddleware):
    """Tells the pacer of every wait that Telegram asks for, whoever made the call.

    A call about a chat was refused for that chat. Of calls that name none, the answers to presses and the like speak of
    the bot as a whole; others (menus, updates, invoices) of nobody but themselves.

    Parameters
    ----------
    pacer : Pacer
    """

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer

    async def __call__(
        self, make_request: NextRequestMiddlewareType[Any], bot: Bot, method: TelegramMethod[Any]
    ) -> Response[Any]:
        """Make the call; see aiogram."""
        try:
            return await make_request(bot, method)
        except TelegramRetryAfter as error:
            chat_id = getattr(method, "chat_id", None)
            if isinstance(chat_id, int):
                self._pacer.block(chat_id, error.retry_after)
            elif method.__api_method__.startswith("answer"):
                self._pacer.block(None, error.retry_after)
            raise


def open_bot(token: str, api_base: str, pacer: Pacer) -> Bot:
    """Make aiogram's bot, link previews off, for Telegram's server or another; the pacer hears of its refusals.

    Raises
    ------
    StartupError
        The token is malformed.
    """
    server = TelegramAPIServer.from_base(api_base.rstrip("/")) if api_base else PRODUCTION
    try:
        session = Session(api=server)
        session.middleware(Obey(pacer))
        return Bot(
            token,
            session=session,
            default=DefaultBotProperties(link_preview=LinkPreviewOptions(is_disabled=True)),
        )
    except TokenValidationError as error:
        raise StartupError("The Telegram token is malformed.", cure=NEW_TOKEN) from error


async def introduce(
    bot: Bot,
    hook: Webhook | None = None,
    wanted: Sequence[str] = (),
    with_plans: bool = False,
    staff: Sequence[Member] = (),
) -> None:
    """Learn the bot's own name, set the webhook or leave any, set the menu of commands; patient until Telegram answers.

    Raises
    ------
    StartupError
        The token or the webhook's address is refused.
    """
    failures = 0
    while True:
        try:
            me = await bot.me()
            if hook is None:
                await bot.delete_webhook(drop_pending_updates=False)
            else:
                await bot.set_webhook(hook.url, secret_token=hook.secret, allowed_updates=list(wanted))
            break
        except TelegramBadRequest as error:
            raise StartupError(
                f"Telegram refuses the webhook: {error.message}.",
                cure="Mend POSTFINDER_TELEGRAM_WEBHOOK_URL, or leave it empty: updates are fetched then.",
            ) from error
        except (TelegramUnauthorizedError, TelegramNotFound) as error:
            raise StartupError("Telegram refuses the token.", cure=NEW_TOKEN) from error
        except AiogramError as error:
            failures += 1
            wait_s = backoff_s(failures)
            log.warning("Telegram cannot be reached", kind=type(error).__name__, wait_s=round(wait_s, 1))
            await asyncio.sleep(wait_s)
    with suppress(AiogramError):  # a nicety; set again at the next start
        for menu in menus(with_plans=with_plans):
            await bot(menu)
    for own in menus_of(staff, with_plans=with_plans):
        with suppress(AiogramError):  # who has not written to the bot has no chat with it yet
            await bot(own)
    log.info("bot running", username=me.username)


async def _keep(work: Callable[[], Awaitable[None]]) -> None:
    """Run work that can be started anew, whatever ends it."""
    failures = 0
    while True:
        try:
            await work()
            return
        except Exception as error:
            failures += 1
            log.error("background work failed; starting it again", kind=type(error).__name__, failures=failures)
            await asyncio.sleep(backoff_s(failures))


async def _prune(journal: Journal) -> None:
    while True:
        if gone := await asyncio.to_thread(journal.prune):
            log.info("journal pruned", rows=gone)
        await asyncio.sleep(PRUNE_EVERY_S)


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _nobody() -> None:
    """Nobody sends any more."""
