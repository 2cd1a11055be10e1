"""Handlers of the numbers, for those who keep order: words through the outbox, a picture straight, where it can."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiogram import Bot, F, Router
from aiogram.exceptions import AiogramError, TelegramRetryAfter
from aiogram.filters import Command
from aiogram.types import BufferedInputFile, CallbackQuery, Message
from aiogram.utils.formatting import Bold, Text

from appliance.bot.courtesies import Courtesies
from appliance.bot.order import Keeps
from appliance.bot.outgoing import messages_for
from appliance.bot.render import inert
from appliance.bot.who import Calls, language_of, toast
from appliance.pictures import Chart, png
from appliance.schema import Language
from appliance.texts import say
from appliance.verbs import Verbs

log = structlog.get_logger()

TRIES, LONGEST_WAIT_S = 3, 10.0


def figures_router() -> Router:
    """Build the handlers; in private chats alone."""
    router = Router(name="figures")
    router.message.register(stats, Command("stats", ignore_case=True), F.chat.type == "private", Keeps())
    router.callback_query.register(shown, F.data == "o:show:numbers", Keeps())
    return router


async def stats(message: Message, bot: Bot, verbs: Verbs) -> Calls:
    """Say the numbers of the last weeks, with a picture."""
    return await told(message, language_of(message.from_user), bot, verbs)


async def shown(query: CallbackQuery, bot: Bot, verbs: Verbs, courtesies: Courtesies) -> Calls:
    """Do the same at a button."""
    toast(query, courtesies, None)
    if not isinstance(query.message, Message) or query.message.chat.type != "private":
        return []
    return await told(query.message, language_of(query.from_user), bot, verbs)


async def told(message: Message, language: Language, bot: Bot, verbs: Verbs) -> Calls:
    """Send the picture, and return the words."""
    numbers = await verbs.numbers()
    picture = await asyncio.to_thread(png, chart_of(numbers, language))
    await _sent(bot, message.chat.id, picture)
    return messages_for(message, [words_of(numbers, language)])


async def _sent(bot: Bot, chat_id: int, picture: bytes) -> None:
    """Send a picture; it never lies in the outbox, so it may be lost: the words after it are not."""
    for _ in range(TRIES):
        try:
            await bot.send_photo(chat_id, BufferedInputFile(picture, "postfinder.png"), request_timeout=20)
            return
        except TelegramRetryAfter as error:
            await asyncio.sleep(min(error.retry_after, LONGEST_WAIT_S))
        except AiogramError as error:
            log.info("picture not sent", kind=type(error).__name__)
            await asyncio.sleep(0.5)


def chart_of(numbers: dict[str, Any], language: Language) -> Chart:
    """Return what the picture shows."""
    days = numbers["by_day"]
    return Chart(
        title=say("stats_title", language, days=numbers["days"]),
        figures=[
            (number(numbers["people"]), say("stats_people", language)),
            (number(numbers["questions"]), say("stats_questions", language)),
            (percent(numbers["answered_share"]), say("stats_answered", language)),
            (percent(numbers["satisfaction"]), say("stats_satisfied", language)),
        ],
        labels=[f"{day['day'][8:]}.{day['day'][5:7]}" for day in days],
        pale=(say("stats_questions", language), [day["questions"] for day in days]),
        full=(say("stats_answered", language), [day["answered"] for day in days]),
    )


def words_of(numbers: dict[str, Any], language: Language) -> Text:
    """Say the numbers: who, what, how fast, what comes again, what is missing."""
    lines = [
        say(
            "stats_words",
            language,
            dau=number(numbers["dau"]),
            people=number(numbers["people"]),
            newcomers=number(numbers["newcomers"]),
            questions=number(numbers["questions"]),
            answered=percent(numbers["answered_share"]),
            satisfied=percent(numbers["satisfaction"]),
            repeats=percent(numbers["repeats"]),
            churn=percent(numbers["churn"]),
        ),
        say("stats_score", language, score=mean(numbers["score"], language), people=number(numbers["scored"])),
    ]
    for stage, wait in numbers["waits_ms"].items():
        lines.append(say(f"stats_wait_{stage}", language, p50=round(wait["p50"]), p95=round(wait["p95"])))
    parts: list[str | Text] = [Bold(say("stats_title", language, days=numbers["days"])), "\n", "\n".join(lines)]
    if numbers["plans"]:
        listed = "\n".join(f"• {plan_words(one, language)}" for one in numbers["plans"])
        parts += ["\n\n", Bold(say("stats_plans", language)), "\n", inert(listed)]
    for key, rows in (("topics", numbers["topics"]), ("gaps", numbers["gaps"])):
        if rows:
            listed = "\n".join(f"• {row['title' if key == 'topics' else 'words']} — {row['people']}" for row in rows)
            parts += ["\n\n", Bold(say(f"stats_{key}", language)), "\n", inert(listed)]
    return Text(*parts, "\n\n", say("stats_few", language))


def plan_words(one: dict[str, Any], language: Language) -> str:
    """Say how a plan is used: by how many, today and this month of what they may ask, and who asked all of it."""
    name = one["plan"] if one["type_id"] else say("stats_free", language)
    words = [say("stats_plan", language, name=name, people=number(one["people"]))]
    for period in ("day", "month"):
        if (used := one[period]) is not None:
            values = {"asked": number(used["asked"]), "allowed": number(used["allowed"])}
            spent = "< 3" if used["at_limit"] is None else percent(used["at_limit"])
            words.append(say(f"stats_plan_{period}", language, spent=spent, **values))
    return "; ".join(words)


def mean(value: float | None, language: Language) -> str:
    """Return a mean score as people write it: "4.3", "4,3"."""
    if value is None:
        return "—"
    return f"{value:.1f}".replace(".", "," if language == "ru" else ".")


def number(value: int | None) -> str:
    """Return a count; one that is left out as "< 3"."""
    return "< 3" if value is None else f"{value:,}".replace(",", "\u00a0")


def percent(value: float | None) -> str:
    """Return a share as people write it."""
    return "—" if value is None else f"{round(value * 100)}\u00a0%"
