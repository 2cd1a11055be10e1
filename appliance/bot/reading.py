"""A channel's message as Telegram Desktop would export it: live posts and imports are read by the same rules. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiogram.types import (
    Chat,
    Message,
    MessageEntity,
    MessageOriginChannel,
    MessageOriginChat,
    MessageOriginHiddenUser,
    MessageOriginUser,
)

from appliance.schema import Channel, Post
from appliance.telegram_export import read_message

SUPERGROUP = 10**12  # the Bot API writes a channel's id as -100…


def bare_id(chat_id: int) -> int:
    """Return a channel's id as exports write it, without ``-100``."""
    return -chat_id - SUPERGROUP if chat_id < -SUPERGROUP else abs(chat_id)


def channel_of(chat: Chat) -> Channel:
    """Make a channel's record of what the Bot API says of its chat."""
    kind = "public_channel" if chat.username else "private_channel"
    title = chat.title or chat.username or str(bare_id(chat.id))
    return Channel(bare_id(chat.id), title, chat.username, kind, is_open=bool(chat.username))


def post_of(message: Message) -> tuple[Post, bool] | None:
    """Turn a channel's message into a post.

    Parameters
    ----------
    message : Message

    Returns
    -------
    (Post, bool) or None
        The post, reactions left out, and whether it has words of its own; None for a service message.
    """
    written = as_exported(message)
    if written is None:
        return None
    post = read_message(written, channel_of(message.chat))
    return None if post is None else (post, bool(written["text"]))


def as_exported(message: Message) -> dict[str, Any] | None:
    """Write a message as Telegram Desktop does.

    Parameters
    ----------
    message : Message

    Returns
    -------
    dict or None
        None for a service message.
    """
    media = _media(message)
    text = message.text or message.caption or _rich(message.rich_message)
    if media is None and not text:
        return None
    origin, replied = message.forward_origin, message.reply_to_message
    said = message.entities if message.text else message.caption_entities
    written: dict[str, Any] = {
        "id": message.message_id,
        "type": "message",
        "date_unixtime": str(_seconds(message.date)),
        "from": (message.sender_chat or message.chat).title,
        "from_id": f"channel{bare_id((message.sender_chat or message.chat).id)}",
        "text": _parts(text, said or []),
        **(media or {}),
    }
    if message.author_signature:
        written["author"] = message.author_signature
    if message.edit_date:
        written["edited_unixtime"] = str(_seconds(message.edit_date))
    if origin is not None:
        written["forwarded_from"] = _origin(origin)
    if replied is not None and replied.chat.id == message.chat.id:
        written["reply_to_message_id"] = replied.message_id
    if message.reply_markup is not None:
        written["inline_bot_buttons"] = [
            [{"type": "url", "data": key.url} for key in row if key.url] for row in message.reply_markup.inline_keyboard
        ]
    return written


def _rich(rich: Any) -> str:
    """Join the words of a rich message, a line for each block."""
    if rich is None:
        return ""

    def words(value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return "".join(words(item) for item in value)
        return words(value.get("text")) if isinstance(value, dict) else ""

    def lines(value: Any) -> list[str]:
        if isinstance(value, list):
            return [line for item in value for line in lines(item)]
        if not isinstance(value, dict):
            return []
        own = [words(value[name]) for name in ("summary", "text", "caption") if value.get(name)]
        return own + [line for name in ("blocks", "items", "cells") for line in lines(value.get(name))]

    return "\n".join(line for line in lines(rich.model_dump()["blocks"]) if line.strip())


def _seconds(moment: datetime | int) -> int:
    return int(moment.timestamp()) if isinstance(moment, datetime) else int(moment)


def _parts(text: str, entities: list[MessageEntity]) -> list[str | dict[str, str]]:
    """Cut a text at its outermost entities, whose places are in UTF-16 units."""
    units = text.encode("utf-16-le", "surrogatepass")
    parts: list[str | dict[str, str]] = []
    done = 0

    def cut(start: int, end: int) -> str:
        return units[start * 2 : end * 2].decode("utf-16-le", "replace")

    for entity in sorted(entities, key=lambda one: (one.offset, -one.length, one.type != "text_link")):
        if entity.offset < done:  # inside another one
            continue
        if entity.offset > done:
            parts.append(cut(done, entity.offset))
        done = entity.offset + entity.length
        part = {"type": "link" if entity.type == "url" else entity.type, "text": cut(entity.offset, done)}
        if entity.type == "text_link":
            part["href"] = entity.url or ""
        parts.append(part)
    if rest := cut(done, len(units) // 2):
        parts.append(rest)
    return parts


def _origin(origin: Any) -> str | None:
    if isinstance(origin, MessageOriginUser):
        return origin.sender_user.full_name
    if isinstance(origin, MessageOriginHiddenUser):
        return origin.sender_user_name
    if isinstance(origin, MessageOriginChat):
        return origin.sender_chat.title
    if isinstance(origin, MessageOriginChannel):
        return origin.chat.title
    return None


def _media(message: Message) -> dict[str, Any] | None:
    """Write what a message carries beside its text; None for nothing, or for what only the service says."""
    if message.photo or message.live_photo:
        return {"photo": "photo"}
    if message.animation:  # before the document that comes with it
        return {"media_type": "animation"}
    if message.video:
        return {"media_type": "video_file"}
    if message.video_note:
        return {"media_type": "video_message"}
    if message.voice:
        return {"media_type": "voice_message"}
    if message.sticker:
        return {"media_type": "sticker"}
    if message.audio:
        song = message.audio
        return {"media_type": "audio_file", "performer": song.performer or "", "title": song.title or ""}
    if message.document:
        return {"file": "file", "file_name": message.document.file_name or ""}
    if message.poll:
        answers = [{"text": option.text} for option in message.poll.options]
        return {"poll": {"question": message.poll.question, "answers": answers}}
    if message.checklist:
        items = [{"text": task.text} for task in message.checklist.tasks]
        return {"todo_list": {"title": message.checklist.title, "items": items}}
    if message.contact:
        person = message.contact
        names = {"first_name": person.first_name, "last_name": person.last_name or ""}
        return {"contact_information": {**names, "phone_number": person.phone_number}}
    if message.venue:
        return {"place_name": message.venue.title, "address": message.venue.address, "location_information": {}}
    if message.location:
        return {"location_information": {}}
    if message.game:
        return {"game_title": message.game.title, "game_description": message.game.description}
    if message.invoice:
        return {"invoice_information": {"title": message.invoice.title, "description": message.invoice.description}}
    if message.giveaway:
        return {"giveaway_information": {"additional_prize": message.giveaway.prize_description or ""}}
    if message.paid_media:
        return {"paid_stars_amount": message.paid_media.star_count}
    return None
