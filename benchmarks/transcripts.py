"""Make the pictures of the bot's page: real conversations over the loopback Bot API, drawn as a phone shows them.

Run as ``python -m benchmarks.transcripts`` in the project's folder; names of scenes make theirs alone.
"""

from __future__ import annotations

import asyncio
import base64
import html
import itertools
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from appliance import community, sample
from appliance.app import App, open_app
from appliance.bot import run_bot
from appliance.bot.pacing import Pace
from appliance.config import Config
from appliance.journal import Journal
from appliance.logs import configure_logs
from appliance.schema import Channel, Post
from appliance.telling import teller
from appliance.texts import say
from benchmarks.screenshots import FOLDER, MAX_BYTES, furnish, packed
from tests.servers.botapi import DEFAULT_TOKEN, BotApi
from tests.servers.botapi_limits import Limits
from tests.servers.botapi_text import cut
from tests.servers.browser import Page, open_page

ANNA, BORIS, GLEB = 501, 502, 503
MARIA, MIKHAIL = 504, 505  # a trusted member, a moderator
OLGA = 7_000_000  # the owner of the furnished community
NAMES = {  # and usernames
    ANNA: ("Анна", "anna"), BORIS: ("Борис", "boris"), GLEB: ("Глеб", "gleb"), MARIA: ("Мария Ковалёва", "maria"),
    MIKHAIL: ("Михаил", "misha"), OLGA: ("Ольга", "olga"),
}  # fmt: skip
GROUP = -1001500000777
NEWS = Channel(id=1777000003, title="Новости двора", username="novosti_dvora")
WIDTH = 390
TAGS = {"bold": "b", "italic": "i", "underline": "u", "strikethrough": "s", "code": "code", "pre": "pre"}
LINKS = {"url", "mention", "hashtag", "bot_command", "email"}
STYLE = Path(__file__).with_suffix(".css")
THUMB = "M1 7h3v7H1zM5 7l3-6c1.6 0 2.1 1.1 1.7 2.6L9 6h4.4c1 0 1.5.9 1.3 1.9l-1.3 5c-.2.7-.7 1.1-1.4 1.1H5z"
BELL = "M8 1c3 0 4.4 2.3 4.4 5v3l1.6 3H2l1.6-3V6C3.6 3.3 5 1 8 1zM6.3 13h3.4c0 1-.7 1.7-1.7 1.7s-1.7-.7-1.7-1.7z"
STAR = "M8 .8 10.2 5.4 15.2 6.1 11.6 9.6 12.5 14.6 8 12.2 3.5 14.6 4.4 9.6.8 6.1 5.8 5.4z"
SIGNS = {
    "👍": f'<path fill="#f4c13d" d="{THUMB}"/>',
    "👎": f'<path fill="#f4c13d" transform="rotate(180 8 8)" d="{THUMB}"/>',
    "🔎": '<circle cx="6.5" cy="6.5" r="4.5" fill="#bfe3fa" stroke="#456" stroke-width="1.6"/>'
    '<path d="M10 10l5 5" stroke="#456" stroke-width="2.2"/>',
    "📁": '<path fill="#f4c13d" d="M1 3h5l1.5 2H15v9H1z"/>',
    "📅": '<path fill="#fff" d="M1 3h14v12H1z"/><path fill="#e0533d" d="M1 2h14v4H1z"/>',
    "🖼": '<path fill="#b98a4d" d="M1 2h14v12H1z"/><path fill="#bfe3fa" d="M3 4h10v8H3z"/>'
    '<path fill="#5b9a55" d="M3 12l4-5 3 3 1-1 2 3z"/>',
    "🔗": '<g fill="none" stroke="#d7e3ea" stroke-width="1.8"><rect x="1" y="6" width="8" height="4.4" rx="2.2"/>'
    '<rect x="7" y="6" width="8" height="4.4" rx="2.2"/></g>',
    "🔔": f'<path fill="#f4c13d" d="{BELL}"/>',
    "🔕": f'<path fill="#f4c13d" d="{BELL}"/><path d="M2 2l12 12" stroke="#c33" stroke-width="1.8"/>',
    "🕒": '<circle cx="8" cy="8" r="6.5" fill="#fff" stroke="#456" stroke-width="1.6"/>'
    '<path d="M8 4v4h4" fill="none" stroke="#456" stroke-width="1.6"/>',
    "⭐": f'<path fill="#f4c13d" d="{STAR}"/>',
    "📣": '<path fill="#e0533d" d="M2 6l9-4v12L2 10zM12 6c2 .5 2 3.5 0 4z"/>',
    "👁": '<path fill="#fff" stroke="#456" d="M1 8c4-6 10-6 14 0-4 6-10 6-14 0z"/>'
    '<circle cx="8" cy="8" r="2.5" fill="#456"/>',
}
log = structlog.get_logger()


@dataclass(slots=True)
class Talk:
    """A conversation under way: the server, the appliance, and what is done in it.

    Attributes
    ----------
    chat : int
        The chat in which people write now.
    me : int
        Who sees it.
    pages : dict
        What was drawn, by the picture's name; empty for one picture of what is there at the end.
    """

    server: BotApi
    app: App
    journal: Journal
    chat: int = ANNA
    me: int = ANNA
    pages: dict[str, str] = field(default_factory=dict)

    def turn_to(self, who: int) -> None:
        """Go on in somebody's private chat, as they see it."""
        self.chat = self.me = who

    def draw(self, name: str) -> None:
        """Draw what the chat shows now."""
        self.pages[name] = page_of(self)

    async def member(self, who: int, role: str = "") -> None:
        """Let somebody be known, with a role."""
        name, username = NAMES[who]
        await self.app.verbs.register(
            telegram_id=who, username=username, first_name=name, last_name=None, language="ru"
        )
        if role:
            await self.app.verbs.access.set_role(f"telegram:{who}", role)

    async def told(self, count: int) -> dict[str, Any]:
        """Wait until the bot has said so many messages in the chat; return the last."""
        await self.server.until(lambda: len(self.server.from_bot(self.chat)) >= count, 60)
        await self.quiet()
        return self.server.from_bot(self.chat)[-1]

    async def say(self, who: int, text: str, **more: Any) -> dict[str, Any]:
        """Let a person write and return what the bot says next in the chat."""
        before = len(self.server.from_bot(self.chat))
        self.server.say(who, text, chat_id=self.chat, **more)
        await self.server.until(lambda: len(self.server.from_bot(self.chat)) > before, 60)
        await self.quiet()
        return self.server.from_bot(self.chat)[before]

    async def press(self, who: int, message: dict[str, Any], button: str) -> None:
        """Let a person press the button whose text begins so."""
        keys = [key for row in message["reply_markup"]["inline_keyboard"] for key in row]
        named = next(key["text"] for key in keys if key["text"].startswith(button))
        self.server.press(who, message["message_id"], named, chat_id=self.chat)
        await asyncio.sleep(0.3)
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until all is worked on and sent."""

        def is_quiet() -> bool:
            counts = self.journal.counts()
            waits = ("inbox_pending", "outbox_queued", "outbox_sending")
            return not self.server.pending() and not any(counts[name] for name in waits)

        await self.server.until(is_quiet, 60)


async def answer(talk: Talk) -> None:
    """Ask, ask on, and say why the answer was not good."""
    await talk.say(ANNA, "Чем покрыть разделочную доску?")
    told = await talk.say(ANNA, "А как часто обновлять?")
    await talk.press(ANNA, told, "👎")


async def search(talk: Talk) -> None:
    """Look through the posts themselves, in pages."""
    await talk.say(ANNA, "/search полив грядок")


async def alert(talk: Talk) -> None:
    """Make an alert; a post comes in; it is told."""
    await talk.say(ANNA, "/alert отключение воды")
    before = len(talk.server.from_bot(ANNA))
    news = "В четверг с 10 до 16 отключат горячую и холодную воду: меняют стояк. Запаситесь заранее."
    await talk.app.verbs.ingest([Post(NEWS.id, 118, datetime.now(UTC), news)])
    await talk.server.until(lambda: len(talk.server.from_bot(ANNA)) > before, 60)
    await talk.say(ANNA, "/quiet 23-8")


async def group(talk: Talk) -> None:
    """Ask in a group: once so that all see the answer, once so that the asker alone does."""
    talk.chat = GROUP
    await talk.say(BORIS, "@postfinder_bot куда сдать старые батарейки?")
    talk.server.modes.whisper(ANNA, "/whisper Чем покрыть разделочную доску?", GROUP)
    await talk.server.until(lambda: talk.server.modes.whispered(ANNA, GROUP), 60)
    await talk.quiet()


async def modes(talk: Talk) -> None:
    """Choose how the bot answers in a topic."""
    talk.chat = GROUP
    shown = await talk.say(ANNA, "/mode", topic=7)
    await talk.press(ANNA, shown, f"{say('mode_auto', 'ru')} ≥ 75")


async def plan(talk: Talk) -> None:
    """Look at one's plan, buy another with Stars, look again."""
    await talk.app.verbs.plans.save_plan("Мастер", stars=250, per_day=200, per_month=None)
    shown = await talk.say(ANNA, "/plan")
    await talk.press(ANNA, shown, say("plan_buy", "ru", name="Мастер", stars=250))
    link = talk.server.from_bot(ANNA)[-1]["reply_markup"]["inline_keyboard"][0][0]["url"]
    query = talk.server.stars.begin(ANNA, link)
    await talk.server.until(lambda: query in talk.server.stars.verdicts, 60)
    talk.server.stars.pay(ANNA, link)
    await talk.told(3)
    await talk.say(ANNA, "/plan")


async def unanswered(talk: Talk) -> None:
    """Ask what no post says; a trusted member replies; who asked is told, who asks next is answered."""
    question = "Сколько стоит прокат лодки?"
    await talk.member(MARIA, "trusted")
    await talk.say(ANNA, question)
    talk.turn_to(BORIS)
    await talk.say(BORIS, question)
    talk.turn_to(MARIA)
    await talk.say(MARIA, "/unanswered")
    waits = await talk.told(2)
    words = "Триста рублей в час. Лодки у Ильи на причале, звоните ему после шести."
    await talk.say(MARIA, words, reply_to=waits["message_id"])
    talk.draw("bot-unanswered")
    talk.turn_to(ANNA)
    await talk.told(2)
    talk.draw("bot-reply")
    talk.turn_to(GLEB)
    await talk.say(GLEB, question)
    talk.draw("bot-next-asker")


async def correction(talk: Talk) -> None:
    """Get an answer; its post is edited; hear of it and ask again."""
    community.SETTLE_S = 0.0  # authors often edit twice; here nobody does
    now = datetime.now(UTC)
    post = Post(NEWS.id, 130, now, "Пропуск на парковку во дворе выдают по вторникам с 18 до 20 часов в правлении.")
    await talk.app.verbs.ingest([post])
    await talk.say(ANNA, "Когда выдают пропуск на парковку?")
    text = "Пропуск на парковку во дворе выдают по четвергам с 19 до 21 часа в правлении."
    await talk.app.verbs.ingest([replace(post, text=text, edited_at=datetime.now(UTC))])
    told = await talk.told(2)
    await talk.press(ANNA, told, say("ask_again", "ru"))
    await talk.told(4)


async def ban(talk: Talk) -> None:
    """Be banned, appeal, be answered; and what the moderator sees."""
    await talk.member(MIKHAIL, "moderator")
    await talk.member(BORIS)
    talk.turn_to(BORIS)
    await talk.say(BORIS, "/quiet 23-8")
    talk.turn_to(MIKHAIL)
    await talk.say(MIKHAIL, "/ban @boris 3 дня реклама в чате")
    talk.turn_to(BORIS)
    banned = await talk.told(2)
    await talk.say(BORIS, "Чем покрыть разделочную доску?")
    await talk.press(BORIS, banned, say("appeal", "ru"))
    talk.turn_to(MIKHAIL)
    appeal = await talk.told(2)
    talk.draw("bot-appeal")
    await talk.press(MIKHAIL, appeal, say("appeal_lift", "ru"))
    talk.turn_to(BORIS)
    await talk.told(4)
    talk.draw("bot-ban")


async def stats(talk: Talk) -> None:
    """Read the numbers, as the owner."""
    await furnish(talk.app)
    talk.turn_to(OLGA)
    await talk.say(OLGA, "/stats")
    await talk.told(2)


SCENES: dict[str, Callable[[Talk], Awaitable[None]]] = {
    "bot-answer": answer, "bot-search": search, "bot-alert": alert, "bot-group": group, "bot-modes": modes,
    "bot-plan": plan, "bot-unanswered": unanswered, "bot-correction": correction, "bot-ban": ban, "bot-stats": stats,
}  # fmt: skip


def drawn(text: str, entities: list[dict[str, Any]]) -> str:
    """Return a message's text as HTML, its entities nested as Telegram nests them.

    Parameters
    ----------
    text : str
    entities : list of dict
        With offsets in UTF-16 units.

    Returns
    -------
    str
    """
    opens: dict[int, list[str]] = {}
    closes: dict[int, list[str]] = {}
    for entity in sorted(entities, key=lambda one: (one["offset"], -one["length"])):
        start, end, kind = entity["offset"], entity["offset"] + entity["length"], entity["type"]
        if kind in {"blockquote", "expandable_blockquote"}:
            tag, head = "blockquote", "<blockquote>"
        elif kind == "text_link":
            tag, head = "a", f'<a href="{html.escape(entity["url"])}">'
        elif kind in TAGS:
            tag, head = TAGS[kind], f"<{TAGS[kind]}>"
        elif kind in LINKS:
            tag, head = "span", '<span class="l">'
        else:
            continue
        opens.setdefault(start, []).append(head)
        closes.setdefault(end, []).insert(0, f"</{tag}>")
    size = len(text.encode("utf-16-le")) // 2
    places = sorted({0, size, *opens, *closes})
    out = "".join(closes.get(0, [])) + "".join(opens.get(0, []))
    for start, end in itertools.pairwise(places):
        out += html.escape(cut(text, start, end - start), quote=False)
        out += "".join(closes.get(end, [])) + "".join(opens.get(end, []))
    return out


def with_signs(page: str) -> str:
    """Draw the emoji that the bot uses: a machine that makes pictures may have no font for them."""
    for sign, shapes in SIGNS.items():
        page = page.replace(sign, f'<svg class="e" viewBox="0 0 16 16">{shapes}</svg>')
    return page


def bubble(message: dict[str, Any], me: int, bot_id: int, *, is_group: bool, picture: bytes = b"") -> str:
    """Return a message as HTML: its author in a group, what it replies to, its picture, its text and its buttons."""
    if (payment := message.get("successful_payment")) is not None:
        return f'<div class="s">Вы перевели {payment["total_amount"]} ⭐ боту PostFinder</div>'
    sender = message["from"]
    is_mine = sender["id"] == me
    who = f'<div class="who">{html.escape(sender["first_name"])}</div>' if is_group and not is_mine else ""
    replied = message.get("reply_to_message")
    quoted = f'<div class="re">{html.escape(replied.get("text", ""))}</div>' if replied else ""
    eye = '<div class="eye">👁 видите только вы</div>' if "ephemeral_message_id" in message else ""
    when = f"{datetime.fromtimestamp(message['date'], UTC):%H:%M}"
    ticks = " ✓✓" if is_mine and sender["id"] != bot_id else ""
    body = drawn(message.get("text", ""), message.get("entities", []))
    if picture:
        body = f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
    keys = ""
    for row in message.get("reply_markup", {}).get("inline_keyboard", []):
        names = "".join(f"<span>{html.escape(key['text'])}</span>" for key in row)
        keys += f'<div class="k">{names}</div>'
    return (
        f'<div class="m{" me" if is_mine else ""}">{eye}<div class="t">{who}{quoted}{body}'
        f"<small>{when}{ticks}</small></div>{keys}</div>"
    )


def page_of(talk: Talk) -> str:
    """Return a chat as a page of a phone, as one person sees it."""
    server, is_group, bot_id = talk.server, talk.chat == GROUP, talk.server.me["id"]
    messages = [*server.seen(talk.chat), *(server.modes.whispered(talk.me, talk.chat) if is_group else [])]
    title = server.chats[talk.chat]["title"] if is_group else "PostFinder"
    under = "группа" if is_group else "бот"
    rows = ""
    for message in messages:
        picture = server.pictures.get((talk.chat, message["message_id"]), b"")
        rows += bubble(message, talk.me, bot_id, is_group=is_group, picture=picture)
    style = STYLE.read_text("utf-8")
    return (
        '<!doctype html><html lang="ru"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<style>{style}</style><header><i>{title[:1]}</i>"
        f"<div><b>{html.escape(title)}</b><small>{under}</small></div></header>{with_signs(rows)}</html>"
    )


@asynccontextmanager
async def talking(app: App, folder: Path) -> AsyncIterator[Talk]:
    """Run the bot against a server of its own."""
    async with BotApi(limits=Limits(speed=1000)) as server:
        for who, (name, username) in NAMES.items():
            server.add_user(who, name, username=username)
        server.add_group(GROUP, "Соседи")
        server.admins[GROUP] = {ANNA, server.me["id"]}
        with Journal.open(folder) as journal:
            verbs = replace(app.verbs, community=replace(app.verbs.community, journal=journal))
            verbs.admission._tell = teller(journal, has_bot=True)
            work = run_bot(
                verbs, token=DEFAULT_TOKEN, api_base=server.url, journal=journal, pace=Pace(speed=1000), grace_s=1.0
            )
            task = asyncio.create_task(work)
            try:
                yield Talk(server, app, journal)
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def take(page: Page, content: str, file: Path, scratch: Path) -> None:
    """Write a picture of a page, as long as it is."""
    await asyncio.to_thread(scratch.write_text, content, encoding="utf-8")
    await page.screen(WIDTH, 200, phone=True, dark=False, scale=2)
    await page.open(scratch.as_uri())
    height = int(await page.do("document.documentElement.scrollHeight"))
    await page.screen(WIDTH, height, phone=True, dark=False, scale=2)
    await page.picture(file)
    await asyncio.to_thread(pack, file)


def pack(file: Path) -> None:
    """Write a picture anew with fewer colours.

    Raises
    ------
    ValueError
        It is above `MAX_BYTES`.
    """
    png = packed(file.read_bytes())
    if len(png) > MAX_BYTES:
        raise ValueError(f"{file.name} has {len(png)} bytes.")
    file.write_bytes(png)
    log.info("picture", file=file.name, bytes=len(png))


async def make(folder: Path, names: Collection[str] = ()) -> None:
    """Hold conversations and write their pictures.

    Parameters
    ----------
    folder : Path
        Where they go.
    names : collection of str
        Of scenes; none is all.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        settings = {"data_dir": scratch / "data", "quiet_hours": "", "plans": True, "free_per_day": 20}
        config = Config().model_copy(update=settings)
        async with open_app(config) as app, open_page() as page:
            with sample.export() as path:
                async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                    pass
            app.ledger.save_channel(NEWS)
            for scene, play in SCENES.items():
                if names and scene not in names:
                    continue
                async with talking(app, scratch / f"{scene}.sqlite") as talk:
                    await play(talk)
                    for name, content in (talk.pages or {scene: page_of(talk)}).items():
                        await take(page, content, folder / f"{name}.png", scratch / f"{name}.html")


if __name__ == "__main__":
    configure_logs("auto")
    FOLDER.mkdir(parents=True, exist_ok=True)
    asyncio.run(make(FOLDER, sys.argv[1:]))
