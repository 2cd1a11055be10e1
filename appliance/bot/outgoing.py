"""Calls of the Bot API as rows of the outbox, written and read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiogram.methods
from aiogram.client.default import Default
from aiogram.methods import SendMessage, TelegramMethod
from aiogram.types import InlineKeyboardMarkup, Message, ReplyParameters
from aiogram.utils.formatting import Text

from appliance.journal import Outgoing, Priority

NO_CHAT = 0  # in the outbox's column, for a call that belongs to no chat


def outgoing(
    method: TelegramMethod[Any],
    *,
    dialogue_id: str | None = None,
    question_id: str | None = None,
    once: str | None = None,
    priority: Priority = "final",
) -> Outgoing:
    """Write a call down; the bot's defaults are left to the time of sending.

    Parameters
    ----------
    method : TelegramMethod
    dialogue_id : str, optional
        The dialogue that a reply to the sent message continues.
    question_id : str, optional
        The question it answers.
    once : str, optional
        Its name, where it must never be queued twice.
    priority : {'final', 'draft'}
        ``draft`` for what may wait behind answers, such as an edit of buttons.

    Returns
    -------
    Outgoing
    """
    chat_id = getattr(method, "chat_id", None)
    return Outgoing(
        chat_id=chat_id if isinstance(chat_id, int) else NO_CHAT,
        method=method.__api_method__,
        payload=_plain(method.model_dump(exclude_none=True, warnings=False)),
        priority=priority,
        dialogue_id=dialogue_id,
        question_id=question_id,
        once=once,
    )


def call_of(method: str, payload: dict[str, Any]) -> TelegramMethod[Any]:
    """Read a call back from its row.

    Parameters
    ----------
    method : str
        Bot API method.
    payload : dict

    Returns
    -------
    TelegramMethod

    Raises
    ------
    ValueError
        The method is unknown to this version, or the payload does not fit it.
    """
    kind = getattr(aiogram.methods, method[:1].upper() + method[1:], None)
    if not (isinstance(kind, type) and issubclass(kind, TelegramMethod)) or kind is TelegramMethod:
        raise ValueError(f"no method {method}")
    return kind.model_validate(payload)


def messages_for(
    message: Message,
    texts: Sequence[Text],
    *,
    markup: InlineKeyboardMarkup | None = None,
    dialogue_id: str | None = None,
    question_id: str | None = None,
) -> list[Outgoing]:
    """Address texts to where a message came from: its chat and topic, in groups as a reply to it.

    Parameters
    ----------
    message : Message
    texts : sequence of Text
    markup : InlineKeyboardMarkup, optional
        Buttons under the last one.
    dialogue_id : str, optional
    question_id : str, optional
        The question they answer.

    Returns
    -------
    list of Outgoing
    """
    is_private = message.chat.type == "private"
    reply = None if is_private else ReplyParameters(message_id=message.message_id, allow_sending_without_reply=True)
    calls = []
    for place, content in enumerate(texts):
        text, entities = content.render()
        call = SendMessage(
            chat_id=message.chat.id,
            message_thread_id=message.message_thread_id if message.is_topic_message else None,
            text=text,
            entities=entities or None,
            reply_parameters=reply if place == 0 else None,
            reply_markup=markup if place == len(texts) - 1 else None,
        )
        calls.append(outgoing(call, dialogue_id=dialogue_id, question_id=question_id))
    return calls


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not isinstance(item, Default)}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
