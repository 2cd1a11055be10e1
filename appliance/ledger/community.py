"""What a community adds by itself: refusals that wait, members' answers, repeats in groups, answers that changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from appliance.ledger.database import Database
from appliance.ledger.rows import QUESTION_COLUMNS, question_of, storable
from appliance.ledger.sealing import open_question, open_row, seal_row
from appliance.ledger.tables import (
    answer_id_seq,
    closed_question,
    correction,
    faq,
    feedback,
    group_question,
    member_answer,
    question,
    user,
)
from appliance.schema import PostKey, QuestionRow
from appliance.vault import Vault

FEW_POSTS = 20  # so many are looked for inside DuckDB; of more, every recent answer is read


@dataclass(frozen=True, slots=True)
class MemberAnswer:
    """A trusted member's reply to a question that the posts did not answer."""

    answer_id: int
    corpus_id: int
    user_id: int | None
    asker_id: int | None
    question_id: str | None
    answered_at: datetime
    text: str
    source: str

    @property
    def key(self) -> PostKey:
        """Its place among the posts."""
        return (self.corpus_id, self.answer_id)


@dataclass(frozen=True, slots=True)
class GroupQuestion:
    """A question that a member asked the others."""

    chat_id: int
    message_id: int
    user_id: int
    asked_at: datetime
    text: str
    post: PostKey | None  # answers it, where search is sure
    repeat_of: int | None = None  # message id; 0: one asked of the bot
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class FaqEntry:
    """A frequent question."""

    question_id: str
    user_id: int | None
    text: str
    asked: int
    state: str


class Community:
    """These tables; blocking, thread-safe.

    Parameters
    ----------
    database : Database
    vault : Vault or None
    """

    def __init__(self, database: Database, vault: Vault | None) -> None:
        self._database = database
        self._vault = vault

    # People

    def staff(self, roles: Collection[str]) -> list[int]:
        """List the people of these roles by user id."""
        rows = self._database.read(sa.select(user.c.user_id).where(user.c.role.in_(list(roles))))
        return sorted(row[0] for row in rows)

    # Refusals that wait for an answer

    def refusals(self, *, days: int, limit: int) -> list[QuestionRow]:
        """List the questions that the posts did not answer and nobody settled, newest first."""
        closed = sa.select(closed_question.c.question_id)
        statement = (
            sa.select(*QUESTION_COLUMNS)
            .where(
                question.c.outcome == "not_found",
                question.c.asked_at > _now() - timedelta(days=days),
                question.c.question_id.not_in(closed),
            )
            .order_by(question.c.asked_at.desc())
            .limit(limit)
        )
        return [self._question_of(row) for row in self._database.read(statement)]

    def is_closed(self, question_id: str) -> bool:
        """Whether a question is out of the queue."""
        known = sa.select(closed_question.c.question_id).where(closed_question.c.question_id == question_id)
        return bool(self._database.read(known))

    def close(self, questions: Sequence[QuestionRow], reason: str) -> None:
        """Take questions out of the queue."""
        rows = [
            {"question_id": row.id, "user_id": row.user_id, "reason": reason, "closed_at": _now()} for row in questions
        ]

        def act(connection: sa.Connection) -> None:
            for row in rows:
                connection.execute(insert(closed_question).values(**row).on_conflict_do_nothing())

        self._database.write(act)

    # Members' answers

    def keep_answer(
        self,
        *,
        corpus_id: int,
        user_id: int | None,
        asker_id: int | None,
        question_id: str | None,
        text: str,
        source: str,
    ) -> MemberAnswer:
        """Keep a member's answer; the same message again is the same answer."""
        known = sa.select(*member_answer.c).where(member_answer.c.source == source)

        def act(connection: sa.Connection) -> dict[str, Any]:
            found = connection.execute(known).first() if source else None
            if found is not None:
                return dict(found._mapping)
            number = int(connection.execute(sa.select(answer_id_seq.next_value())).scalar_one())
            row = {
                "answer_id": number,
                "corpus_id": corpus_id,
                "user_id": user_id,
                "asker_id": asker_id,
                "question_id": question_id,
                "answered_at": _now(),
                "text": storable(text),
                "source": source,
            }
            sealed = seal_row(self._vault, "member_answer", row)
            connection.execute(sa.insert(member_answer).values(sealed))
            return sealed

        return self._answer_of(self._database.write(act))

    def answers(
        self,
        *,
        by: int | None = None,
        asked_by: int | None = None,
        key: PostKey | None = None,
        source: str | None = None,
    ) -> list[MemberAnswer]:
        """List members' answers: of an author, to an asker, the one at a place, or from a message."""
        statement = sa.select(*member_answer.c).order_by(member_answer.c.answer_id)
        if by is not None:
            statement = statement.where(member_answer.c.user_id == by)
        if asked_by is not None:
            statement = statement.where(member_answer.c.asker_id == asked_by)
        if key is not None:
            statement = statement.where(member_answer.c.corpus_id == key[0], member_answer.c.answer_id == key[1])
        if source is not None:
            statement = statement.where(member_answer.c.source == source)
        return [self._answer_of(dict(row._mapping)) for row in self._database.read(statement)]

    def drop_answers(self, keys: Sequence[PostKey]) -> None:
        """Delete the members' answers at these places."""
        statement = sa.delete(member_answer).where(member_answer.c.answer_id.in_([key[1] for key in keys]))
        self._database.write(lambda connection: connection.execute(statement))

    def _answer_of(self, row: dict[str, Any]) -> MemberAnswer:
        opened = open_row(self._vault, "member_answer", row)
        return MemberAnswer(**{**opened, "answered_at": opened["answered_at"].astimezone(UTC)})

    # Corrections

    def correct(self, rows: Sequence[QuestionRow], kind: str) -> list[tuple[QuestionRow, int]]:
        """Mark answers as changed; returns those not marked before, with how many of their person's were today."""
        today = _now() - timedelta(days=1)

        def act(connection: sa.Connection) -> list[tuple[QuestionRow, int]]:
            marked = sa.select(correction.c.question_id).where(correction.c.question_id.in_([row.id for row in rows]))
            known = {row[0] for row in connection.execute(marked)}
            fresh = [row for row in rows if row.id not in known]
            if not fresh:
                return []
            number = sa.func.count().label("number")
            people = {row.user_id for row in fresh if row.user_id is not None}
            lately = sa.select(correction.c.user_id, number).where(
                correction.c.user_id.in_(people), correction.c.made_at > today
            )
            told = Counter({row[0]: row[1] for row in connection.execute(lately.group_by(correction.c.user_id))})
            found = []
            for row in fresh:
                found.append((row, told[row.user_id]))
                told[row.user_id] += row.user_id is not None
            made = {"kind": kind, "made_at": _now()}
            values = [{"question_id": row.id, "user_id": row.user_id, **made} for row in fresh]
            connection.execute(sa.insert(correction), values)
            return found

        return self._database.write(act) if rows else []

    def corrections(self) -> dict[str, int]:
        """Count the marked answers by what happened to their posts."""
        rows = self._database.read(sa.select(correction.c.kind, sa.func.count()).group_by(correction.c.kind))
        return {row[0]: row[1] for row in rows}

    # Answers and the posts they stand on

    def answers_using(self, keys: Collection[PostKey], *, days: int) -> list[QuestionRow]:
        """List the answers of the last days that cite any of these posts."""
        wanted = set(keys)
        if not wanted:
            return []
        recent = sa.and_(question.c.answer_text != "", question.c.asked_at > _now() - timedelta(days=days))
        statement = sa.select(question.c.question_id, question.c.posts).where(recent)
        if len(wanted) <= FEW_POSTS:
            stored = sa.cast(question.c.posts, sa.String)
            statement = statement.where(sa.or_(*(stored.contains(f"{a},{b}") for a, b in wanted)))
        rows = self._database.read(statement)
        hit = [row[0] for row in rows if not wanted.isdisjoint((a, b) for a, b in row[1])]
        return self.questions(hit)

    def questions(self, question_ids: Sequence[str]) -> list[QuestionRow]:
        """Fetch rows of questions, in no order."""
        found: list[QuestionRow] = []
        for start in range(0, len(question_ids), 500):
            some = question.c.question_id.in_(question_ids[start : start + 500])
            found += [self._question_of(row) for row in self._database.read(sa.select(*QUESTION_COLUMNS).where(some))]
        return found

    def answered(self, *, days: int, limit: int) -> list[tuple[QuestionRow, int]]:
        """List answered questions with their ratings (up less down), newest first; those rated badly are left out."""
        score = sa.func.coalesce(sa.func.sum(sa.case((feedback.c.vote == "up", 1), else_=-1)), 0)
        rated = (
            sa.select(feedback.c.question_id, score.label("score")).group_by(feedback.c.question_id).subquery("rated")
        )
        points = sa.func.coalesce(rated.c.score, 0)
        statement = (
            sa.select(*QUESTION_COLUMNS, points)
            .select_from(question.outerjoin(rated, rated.c.question_id == question.c.question_id))
            .where(
                question.c.outcome == "answered",
                question.c.asked_at > _now() - timedelta(days=days),
                points >= 0,
            )
            .order_by(question.c.asked_at.desc())
            .limit(limit)
        )
        return [(self._question_of(row[:-1]), int(row[-1])) for row in self._database.read(statement)]

    def _question_of(self, row: Sequence[Any]) -> QuestionRow:
        return question_of(open_question(self._vault, row))

    # Repeated questions in groups

    def keep_group_question(self, asked: GroupQuestion) -> bool:
        """Keep a question that a member asked the others; False when it is kept already."""
        row = {
            "chat_id": asked.chat_id,
            "message_id": asked.message_id,
            "user_id": asked.user_id,
            "asked_at": asked.asked_at,
            "text": storable(asked.text),
            "post_channel_id": asked.post and asked.post[0],
            "post_message_id": asked.post and asked.post[1],
            "repeat_of": asked.repeat_of,
            "is_told": asked.is_told,
        }
        known = sa.select(group_question.c.user_id).where(
            group_question.c.chat_id == asked.chat_id, group_question.c.message_id == asked.message_id
        )

        def act(connection: sa.Connection) -> bool:
            if connection.execute(known).first() is not None:
                return False
            connection.execute(sa.insert(group_question).values(seal_row(self._vault, "group_question", row)))
            return True

        return self._database.write(act)

    def group_questions(self, chat_id: int, limit: int) -> list[GroupQuestion]:
        """List the newest questions of a group, oldest first."""
        statement = (
            sa.select(*group_question.c)
            .where(group_question.c.chat_id == chat_id)
            .order_by(group_question.c.asked_at.desc(), group_question.c.message_id.desc())
            .limit(limit)
        )
        found = []
        for row in reversed(self._database.read(statement)):
            values = open_row(self._vault, "group_question", dict(row._mapping))
            channel_id, message_id = values.pop("post_channel_id"), values.pop("post_message_id")
            found.append(GroupQuestion(post=None if channel_id is None else (channel_id, message_id), **values))
        return found

    def repeats(self) -> dict[int, list[tuple[datetime, bool, bool]]]:
        """List by group when each question was asked, whether it was a repeat, and whether that was told."""
        columns = (
            group_question.c.chat_id,
            group_question.c.asked_at,
            group_question.c.repeat_of.is_not(None),
            group_question.c.is_told,
        )
        found: dict[int, list[tuple[datetime, bool, bool]]] = {}
        for chat_id, *rest in self._database.read(sa.select(*columns).order_by(group_question.c.asked_at)):
            found.setdefault(chat_id, []).append((rest[0], rest[1], rest[2]))
        return found

    # Frequent questions

    def propose(self, entries: Sequence[FaqEntry]) -> int:
        """Propose frequent questions; those decided on before stay so. Returns how many are new."""

        def act(connection: sa.Connection) -> int:
            known = {row[0] for row in connection.execute(sa.select(faq.c.question_id))}
            fresh = [
                seal_row(self._vault, "faq", {**asdict(one), "text": storable(one.text), "found_at": _now()})
                for one in entries
                if one.question_id not in known
            ]
            for one in entries:
                if one.question_id in known:
                    connection.execute(
                        sa.update(faq).where(faq.c.question_id == one.question_id).values(asked=one.asked)
                    )
            for row in fresh:
                connection.execute(sa.insert(faq).values(row))
            return len(fresh)

        return self._database.write(act)

    def faq(self, *states: str) -> list[FaqEntry]:
        """List frequent questions of these states, the most asked first."""
        statement = sa.select(*faq.c).where(faq.c.state.in_(states)).order_by(faq.c.asked.desc(), faq.c.question_id)
        found = []
        for row in self._database.read(statement):
            values = open_row(self._vault, "faq", dict(row._mapping))
            values.pop("found_at")
            found.append(FaqEntry(**values))
        return found

    def set_faq(self, question_id: str, state: str) -> bool:
        """Decide on a frequent question; False when there is no such."""
        statement = sa.update(faq).where(faq.c.question_id == question_id).values(state=state)
        return self._database.write(lambda connection: bool(connection.execute(statement).rowcount))

    # What is too old

    def expire(self, *, questions_days: int) -> dict[str, int]:
        """Delete what is older than its retention period; returns the rows by table."""
        old = {}
        if questions_days:
            before = _now() - timedelta(days=questions_days)
            old = {
                correction: correction.c.made_at < before,
                group_question: group_question.c.asked_at < before,
                closed_question: closed_question.c.closed_at < before,
                faq: sa.and_(faq.c.found_at < before, faq.c.state == "proposed"),
            }

        def act(connection: sa.Connection) -> dict[str, int]:
            return {
                str(table.name): connection.execute(sa.delete(table).where(condition)).rowcount
                for table, condition in old.items()
            }

        return self._database.write(act)


def _now() -> datetime:
    return datetime.now(UTC)
