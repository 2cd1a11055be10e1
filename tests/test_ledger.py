"""The ledger on real DuckDB: posts, rights, questions, ratings, figures, schema."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO
from itertools import permutations
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

import appliance.ledger.database
from appliance.errors import StartupError, StoreError
from appliance.ledger import Ledger, hot_posts, rows, tables
from appliance.schema import Asker, Channel, Post, QuestionRow

DAY = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
MIGRATIONS = Path(appliance.ledger.database.__file__).parent / "migrations"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("shared") / "ledger.duckdb") as opened:
        yield opened


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "ledger.duckdb"
    Ledger.open(path).close()
    return path


@pytest.fixture
def ledger(tmp_path: Path, empty: Path) -> Iterator[Ledger]:
    with Ledger.open(Path(shutil.copy(empty, tmp_path))) as opened:
        yield opened


def make_post(message_id: int = 1, *, channel_id: int = 1, text: str = "Привет", **fields: object) -> Post:
    return Post(channel_id, message_id, DAY + timedelta(minutes=message_id), text, **fields)  # type: ignore[arg-type]


def make_question(question_id: str = "q1", **fields: object) -> QuestionRow:
    row = QuestionRow(
        id=question_id,
        dialogue_id="d1",
        user_id=None,
        door="web",
        asked_at=DAY,
        text="где собираемся?",
        query="где собираемся",
        language="ru",
        outcome="answered",
        model="quotes",
        posts=((1, 2), (3, 4)),
        answer_text="У входа.",
        relevance=0.75,
        tokens=0,
        times_ms={"search": 2.5, "total": 12.0},
    )
    return replace(row, **fields)  # type: ignore[arg-type]


FULL = make_post(
    7,
    text="Встреча «у Лены» 🎉\nhttps://example.org",
    edited_at=datetime(2024, 5, 2, 3, 4, 5, 678901, tzinfo=UTC),
    author="Иван",
    author_id="user123",
    topic_id=5,
    reply_to_id=3,
    forwarded_from="Другой канал",
    media="photo",
    album_ids=(8, 9),
    links=("https://example.org", "https://пример.рф"),
    reactions=4,
)


# Posts


def test_a_post_comes_back_as_it_was(ledger: Ledger) -> None:
    ledger.save_posts([FULL])
    assert ledger.posts([FULL.key]) == {FULL.key: FULL}
    path = ledger.path
    ledger.close()
    with Ledger.open(path) as again:  # from the file, not from memory
        assert again.posts([FULL.key]) == {FULL.key: FULL}
        assert again.posts([FULL.key])[FULL.key].date.tzinfo is UTC


def test_saving_again_changes_nothing(ledger: Ledger) -> None:
    posts = [make_post(n) for n in range(100)]
    assert ledger.save_posts(posts).new == [post.key for post in posts]
    again = ledger.save_posts(posts)
    assert (again.new, again.edited, again.same) == ([], [], [post.key for post in posts])
    assert ledger.post_counts() == {1: 100}


def test_an_edit_replaces_and_an_older_copy_does_not(ledger: Ledger) -> None:
    first = make_post(text="было")
    edited = replace(first, text="стало", edited_at=DAY + timedelta(days=1))
    newest = replace(first, text="совсем", edited_at=DAY + timedelta(days=2))
    ledger.save_posts([first])
    assert ledger.save_posts([newest]).edited == [first.key]
    for outdated in (first, edited):
        assert ledger.save_posts([outdated]).same == [first.key]
        assert ledger.posts([first.key]) == {first.key: newest}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_copies_in_one_batch_or_several_end_the_same(shared: Ledger, order: tuple[int, ...]) -> None:
    copies = [make_post(text=f"{n}", edited_at=DAY + timedelta(days=n) if n else None) for n in range(3)]
    for batches in ([order], [(n,) for n in order]):
        shared.remove_posts([(1, 1)])
        for batch in batches:
            shared.save_posts([copies[n] for n in batch])
        assert shared.posts([(1, 1)]) == {(1, 1): copies[2]}


def test_reactions_move_without_an_edit(ledger: Ledger) -> None:
    ledger.save_posts([make_post(reactions=1)])
    ledger.mark_indexed([(1, 1)])
    assert ledger.save_posts([make_post(reactions=9)]).same == [(1, 1)]
    assert ledger.posts([(1, 1)])[1, 1].reactions == 9
    assert ledger.unindexed() == []


def test_classify_tells_what_saving_would_do_and_writes_nothing(ledger: Ledger) -> None:
    ledger.save_posts([make_post(1), make_post(2)])
    batch = [make_post(1), make_post(2, text="иначе", edited_at=DAY), make_post(3), make_post(1, channel_id=2)]
    told = ledger.classify(batch)
    assert (told.new, told.edited, told.same) == ([(1, 3), (2, 1)], [(1, 2)], [(1, 1)])
    assert ledger.post_counts() == {1: 2}
    assert ledger.save_posts(batch) == told


def test_posts_wait_for_the_index_until_marked(ledger: Ledger) -> None:
    ledger.save_posts([make_post(n) for n in range(5)])
    ledger.mark_indexed([(1, n) for n in range(3)])
    assert [post.message_id for post in ledger.unindexed()] == [3, 4]
    ledger.mark_indexed([(1, 3), (1, 4)])
    ledger.save_posts([make_post(0, text="иначе", edited_at=DAY)])
    assert [post.message_id for post in ledger.unindexed()] == [0]
    ledger.remove_posts([(1, 0)])
    assert ledger.unindexed() == []


def test_removed_posts_are_gone(ledger: Ledger) -> None:
    ledger.save_posts([make_post(n) for n in range(5)])
    assert ledger.remove_posts([(1, 2), (1, 3), (9, 9)]) == 2
    assert ledger.remove_posts([]) == 0
    assert list(ledger.posts([(1, n) for n in range(5)])) == [(1, 0), (1, 1), (1, 4)]
    assert ledger.post_ids(1) == [0, 1, 4]
    assert ledger.save_posts([make_post(2)]).new == [(1, 2)]


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800", "ok\udfff\x00", "\U0001f600", "", "\u202eоборот"])
def test_any_text_can_be_stored_and_sent_on(ledger: Ledger, text: str) -> None:
    post = make_post(text=text, author=text, links=(text,))
    ledger.save_posts([post])
    (stored,) = ledger.posts([post.key]).values()
    stored.text.encode()
    assert "\x00" not in stored.text
    assert ledger.save_posts([post]).same == [post.key]
    ledger.questions.save(make_question(text=text, answer_text=text))
    ledger.access.record("error", subject=text)


texts = st.text(max_size=40)
times = st.integers(0, 10**15).map(
    lambda us: datetime(2005, 1, 1, tzinfo=timezone(timedelta(hours=3))) + timedelta(microseconds=us)
)
posts = st.builds(
    Post,
    channel_id=st.integers(1, 3),
    message_id=st.integers(1, 12),
    date=times,
    text=texts,
    edited_at=st.none() | times,
    author=st.none() | texts,
    author_id=st.none() | st.just("user5"),
    topic_id=st.none() | st.integers(1, 2**40),
    reply_to_id=st.none() | st.integers(1, 2**40),
    forwarded_from=st.none() | texts,
    media=st.sampled_from([None, "photo", "poll"]),
    album_ids=st.lists(st.integers(1, 2**40), max_size=3).map(tuple),
    links=st.lists(texts, max_size=3).map(tuple),
    reactions=st.integers(0, 2**31 - 1),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(posts, max_size=5), max_size=4), st.data())
def test_any_history_of_posts_reads_like_a_dictionary(
    shared: Ledger, batches: list[list[Post]], data: st.DataObject
) -> None:
    keys = [(channel_id, message_id) for channel_id in range(1, 4) for message_id in range(1, 13)]
    shared.remove_posts(keys)
    model: dict[tuple[int, int], Post] = {}
    for batch in batches:
        shared.save_posts(batch)
        for post in batch:
            known = model.get(post.key)
            if known is None or not known.edited_at or (post.edited_at and post.edited_at >= known.edited_at):
                model[post.key] = rows.storable_post(post)
        if data.draw(st.booleans()):
            gone = data.draw(st.lists(st.sampled_from(keys), max_size=4))
            shared.remove_posts(gone)
            model = {key: post for key, post in model.items() if key not in gone}
        shared._hot = hot_posts.HotPosts(data.draw(st.sampled_from([0, 30, 10**6])))
        assert shared.posts(keys) == model
        assert {key for key in model if shared.posts([key])} == set(model)


def test_a_reader_never_keeps_an_outdated_post() -> None:
    old, new = make_post(text="старый"), make_post(text="новый", edited_at=DAY)
    hot = hot_posts.HotPosts(1000)
    mark = hot.mark()  # a reader asks the database here, and is answered with the old one
    hot.replace([new])
    hot.keep([old], mark)
    assert hot.get([(1, 1)]) == {(1, 1): new}


def test_memory_stays_bounded() -> None:
    hot = hot_posts.HotPosts(1000)
    hot.replace([make_post(n, text="x" * 100) for n in range(50)])
    assert len(hot.get([(1, n) for n in range(50)])) == 10
    hot.get([(1, 40)])
    hot.replace([make_post(n, text="x" * 100) for n in range(100, 109)])
    assert (1, 40) in hot.get([(1, 40)])


def test_thousands_of_posts_a_second_and_hot_reads_well_under_a_millisecond(ledger: Ledger) -> None:
    rng = random.Random(0)
    words = ["встреча", "канал", "релиз", "python", "вопрос", "сервер", "почему", "данные"]
    batches = [
        [
            make_post(n, text=" ".join(rng.choices(words, k=100)), links=("https://a.b",))
            for n in range(start, start + 500)
        ]
        for start in range(0, 4000, 500)
    ]
    ledger.save_posts(batches[0])  # loads Arrow
    rates = []
    for batch in batches[1:]:
        start = time.process_time()
        ledger.save_posts(batch)
        rates.append(500 / (time.process_time() - start))
    assert max(rates) > 5000
    keys = [(1, rng.randrange(4000)) for _ in range(30)]
    spent = []
    for _ in range(50):
        start = time.process_time()
        ledger.posts(keys)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.0005


# Channels and rights


def test_channels_carry_counts_and_dates(ledger: Ledger) -> None:
    ledger.save_channel(Channel(1, "Бета", "beta"))
    ledger.save_channel(Channel(2, "Альфа"))
    ledger.save_posts([make_post(n) for n in (1, 5, 3)])
    alpha, beta = ledger.channels()
    assert (alpha.channel, alpha.posts, alpha.first, alpha.last) == (Channel(2, "Альфа"), 0, None, None)
    assert (beta.posts, beta.first, beta.last) == (3, DAY + timedelta(minutes=1), DAY + timedelta(minutes=5))
    ledger.remove_posts([(1, 5)])
    assert ledger.channels()[1].last == DAY + timedelta(minutes=3)


def test_a_closed_channel_is_its_members_alone(ledger: Ledger) -> None:
    ledger.save_channel(Channel(1, "Всем"))
    ledger.save_channel(Channel(2, "Своим", kind="private_channel", is_open=False))
    member = ledger.save_user(telegram_id=10, username="ann", first_name="Анна")
    assert ledger.visible_channels(Asker()) == ledger.visible_channels(member) == {1}
    assert ledger.visible_channels(Asker(sees_everything=True)) == {1, 2}
    assert [status.channel.id for status in ledger.channels(None)] == [1, 2]
    assert member.user_id is not None
    ledger.grant(member.user_id, 2)
    ledger.grant(member.user_id, 2)
    member = ledger.save_user(telegram_id=10, username="ann", first_name="Анна")
    assert ledger.visible_channels(member) == {1, 2}
    ledger.revoke(member.user_id or 0, 2)
    assert ledger.save_user(telegram_id=10, username="ann", first_name="Анна").private_channels == frozenset()


def test_an_import_neither_opens_a_closed_channel_nor_forgets_a_username(ledger: Ledger) -> None:
    ledger.save_channel(Channel(1, "Старое", "name"))
    ledger.set_open(1, is_open=False)
    ledger.save_channel(Channel(1, "Новое", None))
    assert ledger.channels()[0].channel == Channel(1, "Новое", "name", is_open=False)
    assert ledger.visible_channels(Asker()) == frozenset()
    ledger.set_open(1, is_open=True)
    assert ledger.visible_channels(Asker()) == {1}


# People, questions, ratings


def test_a_person_has_one_row(ledger: Ledger) -> None:
    first = ledger.save_user(telegram_id=10, username="ann", first_name="Анна", last_name="К", language="ru")
    again = ledger.save_user(telegram_id=10, username=None, first_name="Аня", last_name=None, language="en")
    other = ledger.save_user(telegram_id=11, username=None, first_name="Олег")
    assert first.user_id == again.user_id != other.user_id
    assert (first.language, again.language) == ("ru", "en")
    assert ledger.stats()["users"] == 2


def test_a_question_comes_back_as_it_was(ledger: Ledger) -> None:
    row = make_question()
    ledger.questions.save(row)
    assert ledger.questions.get("q1") == row
    assert ledger.questions.get("q2") is None
    ledger.questions.save(replace(row, outcome="not_found"))
    assert ledger.questions.get("q1") == replace(row, outcome="not_found")
    assert ledger.stats()["questions"]["total"] == 1


def test_turns_are_the_last_ones_in_order(ledger: Ledger) -> None:
    for n in range(9):
        ledger.questions.save(make_question(f"q{n}", asked_at=DAY + timedelta(minutes=n)))
    ledger.questions.save(make_question("other", dialogue_id="d2", asked_at=DAY + timedelta(days=1)))
    assert [row.id for row in ledger.questions.turns("d1", limit=3)] == ["q6", "q7", "q8"]
    assert len(ledger.questions.turns("d1")) == 6
    assert ledger.questions.turns("nobody") == []


def test_the_last_vote_of_a_person_counts(ledger: Ledger) -> None:
    ledger.questions.save(make_question())
    assert not ledger.questions.rate("unknown", 5, "up", "")
    assert ledger.questions.rate("q1", 5, "up", "")
    assert ledger.questions.rate("q1", 6, "up", "")
    assert ledger.questions.rate("q1", 5, "down", "не о том")
    assert ledger.questions.votes() == {"up": 1, "down": 1}
    assert ledger.questions.rate("q1", None, "up")
    assert ledger.questions.rate("q1", None, "down")
    assert ledger.questions.votes() == {"up": 1, "down": 2}


def test_writers_wait_together_and_only_the_culprit_fails(ledger: Ledger) -> None:
    ledger.questions.save(make_question("twice"))

    def ask(n: int) -> str:
        ledger.questions.save(make_question("twice" if n % 7 == 0 else f"q{n}", text=f"{n}"))
        if n % 10 == 3:
            with pytest.raises(sa.exc.DBAPIError):
                ledger.save_posts([make_post(reactions=2**40)])
        return "twice" if n % 7 == 0 else f"q{n}"

    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(ask, range(200)))
    assert all(ledger.questions.get(question_id) for question_id in ids)
    assert ledger.stats()["questions"]["total"] == len(ids)
    assert ledger.posts([(1, 1)]) == {}


def test_readers_see_whole_batches_while_one_writes(ledger: Ledger) -> None:
    stop = threading.Event()
    seen: list[set[str]] = []

    def read() -> None:
        while not stop.is_set():
            cold = hot_posts.HotPosts(0)
            ledger._hot = cold
            seen.append({post.text for post in ledger.posts([(1, n) for n in range(20)]).values()})

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for version in range(15):
            edited_at = DAY + timedelta(seconds=version)
            ledger.save_posts([make_post(n, text=f"{version}", edited_at=edited_at) for n in range(20)])
        stop.set()
        for reader in readers:
            reader.result()
    assert seen
    assert all(len(versions) <= 1 for versions in seen)


def test_settings_and_events(ledger: Ledger) -> None:
    assert ledger.setting("quota") is None
    ledger.set_setting("quota", {"day": 20, "о": ["б", 1.5, True]})
    ledger.set_setting("quota", {"day": 30})
    assert ledger.setting("quota") == {"day": 30}
    ledger.access.record("ban", actor_id=1, subject="user 5", detail={"days": 3})
    ledger.access.record("ban", subject="user 6")
    ledger.access.record("error.telegram")
    assert ledger.stats()["events"] == {"ban": 2, "error.telegram": 1}


def test_stats_are_json_and_agree_with_the_rows(ledger: Ledger) -> None:
    today = datetime.now(UTC)
    yesterday = today - timedelta(days=1)
    ledger.save_channel(Channel(1, "Канал"))
    ledger.save_posts([make_post(n) for n in range(3)])
    rows_ = [
        make_question("a", user_id=1, asked_at=today, times_ms={"search": 1.0}),
        make_question("b", user_id=1, asked_at=today, outcome="not_found", times_ms={"search": 3.0}),
        make_question("c", user_id=None, dialogue_id="x", asked_at=today, door="telegram", times_ms={"search": 2.0}),
        make_question("d", user_id=2, asked_at=yesterday, times_ms={"search": 100.0, "total": 7.0}),
        make_question("old", asked_at=today - timedelta(days=90), times_ms={}),
    ]
    for row in rows_:
        ledger.questions.save(row)
    stats = orjson.loads(orjson.dumps(ledger.stats()))
    assert stats["questions"]["total"] == 5
    assert stats["questions"]["today"] == 3
    assert [(day["questions"], day["people"]) for day in stats["questions"]["by_day"]] == [(1, 1), (3, 2)]
    assert stats["questions"]["by_day"][-1]["outcomes"] == {"answered": 2, "not_found": 1}
    assert stats["outcomes"]["not_found"] == {"n": 1, "share": 0.2}
    assert stats["doors"] == {"web": 4, "telegram": 1}
    assert stats["stages_ms"]["search"]["p50"] == 2.5
    assert stats["stages_ms"]["total"] == {"p50": 7.0, "p95": 7.0, "n": 1}
    assert (stats["dau"], stats["posts"]) == (2, 3)
    assert stats["channels"][0]["posts"] == 3


def test_an_empty_ledger_has_figures_too(ledger: Ledger) -> None:
    stats = ledger.stats()
    assert stats["questions"] == {"total": 0, "today": 0, "by_day": []}
    assert stats["votes"] == {"up": 0, "down": 0}


def test_a_closed_ledger_says_so(ledger: Ledger) -> None:
    ledger.close()
    ledger.close()
    with pytest.raises(StoreError, match="closed"):
        ledger.post_counts()
    with pytest.raises(StoreError, match="closed"):
        ledger.save_posts([make_post()])
    assert not list(ledger.path.parent.glob("*.wal"))


# Schema


def test_migrations_make_the_tables_that_the_code_uses(ledger: Ledger) -> None:
    def differ(
        _context: object,
        _found: object,
        _wanted: object,
        found: sa.types.TypeEngine[object],
        wanted: sa.types.TypeEngine[object],
    ) -> bool:
        names = [type_.compile(dialect=ledger._database._engine.dialect) for type_ in (found, wanted)]
        one, other = (re.sub(r"^(TEXT|VARCHAR\(\d+\))$", "VARCHAR", name) for name in names)  # one type in DuckDB
        return one != other

    with ledger._database._engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": differ})
        assert compare_metadata(context, tables.metadata) == []
        extra = sa.MetaData()
        for table in tables.metadata.sorted_tables:
            table.to_metadata(extra)
        extra.tables["post"].append_column(sa.Column("views", sa.Integer))
        extra.tables["post"].c.reactions.type = sa.Text()
        assert len(compare_metadata(context, extra)) == 2


def test_the_code_knows_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == appliance.ledger.database.SCHEMA


def test_an_older_schema_is_brought_up_with_a_copy_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.duckdb"
    with Ledger.open(path) as ledger:
        ledger.save_posts([FULL])
    now = appliance.ledger.database.SCHEMA
    following = f"{int(now) + 1:04}"
    steps = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, steps)
    (steps / "versions" / f"{following}_test.py").write_text(
        f"import sqlalchemy as sa\nfrom alembic import op\nrevision = {following!r}\ndown_revision = {now!r}\n"
        "def upgrade():\n    op.add_column('post', sa.Column('views', sa.Integer))\n"
    )
    monkeypatch.setattr(appliance.ledger.database, "SCHEMA", following)
    monkeypatch.setattr(appliance.ledger.database, "MIGRATIONS", steps)
    with Ledger.open(path) as ledger:
        assert ledger.posts([FULL.key]) == {FULL.key: FULL}
        assert f"from {now} to {following}" in ledger.notes[0]
        assert "views" in {column["name"] for column in sa.inspect(ledger._database._engine).get_columns("post")}
    monkeypatch.undo()
    with pytest.raises(StartupError, match=rf"schema {following}.*older backup"):
        Ledger.open(path)
    shutil.copy(tmp_path / f"ledger.duckdb.before-{following}", path)
    with Ledger.open(path) as ledger:
        assert ledger.posts([FULL.key]) == {FULL.key: FULL}


def postgres_ddl() -> str:
    config = Config(output_buffer=StringIO())
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["dialect"] = "postgresql"
    command.upgrade(config, "head", sql=True)
    return str(config.output_buffer.getvalue())  # type: ignore[union-attr]


def test_the_same_tables_compile_for_postgresql() -> None:
    script = postgres_ddl()
    for table in tables.metadata.sorted_tables:
        compiled = str(CreateTable(table).compile(dialect=postgresql.dialect()))
        assert compiled.split("(")[0].strip() in script
    assert "monthly_price NUMERIC(12, 2)" in script
    assert "CASCADE" not in script


POSTGRES = [Path("/usr/lib/postgresql/15/bin"), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]


@pytest.mark.skipif(not any((bin_ / "initdb").exists() for bin_ in POSTGRES), reason="no PostgreSQL server here")
def test_the_same_tables_and_rows_on_real_postgresql(tmp_path: Path) -> None:
    bin_ = next(bin_ for bin_ in POSTGRES if (bin_ / "initdb").exists())
    root = os.geteuid() == 0
    if root and shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL refuses to run as root")
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else []
    folder = Path(f"/tmp/pf-pg-{os.getpid()}")
    folder.mkdir()
    if root:
        shutil.chown(folder, "postgres", "postgres")

    def run(*words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [*as_postgres, *words], input=stdin, capture_output=True, text=True, check=False, cwd="/tmp", timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        run(str(bin_ / "initdb"), "-D", f"{folder}/db", "-A", "trust", "-U", "pf", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run(str(bin_ / "pg_ctl"), "-D", f"{folder}/db", "-l", f"{folder}/log", "-w", "-o", options, "start")
        row = sa.insert(tables.post).values(**{**rows.post_values(FULL), "album_ids": sa.literal_column("'[8, 9]'")})
        literal = row.values(links=sa.literal_column("'[]'")).compile(
            dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}
        )
        person = (
            "INSERT INTO \"user\" VALUES (nextval('user_id_seq'), 5, 'ann', 'Анна', NULL, now(), now(), 'member', 'ru')"
        )
        query = "SELECT count(*), min(text), min(posted_at) FROM post"
        psql = [str(bin_ / "psql"), "-h", str(folder), "-U", "pf", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-Atq"]
        out = run(*psql, stdin=f"{postgres_ddl()};\n{literal};\n{person};\n{query};\n")
        assert "1|Встреча «у Лены»" in out
        assert "2024-05-01 12:37:00" in out
    finally:
        run(str(bin_ / "pg_ctl"), "-D", f"{folder}/db", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_damage_is_named_with_its_cure_and_only_damage(tmp_path: Path) -> None:
    path = tmp_path / "ledger.duckdb"
    with Ledger.open(path) as ledger:
        ledger.save_channel(Channel(1, "Сад"))
        ledger.save_posts([make_post(number, text=f"Пост {number} " + "о саде " * 40) for number in range(1, 400)])
    whole = path.read_bytes()
    outcomes = set()
    for place in range(5000, len(whole), len(whole) // 25):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            with Ledger.open(path) as ledger:
                assert len(ledger.posts([(1, number) for number in range(1, 400)])) == 399
            outcomes.add("whole")  # a part that holds nothing
        except (StartupError, StoreError) as error:
            outcomes.add("restore" if "postfinder restore" in error.cure else error.cure)
    assert "restore" in outcomes
    assert outcomes <= {"restore", "whole"}
