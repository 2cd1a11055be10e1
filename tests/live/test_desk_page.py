"""The admin pages in headless Chromium: what is pressed there is so in the ledger afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.app import App
from appliance.schema import Asker, Channel, Filters
from benchmarks.screenshots import furnish
from tests.live.test_page import opened
from tests.servers.browser import CHROMIUM, Page

pytestmark = [pytest.mark.live, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]

CLUB, OLD = 1500000123, 1500000124  # channels that wait and that was refused


async def show(page: Page, section: str) -> None:
    await page.do(f"location.hash = '#{section}'")
    await page.until(f"document.querySelector('#desk').dataset.shown === '{section}'")


async def press(page: Page, words: str, *, line: str = "", within: str = "#desk") -> None:
    """Press a button by its words, in the line that holds `line`."""
    found = (
        f"[...document.querySelectorAll('{within} button')].find((one) => one.textContent === {json.dumps(words)}"
        f" && (one.closest('li, dialog') ?? one.parentElement).textContent.includes({json.dumps(line)}))"
    )
    await page.until(found)
    await page.do(f"{found}.click()")


async def holds(page: Page, words: str) -> None:
    await page.until(f"document.querySelector('#desk').textContent.includes({json.dumps(words)})")


def state_of(app: App, channel: int) -> str | None:
    return next((one.state for one in app.ledger.channels() if one.channel.id == channel), None)


async def test_what_is_pressed_is_done(tmp_path: Path) -> None:
    async with opened(tmp_path) as (app, page, _):
        owner = await furnish(app)
        app.ledger.save_channel(Channel(id=OLD, title="Старый двор", username="old_yard"))
        app.ledger.pool.place(OLD, state="refused", is_cross=False, is_live=True, source="bot")
        await app.verbs.admission.invite(["@somebody_new"], actor=owner)
        await page.call("Page.navigate", url=app.verbs.sessions.link(owner)[0])
        await page.click(".login .solid")
        await page.until("document.querySelector('#desk').dataset.shown === 'overview'")
        await holds(page, "средняя оценка бота из 5")

        await press(page, "Отозвать приглашения")
        await page.do("document.querySelector('dialog textarea').value = '@somebody_new'")
        await press(page, "Отозвать приглашения", within="dialog")
        await holds(page, "Ещё не написали боту: 0")

        await press(page, "Пригласить")
        await page.do("document.querySelector('dialog textarea').value = '@somebody_else Петя'")
        await press(page, "Пригласить", within="dialog")
        await page.until("document.querySelector('dialog .wrong').textContent.includes('Никто не приглашён')")
        assert await page.do("document.querySelector('dialog textarea').value") == "@somebody_else Петя"
        await page.do("document.querySelector('dialog textarea').value = '@somebody_else @petya_new'")
        await press(page, "Пригласить", within="dialog")
        await holds(page, "Ещё не написали боту: 2")

        await show(page, "channels")
        await press(page, "Одобрить", line="Старый двор")
        await page.until("!document.querySelector('#desk').textContent.includes('отклонён')")
        assert state_of(app, OLD) == "approved"

        await show(page, "people")
        anna = await app.verbs.admission.find("telegram:7000002")
        assert anna is not None
        await press(page, "Роль", line="Анна Лён")
        await press(page, "владелец", within="dialog")  # one slip of a thumb makes no owner
        await press(page, "Отмена", line="Сделать владельцем", within="dialog")
        assert await app.verbs.access.role(anna.user_id) == "member"
        await press(page, "отвечает другим", within="dialog")
        await holds(page, "отвечает другим")
        assert await app.verbs.access.role(anna.user_id) == "trusted"

        await show(page, "questions")
        await press(page, "Отклонить", line="Клуб соседей")  # it has no posts: nothing to ask
        await page.until("!document.querySelector('#desk').textContent.includes('Клуб соседей')")
        assert state_of(app, CLUB) == "refused"
        waits = "Есть ли парковка для лодок?"
        await press(page, "Ответить", line=waits)
        await page.do("document.querySelector('dialog textarea').value = 'Лодки ставят у причала, место — 300 ₽.'")
        await press(page, "Ответить", within="dialog")
        await page.until(
            f"![...document.querySelectorAll('#desk li')].some((one) => one.textContent.includes('{waits}'))"
        )
        answer = (await app.verbs.search("парковка для лодок", asker=Asker(owner), filters=Filters())).found[0]
        assert (answer.post.author, "у причала" in answer.post.text) == ("Ольга Речная", True)
        asked = app.ledger.community.faq("proposed")[0]
        await press(page, "Одобрить", line=asked.text)
        await press(page, "Не показывать", line=asked.text)
        await page.until(f"!document.querySelector('#desk').textContent.includes({json.dumps(asked.text)})")
        assert app.ledger.community.faq("approved") == []

        await show(page, "audit")
        log = await page.do("document.querySelector('#desk').innerText")
        for line in ("Анна Лён · отвечает другим", "Старый двор", "Речная мастерская: болталка · Сам, если уверен"):
            assert line in log
        for raw in ("user:", "object Object", "trusted", str(OLD)):
            assert raw not in log


async def test_on_a_phone_a_link_logs_in_where_the_page_is_already_open(tmp_path: Path) -> None:
    async with opened(tmp_path) as (app, page, url):
        owner = await furnish(app)
        await page.open(f"{url}/admin")
        await page.until("document.querySelector('#desk').dataset.shown === 'login'")
        await page.screen(390, 844, phone=True)
        await page.do(f"location.href = {json.dumps(app.verbs.sessions.link(owner)[0])}")
        await page.click(".login .solid")
        await page.until("document.querySelector('#desk').dataset.shown === 'overview'")
        assert "once" not in await page.do("location.href")
        axis = "[...document.querySelectorAll('.chart .axis')].map((one) => one.getBoundingClientRect().height)"
        assert min(await page.do(axis)) > 9  # the picture's words can be read on a phone
