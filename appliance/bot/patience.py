"""Calls that cannot wait in the outbox: made again while Telegram is busy or away, until time is up."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import structlog
from aiogram import Bot
from aiogram.exceptions import (
    AiogramError,
    ClientDecodeError,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
)
from aiogram.methods import TelegramMethod

log = structlog.get_logger()

T = TypeVar("T")
TRY_S = 3.0  # one try
ASKED_S = 8.0  # how long a handler goes on asking Telegram something, such as who is an administrator


async def patiently(
    bot: Bot,
    call: TelegramMethod[T],
    within_s: float,
    *,
    try_s: float = TRY_S,
) -> T | None:
    """Make a call that cannot wait in the outbox, again while Telegram is busy or away; None when time is up.

    Parameters
    ----------
    bot : Bot
    call : TelegramMethod
        Harmless when made twice.
    within_s : float
    try_s : float, optional
        The longest that one try may take.

    Returns
    -------
    object or None
        The result; None too when Telegram refuses for good.
    """
    loop = asyncio.get_running_loop()
    ends, wait_s = loop.time() + within_s, 0.1
    while (left := ends - loop.time()) > 0:
        try:
            return await bot(call, request_timeout=max(1, round(min(left, try_s))))
        except TelegramRetryAfter as error:
            pause = float(error.retry_after)
        except (TelegramServerError, TelegramNetworkError, ClientDecodeError):
            pause, wait_s = wait_s, wait_s * 2
        except AiogramError as error:
            log.info("call refused", method=call.__api_method__, kind=type(error).__name__)
            return None
        if loop.time() + pause >= ends:
            return None
        await asyncio.sleep(pause)
    return None
