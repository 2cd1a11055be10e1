"""Plans in the ledger: what is on offer, who has what until when, payments, questions asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from appliance.ledger.database import Database
from appliance.ledger.rows import storable
from appliance.ledger.tables import (
    payment,
    question,
    subscription_id_seq,
    subscription_type,
    type_id_seq,
    user,
    user_subscription,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan on offer.

    Attributes
    ----------
    stars : int
        Price of 30 days in Telegram Stars; 0 is not sold, only given.
    per_day, per_month : int or None
        Questions; None has no limit.
    is_retired : bool
        No longer sold; who has it keeps it.
    """

    type_id: int
    name: str
    stars: int
    per_day: int | None = None
    per_month: int | None = None
    is_retired: bool = False


@dataclass(frozen=True, slots=True)
class Subscription:
    """A person's plan; ``valid_to`` None has no end, ``charge_id`` None was given."""

    subscription_id: int
    user_id: int
    type_id: int
    valid_from: datetime
    valid_to: datetime | None
    charge_id: str | None = None
    renews: bool = False


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment in Telegram Stars."""

    charge_id: str
    user_id: int
    type_id: int | None
    stars: int
    is_renewal: bool
    paid_at: datetime
    refunded_at: datetime | None = None


class Plans:
    """What the ledger holds of plans; blocking, thread-safe.

    Parameters
    ----------
    database : Database
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def plans(self) -> list[Plan]:
        """List all plans, retired ones too, the cheapest first."""
        columns = subscription_type.c
        rows = self._database.read(sa.select(subscription_type).order_by(columns.monthly_price, columns.type_id))
        return [
            Plan(row.type_id, row.type_name, int(row.monthly_price), row.per_day, row.per_month, bool(row.retired_at))
            for row in rows
        ]

    def save_plan(
        self, name: str, *, stars: int, per_day: int | None, per_month: int | None, is_retired: bool = False
    ) -> Plan:
        """Create a plan, or change the one of this name.

        Parameters
        ----------
        name : str
        stars : int
        per_day, per_month : int or None
        is_retired : bool

        Returns
        -------
        Plan
        """
        values = {
            "type_name": storable(name),
            "monthly_price": stars,
            "per_day": per_day,
            "per_month": per_month,
            "retired_at": datetime.now(UTC) if is_retired else None,
        }

        def save(connection: sa.Connection) -> int:
            known = sa.select(subscription_type.c.type_id).where(subscription_type.c.type_name == values["type_name"])
            found = connection.execute(known).scalar()
            if found is not None:
                change = sa.update(subscription_type).where(subscription_type.c.type_id == found)
                # DuckDB takes a changed row of a unique column for a second one: the name stays out.
                connection.execute(change.values({key: value for key, value in values.items() if key != "type_name"}))
                return int(found)
            type_id = int(connection.execute(sa.select(type_id_seq.next_value())).scalar_one())
            connection.execute(sa.insert(subscription_type).values(type_id=type_id, **values))
            return type_id

        return Plan(self._database.write(save), name, stars, per_day, per_month, is_retired)

    def subscriptions(self, since: datetime) -> list[Subscription]:
        """List the subscriptions that had not ended at a time, in the order they were made."""
        columns = user_subscription.c
        still = sa.or_(columns.valid_to.is_(None), columns.valid_to > since)
        rows = self._database.read(sa.select(user_subscription).where(still).order_by(columns.subscription_id))
        return [
            Subscription(
                row.subscription_id,
                row.user_id,
                row.type_id,
                row.valid_from,
                row.valid_to,
                row.charge_id,
                bool(row.renews),
            )
            for row in rows
        ]

    def give(self, user_id: int, type_id: int, *, valid_from: datetime, valid_to: datetime | None) -> Subscription:
        """Give a person a plan without a payment.

        Parameters
        ----------
        user_id, type_id : int
        valid_from : datetime
        valid_to : datetime or None
            None has no end.

        Returns
        -------
        Subscription
        """

        def save(connection: sa.Connection) -> Subscription:
            return _insert(connection, user_id, type_id, valid_from, valid_to, None, renews=False)

        return self._database.write(save)

    def pay(self, paid: Payment, *, valid_to: datetime, renews: bool) -> Subscription | None:
        """Store a payment and what it buys; told of again, a charge changes nothing.

        Parameters
        ----------
        paid : Payment
        valid_to : datetime
            End of what was paid for.
        renews : bool
            Whether it will be charged again.

        Returns
        -------
        Subscription or None
            The new or longer subscription; None when the charge is known, or buys no plan.
        """
        columns = user_subscription.c

        def save(connection: sa.Connection) -> Subscription | None:
            known = sa.select(payment.c.charge_id).where(payment.c.charge_id == paid.charge_id)
            if connection.execute(known).first() is not None:
                return None
            row = {name: getattr(paid, name) for name in Payment.__dataclass_fields__}
            connection.execute(sa.insert(payment).values(row))
            if paid.type_id is None:
                return None
            mine = sa.select(user_subscription).where(
                columns.user_id == paid.user_id, columns.type_id == paid.type_id, columns.charge_id.is_not(None)
            )
            last = connection.execute(mine.order_by(columns.subscription_id.desc()).limit(1)).first()
            if paid.is_renewal and last is not None:
                until = max(valid_to, last.valid_to or valid_to)
                change = sa.update(user_subscription).where(columns.subscription_id == last.subscription_id)
                connection.execute(change.values(valid_to=until, renews=renews))
                return Subscription(
                    last.subscription_id, paid.user_id, paid.type_id, last.valid_from, until, last.charge_id, renews
                )
            return _insert(connection, paid.user_id, paid.type_id, paid.paid_at, valid_to, paid.charge_id, renews)

        return self._database.write(save)

    def set_renews(self, subscription_id: int, renews: bool) -> None:
        """Note whether a subscription is charged again at its end."""
        change = sa.update(user_subscription).where(user_subscription.c.subscription_id == subscription_id)
        self._database.write(lambda connection: connection.execute(change.values(renews=renews)))

    def refund(self, charge_id: str, now: datetime) -> Payment | None:
        """Note that a payment went back, and end what it had bought; again it changes nothing.

        Parameters
        ----------
        charge_id : str
        now : datetime

        Returns
        -------
        Payment or None
            None when there is no such payment.
        """
        columns = user_subscription.c

        def act(connection: sa.Connection) -> Payment | None:
            row = connection.execute(sa.select(payment).where(payment.c.charge_id == charge_id)).first()
            if row is None:
                return None
            found = _payment_of(row)
            if found.refunded_at is not None:
                return found
            change = sa.update(payment).where(payment.c.charge_id == charge_id)
            connection.execute(change.values(refunded_at=now))
            ended = sa.update(user_subscription).where(
                columns.user_id == found.user_id,
                columns.type_id == found.type_id,
                columns.charge_id.is_not(None),
                columns.valid_to > now,
            )
            connection.execute(ended.values(valid_to=now, renews=False))
            return Payment(charge_id, found.user_id, found.type_id, found.stars, found.is_renewal, found.paid_at, now)

        return self._database.write(act)

    def payment(self, charge_id: str) -> tuple[Payment, int] | None:
        """Find a payment and the Telegram id of who paid."""
        joined = sa.select(payment, user.c.telegram_id).join(user, user.c.user_id == payment.c.user_id)
        rows = self._database.read(joined.where(payment.c.charge_id == charge_id))
        return (_payment_of(rows[0]), rows[0].telegram_id) if rows else None

    def payments(self, user_id: int | None = None, limit: int = 10) -> list[Payment]:
        """List the newest payments, of one person or of all."""
        statement = sa.select(payment).order_by(payment.c.paid_at.desc()).limit(limit)
        if user_id is not None:
            statement = statement.where(payment.c.user_id == user_id)
        return [_payment_of(row) for row in self._database.read(statement)]

    def telegram_id(self, user_id: int) -> int | None:
        """Return a person's Telegram id."""
        rows = self._database.read(sa.select(user.c.telegram_id).where(user.c.user_id == user_id))
        return rows[0][0] if rows else None

    def asked(self, since: datetime) -> list[tuple[str, int, datetime]]:
        """List questions' ids, who asked and when, since a time, oldest first; digests count as questions."""
        statement = sa.select(question.c.question_id, question.c.user_id, question.c.asked_at)
        wanted = statement.where(question.c.user_id.is_not(None), question.c.asked_at >= since)
        return [(row[0], row[1], row[2]) for row in self._database.read(wanted.order_by(question.c.asked_at))]

    def use(self, *, day: datetime, month: datetime, now: datetime, late: datetime) -> list[tuple[int, int, int]]:
        """Count what was asked, by everyone who has a plan or asked this month.

        Parameters
        ----------
        day, month : datetime
            When they began.
        now : datetime
        late : datetime
            A subscription that is to be renewed still counts where it ended after this.

        Returns
        -------
        list of (int, int, int)
            Of each person the plan, 0 for none; questions on the day, and in the month.
        """
        held, plan = user_subscription.c, subscription_type.c
        best = sa.func.row_number().over(
            partition_by=held.user_id, order_by=(plan.monthly_price.desc(), held.subscription_id.desc())
        )
        is_held = sa.or_(held.valid_to.is_(None), held.valid_to > now, sa.and_(held.renews, held.valid_to > late))
        ranked = (
            sa.select(held.user_id, held.type_id, best.label("place"))
            .join_from(user_subscription, subscription_type, plan.type_id == held.type_id)
            .where(is_held)
            .subquery()
        )
        mine = sa.select(ranked.c.user_id, ranked.c.type_id).where(ranked.c.place == 1).subquery()
        on_day = sa.func.sum(sa.case((question.c.asked_at >= day, 1), else_=0)).label("on_day")
        asked = (
            sa.select(question.c.user_id, on_day, sa.func.count().label("in_month"))
            .where(question.c.user_id.is_not(None), question.c.asked_at >= month)
            .group_by(question.c.user_id)
            .subquery()
        )
        counts = [sa.func.coalesce(column, 0) for column in (mine.c.type_id, asked.c.on_day, asked.c.in_month)]
        everyone = mine.outerjoin(asked, mine.c.user_id == asked.c.user_id, full=True)
        return [
            (int(row[0]), int(row[1]), int(row[2]))
            for row in self._database.read(sa.select(*counts).select_from(everyone))
        ]


def _insert(
    connection: sa.Connection,
    user_id: int,
    type_id: int,
    valid_from: datetime,
    valid_to: datetime | None,
    charge_id: str | None,
    renews: bool,
) -> Subscription:
    number = int(connection.execute(sa.select(subscription_id_seq.next_value())).scalar_one())
    made = Subscription(number, user_id, type_id, valid_from, valid_to, charge_id, renews)
    row = {name: getattr(made, name) for name in Subscription.__dataclass_fields__}
    connection.execute(sa.insert(user_subscription).values(row))
    return made


def _payment_of(row: sa.Row[tuple[object, ...]]) -> Payment:
    return Payment(**{name: getattr(row, name) for name in Payment.__dataclass_fields__})
