"""Another embedder without downtime: built beside, checked, switched, kept for going back."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from appliance import reindex as rooms
from appliance.app import App, open_app
from appliance.client import Refused, events
from appliance.config import Config
from appliance.errors import BadInput, PostFinderError
from appliance.schema import Asker, Filters, Post, PostKey, ReindexProgress
from appliance.shelf import read_choice
from appliance.web.api import create_api
from models.errors import EmbedderDown
from models.ports import Embedder, EmbedderInfo, Vectors
from tests.conftest import config_for

OPERATOR = Asker(sees_everything=True)
OTHER = "another-e5"
EMBEDDED: dict[str, Vectors] = {}  # the sample is embedded once for all tests


@dataclass(frozen=True)
class Renamed:
    """The default embedder under another card, as slow and as good as told."""

    inner: Embedder
    seconds_a_batch: float = 0.0
    is_blind: bool = False

    @property
    def info(self) -> EmbedderInfo:
        return replace(self.inner.info, card=OTHER)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.inner.embed_queries(["одно и то же"] * len(texts) if self.is_blind else texts)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        time.sleep(self.seconds_a_batch)
        if unknown := [text for text in texts if text not in EMBEDDED]:
            EMBEDDED.update(zip(unknown, self.inner.embed_passages(unknown), strict=True))
        return np.stack([EMBEDDED[text] for text in texts]) if texts else self.inner.embed_passages(texts)


async def moved(app: App, other: Embedder, card: str = OTHER, **how: bool) -> ReindexProgress:
    work = rooms.reindex(card, shelf=app.shelf, ledger=app.ledger, load=lambda _: other, **how)
    return [step async for step in work][-1]


def a_new_post(app: App, message_id: int, text: str) -> Post:
    channel = app.ledger.channels(None)[0].channel
    return Post(channel_id=channel.id, message_id=message_id, date=datetime.now(UTC), text=text)


async def first(app: App, query: str) -> PostKey:
    return (await app.verbs.search(query, asker=OPERATOR, filters=Filters())).found[0].post.key


async def test_searches_and_posts_go_on_while_it_is_built(app: App, embedder: Embedder) -> None:
    before = await first(app, "Сколько стоит занятие керамикой?")
    running = asyncio.create_task(moved(app, Renamed(embedder, 0.2)))
    await asyncio.sleep(0.5)
    assert app.shelf.now.embedder.info.card != OTHER
    assert await first(app, "Сколько стоит занятие керамикой?") == before
    during = a_new_post(app, 900_001, "Завтра в мастерской запускаем аэростат с фиолетовым гусем.")
    assert await app.verbs.ingest([during]) == 1
    assert await first(app, "аэростат с фиолетовым гусем") == during.key
    edited = replace(during, text="Аэростат с оранжевым пингвином отложен.", edited_at=datetime.now(UTC))
    assert await app.verbs.ingest([edited]) == 1
    done = await running
    assert done.done
    assert app.shelf.now.embedder.info.card == OTHER
    assert app.shelf.now.index.posts() == app.index.posts()
    assert await first(app, "оранжевый пингвин") == during.key
    found = await app.verbs.search("аэростат", asker=OPERATOR, filters=Filters())
    assert "пингвином" in found.found[0].chunk_text
    assert await first(app, "Сколько стоит занятие керамикой?") == before
    assert done.self_retrieval >= 0.8
    assert done.overlap == pytest.approx(1.0, abs=0.02)
    assert not done.calibrated


async def test_going_back_takes_what_came_since(app: App, embedder: Embedder) -> None:
    old = app.shelf.now
    await moved(app, Renamed(embedder))
    since = a_new_post(app, 900_002, "В подвале нашли коллекцию барометров адмирала.")
    await app.verbs.ingest([since])
    gone = sorted(old.index.posts())[0]
    app.shelf.remove([gone])
    assert gone not in old.index.posts()
    done = await moved(app, embedder, card=embedder.info.card, rollback=True)
    assert done.card == embedder.info.card
    assert app.shelf.now.embedder.info.card == embedder.info.card
    assert await first(app, "барометры адмирала") == since.key


async def test_an_embedder_that_finds_less_does_not_serve(app: App, embedder: Embedder) -> None:
    blind = Renamed(embedder, is_blind=True)
    with pytest.raises(BadInput, match="--force"):
        await moved(app, blind)
    assert app.shelf.now.embedder.info.card == embedder.info.card
    assert (await moved(app, blind, force=True)).done  # the operator may
    assert app.shelf.now.embedder.info.card == OTHER


async def test_what_was_built_before_a_stop_is_not_built_again(app: App, embedder: Embedder) -> None:
    slow = Renamed(embedder, 0.1)
    running = asyncio.create_task(moved(app, slow))
    while not (OTHER in app.shelf.beside and app.shelf.beside[OTHER].posts()):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await rooms.stop(app.shelf)
    with pytest.raises(PostFinderError, match="stopped"):
        await running
    built = len(app.shelf.beside[OTHER].posts())
    assert 0 < built < len(app.index.posts())
    app.shelf.stop.clear()
    assert read_choice(app.config.data_dir, app.config.embedder).beside == {OTHER: embedder.info.dim}
    work = rooms.reindex(OTHER, shelf=app.shelf, ledger=app.ledger, load=lambda _: slow)
    seen = [step.posts async for step in work]
    assert min(posts for posts in seen if posts) >= built


async def test_the_choice_outlives_a_restart(
    sample_data: Path, app: App, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await moved(app, Renamed(embedder))
    config: Config = app.config
    assert read_choice(config.data_dir, config.embedder).card == OTHER
    app.shelf.close()
    app.ledger.close()
    app.journal.close()
    if app.shelf.vault is not None:
        app.shelf.vault.close()
    asked: list[str] = []

    def load(card: str, **_: object) -> Embedder:
        asked.append(card)
        return Renamed(embedder)

    monkeypatch.setattr("appliance.app.load_embedder", load)
    async with open_app(config_for(config.data_dir)) as again:
        assert asked == [OTHER]
        assert again.shelf.now.embedder.info.card == OTHER
        assert set(again.shelf.beside) == {embedder.info.card}
        await first(again, "Сколько стоит занятие керамикой?")
        gone = sorted(again.shelf.now.index.posts())[:2]
        again.shelf.remove(gone)
        assert not set(gone) & again.shelf.beside[embedder.info.card].posts()
    # A setting changed by hand wins over what was chosen before.
    assert read_choice(config.data_dir, "bge-m3").card == "bge-m3"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"card": "bge-m4"}, "There is no model card 'bge-m4'. Known cards:"),
        ({"card": "bge-m3"}, "Run: postfinder models pull bge-m3."),
        ({"card": "multilingual-e5-small"}, "is in service already. Name another with --model."),
        ({"card": "", "rollback": True}, "There is no index to go back to."),
    ],
)
async def test_an_operator_reads_what_is_wrong_in_its_own_words(app: App, body: dict[str, object], says: str) -> None:
    config = app.config.model_copy(update={"weights_dir": app.config.data_dir})
    api = create_api(app.verbs, config=config, metrics=app.metrics, admin_token="operator")
    headers = {"Authorization": "Bearer operator", "Accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://page", headers=headers) as client,
        client.stream("POST", "/admin/reindex", json={"rollback": False, "force": False, **body}) as reply,
    ):
        with pytest.raises(Refused, match=re.escape(says)):
            async for _ in events(reply):
                pass


async def test_an_embedder_that_fails_half_way_is_said_and_the_command_goes_on(app: App, embedder: Embedder) -> None:
    asked = 0

    class Failing(Renamed):
        def embed_passages(self, texts: Sequence[str]) -> Vectors:
            nonlocal asked
            asked += 1
            if asked == 2:
                raise EmbedderDown("The embedding server gave no vectors.")
            return super().embed_passages(texts)

    failing = Failing(embedder)
    with pytest.raises(BadInput, match=r"gave no vectors\. Run the command again"):
        await moved(app, failing)
    assert 0 < len(app.shelf.beside[OTHER].posts()) < len(app.index.posts())
    assert (await moved(app, failing)).done


async def test_nothing_to_do_is_said(app: App, embedder: Embedder) -> None:
    with pytest.raises(BadInput, match="in service already"):
        await moved(app, embedder, card=embedder.info.card)
    with pytest.raises(BadInput, match="no index to go back"):
        await moved(app, embedder, card=embedder.info.card, rollback=True)
