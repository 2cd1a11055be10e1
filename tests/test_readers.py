"""Preview pages and feeds, read over real HTTP from a loopback server that answers as theirs do; where not to go."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio
from aiohttp import web

from appliance import readers
from appliance.app import App, open_app
from appliance.errors import BadInput, NotAllowed
from appliance.feeds import read_feed
from appliance.preview import read_preview
from appliance.readers import FetchError, Reach, Readers, Source, fetch, is_public
from appliance.schema import Asker, Channel, Filters
from tests.conftest import config_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

BARE = 1777000099
VIEW = base64.urlsafe_b64encode(json.dumps({"c": -BARE, "p": 1, "t": 1, "h": "x"}).encode()).decode().rstrip("=")


def message(number: int, text: str, *, inside: str = "", day: int = 1, meta: str = "", reactions: str = "") -> str:
    """A message as t.me/s writes it."""
    return f"""
<div class="tgme_widget_message_wrap js-widget_message_wrap">
 <div class="tgme_widget_message text_not_supported_wrap js-widget_message" data-post="dvor_page/{number}" data-view="{VIEW}">
  <div class="tgme_widget_message_user"><a href="https://t.me/dvor_page"><i class="tgme_widget_message_user_photo"></i></a></div>
  <div class="tgme_widget_message_bubble">
   <div class="tgme_widget_message_author accent_color"><a class="tgme_widget_message_owner_name"
     href="https://t.me/dvor_page"><span dir="auto">Двор &amp; сад</span></a></div>
   {inside}
   <div class="tgme_widget_message_text js-message_text" dir="auto">{text}</div>
   <div class="tgme_widget_message_reactions js-message_reactions">{reactions}</div>
   <div class="tgme_widget_message_footer compact js-message_footer"><div class="tgme_widget_message_info short">
    <span class="tgme_widget_message_views">1.2K</span><span class="copyonly"> views</span>
    <span class="tgme_widget_message_meta">{meta}<a class="tgme_widget_message_date"
      href="https://t.me/dvor_page/{number}"><time datetime="2026-11-{day:02}T10:00:00+03:00" class="time">10:00</time></a></span>
   </div></div>
  </div>
 </div>
</div>"""  # noqa: E501


def page(*messages: str) -> str:
    return f"""<!DOCTYPE html><html><head><title>Двор – Telegram</title></head>
<body class="widget_frame_base tgme_webpreview">
<div class="tgme_channel_info_header_title"><span dir="auto">Двор &amp; сад</span></div>
<section class="tgme_channel_history js-message_history">{"".join(messages)}</section></body></html>"""


FORWARD = (
    '<div class="tgme_widget_message_forwarded_from accent_color">Forwarded from&nbsp;<a '
    'class="tgme_widget_message_forwarded_from_name" href="https://t.me/other/5">'
    '<span dir="auto">Соседи</span></a></div>'
)
REPLY = (
    '<a class="tgme_widget_message_reply" href="https://t.me/dvor_page/10"><div class="tgme_widget_message_author">'
    '<span>Двор</span></div><div class="tgme_widget_message_metatext js-message_reply_text">чужие слова</div></a>'
)
ALBUM = "".join(
    f'<a class="tgme_widget_message_photo_wrap grouped_media_wrap" href="https://t.me/dvor_page/{n}?single"></a>'
    for n in (12, 13)
)
HEARTS = '<span class="tgme_reaction"><i class="emoji"><b>❤</b></i>1.2K</span><span class="tgme_reaction">👍 7</span>'
FIRST = page(
    message(10, 'Воду отключат <b>14 июля</b>.<br/>Подробнее: <a href="https://example.org/w" target="_blank">тут</a>'
                ' <i class="emoji" style="x"><b>💧</b></i>', inside=FORWARD, reactions=HEARTS),
    message(11, "Ответ на вопрос", inside=REPLY,
            meta='<span class="tgme_widget_message_from_author" dir="auto">Илья</span>, '),
    message(12, "Фото двора", inside=ALBUM),
    '<div class="tgme_widget_message" data-post="other_one/77"><div class="tgme_widget_message_text">чужое</div></div>',
)  # fmt: skip


@dataclass
class Site:
    """What the loopback server shows and saw."""

    url: str = ""
    page: str = FIRST
    etag: str = '"1"'
    status: int = 200
    asked: list[dict[str, str]] = field(default_factory=list)

    async def show(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.headers))
        if self.status != 200:
            return web.Response(status=self.status, headers={"Retry-After": "7200"})
        if request.headers.get("If-None-Match") == self.etag:
            return web.Response(status=304)
        return web.Response(text=self.page, content_type="text/html", headers={"ETag": self.etag})

    async def lead(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.query.get("to", "/lead")})

    async def flood(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        await reply.prepare(request)
        for _ in range(100):
            await reply.write(b"x" * 100_000)
        return reply


@pytest_asyncio.fixture(loop_scope="module")
async def site() -> AsyncIterator[Site]:
    found = Site()
    web_app = web.Application()
    web_app.router.add_get("/s/dvor_page", found.show)
    web_app.router.add_get("/feed.xml", found.show)
    web_app.router.add_get("/lead", found.lead)
    web_app.router.add_get("/flood", found.flood)
    runner = web.AppRunner(web_app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    async with open_app(config_for(tmp_path_factory.mktemp("readers") / "data")) as opened:
        yield opened


def reading(app: App, site: Site, **settings: bool) -> Readers:
    """The readers, allowed onto loopback for this test alone."""
    config = app.config.model_copy(update={"read_previews": True, "read_feeds": True, **settings})
    reach = Reach(lambda address: address == "127.0.0.1", ("http",), f"{site.url}/s/")
    return replace(app.verbs.readers, config=config, reach=reach)


async def test_a_preview_page_is_read_as_posts() -> None:
    found = read_preview(FIRST, "Dvor_Page")
    assert found is not None
    channel, posts = found
    assert (channel.id, channel.title) == (BARE, "Двор & сад")
    first, second, third = posts
    assert first.text == "Воду отключат 14 июля.\nПодробнее: тут 💧"
    assert (first.links, first.reactions, first.forwarded_from) == (("https://example.org/w",), 1207, "Соседи")
    assert first.date.isoformat() == "2026-11-01T07:00:00+00:00"
    assert (second.text, second.author, second.reply_to_id) == ("Ответ на вопрос", "Илья", 10)
    assert (third.media, third.album_ids) == ("photo", (13,))
    assert read_preview("<html>Not a channel</html>", "dvor_page") is None
    assert read_preview("<div data-post='dvor_page/1' data-view='!!'><time>", "dvor_page") is None


@pytest.mark.parametrize("cut", range(0, len(FIRST), 397))
async def test_a_page_cut_anywhere_is_no_trouble(cut: int) -> None:
    read_preview(FIRST[:cut], "dvor_page")
    read_preview(FIRST[cut:], "dvor_page")


async def test_readers_are_off_until_they_are_turned_on(app: App, site: Site) -> None:
    assert not app.config.read_previews
    with pytest.raises(NotAllowed, match="READ_PREVIEWS"):
        await app.verbs.readers.add("@dvor_page")
    with pytest.raises(NotAllowed, match="READ_FEEDS"):
        await reading(app, site, read_feeds=False).add("@dvor_page", feed=f"{site.url}/feed.xml")
    assert site.asked == []


async def test_a_channel_is_read_conditionally_and_only_what_changed(app: App, site: Site) -> None:
    outside = reading(app, site)
    entry = await outside.add("https://t.me/s/dvor_page")
    assert (entry.id, entry.state, entry.is_cross, entry.posts) == (BARE, "approved", False, 3)
    named = await app.verbs.search("воду отключат", asker=Asker(), filters=Filters(channels=("@dvor_page",)))
    assert named.found[0].link == "https://t.me/dvor_page/10"
    assert (await app.verbs.search("воду отключат", asker=Asker(), filters=Filters())).found == ()
    assert await outside.read(BARE) == 0
    assert site.asked[-1]["If-None-Match"] == '"1"'
    site.page, site.etag = site.page.replace("14 июля", "15 июля"), '"2"'
    assert await outside.read(BARE) == 1
    (post,) = app.ledger.posts([(BARE, 10)]).values()
    assert (post.text, post.forwarded_from) == ("Воду отключат 15 июля.\nПодробнее: тут 💧", "Соседи")
    assert (await outside.stop("@dvor_page")).source == "export"


async def test_a_server_that_refuses_is_left_alone_for_longer(
    app: App, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = reading(app, site)
    await outside.add("@dvor_page")
    clock = [1000.0]
    monkeypatch.setattr(readers, "monotonic", lambda: clock[0])
    site.status = 429
    waits = []
    for _ in range(3):
        await outside.visit(BARE)
        waits.append(outside._sources[BARE].due_at - clock[0])
    assert waits[0] >= 7200 * 0.9  # Retry-After
    assert waits[2] > waits[0]
    site.status = 200
    await outside.visit(BARE)
    assert outside._sources[BARE].failures == 0
    assert outside._sources[BARE].due_at - clock[0] < 2000


async def test_a_reader_goes_nowhere_it_should_not(site: Site) -> None:
    here = Reach(lambda address: address == "127.0.0.1", ("http",))
    with pytest.raises(FetchError, match="too large"):
        await fetch(f"{site.url}/flood", Source(), here)
    with pytest.raises(FetchError, match="may visit"):
        await fetch(f"{site.url}/s/dvor_page", Source(), Reach(schemes=("http",)))  # loopback, by address
    with pytest.raises(FetchError, match="cannot be had"):
        await fetch(site.url.replace("127.0.0.1", "localhost"), Source(), Reach(schemes=("http",)))  # by name
    with pytest.raises(FetchError, match="may visit"):
        await fetch(f"{site.url}/s/dvor_page", Source(), Reach())  # not https
    for to in (
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "file:///etc/passwd",
        "http://u:p@127.0.0.1/",
    ):
        with pytest.raises(FetchError, match="may visit"):
            await fetch(f"{site.url}/lead?to={to}", Source(), here)
    with pytest.raises(FetchError, match="too often"):
        await fetch(f"{site.url}/lead", Source(), here)
    assert site.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("149.154.167.99", True), ("2001:67c:4e8:f004::9", True), ("127.0.0.1", False), ("10.0.0.1", False),
        ("192.168.1.1", False), ("169.254.169.254", False), ("::1", False), ("fe80::1%eth0", False),
        ("::ffff:127.0.0.1", False), ("0.0.0.0", False), ("100.64.0.1", False), ("224.0.0.1", False),
        ("nonsense", False), ("2002:7f00:1::", False),
    ],
)  # fmt: skip
async def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


RSS = """<?xml version="1.0"?><rss version="2.0"><channel><title>Двор</title>
<item><title>Каток залит…</title><link>https://t.me/dvor_page/30</link><pubDate>Mon, 02 Nov 2026 09:00:00 GMT</pubDate>
<description>&lt;p&gt;Каток залит, приходите &lt;a href="https://example.org/ice"&gt;сюда&lt;/a&gt;&lt;/p&gt;</description></item>
<item><title>Чужое</title><link>https://example.org/1</link><pubDate>Mon, 02 Nov 2026 09:00:00 GMT</pubDate></item>
</channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>x</id><link href="https://t.me/s/dvor_page/31"/>
<title>Ёлка</title><updated>2026-11-03T10:00:00+03:00</updated>
<content type="html">Ставим в субботу</content></entry></feed>"""


async def test_feeds_are_read_as_posts(app: App, site: Site) -> None:
    channel = Channel(BARE, "Двор", "dvor_page")
    (post,) = read_feed(RSS.encode(), channel)
    assert (post.message_id, post.text) == (30, "Каток залит, приходите сюда")
    assert post.links == ("https://example.org/ice",)
    (post,) = read_feed(ATOM.encode(), channel)
    assert (post.message_id, post.text) == (31, "Ёлка\nСтавим в субботу")
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><rss>&b;</rss>'
    for bad in (bomb, "<html>", "", "<rss><item>"):
        with pytest.raises(BadInput):
            read_feed(bad.encode(), channel)
    outside = reading(app, site)
    with pytest.raises(BadInput):
        await outside.add("@never_seen_here", feed=f"{site.url}/feed.xml")
    app.ledger.save_channel(channel)
    site.page, site.etag = RSS, '"rss"'
    before = len(app.ledger.post_ids(BARE))
    entry = await outside.add("@dvor_page", feed=f"{site.url}/feed.xml")
    assert entry.source == "feed"
    assert len(app.ledger.post_ids(BARE)) == before + 1
