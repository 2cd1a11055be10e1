"""Suite `rights`: does anybody ever see a post, a link or a name of a channel they may not read? By any door, ever.

People, open and closed channels, the doors of the product, answers remembered, dialogues of others, rights given and
taken away, channels opened and closed, posts written, edited and removed, alerts told after a right was taken: many
operations at once, drawn by a seed. What reaches a person is searched for marks of channels that were closed to them
from the operation's beginning to its end. Broken appliances that forget about rights in one place each, such as in what
is remembered, told later or said to guests, must be caught by the same run.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import tempfile
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import numpy as np
import orjson
import structlog
from aiogram import Bot
from aiogram.client.session.base import BaseSession
from aiogram.methods import SendMessage, TelegramMethod
from aiogram.types import Chat, Message, Update, User
from rich.console import Console

from appliance.app import App, open_app
from appliance.bot.courtesies import Courtesies
from appliance.bot.notices import TELLERS, told
from appliance.bot.pacing import Pace, Pacer
from appliance.bot.routers import create_dispatcher
from appliance.config import Config
from appliance.errors import PostFinderError
from appliance.schema import Asker, Channel, Filters, Final, Links, Piece, Post, PostKey, Question
from appliance.web.api import create_api
from benchmarks.forgetful import BREAKS, ROOM, Break, broken
from benchmarks.results import ROOT
from models.ports import Embedder, EmbedderInfo, Vectors

OPERATIONS = 100_000
CONTROL_OPERATIONS = 3_000
TOWNS = 2  # side by side, each in a process of its own
AT_ONCE = 8  # in each
TOLD_EVERY = 2_000  # operations
PEOPLE, OPEN, CLOSED = 24, 5, 9
POSTS = 14  # of a channel at the start
MET = "with_posts_in_them"
FIRST_CHANNEL, FIRST_PERSON, FIRST_GUEST = 1_600_000_000, 70_000, 90_000
ALERTED = 3  # subjects that people have alerts for
START = datetime(2026, 3, 1, tzinfo=UTC)
BOT = User(id=1000001, is_bot=True, first_name="PostFinder", username="postfinder_bot")
GROUP = -1_001_500_000_000
ELSEWHERE = {"id": -1_001_999_000_111, "type": "supergroup", "title": "Чужая беседа"}
SUBJECTS = {
    "Где лежат ключи от подвала?": "Ключи от подвала лежат у вахтёра в красном ящике.",
    "Когда вывозят мусор?": "Мусор вывозят по вторникам и пятницам в семь утра.",
    "Как покормить котов?": "Котов кормят у третьего подъезда, корм стоит в шкафу.",
    "Какой код от калитки?": "Код от калитки меняют первого числа, спросите у старшего.",
    "Во сколько собрание?": "Собрание жильцов начнётся в восемь вечера в холле.",
    "Кто чинит лифт?": "Лифт чинит мастер Петров, телефон висит в кабине.",
    "Где сдать батарейки?": "Батарейки принимают в аптеке на углу, коробка у кассы.",
    "Сколько стоит парковка?": "Парковка стоит две тысячи в месяц, платить старшему по двору.",
    "Чем красить скамейки?": "Скамейки красим зелёной эмалью, кисти лежат в сарае.",
    "Когда включат отопление?": "Отопление включат после пяти холодных дней подряд.",
    "Где репетирует хор?": "Хор репетирует в школе номер пять по средам.",
    "Как записаться к врачу?": "К врачу записывают по телефону с восьми до десяти.",
}
MARK = re.compile(r"знак(\d+)к")
CLOSED_LINK = re.compile(r"t\.me/c/(\d+)\b")
OPEN_LINK = re.compile(r"t\.me/dvor(\d+)\b")
GONE = re.compile(r"запись(\d+)х(\d+)в(\d+)")


@dataclass(slots=True, eq=False)
class Operation:
    """What one person does at one door, and which channels they may meet there."""

    door: str
    allowed: set[int]
    user: int | None = None
    sees: bool = True  # False: what is said is public, only open channels may be in it
    removed: frozenset[str] = frozenset()


out = Console(stderr=True, highlight=False)
CURRENT: ContextVar[Operation | None] = ContextVar("current", default=None)


@dataclass(slots=True)
class Town:
    """Who may read what, as it is known outside of the appliance."""

    app: App
    rng: random.Random
    users: list[int] = field(default_factory=list)  # the ledger's ids
    open: set[int] = field(default_factory=set)
    mine: dict[int, set[int]] = field(default_factory=dict)
    posts: dict[PostKey, int] = field(default_factory=dict)  # version
    removed: set[str] = field(default_factory=set)
    running: list[Operation] = field(default_factory=list)
    dialogues: deque[tuple[str, str, int | None]] = field(default_factory=lambda: deque(maxlen=400))
    leaks: list[str] = field(default_factory=list)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)  # else two changes of one right end in any order
    counts: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)

    def begin(self, door: str, user: int | None, *, public: bool = False) -> Operation:
        """Note what may be seen from now on."""
        closed = set() if public or user is None else self.mine[user]
        one = Operation(door, self.open | closed, user, not public and user is not None, frozenset(self.removed))
        self.running.append(one)
        self.counts[door] += 1
        return one

    def end(self, one: Operation) -> None:
        """Forget an operation that is over."""
        self.running.remove(one)

    def look(self, one: Operation, seen: object) -> None:
        """Search what reached a person for what must not have."""
        text = seen if isinstance(seen, str) else orjson.dumps(seen, default=str).decode()
        met = {int(number) for number in MARK.findall(text)}
        met |= {int(number) - FIRST_CHANNEL for number in CLOSED_LINK.findall(text)}
        met |= {int(number) for number in OPEN_LINK.findall(text)}
        self.shown[one.door] += bool(met)
        for number in met - one.allowed:
            self.leaks.append(f"{one.door}: channel {number}")
        for name in GONE.findall(text):
            if "x".join(name) in one.removed:
                self.leaks.append(f"{one.door}: removed post {'/'.join(name)}")


def channel_of(number: int, *, is_open: bool) -> Channel:
    """Make a channel whose title, links and posts tell its number."""
    title = f"Двор {number} знак{number}к"
    name = f"dvor{number}"
    kind = "public_channel" if is_open else "private_channel"
    return Channel(FIRST_CHANNEL + number, title, name if is_open else None, kind, is_open)


def post_of(number: int, message: int, version: int) -> Post:
    """Make a post; every third says the same in all channels, the others tell where they stand."""
    words = list(SUBJECTS.values())[message % len(SUBJECTS)]
    mark = "" if message % 3 == 0 else f" знак{number}к"
    text = f"{words}{mark} запись{number}х{message}в{version}" if mark else words
    edited = START + timedelta(days=40, minutes=version) if version else None
    return Post(FIRST_CHANNEL + number, message, START + timedelta(hours=message % 1000), text, edited_at=edited)


async def settle(app: App, rng: random.Random) -> Town:
    """Fill the appliance with channels, posts and people."""
    town = Town(app, rng)
    for number in range(OPEN + CLOSED):
        is_open = number < OPEN
        app.ledger.save_channel(channel_of(number, is_open=is_open))
        if is_open:
            town.open.add(number)
        posts = [post_of(number, message, 0) for message in range(1, POSTS + 1)]
        town.posts.update((post.key, 0) for post in posts)
        await app.verbs.ingest(posts)
    for place in range(PEOPLE):
        asker = await registered(app, place)
        town.users.append(asker.user_id or 0)
        town.mine[asker.user_id or 0] = mine = set(rng.sample(range(OPEN, OPEN + CLOSED), CLOSED // 2))
        for number in mine:
            app.ledger.grant(asker.user_id or 0, FIRST_CHANNEL + number)
        await app.verbs.alerts.add(asker, list(SUBJECTS)[place % ALERTED])
    return town


async def registered(app: App, place: int) -> Asker:
    """Let a person come, as doors do before anything else."""
    return await app.verbs.register(
        telegram_id=FIRST_PERSON + place,
        username=f"person{place}",
        first_name=f"П{place}",
        last_name=None,
        language="ru",
    )


# What happens


async def ask(town: Town, place: int) -> None:
    """Ask, now and then inside a dialogue of somebody else, and look at every part."""
    user = town.users[place]
    one = town.begin("ask", user)
    try:
        asker = await registered(town.app, place)
        borrowed = town.rng.choice(town.dialogues)[0] if town.dialogues and town.rng.random() < 0.3 else None
        text = town.rng.choice([*SUBJECTS, "А когда?", "а где?"]) if borrowed else town.rng.choice(list(SUBJECTS))
        await parts(town, one, town.app.verbs.ask(Question(text, asker, door="telegram", dialogue_id=borrowed)))
    finally:
        town.end(one)


async def parts(town: Town, one: Operation, stream: AsyncIterator[Any]) -> None:
    """Look at the parts of an answer as they come."""
    async for part in stream:
        if isinstance(part, Links):
            town.look(one, part.citations)
        elif isinstance(part, Piece):
            town.look(one, part.sentence)
        elif isinstance(part, Final):
            town.look(one, part.answer)
            town.dialogues.append((part.answer.dialogue_id, part.answer.id, one.user))


async def search(town: Town, place: int) -> None:
    """Search, with a filter of any channel at times."""
    one = town.begin("search", town.users[place])
    try:
        asker = await registered(town.app, place)
        named = (str(FIRST_CHANNEL + town.rng.randrange(OPEN + CLOSED)),) if town.rng.random() < 0.3 else None
        text = town.rng.choice(list(SUBJECTS))
        found = await town.app.verbs.search(text, asker=asker, filters=Filters(channels=named))
        town.look(one, found)
    except PostFinderError as error:
        town.look(one, str(error))  # an error names the channels there are
    finally:
        town.end(one)


async def story(town: Town, place: int) -> None:
    """Ask what was said about a subject over time."""
    one = town.begin("story", town.users[place])
    try:
        asker = await registered(town.app, place)
        told_so = await town.app.verbs.story(town.rng.choice(list(SUBJECTS)), asker=asker, filters=Filters())
        town.look(one, told_so)
    finally:
        town.end(one)


async def notices(town: Town) -> None:
    """Tell what waits to be told, as the bot does, each to its person."""
    verbs = town.app.verbs
    ones = {notice.user_id: town.begin("alert", notice.user_id) for notice in await verbs.notices.due(TELLERS)}
    try:
        due = [notice for notice in await verbs.notices.due(TELLERS) if notice.user_id in ones]
        for notice in due:
            town.look(ones[notice.user_id], [call.payload for call in await told(notice, verbs)])
        await verbs.notices.queued([notice.id for notice in due])
    finally:
        for one in ones.values():
            town.end(one)


async def digest(town: Town, place: int) -> None:
    """Ask for a digest."""
    one = town.begin("digest", town.users[place])
    try:
        asker = await registered(town.app, place)
        await parts(town, one, town.app.verbs.digest(asker, Filters(), days=town.rng.choice([1, 7, 60])))
    finally:
        town.end(one)


async def post(town: Town, place: int) -> None:
    """Open a post by its number."""
    one = town.begin("post", town.users[place])
    try:
        asker = await registered(town.app, place)
        key = town.rng.choice(list(town.posts))
        town.look(one, (await town.app.verbs.post(key, asker),))
        if town.dialogues and town.rng.random() < 0.3:
            _, question_id, owner = town.rng.choice(town.dialogues)
            if await town.app.verbs.question(question_id, asker) is not None and owner != one.user:
                town.leaks.append("question: another's")
        town.look(one, await town.app.verbs.channels(asker))
    finally:
        town.end(one)


async def related(town: Town, place: int) -> None:
    """Look for posts on the subject of a post, which may be one of a closed channel."""
    one = town.begin("related", town.users[place])
    try:
        asker = await registered(town.app, place)
        town.look(one, (await town.app.verbs.related(town.rng.choice(list(town.posts)), asker=asker),))
    finally:
        town.end(one)


async def page(town: Town, client: httpx.AsyncClient) -> None:
    """Do at the page and the API what a visitor without a name can."""
    one = town.begin("page", None)
    try:
        key = town.rng.choice(list(town.posts))
        text = town.rng.choice(list(SUBJECTS))
        named = [str(FIRST_CHANNEL + town.rng.randrange(OPEN + CLOSED))] if town.rng.random() < 0.3 else None
        dialogue = town.rng.choice(town.dialogues)[0] if town.dialogues and town.rng.random() < 0.3 else None
        calls: list[Callable[[], Awaitable[httpx.Response]]] = [
            lambda: client.post("/ask", json={"question": text, "channels": named, "dialogue_id": dialogue}),
            lambda: client.post("/ask", json={"question": text}, headers={"Accept": "text/event-stream"}),
            lambda: client.post("/search", json={"query": text, "channels": named}),
            lambda: client.post("/digest", json={"days": 60}),
            lambda: client.post("/story", json={"subject": text}),
            lambda: client.get(f"/posts/{key[0]}/{key[1]}"),
            lambda: client.get(f"/posts/{key[0]}/{key[1]}/related"),
            lambda: client.get("/channels"),
        ]
        town.look(one, (await town.rng.choice(calls)()).text)
    finally:
        town.end(one)


class Wire(BaseSession):
    """Telegram's end of the bot's calls: everything that leaves is looked at by the operation that it belongs to."""

    def __init__(self, town: Town) -> None:
        super().__init__()
        self.town = town
        self.sent = 0

    async def close(self) -> None:
        """Nothing is open."""

    async def make_request(self, bot: Bot, method: TelegramMethod[Any], timeout: int | None = None) -> Any:  # noqa: ASYNC109
        """Take a call."""
        one = CURRENT.get()
        if one is not None:
            self.town.look(one, method.model_dump(exclude_none=True, warnings=False))
        if isinstance(method, SendMessage):
            self.sent += 1
            chat = Chat(id=int(method.chat_id), type="supergroup")
            return Message(message_id=self.sent, date=datetime.now(UTC), chat=chat, text=method.text)
        return True

    async def stream_content(self, *args: Any, **kwargs: Any) -> AsyncGenerator[bytes, None]:
        """No files."""
        yield b""


async def bot(town: Town, place: int, telegram: Bot, dispatcher: Any) -> None:
    """Write to the bot, alone or in a group, or type its name in another's chat, as a member or as a guest."""
    number = town.rng.randrange(10**9)
    kind = town.rng.choice(["private", "private", "private", "group", "inline", "guest", "guest inline"])
    is_guest = kind.startswith("guest")
    first = FIRST_GUEST if is_guest else FIRST_PERSON
    person = {"id": first + place, "is_bot": False, "first_name": f"П{place}", "username": f"person{place}"}
    person["language_code"] = "ru"
    key, subject = town.rng.choice(list(town.posts)), town.rng.choice(list(SUBJECTS))
    says = ["/help", "/start", "/digest 60", "/missed", "что нового за месяц?", f"/story {subject}"]
    text = town.rng.choice([*SUBJECTS, *says])
    if kind == "private" and town.rng.random() < 0.3:
        text = f"/find @dvor{town.rng.randrange(OPEN + CLOSED)} {town.rng.choice(list(SUBJECTS))}"
    elif kind == "private" and town.rng.random() < 0.1:
        text = f"/related https://t.me/c/{key[0]}/{key[1]}"
    chat = {"id": FIRST_PERSON + place, "type": "private", "first_name": f"П{place}"}
    if kind == "group":
        chat = {"id": GROUP, "type": "supergroup", "title": "Соседи"}
        text = f"@postfinder_bot {text}"
    update: dict[str, Any] = {
        "update_id": number,
        "message": {"message_id": number, "date": 1_800_000_000, "chat": chat, "from": person, "text": text},
    }
    if text.startswith("/"):
        update["message"]["entities"] = [{"type": "bot_command", "offset": 0, "length": len(text.split()[0])}]
    if kind.endswith("inline"):
        where = town.rng.choice(["sender", "group", "supergroup", "channel", "private"])
        query = {
            "id": str(number),
            "from": person,
            "query": town.rng.choice(list(SUBJECTS)),
            "offset": "",
            "chat_type": where,
        }
        update = {"update_id": number, "inline_query": query}
    elif is_guest:
        update["guest_message"] = {**update.pop("message"), "chat": ELSEWHERE, "guest_query_id": str(number)}
        update["guest_message"].update(text=f"@postfinder_bot {subject}", entities=[])
    is_public = kind == "group" or is_guest or (kind == "inline" and where != "sender")
    one = town.begin(f"bot {kind}", None if is_guest else town.users[place], public=is_public)
    token = CURRENT.set(one)
    try:
        calls = await dispatcher.feed_update(telegram, Update.model_validate(update, context={"bot": telegram}))
        if isinstance(calls, list):
            town.look(one, [call.payload for call in calls])
    finally:
        CURRENT.reset(token)
        town.end(one)


async def change(town: Town) -> None:
    """Give or take a right, open or close a channel, write, edit or remove a post."""
    rng, ledger = town.rng, town.app.ledger
    what = rng.choices(["right", "door", "write", "edit", "remove"], [12, 2, 3, 2, 1])[0]
    number = rng.randrange(OPEN, OPEN + CLOSED)
    if what == "right":
        user = rng.choice(town.users)
        if rng.random() < 0.5:  # of somebody who is about to be told of a post there
            waiting = await town.app.verbs.notices.due(["alert"])
            told_of = [(one.user_id, one.body["post"][0] - FIRST_CHANNEL) for one in waiting]
            user, number = rng.choice([one for one in told_of if one[1] in town.mine[one[0]]] or [(user, number)])
        if number in town.mine[user]:
            await asyncio.to_thread(ledger.revoke, user, FIRST_CHANNEL + number)
            town.mine[user].discard(number)
            town.counts["revocation"] += 1
        else:
            town.mine[user].add(number)
            _widen(town, number, user)
            await asyncio.to_thread(ledger.grant, user, FIRST_CHANNEL + number)
            town.counts["grant"] += 1
    elif what == "door":
        number = rng.randrange(OPEN + CLOSED)
        if number in town.open:
            await asyncio.to_thread(ledger.set_open, FIRST_CHANNEL + number, False)
            town.open.discard(number)
            town.counts["closing"] += 1
        else:
            town.open.add(number)
            _widen(town, number, None)
            await asyncio.to_thread(ledger.set_open, FIRST_CHANNEL + number, True)
            town.counts["opening"] += 1
    elif what == "write":
        message = len(SUBJECTS) * (POSTS + town.counts["new post"]) + rng.randrange(ALERTED)
        new = replace(post_of(rng.choice([number, rng.randrange(OPEN)]), message, 0), date=datetime.now(UTC))
        town.counts["new post"] += 1
        town.posts[new.key] = 0
        await town.app.verbs.ingest([new])
        await town.app.verbs.alerts.ring()
    elif what == "edit":
        key = rng.choice(list(town.posts))
        town.posts[key] = version = town.posts[key] + 1
        await town.app.verbs.ingest([post_of(key[0] - FIRST_CHANNEL, key[1], version)])
        town.counts["edit"] += 1
    elif len(town.posts) > POSTS * (OPEN + CLOSED) // 2:
        key = rng.choice(list(town.posts))
        version = town.posts.pop(key)
        await town.app.verbs.privacy.forget_posts([key])
        town.removed.add(f"{key[0] - FIRST_CHANNEL}x{key[1]}x{version}")
        town.counts["removal"] += 1


def _widen(town: Town, number: int, user: int | None) -> None:
    """Allow what is allowed while an operation runs: it is no leak in it."""
    for one in town.running:
        if user is None or (one.user == user and one.sees):
            one.allowed.add(number)


async def live(town: Town, operations: int) -> None:
    """Let it all happen, several things at once."""
    app = town.app
    api = create_api(app.verbs, config=app.config, metrics=app.metrics, admin_token="operator")
    telegram = Bot("1000001:rights", session=Wire(town))
    telegram._me = BOT
    courtesies = Courtesies(telegram, Pacer(Pace(speed=1000)))

    async def dialogue_of(chat_id: int, message_id: int) -> str | None:
        return town.rng.choice(town.dialogues)[0] if town.dialogues else None

    dispatcher = create_dispatcher(app.verbs, courtesies, dialogue_of)
    left, began = operations, perf_counter()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://postfinder") as client:

        async def person() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                if (done := operations - left) % TOLD_EVERY == 0:
                    rate = done / (perf_counter() - began)
                    out.print(f"{done:,} of {operations:,} operations, {len(town.leaks)} leaks, {rate:.0f} a second")
                place = town.rng.randrange(PEOPLE)
                dice = town.rng.random()
                if dice < 0.12:
                    async with town.changing:
                        await change(town)
                elif dice < 0.37:
                    await ask(town, place)
                elif dice < 0.53:
                    await search(town, place)
                elif dice < 0.57:
                    await story(town, place)
                elif dice < 0.59:
                    await notices(town)
                elif dice < 0.69:
                    await post(town, place)
                elif dice < 0.80:
                    await related(town, place)
                elif dice < 0.83:
                    await digest(town, place)
                elif dice < 0.91:
                    await page(town, client)
                else:
                    await bot(town, place, telegram, dispatcher)

        await asyncio.gather(*(person() for _ in range(AT_ONCE)))
        await notices(town)
    await courtesies.close()


class Remembering:
    """The embedder, with the vectors of texts that come again."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self._kept: dict[tuple[str, str], np.ndarray[Any, Any]] = {}

    @property
    def info(self) -> EmbedderInfo:
        """Of the embedder itself."""
        return self._inner.info

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions."""
        return self._embed("q", texts, self._inner.embed_queries)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Embed chunks of posts."""
        return self._embed("p", texts, self._inner.embed_passages)

    def _embed(self, kind: str, texts: Sequence[str], embed: Callable[[Sequence[str]], Vectors]) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if (kind, text) not in self._kept]
        if new:
            self._kept.update(((kind, text), row) for text, row in zip(new, embed(new), strict=True))
        return np.stack([self._kept[kind, text] for text in texts])


async def measure(
    operations: int, *, seed: int, how: Break = "none", embedder: Embedder | None = None
) -> dict[str, Any]:
    """Run a town for some operations and return its figures."""
    load = ROOM.load_embedder
    with tempfile.TemporaryDirectory() as folder, broken(how):
        ROOM.load_embedder = lambda *args, **more: Remembering(embedder or load(*args, **more))
        try:
            data = Path(folder) / "data"
            config = Config(data_dir=data, weights_dir=ROOT / "weights", guests=True, quiet_hours="", _env_file=None)
            async with open_app(config) as app:
                town = await settle(app, random.Random(seed))
                began = perf_counter()
                await live(town, operations)
                took_s = perf_counter() - began
        finally:
            ROOM.load_embedder = load
    doors = dict(sorted(town.counts.items()))
    return {
        "operations": operations,
        "leaks": len(town.leaks),
        "first_leaks": town.leaks[:10],
        "happened": doors,
        MET: dict(sorted(town.shown.items())),
        "seconds": took_s,
        "per_second": operations / took_s,
    }


def whole(operations: int, seed: int, how: Break = "none") -> dict[str, Any]:
    """Run one town in a process of its own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return asyncio.run(measure(operations, seed=seed, how=how))


def run() -> dict[str, Any]:
    """Run the towns side by side, then the broken ones."""
    began = perf_counter()
    with ProcessPoolExecutor(TOWNS, mp_context=get_context("spawn")) as processes:
        towns = list(processes.map(whole, [OPERATIONS // TOWNS] * TOWNS, range(1, TOWNS + 1)))
        took_s = perf_counter() - began
        many = len(BREAKS)
        controls = list(processes.map(whole, [CONTROL_OPERATIONS] * many, [TOWNS + 1] * many, BREAKS))
    operations = sum(one["operations"] for one in towns)
    return {
        "operations": operations,
        "towns": TOWNS,
        "leaks": sum(one["leaks"] for one in towns),
        "first_leaks": [leak for one in towns for leak in one["first_leaks"]],
        **{name: dict(sum((Counter(one[name]) for one in towns), Counter())) for name in ("happened", MET)},
        "seconds": took_s,
        "per_second": operations / took_s,
        "people": PEOPLE,
        "channels": OPEN + CLOSED,
        "at_once": AT_ONCE,
        "leaks_of_broken": {how: one["leaks"] for how, one in zip(BREAKS, controls, strict=True)},
    }
