"""The page in headless Chromium, on the real appliance with the sample channel."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance import sample
from appliance.app import App, open_app, open_doors
from appliance.config import Config
from tests.servers.browser import CHROMIUM, Page, open_page

pytestmark = [pytest.mark.live, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]

KNOWN = "Чем покрыть разделочную доску?"
UNKNOWN = "Какой курс доллара в Уругвае?"


@asynccontextmanager
async def opened(folder: Path, *, posts: bool = True) -> AsyncIterator[tuple[App, Page, str]]:
    """The appliance, a browser, and the page's address."""
    config = Config(
        _env_file=None,
        data_dir=folder / "data",
        weights_dir=Path(__file__).parents[2] / "weights",
        port=0,
        threads=2,
    )
    async with open_app(config) as app:
        if posts:
            with sample.export() as path:
                async for _ in app.verbs.import_export(path, username=sample.USERNAME):
                    pass
        async with open_doors(app, with_bot=False) as url, open_page() as page:
            await page.screen(1280, 860)
            await page.open(url + "/")
            await page.until("'loaded' in document.body.dataset")
            yield app, page, url


async def ask(page: Page, question: str) -> None:
    turns = await page.do("document.querySelectorAll('.turn').length")
    await page.click("#question")
    await page.type(question)
    await page.press("Enter", code=13, text="\r")
    await page.until(f"document.querySelectorAll('.turn').length === {turns + 1}")
    await page.until("document.querySelector('.turn:last-child .figures, .turn:last-child .problem')")


async def test_question_answer_post_rating(tmp_path: Path) -> None:
    async with opened(tmp_path) as (app, page, url):
        # what streams is written down as it appears
        await page.do(
            "window.seen = []; new MutationObserver(() => window.seen.push(document.querySelectorAll("
            "'.answer span').length)).observe(document.querySelector('#talk'), {childList: true, subtree: true})"
        )
        await ask(page, KNOWN)
        said = await page.do("document.querySelector('.answer').innerText")
        answer_id = await page.do("document.querySelector('.turn').dataset.answer")
        row = app.ledger.questions.get(answer_id)
        assert row is not None
        assert (row.text, row.outcome, row.door) == (KNOWN, "answered", "web")
        assert " ".join(row.answer_text.split())[:40] in " ".join(said.split())
        seen = await page.do("window.seen")
        assert max(seen) >= 1
        assert await page.do("document.querySelector('.answer').getAttribute('aria-busy')") == "false"

        # the cited post opens, with its link and the quoted sentence marked
        await page.click(".answer .chip")
        await page.until("document.querySelector('#post').open && document.querySelector('#post mark')")
        link = await page.do("document.querySelector('#post-link').href")
        assert link == f"https://t.me/{sample.USERNAME}/{row.posts[0][1]}"
        shown = await page.do("document.querySelector('#post-text').textContent")
        assert shown == app.ledger.posts([row.posts[0]])[row.posts[0]].text
        await page.press("Escape", code=27)
        await page.until("!document.querySelector('#post').open")
        assert await page.do("document.activeElement.className") == "chip"

        # the rating and its reason reach the ledger
        await page.click(".rating .down")
        await page.until("document.querySelector('.why')")
        await page.click(".why .soft")
        await page.until("!document.querySelector('.why')")
        figures = json.dumps(app.ledger.stats(), default=str)
        assert '"down": 1' in figures

        # a follow-up carries the dialogue on; a new conversation forgets it
        await ask(page, "А чем ещё?")
        turns = app.ledger.questions.turns(row.dialogue_id)
        assert [turn.text for turn in turns] == [KNOWN, "А чем ещё?"]
        await page.click("#fresh")
        await page.until("document.querySelectorAll('.turn').length === 0")
        await ask(page, "А чем ещё?")
        assert len(app.ledger.questions.turns(row.dialogue_id)) == 2

        assert page.errors == []
        assert {address.split("/")[2] for address in page.requests if address.startswith("http")} == {url.split("/")[2]}


async def test_honest_refusal_in_both_languages(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, page, _url):
        await ask(page, UNKNOWN)
        refusal = await page.do("document.querySelector('.refusal').innerText")
        assert "Ответа в постах не нашлось" in refusal
        assert "Мастерская на Речной" in refusal
        assert "2026" in refusal
        assert await page.do("document.querySelectorAll('.card').length") >= 1
        await page.click("[data-tongue=en]")
        await ask(page, UNKNOWN)
        refusal = await page.do("document.querySelector('.turn:last-child .refusal').innerText")
        assert "The posts hold no answer to this" in refusal
        assert await page.do("document.documentElement.lang") == "en"
        await ask(page, "🤷🤷")
        assert "I see no question" in await page.do("document.querySelector('.problem').innerText")
        await page.open(_url + "/")
        await page.until("'loaded' in document.body.dataset")
        assert await page.do("document.querySelector('h1').innerText") == "Ask, and the posts answer"


async def test_narrow_phone_and_limits(tmp_path: Path) -> None:
    async with opened(tmp_path) as (app, page, url):
        await page.screen(360, 740, phone=True, dark=True)
        await page.open(url + "/")
        await page.until("'loaded' in document.body.dataset")
        await page.click("#narrow")
        await page.do(
            "for (const [id, day] of [['since', '2025-05-01'], ['until', '2025-05-31']]) {"
            " const input = document.getElementById(id); input.value = day; input.dispatchEvent(new Event('change')); }"
        )
        assert "31 мая 2025" in await page.do("document.querySelector('#narrow').innerText")
        await ask(page, "Что нового в мастерской?")
        row = app.ledger.questions.get(await page.do("document.querySelector('.turn').dataset.answer"))
        assert row is not None
        dates = [post.date.date().isoformat() for post in app.ledger.posts(row.posts).values()]
        assert dates
        assert all("2025-05-01" <= date <= "2025-05-31" for date in dates)
        await page.click(".card .open")
        await page.until("document.querySelector('#post').matches(':modal')")
        assert await page.do("document.documentElement.scrollWidth") == 360
        small = await page.do(
            "[...document.querySelectorAll('button, a[href]')].filter(e => e.checkVisibility() && !e.closest('.skip'))"
            ".map(e => [e.className, e.getBoundingClientRect()]).filter(([c, r]) => r.width < 24 || r.height < 24)"
            ".map(([c]) => c)"
        )
        assert small == []
        names = await page.do(
            "[...document.querySelectorAll('button, a[href], input, textarea')].filter(e => e.checkVisibility())"
            ".filter(e => !(e.getAttribute('aria-label') || e.innerText || e.labels?.[0]?.innerText).trim()).length"
        )
        assert names == 0


async def test_empty_appliance_tells_the_command(tmp_path: Path) -> None:
    async with opened(tmp_path, posts=False) as (app, page, _):
        assert "postfinder import" in await page.do("document.querySelector('#empty').innerText")
        with sample.export() as path:
            async for _progress in app.verbs.import_export(path, username=sample.USERNAME):
                pass
        await page.click("#look-again")
        await page.until("!document.querySelector('#hero').hidden")


async def test_words_of_a_post_are_never_markup(tmp_path: Path) -> None:
    hostile = '<img src=x onerror="document.title=1"> Пароль от вайфая <b>каракатица</b> https://evil.example'
    message = {
        "id": 5,
        "type": "message",
        "date": "2026-05-01T12:00:00",
        "date_unixtime": "1777626000",
        "text": hostile,
    }
    export = {"name": "<i>Канал</i>", "type": "public_channel", "id": 1888, "messages": [message]}
    async with opened(tmp_path, posts=False) as (app, page, _):
        file = tmp_path / "result.json"
        file.write_text(json.dumps(export))
        async for _progress in app.verbs.import_export(file, username="kanal"):
            pass
        await page.click("#look-again")
        await ask(page, "Какой пароль от вайфая?")
        await page.click(".card .open")
        await page.until("document.querySelector('#post-text').textContent.includes('каракатица')")
        assert (
            await page.do("document.querySelectorAll('main img, main b, main i, #post img, #post b, #post i').length")
            == 0
        )
        links = await page.do("[...document.querySelectorAll('main a[href], #post a[href]')].map(a => a.href)")
        assert set(links) == {"https://t.me/kanal/5"}
        assert await page.do("document.title") == "PostFinder"
