"""Try the bot by hand: ``python -m tests.servers.chat`` starts the loopback Bot API server, the appliance with its bot,
and a chat in this terminal.

The appliance uses the usual settings (``POSTFINDER_DATA_DIR`` and so on); an empty index gets the sample channel.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from tests.servers.botapi import DEFAULT_TOKEN, BotApi
from tests.servers.botapi_text import cut, utf16

YOU, GROUP = 501, -1001500000777
LINK, QUOTE = "underline blue", "dim"
STYLES = {
    "bold": "bold", "italic": "italic", "code": "cyan", "pre": "cyan",
    "blockquote": QUOTE, "expandable_blockquote": QUOTE,
    "text_link": LINK, "url": LINK, "mention": LINK, "bot_command": LINK, "hashtag": LINK,
}  # fmt: skip
HELP = """[dim]Write as you would in Telegram. Besides:
  !1            press button 1 of the last message with buttons
  >12 words     reply to message 12
  =12 words     edit your message 12
  !group !me    go to the group, go back to the private chat
  !ru !en       your language
  !quit         stop[/]"""


def shown(message: dict[str, Any], bot_id: int) -> Panel:
    """Draw a message: its text with links, its buttons numbered."""
    text = Text(message.get("text") or "…")
    plain = text.plain
    for entity in message.get("entities", []):
        start = len(cut(plain, 0, entity["offset"]))
        end = len(cut(plain, 0, entity["offset"] + entity["length"]))
        style = STYLES.get(entity["type"], "")
        text.stylize(f"{style} link {entity['url']}" if "url" in entity else style, start, end)
    rows = message.get("reply_markup", {}).get("inline_keyboard", [])
    keys = [key["text"] for row in rows for key in row]
    pressed = Text("   ".join(f"[{number}] {key}" for number, key in enumerate(keys, 1)), style="bold yellow")
    is_bot = message["from"]["id"] == bot_id
    replied = message.get("reply_to_message")
    title = f"{message['from']['first_name']} · {message['message_id']}" + (
        f" · to {replied['message_id']}" if replied else ""
    )
    return Panel(
        Group(text, pressed) if keys else text,
        title=title,
        title_align="left" if is_bot else "right",
        border_style="green" if is_bot else "white",
        width=min(100, max(30, utf16(plain) + 6)),
    )


def act(server: BotApi, line: str, chat: int) -> int | None:
    """Do what a line of input says; return the chat to be in, or None to stop.

    Raises
    ------
    LookupError, ValueError
        There is no such message or button.
    """
    line = line.strip()
    if line == "!quit":
        return None
    if line in {"!group", "!me"}:
        return GROUP if line == "!group" else YOU
    if line in {"!ru", "!en"}:
        server.users[YOU]["language_code"] = line[1:]
    elif line.startswith("!"):
        with_buttons = [message for message in server.from_bot(chat) if message.get("reply_markup")]
        keys = [key for row in with_buttons[-1]["reply_markup"]["inline_keyboard"] for key in row]
        number = int(line[1:])
        if not 1 <= number <= len(keys):
            raise LookupError(f"there is no button {number}")
        server.press(YOU, with_buttons[-1]["message_id"], keys[number - 1]["callback_data"], chat_id=chat)
    elif marked := re.match(r"([>=])(\d+)\s+(.+)", line):
        kind, number, words = marked[1], int(marked[2]), marked[3]
        if kind == ">":
            server.say(YOU, words, chat_id=chat, reply_to=number)
        else:
            server.edit(YOU, number, words, chat_id=chat)
    elif line:
        server.say(YOU, line, chat_id=chat)
    return chat


async def show(server: BotApi, console: Console) -> None:
    """Print what is new or changed in the chats, for ever."""
    printed: dict[tuple[int, int], str] = {}
    toasts: set[str] = set()
    while True:
        for chat_id in (YOU, GROUP):
            for message in server.seen(chat_id):
                key = (chat_id, message["message_id"])
                state = repr((message.get("text"), message.get("reply_markup")))
                if printed.get(key) != state:
                    printed[key] = state
                    console.print(shown(message, server.me["id"]))
        for query_id, answer in list(server.callback_answers.items()):
            if query_id not in toasts and answer.get("text"):
                console.print(f"({answer['text']})", style="yellow", markup=False)
            toasts.add(query_id)
        with suppress(TimeoutError):
            await asyncio.wait_for(server._changed.wait(), 1)


async def main() -> int:
    """Run until ``!quit``, the end of input or the appliance's end."""
    console = Console(highlight=False)
    async with BotApi() as server:
        server.add_user(YOU, os.environ.get("USER") or "Вы")
        server.add_group(GROUP, "Соседи")
        log = Path(tempfile.gettempdir()) / "postfinder-chat.log"
        env = {
            **os.environ,
            "TELEGRAM_BOT_TOKEN": DEFAULT_TOKEN,
            "POSTFINDER_TELEGRAM_API": server.url,
            "POSTFINDER_PORT": "0",
        }
        with log.open("wb") as file:
            appliance = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "appliance.cli", "serve", "--demo", env=env, stdout=file, stderr=file
            )
        console.print(f"The appliance is starting; its log is {log}.")
        ended = asyncio.create_task(appliance.wait())
        ready = asyncio.create_task(server.until(lambda: server.commands and "is open" in log.read_text("utf-8"), 600))
        await asyncio.wait([ended, ready], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            console.print(f"The appliance ended:\n{log.read_text('utf-8', 'replace')[-2000:]}", markup=False)
            ready.cancel()
            return 1
        console.print(HELP)
        showing = asyncio.create_task(show(server, console))
        server.say(YOU, "/start")
        chat: int | None = YOU
        while chat is not None and not ended.done():
            try:
                line = await asyncio.to_thread(input)
            except (EOFError, KeyboardInterrupt):
                break
            try:
                chat = act(server, line, chat)
            except (LookupError, ValueError) as error:
                console.print(str(error), style="red", markup=False)
        with suppress(TimeoutError):  # answers on their way
            await server.until(lambda: not server.pending(), 2)
        if not ended.done():
            appliance.terminate()
        await ended
        showing.cancel()
    return 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main()))
