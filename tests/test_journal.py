"""The journal on real SQLite: nothing acknowledged is lost, nothing is done twice."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from appliance.errors import StartupError, StoreError
from appliance.journal import DAY_S, Journal, Outgoing
from appliance.journal_rows import STEPS

BOT = 77
ROOT = Path(__file__).parents[1]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "data" / "journal.sqlite") as opened:
        yield opened


def reply(chat_id: int = 5, text: str = "да", **fields: object) -> Outgoing:
    return Outgoing(chat_id, "sendMessage", {"chat_id": chat_id, "text": text}, **fields)  # type: ignore[arg-type]


def texts_due(journal: Journal, now: float | None = None) -> list[str]:
    return [message.payload["text"] for message in journal.due(time.time() if now is None else now)]


# Inbox


def test_updates_come_back_raw_and_in_order(journal: Journal) -> None:
    raw = b'{"update_id": 3, "message": "\xd0\xbf \x00 broken'
    assert journal.take_in(BOT, [(3, raw), (1, b"{}"), (2, b"")]) == 3
    assert [(update.update_id, update.raw) for update in journal.next_pending()] == [(3, raw), (1, b"{}"), (2, b"")]


def test_repeats_are_recognised_by_bot_and_id(journal: Journal) -> None:
    assert journal.take_in(BOT, [(1, b"a"), (1, b"b"), (2, b"c")]) == 2
    assert journal.take_in(BOT, [(2, b"c"), (3, b"d")]) == 1
    assert journal.take_in(BOT + 1, [(1, b"other bot")]) == 1
    assert journal.take_in(BOT, []) == 0
    assert [update.raw for update in journal.next_pending()] == [b"a", b"c", b"d", b"other bot"]


def test_work_is_handed_out_in_pages_and_counted(journal: Journal) -> None:
    journal.take_in(BOT, [(n, b"{}") for n in range(5)])
    first = journal.next_pending(limit=2)
    second = journal.next_pending(after=first[-1].seq, limit=10)
    assert [update.update_id for update in first + second] == [0, 1, 2, 3, 4]
    assert {update.attempts for update in journal.next_pending()} == {2}


def test_done_and_its_replies_are_one(journal: Journal) -> None:
    journal.take_in(BOT, [(1, b"{}"), (2, b"{}")])
    ids = journal.done([(BOT, 1)], [reply(text="раз"), reply(text="два")])
    assert len(ids) == 2
    assert journal.done([(BOT, 1)], [reply(text="ещё раз")]) == []
    with pytest.raises(TypeError):
        journal.done([(BOT, 2)], [reply(text="три"), Outgoing(5, "sendMessage", {"bad": object()})])
    assert [update.update_id for update in journal.next_pending()] == [2]
    assert journal.counts()["outbox_queued"] == 2


def test_the_rest_flow_past_a_quarantined_update(journal: Journal) -> None:
    journal.take_in(BOT, [(1, b"poison"), (2, b"{}")])
    assert journal.quarantine((BOT, 1), "not JSON")
    assert not journal.quarantine((BOT, 1), "again")
    assert [update.update_id for update in journal.next_pending()] == [2]
    (kept,) = journal.quarantined()
    assert (kept.key, kept.raw, kept.reason) == ((BOT, 1), b"poison", "not JSON")
    assert journal.take_in(BOT, [(1, b"poison")]) == 0


# Outbox


def test_finals_go_before_drafts_and_each_chat_in_order(journal: Journal) -> None:
    journal.enqueue([reply(1, "черновик", priority="draft"), reply(1, "a"), reply(1, "b"), reply(2, "c")])
    assert texts_due(journal) == ["a", "c"]
    first, other = journal.due(time.time())
    assert journal.mark_sending(first.id)
    assert texts_due(journal) == ["c"]
    assert journal.mark_sent(first.id, 1001)
    assert texts_due(journal) == ["b", "c"]
    for message in (*journal.due(time.time()), other):
        if journal.mark_sending(message.id):
            journal.mark_sent(message.id)
    assert texts_due(journal) == ["черновик"]


def test_a_postponed_message_holds_its_chat_and_is_not_overtaken(journal: Journal) -> None:
    journal.enqueue([reply(1, "a"), reply(1, "b"), reply(2, "c")])
    first = journal.due(time.time())[0]
    journal.mark_sending(first.id)
    assert journal.postpone(first.id, 5000.0 + time.time(), "429")
    assert texts_due(journal) == ["c"]
    assert texts_due(journal, time.time() + 5001) == ["a", "c"]
    assert journal.due(time.time() + 5001)[0].attempts == 1


def test_nothing_is_due_before_its_time(journal: Journal) -> None:
    journal.enqueue([reply(1, not_before=900.0), reply(2, not_before=800.0)])
    assert journal.due(799.0) == []
    assert [message.chat_id for message in journal.due(800.0)] == [2]


def test_only_one_sender_gets_a_message(journal: Journal) -> None:
    ids = journal.enqueue([reply(n) for n in range(40)])
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(journal.mark_sending, ids * 4))
    assert sum(won) == len(ids)


def test_marks_follow_the_order_of_things(journal: Journal) -> None:
    (message,) = journal.enqueue([reply()])
    assert not journal.mark_sent(message)
    assert not journal.postpone(message, 1.0)
    assert not journal.fail(message, "no")
    assert journal.mark_sending(message)
    assert journal.fail(message, "403")
    assert not journal.mark_sending(message)
    assert journal.counts()["outbox_failed"] == 1
    assert not journal.mark_sending(10**6)


def test_a_crash_between_send_and_mark_is_counted_and_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.open(path) as journal:
        sent, half = journal.enqueue([reply(1, "sent"), reply(2, "half")])
        journal.mark_sending(sent)
        journal.mark_sent(sent, 9)
        journal.mark_sending(half)
    with Journal.open(path) as journal:
        assert journal.maybe_twice == (half,)
        assert journal.counts()["maybe_twice"] == 1
        (message,) = journal.due(time.time())
        assert (message.id, message.maybe_twice, message.attempts) == (half, True, 1)
        journal.mark_sending(half)
        journal.mark_sent(half)
    with Journal.open(path) as journal:
        assert journal.maybe_twice == ()
        assert journal.counts()["maybe_twice"] == 1


# Housekeeping


def test_pruning_forgets_rows_but_still_recognises_repeats(journal: Journal) -> None:
    journal.take_in(BOT, [(n, b"{}") for n in range(4)])
    journal.done([(BOT, 0), (BOT, 1)], [reply(1), reply(2)])
    journal.quarantine((BOT, 2), "bad")
    (sent, _) = [message.id for message in journal.due(time.time())]
    journal.mark_sending(sent)
    journal.mark_sent(sent)
    assert journal.prune() == 0
    assert journal.prune(keep_s=-1) == 3
    assert journal.take_in(BOT, [(n, b"{}") for n in range(4)]) == 0
    assert journal.counts() == {
        "inbox_pending": 1,
        "inbox_quarantined": 1,
        "outbox_queued": 1,
        "outbox_sending": 0,
        "outbox_failed": 0,
        "maybe_twice": 0,
    }
    journal.prune(keep_s=-1, remember_s=-2 * DAY_S)
    assert journal.take_in(BOT, [(0, b"{}")]) == 1


def test_finished_text_leaves_the_files(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal.open(path) as journal:
        journal.take_in(BOT, [(1, "канарейка".encode())])
        (message,) = journal.done([(BOT, 1)], [reply(text="канарейка")])
        journal.prune()
        assert "канарейка".encode() in path.read_bytes()  # still to be sent: the control
        journal.mark_sending(message)
        journal.mark_sent(message, 1)
        journal.prune()
        for file in tmp_path.iterdir():
            assert "канарейка".encode() not in file.read_bytes()


def test_who_waits_together_shares_a_sync(journal: Journal) -> None:
    statements: list[str] = []
    journal._file._connection.set_trace_callback(statements.append)
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda n: journal.take_in(BOT, [(n, b"{}")]), range(300))) == 300
    assert statements.count("SAVEPOINT one") == 300
    assert statements.count("COMMIT") < 250


def test_one_bad_call_does_not_harm_its_neighbours(journal: Journal) -> None:
    def take(n: int) -> int:
        if n % 5:
            return journal.take_in(BOT, [(n, b"{}")])
        with pytest.raises((sqlite3.Error, OverflowError)):
            journal.take_in(BOT, [(n, b"{}"), (2**70, b"{}")])
        return 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(100))) == 80
    assert {update.update_id % 5 for update in journal.next_pending(limit=200)} == {1, 2, 3, 4}


def test_one_owner_and_a_clear_word_for_the_second(journal: Journal) -> None:
    with pytest.raises(StartupError, match="stop it first"):
        Journal.open(journal.path)
    code = (
        "import sys; from pathlib import Path; from appliance.journal import Journal; Journal.open(Path(sys.argv[1]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(journal.path)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert "stop it first" in other.stderr
    assert journal.take_in(BOT, [(1, b"{}")]) == 1


def test_a_closed_journal_says_so(journal: Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(StoreError, match="closed"):
        journal.take_in(BOT, [(1, b"{}")])


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"something else" * 500)
    with pytest.raises(StartupError, match="cannot be read"):
        Journal.open(path)
    assert path.read_bytes().startswith(b"something else")


def test_an_older_journal_is_brought_up_and_a_newer_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(STEPS[0] + "PRAGMA user_version = 1;")
        old.execute("INSERT INTO inbox (bot_id, update_id, raw, received_at) VALUES (?, 1, x'7b7d', 0)", (BOT,))
    old.close()
    with Journal.open(path) as journal:
        assert [update.update_id for update in journal.next_pending()] == [1]
        assert (journal.begin((BOT, 1)), journal.begin((BOT, 1)), journal.begin((BOT, 2))) == (1, 2, 0)
    with sqlite3.connect(path) as new:
        new.execute("PRAGMA user_version = 99")
    new.close()
    with pytest.raises(StartupError, match="schema 99"):
        Journal.open(path)


def test_a_reply_finds_the_dialogue_of_what_it_answers(journal: Journal) -> None:
    first, second = journal.enqueue([reply(5, dialogue_id="d1"), reply(6)])
    for message in (first, second):
        journal.mark_sending(message)
        journal.mark_sent(message, 1000)
    assert journal.dialogue_of(5, 1000) == "d1"
    assert journal.dialogue_of(6, 1000) is None


# Crashes


@pytest.mark.parametrize("seed", range(12))
def test_a_power_cut_keeps_what_was_acknowledged(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    live, image = tmp_path / "live", tmp_path / "image"
    with Journal.open(live / "journal.sqlite") as journal:
        for n in range(rng.randrange(1, 12)):
            journal.take_in(BOT, [(n, rng.randbytes(rng.randrange(3000)))])
        last = n
        log = live / "journal.sqlite-wal"
        size = log.stat().st_size
        journal.take_in(BOT, [(1000, rng.randbytes(9000))])  # on its way when the power goes
        shutil.copytree(live, image)
    data = (image / "journal.sqlite-wal").read_bytes()
    at = rng.randrange(size, len(data))
    rest = rng.choice([b"", bytes(len(data) - at), rng.randbytes(len(data) - at)])
    (image / "journal.sqlite-wal").write_bytes(data[:at] + rest)
    with Journal.open(image / "journal.sqlite") as journal:
        assert [update.update_id for update in journal.next_pending()] == list(range(last + 1))
        assert journal.take_in(BOT, [(1000, b"{}"), (0, b"{}")]) == 1


WORKER = """
import sys
from pathlib import Path
from appliance.journal import Journal, Outgoing

journal, first = Journal.open(Path(sys.argv[1])), int(sys.argv[2])
say = lambda word, n: (sys.stdout.write(f"{word} {n}\\n"), sys.stdout.flush())
say("open", 0)
for update in journal.next_pending():
    journal.done([update.key], [Outgoing(update.update_id, "sendMessage", {"n": update.update_id})])
for n in range(first, first + 10**6):
    journal.take_in(1, [(n, b"{}")])
    say("taken", n)
    journal.done([(1, n)], [Outgoing(n, "sendMessage", {"n": n})])
    for message in journal.due(9e9, limit=3):
        journal.mark_sending(message.id)
        say("sent", message.payload["n"])
        journal.mark_sent(message.id, n)
"""


def test_dozens_of_kills_lose_nothing_and_repeat_only_what_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    rng = random.Random(5)
    taken: set[int] = set()
    sent: list[int] = []
    for number in range(24):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path), str(number * 10**6)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert worker.stdout is not None
        assert worker.stdout.readline() == "open 0\n"
        heard = [worker.stdout.readline() for _ in range(rng.randrange(1, 12))]
        time.sleep(rng.random() * 0.003)
        worker.send_signal(signal.SIGKILL)
        for line in (*heard, *worker.communicate()[0].splitlines()):
            word, n = line.split()
            taken.add(int(n)) if word == "taken" else sent.append(int(n))
    with Journal.open(path) as journal:
        for update in journal.next_pending(limit=10**6):
            journal.done([update.key], [Outgoing(update.update_id, "sendMessage", {"n": update.update_id})])
        while messages := journal.due(9e9):
            for message in messages:
                sent.append(message.payload["n"])
                journal.mark_sending(message.id)
                journal.mark_sent(message.id)
        assert len(taken) > 24
        assert taken <= set(sent)
        assert len(sent) - len(set(sent)) <= journal.counts()["maybe_twice"] <= 24


class JournalLife(RuleBasedStateMachine):
    """Any order of calls and restarts against a plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.journal = Journal.open(Path(self.folder.name) / "journal.sqlite")
        self.pending: list[int] = []
        self.seen: set[int] = set()
        self.queued: list[tuple[int, int]] = []  # (outbox id, chat)
        self.sending: set[int] = set()
        self.twice = 0

    def teardown(self) -> None:
        self.journal.close()
        self.folder.cleanup()

    @rule(ids=st.lists(st.integers(1, 12), max_size=4))
    def take_in(self, ids: list[int]) -> None:
        new = [n for n in dict.fromkeys(ids) if n not in self.seen]
        assert self.journal.take_in(BOT, [(n, str(n).encode()) for n in ids]) == len(new)
        self.pending += new
        self.seen |= set(new)

    @rule(n=st.integers(1, 12), chats=st.lists(st.integers(1, 3), max_size=2))
    def finish(self, n: int, chats: list[int]) -> None:
        made = self.journal.done([(BOT, n)], [reply(chat, str(n)) for chat in chats])
        assert len(made) == (len(chats) if n in self.pending else 0)
        self.queued += list(zip(made, chats, strict=False))
        self.pending = [known for known in self.pending if known != n]

    @rule(n=st.integers(1, 12))
    def quarantine(self, n: int) -> None:
        assert self.journal.quarantine((BOT, n), "bad") == (n in self.pending)
        self.pending = [known for known in self.pending if known != n]

    @rule(how=st.sampled_from(["sent", "postponed", "failed", "cut off"]))
    def send(self, how: str) -> None:
        for message in self.journal.due(time.time(), limit=1):
            assert self.journal.mark_sending(message.id)
            self.sending.add(message.id)
            if how == "cut off":
                return
            if how == "postponed":
                self.journal.postpone(message.id, 0.0)
            else:
                assert self.journal.mark_sent(message.id) if how == "sent" else self.journal.fail(message.id, "no")
                self.queued = [pair for pair in self.queued if pair[0] != message.id]
            self.sending.discard(message.id)

    @rule()
    def restart(self) -> None:
        path = self.journal.path
        self.journal.close()
        self.journal = Journal.open(path)
        assert set(self.journal.maybe_twice) == self.sending
        self.twice += len(self.sending)
        self.sending = set()

    @rule()
    def prune(self) -> None:
        self.journal.prune(keep_s=-1)

    @invariant()
    def agrees(self) -> None:
        assert [update.update_id for update in self.journal.next_pending()] == self.pending
        counts = self.journal.counts()
        assert counts["outbox_queued"] + counts["outbox_sending"] == len(self.queued)
        assert counts["maybe_twice"] == self.twice
        busy = {chat for message, chat in self.queued if message in self.sending}
        heads = {chat: message for message, chat in reversed(self.queued)}
        due = [message.id for message in self.journal.due(time.time())]
        assert due == sorted(message for chat, message in heads.items() if chat not in busy)


TestJournalLife = JournalLife.TestCase
TestJournalLife.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)


def test_what_is_to_be_said_once_is_queued_once(tmp_path: Path) -> None:
    told = Outgoing(5, "sendMessage", {"chat_id": 5, "text": "один раз"}, once="notice:1")
    with Journal.open(tmp_path / "j") as journal:
        (first,) = journal.enqueue([told])
        assert journal.enqueue([told, Outgoing(5, "sendMessage", {"text": "ещё"})]) != [first]
        journal.mark_sending(first)
        journal.mark_sent(first, 7)
    with Journal.open(tmp_path / "j") as journal:
        assert journal.enqueue([told]) == []
        assert journal.counts()["outbox_queued"] == 1


def test_the_message_that_stands_for_an_answer_is_remembered(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j") as journal:
        journal.take_in(1, [(10, b"{}")])
        assert journal.show((1, 10)) is None
        assert journal.show((1, 10), 77) == 77
    with Journal.open(tmp_path / "j") as journal:
        assert journal.show((1, 10)) == 77
        assert journal.show((1, 11)) is None


def test_a_named_message_is_queued_once_and_answers_know_their_question(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        named = Outgoing(5, "sendMessage", {"n": 1}, once="fix:q1", question_id="q1")
        (first,) = journal.enqueue([named])
        assert len(journal.enqueue([named, Outgoing(5, "sendMessage", {"n": 2}, once="fix:q2")])) == 1
        assert len(journal.enqueue([reply(), reply()])) == 2  # unnamed ones are as many as they are
        assert journal.places("q1") == []
        assert journal.mark_sending(first)
        assert journal.mark_sent(first, 77)
        assert journal.places("q1") == [(5, 77)]
        assert journal.enqueue([named]) == []  # not after it was sent either
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        assert journal.enqueue([named]) == []
        assert journal.places("q1") == [(5, 77)]
