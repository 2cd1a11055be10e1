"""Rights of a person, deleted posts, roles and keys, through the opened appliance."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest
import sqlalchemy as sa

from appliance.access import Access
from appliance.app import App, open_app
from appliance.errors import BadInput, NotAllowed, SlowDown
from appliance.journal import Outgoing
from appliance.ledger.records import PURPOSES, as_markdown
from appliance.ledger.tables import metadata, user
from appliance.schema import Asker, Channel, Final, Post, Question
from tests.conftest import config_for
from tests.posts import a_post
from tests.web_door import OPERATOR, at, door

TELEGRAM_ID = 7_777_000_333
CANARY = "Канарейкин-Шпиц"
RIVER = Channel(id=1500000001, title="Мастерская на Речной", username="masterskaya_rechnaya")
CLOSED = Channel(id=1500000009, title="Совет", kind="private_channel", is_open=False)
POSTS = [
    a_post(1, "Разделочную доску покрываем минеральным маслом: нанести, подождать час, стереть."),
    a_post(2, "Старые батарейки сдают в оранжевый ящик у входа.", author="Пётр", author_id="user555"),
    a_post(3, "Забытые вещи лежат в синем сундуке у стойки тридцать дней."),
    a_post(4, "Секрет совета: ключ от сейфа лежит под жёлтой вазой.", channel=CLOSED),
]
QUESTION = f"Чем покрыть разделочную доску? Спрашивает {CANARY}"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("privacy")

    async def fill() -> None:
        async with open_app(config_for(folder / "data")) as app:
            for channel in (RIVER, CLOSED):
                app.ledger.save_channel(channel)
            await app.verbs.ingest(POSTS)

    asyncio.run(fill())
    return folder


@pytest.fixture
async def town(filled: Path, tmp_path: Path):
    folder = tmp_path / "town"
    shutil.copytree(filled, folder)
    async with open_app(config_for(folder / "data")) as app:
        yield app


async def member(app: App, telegram_id: int = TELEGRAM_ID, name: str = CANARY) -> Asker:
    return await app.verbs.register(
        telegram_id=telegram_id, username="canary_bird", first_name=name, last_name=None, language="ru"
    )


async def answer_of(app: App, text: str, asker: Asker | None = None):
    async for part in app.verbs.ask(Question(text, asker or Asker())):
        if isinstance(part, Final):
            return part.answer
    raise AssertionError("no answer")


def town_name(app: App, user_id: int | None) -> str:
    """The sealed first name, as it stands in the ledger."""
    return str(app.ledger._read(sa.select(user.c.first_name).where(user.c.user_id == user_id))[0][0])


def held(folder: Path, *words: str) -> set[str]:
    found = set()
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            found |= {word for word in words if word.encode() in content}
    return found


async def test_a_person_gets_everything_and_is_erased_whole_also_from_a_backup(town: App, tmp_path: Path) -> None:
    asker = await member(town)
    await town.verbs.privacy.agree(asker.user_id or 0)
    assert await town.verbs.privacy.has_agreed(asker.user_id or 0)
    await answer_of(town, QUESTION, asker)
    answer = await answer_of(town, "Куда сдать старые батарейки?", asker)
    await town.verbs.rate(answer.id, asker=asker, vote="down", reason=f"ворчит {CANARY}")
    town.journal.enqueue([Outgoing(TELEGRAM_ID, "sendMessage", {"chat_id": TELEGRAM_ID, "text": CANARY})])
    town.journal.take_in(1, [(5, json.dumps({"message": {"from": {"id": TELEGRAM_ID}}}).encode())])

    with zipfile.ZipFile(io.BytesIO(await town.verbs.privacy.archive("@Canary_Bird"))) as archive:
        rows = json.loads(archive.read("postfinder.json"))
        readable = archive.read("postfinder.md").decode()
    assert rows["user"][0]["first_name"] == CANARY
    assert {row["text"] for row in rows["question"]} == {QUESTION, "Куда сдать старые батарейки?"}
    assert any("оранжевый ящик" in row["answer_text"] for row in rows["question"])
    assert rows["feedback"][0]["reason"] == f"ворчит {CANARY}"
    assert rows["consent"][0]["version"] == 1
    assert len(rows["journal"]) == 2
    assert QUESTION in readable
    headings = [line for line in readable.splitlines() if line.startswith("## ")]
    assert headings
    assert not [line for line in headings if line.endswith(": 0")]  # what is empty is named in one line, at the end
    assert readable.splitlines()[-1].startswith("Empty: ")

    data = town.config.data_dir
    shutil.copytree(data, tmp_path / "backup")  # the keys are not part of it
    receipt = await town.verbs.privacy.erase(f"telegram:{TELEGRAM_ID}")
    assert {name: count for name, count in receipt.counts.items() if count} == {
        "key": 1, "feedback": 1, "question": 2, "consent": 1, "user": 1, "inbox": 1, "outbox": 1,
    }  # fmt: skip
    assert CANARY not in str(receipt)
    assert str(TELEGRAM_ID) not in str(receipt)
    with pytest.raises(BadInput):
        await town.verbs.privacy.archive("@canary_bird")
    again = await member(town)  # who comes back is somebody new
    assert again.user_id != asker.user_id
    assert held(data, CANARY, str(TELEGRAM_ID)) == set()


async def test_a_restored_backup_brings_nobody_back(filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "town"
    shutil.copytree(filled, folder)
    async with open_app(config_for(folder / "data")) as app:
        asker = await member(app)
        await answer_of(app, QUESTION, asker)
    shutil.copytree(folder / "data", tmp_path / "backup")
    async with open_app(config_for(folder / "data")) as app:
        await app.verbs.privacy.erase(str(asker.user_id))
        await app.verbs.privacy.forget_link("https://t.me/masterskaya_rechnaya/3", is_operator=True)
    shutil.rmtree(folder / "data")
    shutil.copytree(tmp_path / "backup", folder / "data")
    async with open_app(config_for(folder / "data")) as app:
        assert any("came back with a backup" in note for note in app.ledger.notes)
        assert app.ledger.people.find(str(asker.user_id)) is None
        assert app.ledger.stats()["questions"]["total"] == 0
        assert app.ledger.posts([(RIVER.id, 3)]) == {}
        assert (RIVER.id, 3) not in app.index.posts()
        assert await app.verbs.ingest([POSTS[2]]) == 0  # nor with an old export
        newcomer = await member(app, 99, "Новый")
        assert newcomer.user_id != asker.user_id
    assert held(folder / "data", CANARY) == set()


async def test_after_the_next_start_the_ledger_is_written_anew(filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "town"
    shutil.copytree(filled, folder)
    async with open_app(config_for(folder / "data")) as app:
        asker = await member(app)
        sealed = town_name(app, asker.user_id)
    ledger = folder / "data" / "ledger.duckdb"
    assert sealed[-60:].encode() in ledger.read_bytes()
    async with open_app(config_for(folder / "data")) as app:
        await app.verbs.privacy.erase(str(asker.user_id))
    async with open_app(config_for(folder / "data")) as app:
        assert any("written anew" in note for note in app.ledger.notes)
    assert sealed[-60:].encode() not in ledger.read_bytes()


async def test_a_forgotten_post_leaves_search_and_the_answers_made_of_it(town: App) -> None:
    asker = await member(town)
    answer = await answer_of(town, "Куда сдать старые батарейки?", asker)
    assert answer.outcome == "answered"
    with pytest.raises(NotAllowed):
        await town.verbs.privacy.forget_link(answer.citations[0].link, user_id=asker.user_id)
    await town.verbs.access.set_role(str(asker.user_id), "moderator")
    with pytest.raises(BadInput):
        await town.verbs.privacy.forget_link("https://t.me/masterskaya_rechnaya/4444", user_id=asker.user_id)
    receipt = await town.verbs.privacy.forget_link(answer.citations[0].link, user_id=asker.user_id)
    assert receipt.counts == {"post": 1, "answers": 1}
    row = town.ledger.questions.get(answer.id)
    assert row is not None
    assert (row.answer_text, row.posts) == ("", ())
    assert all(one.post != (RIVER.id, 2) for one in (await answer_of(town, "Куда сдать старые батарейки?")).citations)
    assert [act["kind"] for act in await town.verbs.access.acts()] == ["post.forget", "role"]


async def test_a_post_forgotten_while_its_answer_is_made_leaves_no_word_of_it(town: App) -> None:
    parts = town.verbs.ask(Question("Куда сдать старые батарейки?", Asker()))
    await anext(parts)  # its links are shown
    await town.verbs.privacy.forget_link("https://t.me/masterskaya_rechnaya/2", is_operator=True)
    (answer,) = [part.answer async for part in parts if isinstance(part, Final)]
    assert (RIVER.id, 2) in {citation.post for citation in answer.citations}
    row = town.ledger.questions.get(answer.id)
    assert row is not None
    assert (row.answer_text, row.posts) == ("", ())
    later = await answer_of(town, "Куда сдать старые батарейки?")  # nor is it remembered
    assert all(citation.post != (RIVER.id, 2) for citation in later.citations)


async def test_an_author_who_opts_out_is_not_kept_again(town: App) -> None:
    receipt = await town.verbs.privacy.opt_out("user555")
    assert receipt.counts["post"] == 1
    fresh = replace(POSTS[1], message_id=20)
    assert await town.verbs.ingest([POSTS[1], fresh]) == 0
    assert await town.verbs.ingest([replace(fresh, author_id="user556")]) == 1
    with pytest.raises(BadInput):
        await town.verbs.privacy.opt_out("Пётр")


async def test_sync_removes_what_a_newer_export_lacks_within_its_range(town: App, tmp_path: Path) -> None:
    def export(ids: list[int]) -> Path:
        file = tmp_path / "result.json"
        messages = [
            {"id": one, "type": "message", "date": "2026-05-01T00:00:00", "date_unixtime": "1777593600",
             "text": f"пост {one}", "text_entities": []} for one in ids
        ]  # fmt: skip
        whole = {"name": RIVER.title, "type": "public_channel", "id": RIVER.id, "messages": messages}
        file.write_text(json.dumps(whole), "utf-8")
        return file

    privacy = town.verbs.privacy
    (counted,) = await privacy.sync(export([1, 3]), dry_run=True)
    assert (counted.stored, counted.absent, counted.removed) == (3, 1, 0)
    with pytest.raises(BadInput, match="1 of 3"):
        await privacy.sync(export([1, 3]), dry_run=False)
    assert (await privacy.sync(export([2, 3]), dry_run=False))[0].removed == 0  # 1 lies before the range
    (done,) = await privacy.sync(export([1, 3]), dry_run=False, all_of_them=True)
    assert done.removed == 1
    assert town.ledger.post_ids(RIVER.id) == [1, 3]


async def test_a_forgotten_channel_is_gone_with_its_key(town: App) -> None:
    receipt = await town.verbs.privacy.forget_channel("Совет")
    assert receipt.counts["key"] == 1
    assert receipt.counts["post"] == 1
    assert [status.channel.id for status in town.ledger.channels()] == [RIVER.id]
    assert (await answer_of(town, "Где ключ от сейфа?", Asker(sees_everything=True))).outcome == "not_found"


async def test_old_questions_and_quiet_people_go(town: App) -> None:
    asker = await member(town)
    answer = await answer_of(town, QUESTION, asker)
    row = town.ledger.questions.get(answer.id)
    assert row is not None
    town.ledger.questions.save(replace(row, asked_at=datetime.now(UTC) - timedelta(days=366)))
    counts = await town.verbs.privacy.expire()
    assert (counts["question"], counts["person"]) == (1, 0)
    quiet = replace(town.verbs.privacy, config=town.config.model_copy(update={"keep_quiet_people_days": 1}))
    long_ago = datetime.now(UTC) - timedelta(days=2)
    town.ledger._write(lambda connection: connection.execute(sa.update(user).values(seen_at=long_ago)))
    assert (await quiet.expire())["person"] == 1
    assert town.ledger.people.find(str(asker.user_id)) is None


async def test_closed_posts_answer_members_alone_at_every_door(town: App) -> None:
    asked = "Где лежит ключ от сейфа?"
    async with at(door(town)) as client:
        outside = (await client.post("/ask", json={"question": asked})).text
        assert "ваз" not in outside
        assert (await client.get(f"/posts/{CLOSED.id}/4")).status_code == 404
        assert CLOSED.title not in (await client.get("/channels")).text
        found = await client.post("/search", json={"query": asked})
        assert "ваз" not in found.text
        named = await client.post("/ask", json={"question": asked, "channels": ["Совет"]})
        assert named.status_code in {400, 404}
        asker = await member(town)
        assert "ваз" not in str(await answer_of(town, asked, asker))
        body = {"who": "@canary_bird", "channel_id": CLOSED.id}
        assert (await client.post("/admin/people/membership", json=body)).status_code == 401
        assert (await client.post("/admin/people/membership", json=body, headers=OPERATOR)).is_success
        inside = await answer_of(town, asked, await member(town))
        assert "ваз" in str(inside)
        await client.post("/admin/people/membership", json={**body, "may_read": False}, headers=OPERATOR)
        assert "ваз" not in str(await answer_of(town, asked, await member(town)))


async def test_keys_are_scoped_expire_are_limited_and_never_stored(town: App) -> None:
    async with at(door(town)) as client:
        body = {"name": "виджет", "scopes": ["ask"], "per_minute": 2}
        made = (await client.post("/admin/keys", json=body, headers=OPERATOR)).json()
        mine = {"Authorization": f"Bearer {made['key']}"}
        question = {"question": "Куда сдать старые батарейки?"}
        assert (await client.post("/ask", json=question, headers=mine)).status_code == 200
        assert (await client.post("/search", json={"query": "доска"}, headers=mine)).status_code == 403
        assert (await client.get("/stats", headers=mine)).status_code == 401
        assert (await client.post("/ask", json=question, headers=mine)).status_code == 200
        slow = await client.post("/ask", json=question, headers=mine)
        assert slow.status_code == 429
        assert int(slow.headers["Retry-After"]) > 0
        wrong = {"Authorization": f"Bearer {made['key'][:-1]}"}
        assert (await client.post("/ask", json=question, headers=wrong)).status_code == 401
        key_id = made["record"]["key_id"]
        assert made["key"].split("_", 2)[2] not in (await client.get("/admin/keys", headers=OPERATOR)).text
        assert (await client.post(f"/admin/keys/{key_id}/revoke", headers=OPERATOR)).is_success
        assert (await client.post("/ask", json=question, headers=mine)).status_code == 401
        kinds = [act["kind"] for act in (await client.get("/admin/audit", headers=OPERATOR)).json()]
        assert kinds == ["key.revoke", "key.create"]
    assert held(town.config.data_dir, made["key"].split("_", 2)[2]) == set()


async def test_a_key_ends_with_its_day_and_its_minute(town: App) -> None:
    now = [monotonic()]
    access = Access(town.ledger, clock=lambda: now[0])
    record, key = await access.make_key("x", scopes=("ask",), days=1, per_minute=1)
    assert access.key(key, "ask") is not None
    with pytest.raises(SlowDown):
        access.key(key, "ask")
    now[0] += 61
    assert access.key(key, "ask") is not None
    town.ledger.access._keys[record.key_id] = (
        replace(record, expires_at=datetime.now(UTC) - timedelta(seconds=1)),
        town.ledger.access._keys[record.key_id][1],
    )
    assert access.key(key, "ask") is None
    with pytest.raises(BadInput):
        await access.make_key("x", scopes=("everything",), days=1, per_minute=1)


async def test_the_first_to_come_owns_nothing(town: App) -> None:
    asker = await member(town)
    assert await town.verbs.access.role(asker.user_id) == "member"
    assert await town.verbs.access.role(None) == "guest"
    await town.verbs.access.set_role("@canary_bird", "owner")
    assert await town.verbs.access.role(asker.user_id) == "owner"
    with pytest.raises(BadInput):
        await town.verbs.access.set_role("@canary_bird", "emperor")
    with pytest.raises(BadInput):
        await town.verbs.access.set_role("@nobody_here", "admin")


async def test_rotation_while_running(town: App) -> None:
    asker = await member(town)
    assert await town.verbs.privacy.rotate() >= 3
    assert town.ledger.people.find("@canary_bird") is not None
    assert (await answer_of(town, "Куда сдать старые батарейки?", asker)).outcome == "answered"


def test_records_cover_every_table_and_name_only_real_columns() -> None:
    assert set(PURPOSES) == {table.name for table in metadata.sorted_tables}
    text = as_markdown(datetime(2026, 11, 1, tzinfo=UTC))
    assert "| user | " in text
    assert "username, first_name, last_name" in text
    assert Post  # the records speak of posts too
    assert "| post | " in text
