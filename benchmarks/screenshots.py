"""Make the README's pictures of the page: the sample channel, the real appliance, headless Chromium.

Run as ``python -m benchmarks.screenshots`` in the project's folder.
"""

from __future__ import annotations

import asyncio
import io
import random
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from PIL import Image

from appliance import sample
from appliance.app import App, open_app, open_doors
from appliance.chats import Mode, Way
from appliance.config import Config
from appliance.logs import configure_logs
from appliance.schema import Channel, QuestionRow
from tests.servers.browser import Page, open_page

FOLDER = Path(__file__).parents[1] / "docs" / "screenshots"
MAX_BYTES = 200_000
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture: what is asked, on what screen, and what is clicked then.

    Attributes
    ----------
    questions : tuple of str
        Asked one after another; none shows the first page.
    click : str
        CSS selector clicked at the end, or empty.
    width, height : int
        CSS pixels; a phone's are doubled in the picture.
    """

    name: str
    questions: tuple[str, ...] = ()
    click: str = ""
    width: int = 1200
    height: int = 780
    phone: bool = False
    dark: bool = False


FIRST_SOURCE = ".answer .chip, .card .open"
SCENES = (
    Scene("start"),
    Scene("answer", ("Почём аренда зала «Причал» для участников?",), click=FIRST_SOURCE),
    Scene("dark", ("Чем склеить дерево с металлом?", "А кожу?"), dark=True),
    Scene("not-found", ("Сколько стоит прокат лодки?",)),
    Scene("phone", ("Чем склеить дерево с металлом?",), width=380, height=780, phone=True),
)


async def play(page: Page, url: str, scene: Scene) -> None:
    """Bring the page to a scene."""
    await page.screen(scene.width, scene.height, phone=scene.phone, dark=scene.dark, scale=2 if scene.phone else 1)
    await page.open(url + "/")
    await page.until("document.querySelector('#examples li')")
    for number, question in enumerate(scene.questions, start=1):
        await page.click("#question")
        await page.type(question)
        await page.press("Enter", code=13, text="\r")
        await page.until(f"document.querySelectorAll('.figures').length === {number}")
        await asyncio.sleep(0.4)  # snippets come
    if scene.click:
        await page.click(scene.click)
        await page.until("document.querySelector('#post').open && document.querySelector('#post-text').innerText")
    await page.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=scene.height - 2)
    await page.do("document.activeElement.blur()")
    await asyncio.sleep(0.4)  # transitions end


def packed(png: bytes) -> bytes:
    """Return a PNG of 256 colours, which a page of text does not miss."""
    out = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


DESK = (  # section, screen
    ("overview", Scene("desk-overview", width=1100, height=1000)),
    ("people", Scene("desk-people-phone", width=390, height=844, phone=True)),
    ("questions", Scene("desk-questions", width=1100, height=1000)),
    ("channels", Scene("desk-channels-phone", width=390, height=844, phone=True)),
    ("chats", Scene("desk-chats-phone", width=390, height=844, phone=True)),
    ("plans", Scene("desk-plans", width=1100, height=1000)),
    ("attacks", Scene("desk-attacks", width=1100, height=1000, dark=True)),
    ("texts", Scene("desk-texts-phone", width=390, height=844, phone=True)),
)

GROUPS: tuple[tuple[int, int | None, str, Way], ...] = (
    (-1002000000001, None, "Речная мастерская: болталка", "mention"),
    (-1002000000001, 12, "Речная мастерская: болталка", "auto"),
    (-1002000000002, None, "Совет мастерской", "admins"),
)


async def furnish(app: App) -> int:
    """Fill the admin pages with invented people, questions and attacks; returns the owner's number."""
    rng = random.Random(5)
    names = (
        "Ольга Речная", "Михаил Дубов", "Анна Лён", "Борис Гончар", "Вера Соль", "Глеб Ветров", "Даша Мох", "Егор Клён",
        "Женя Рябина", "Зоя Тихая", "Илья Каменев", "Кира Ольха",
    )  # fmt: skip
    people: list[int] = []
    for number, name in enumerate(names):
        first, _, last = name.partition(" ")
        asker = await app.verbs.register(
            telegram_id=7_000_000 + number, username=None, first_name=first, last_name=last, language="ru"
        )
        people.append(asker.user_id or 0)
    for user_id, role in zip(people, ("owner", "moderator"), strict=False):
        app.ledger.access.set_role(user_id, role)
    posts = app.ledger.post_ids(sample_channel(app))
    asked = (
        "Сколько стоит аренда зала?",
        "Где сдать батарейки?",
        "Когда занятие по керамике?",
        "Есть ли парковка для лодок?",
    )
    now = datetime.now(UTC)
    for number in range(420):
        which = min(rng.randrange(5), 3)
        day = int(29 * rng.random() ** 0.7)
        row = QuestionRow(
            id=f"{number:032x}",
            dialogue_id=f"{number:032x}",
            user_id=rng.choice(people),
            door="telegram",
            asked_at=now - timedelta(days=day, minutes=rng.randrange(600)),
            text=asked[which],
            query=asked[which],
            language="ru",
            outcome="not_found" if which == 3 else "answered",
            model="quotes",
            posts=((sample_channel(app), posts[10 * which + 3]),),
            answer_text="",
            relevance=0.8,
            tokens=0,
            times_ms={"search": rng.uniform(4, 12), "links": rng.uniform(6, 22), "complete": rng.uniform(14, 60)},
        )
        app.ledger.questions.save(row)
        if rng.random() < 0.3:
            app.ledger.questions.rate(row.id, row.user_id, "up" if rng.random() < 0.8 else "down")
    await sell(app, people)
    for chat, topic, title, way in GROUPS:
        await app.verbs.chats.name(chat, title)
        await app.verbs.chats.set_mode(chat, topic, Mode(way))
    await app.verbs.community.mine()
    app.ledger.save_channel(Channel(id=1500000123, title="Клуб соседей", username="sosedi_klub"))
    app.ledger.pool.place(1500000123, state="waiting", is_cross=False, is_live=True, source="bot")
    await app.verbs.admission.set_mode("approval", actor=people[0])
    for user_id in people[-2:]:
        app.ledger.order.set_state(user_id, "waiting")
    await app.verbs.admission.ban(people[3], actor=people[1], reason="реклама в чате", days=3)
    await app.verbs.admission.appeal(people[3])
    guard = app.verbs.antifraud
    began = guard.clock()
    for minute in range(58, -1, -1):
        guard.clock = lambda at=began - 60 * minute: at  # type: ignore[misc]
        for _ in range(rng.randint(4, 14)):
            guard.look(7_000_100 + rng.randrange(300), "button")
        if 14 < minute < 22:
            for step in range(30):
                guard.look(7_000_004, "question", text=f"вопрос без смысла номер {minute} {step}")
        if minute in {9, 8, 6}:
            guard.look(
                7_000_005, "question", text="Заработок на дому от 5 000 рублей в день, пишите в личку @money_fast 💰"
            )
    guard.clock = time.time
    return people[0]


async def sell(app: App, people: list[int]) -> None:
    """Let some have plans, by gift and by payment."""
    plans = app.verbs.plans
    sold = await plans.save_plan("Мастер", stars=250, per_day=200, per_month=None)
    await plans.save_plan("Подмастерье", stars=90, per_day=40, per_month=600)
    await plans.save_plan("Друзья мастерской", stars=0, per_day=None, per_month=None)
    await plans.grant(str(people[2]), "Друзья мастерской", days=None)
    for place, user_id in enumerate(people[4:7]):
        await plans.paid(
            user_id,
            charge_id=f"stxa{place}{user_id:030}",
            payload=f"plan:{sold.type_id}:{sold.stars}",
            stars=sold.stars,
            until=datetime.now(UTC) + timedelta(days=9 * (place + 1)),
            is_renewal=False,
            renews=place != 1,
        )


def sample_channel(app: App) -> int:
    """Return the sample channel's number."""
    return next(one.channel.id for one in app.ledger.channels() if one.channel.username == sample.USERNAME)


async def make_desk(app: App, page: Page, url: str, folder: Path) -> None:
    """Write the pictures of the admin pages."""
    owner = await furnish(app)
    await page.call(
        "Page.navigate", url=app.verbs.sessions.link(owner)[0]
    )  # the page takes the secret out of its address
    await page.click(".login .solid")
    await page.until("document.querySelector('#desk').dataset.shown === 'overview'")
    for section, scene in DESK:
        await page.screen(scene.width, scene.height, phone=scene.phone, dark=scene.dark, scale=2 if scene.phone else 1)
        await page.do(f"location.hash = '#{section}'")
        await page.until(f"document.querySelector('#desk').dataset.shown === '{section}'")
        if section == "texts":
            await page.click(".words summary")
        await page.do("document.activeElement.blur(); window.scrollTo(0, 0)")
        await asyncio.sleep(0.5)
        await keep(page, folder / f"{scene.name}.png")


async def keep(page: Page, file: Path) -> None:
    """Write what is seen, packed."""
    await page.picture(file)
    log.info("picture", file=file.name, bytes=repack(file))


def repack(file: Path) -> int:
    """Pack a picture; returns its bytes.

    Raises
    ------
    ValueError
        A picture above `MAX_BYTES`.
    """
    png = packed(file.read_bytes())
    if len(png) > MAX_BYTES:
        raise ValueError(f"{file.name} has {len(png)} bytes.")
    file.write_bytes(png)
    return len(png)


async def make(folder: Path) -> None:
    """Write every scene's picture.

    Parameters
    ----------
    folder : Path
        Where they go.

    Raises
    ------
    ValueError
        A picture above `MAX_BYTES`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        config = Config().model_copy(
            update={"data_dir": Path(scratch) / "data", "host": "127.0.0.1", "plans": True, "free_per_day": 20}
        )
        async with open_app(config) as app:
            with sample.export() as path:
                async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                    pass
            async with open_doors(app, port=0, with_bot=False) as url, open_page() as page:
                for scene in SCENES:
                    await play(page, url, scene)
                    await keep(page, folder / f"{scene.name}.png")
                await make_desk(app, page, url, folder)


if __name__ == "__main__":
    configure_logs("auto")
    FOLDER.mkdir(parents=True, exist_ok=True)
    asyncio.run(make(FOLDER))
