"""Admission: who may ask, who is banned until when, and the switch that pauses answering."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, get_args

import structlog

from appliance.access import role_given
from appliance.errors import BadInput, NotAllowed, Paused
from appliance.ledger import Ledger
from appliance.ledger.access import ROLES
from appliance.ledger.order import STAFF, Ban, Member
from appliance.links import USERNAME
from appliance.notices import Notices
from appliance.schema import Asker, Door, Language
from appliance.telling import Rows, Tell
from appliance.texts import date, say

Mode = Literal["open", "whitelist", "approval"]
MODES: tuple[Mode, ...] = get_args(Mode)
MODE, PAUSED = "admission", "paused"  # settings of the ledger
MAX_DAYS = 3650
MAX_REASON_CHARS = 500
NUMBER = re.compile(r"[0-9]{1,15}")  # of Telegram

log = structlog.get_logger()


class Admission:
    """Who is let in, in RAM over the ledger; of one event loop.

    Parameters
    ----------
    ledger : Ledger
    mode : {'open', 'whitelist', 'approval'}
        Until an administrator chooses another.
    tell : callable
        Writes to a person; see `appliance.telling`.
    notices : Notices, optional
        Tell a person of their role, and set their menu of commands.
    zone : tzinfo
        Whose clock people are told the ends of bans by.
    """

    def __init__(
        self, ledger: Ledger, mode: Mode, tell: Tell, notices: Notices | None = None, zone: tzinfo = UTC
    ) -> None:
        self._ledger = ledger
        self._tell = tell
        self._notices = notices
        self._zone = zone
        chosen = ledger.setting(MODE) or {}
        self.mode: Mode = chosen.get("mode", mode)
        self._since = datetime.fromisoformat(chosen["since"]) if "since" in chosen else datetime.min.replace(tzinfo=UTC)
        self.paused: dict[str, Any] | None = ledger.setting(PAUSED) or None
        self._bans = {one.user_id: one for one in ledger.order.bans()}
        self._barred = ledger.order.barred()
        self._let_in: set[int] = set()
        self.pardon: Callable[[int], None] = lambda telegram_id: None  # the antifraud's, for whose ban is lifted

    # Who may ask

    async def check(self, asker: Asker, door: Door) -> None:
        """Refuse a question of somebody who may not ask now.

        Parameters
        ----------
        asker : Asker
        door : str

        Raises
        ------
        Paused
            Answering is paused for everyone.
        NotAllowed
            Banned, not let in, or unknown where only members ask; its ``code`` says which.
        """
        if self.paused is not None:
            raise Paused("Answering is paused.", word=self.paused.get("word", ""))
        if asker.sees_everything or door == "cli":
            return
        if asker.user_id is not None and self.ban_of(asker.user_id) is not None:
            raise NotAllowed("This person is banned.", code="banned")
        if self.mode == "open" or asker.has_key or asker.user_id in self._let_in:
            return
        if asker.user_id is None:
            raise NotAllowed("Only members may ask here.", code="members_only")
        if (state := await self.standing(asker.user_id)) != "member":
            raise NotAllowed("This person is not let in.", code=f"admission_{state}")

    async def may_read(self, asker: Asker) -> bool:
        """Whether somebody may see posts and channels at all, paused or not."""
        if self.mode == "open" or asker.sees_everything or asker.has_key:
            return True
        return asker.user_id is not None and await self.standing(asker.user_id) == "member"

    async def standing(self, user_id: int) -> str:
        """Return how a person stands: ``member``, ``waiting``, ``refused``, or ``unknown`` who has not asked yet."""
        if self.mode == "open" or user_id in self._let_in:
            return "member"
        state, role, came = await asyncio.to_thread(self._ledger.order.state, user_id)
        if role in STAFF or state == "member" or (state is None and came is not None and came < self._since):
            self._let_in.add(user_id)
            return "member"
        return state or "unknown"

    async def knock(self, user_id: int, telegram_id: int, name: str, username: str | None) -> str:
        """Let an invited person in; where admins approve, ask them for anybody else.

        Returns
        -------
        str
            As `standing`.
        """
        state = await self.standing(user_id)
        if state != "unknown":
            return state
        if await asyncio.to_thread(self._ledger.order.is_invited, telegram_id, username):
            await asyncio.to_thread(self._ledger.order.set_state, user_id, "member")
            return "member"
        if self.mode == "whitelist":
            return "unknown"
        if await asyncio.to_thread(self._ledger.order.set_state, user_id, "waiting"):
            await self.tell_staff(
                "admission_asked",
                [[("admission_yes", f"o:in:{user_id}"), ("admission_no", f"o:no:{user_id}")]],
                name=name,
            )
        return "waiting"

    async def decide(self, user_id: int, *, let_in: bool, actor: int | None) -> Member:
        """Let a person in, or refuse them; they are told.

        Parameters
        ----------
        user_id : int
        let_in : bool
        actor : int or None
            Who decides; None for the operator's shell.

        Returns
        -------
        Member

        Raises
        ------
        BadInput
            No such person, or it was decided so before.
        """
        found = await self._member(user_id)
        if not await asyncio.to_thread(self._ledger.order.set_state, user_id, "member" if let_in else "refused"):
            raise BadInput("That was decided before.", code="already_so")
        self._let_in.discard(user_id)
        await self.act("member.approve" if let_in else "member.refuse", actor, f"user:{user_id}")
        await self._tell(found.telegram_id, say("admission_in" if let_in else "admission_refused", _tongue(found)), ())
        return found

    async def set_mode(self, mode: str, *, actor: int | None) -> None:
        """Choose who may ask; who was here before stays let in.

        Raises
        ------
        BadInput
            No such mode.
        """
        if mode not in MODES:
            raise BadInput("There is no such mode.", cure=f"Modes are {', '.join(MODES)}.", code="bad_input")
        now = datetime.now(UTC)
        since = now if self.mode == "open" else self._since
        await asyncio.to_thread(self._ledger.set_setting, MODE, {"mode": mode, "since": since.isoformat()})
        self.mode, self._since = mode, since
        self._let_in.clear()
        await self.act("admission.mode", actor, "", {"mode": mode})

    async def invite(self, names: Sequence[str], *, actor: int | None, back: bool = False) -> int:
        """Let people in before they write, or take that back; returns how many that changed.

        Raises
        ------
        BadInput
            One of those to invite is no name or number of Telegram; nobody is invited then.
        """
        if not back and not all(USERNAME.fullmatch(name.strip("@ ")) or NUMBER.fullmatch(name) for name in names):
            raise BadInput("An invitation is for a @username or a number of Telegram.", code="bad_names")
        change = self._ledger.order.uninvite if back else self._ledger.order.invite
        count = await asyncio.to_thread(change, list(names))
        await self.act("member.uninvite" if back else "member.invite", actor, "", {"count": count})
        return count

    # Bans

    def ban_of(self, user_id: int) -> Ban | None:
        """Return the ban in force of a person, if any."""
        found = self._bans.get(user_id)
        return found if found is not None and (found.until is None or found.until > datetime.now(UTC)) else None

    def is_barred(self, telegram_id: int) -> bool:
        """Whether the person of this number of Telegram is banned; in a microsecond, erased people too."""
        if not self._barred:
            return False
        who = self._ledger.order.hash_of("barred", str(telegram_id))
        if who not in self._barred:
            return False
        until = self._barred[who]
        return until is None or until > datetime.now(UTC)

    async def ban(
        self, user_id: int, *, actor: int | None, reason: str = "", days: float | None = None, cause: str = "hand"
    ) -> Ban:
        """Ban a person: with a reason, for a term; they are told, and may appeal.

        Parameters
        ----------
        user_id : int
        actor : int or None
            Who bans; None for the operator's shell and for the antifraud.
        reason : str
            Told to the person.
        days : float, optional
            None has no end.
        cause : str
            ``hand``, or the sign of abuse, which is then told instead of a reason.

        Returns
        -------
        Ban

        Raises
        ------
        BadInput
            No such person, or a term out of range.
        NotAllowed
            Who keeps order is not banned by an equal.
        """
        if days is not None and not 0 < days <= MAX_DAYS:
            raise BadInput("A ban lasts up to ten years.", code="bad_term")
        found = await self._member(user_id)
        await self.may_act_on(found, actor)
        now = datetime.now(UTC)
        until = None if days is None else now + timedelta(days=days)
        made = Ban(user_id, cause, reason.strip()[:MAX_REASON_CHARS], now, until)
        await asyncio.to_thread(self._ledger.order.save_ban, made, found.telegram_id)
        self._bans[user_id] = made
        self._barred[self._ledger.order.hash_of("barred", str(found.telegram_id))] = until
        self._let_in.discard(user_id)
        term = {"days": round(days, 3)} if days is not None else {}
        await self.act(
            "ban" if cause == "hand" else "antifraud.ban", actor, f"user:{user_id}", {"cause": cause, **term}
        )
        if cause == "hand":
            language = _tongue(found)
            appeal = [[(say("appeal", language), "o:appeal")]]
            await self._tell(found.telegram_id, self.ban_words(made, language), appeal)
        return made

    async def lift(self, user_id: int, *, actor: int | None) -> Member:
        """End a ban, and forget what the antifraud held against the person; they are told.

        Raises
        ------
        BadInput
            No such person, or no ban.
        """
        found = await self._member(user_id)
        if not await asyncio.to_thread(self._ledger.order.lift, user_id, found.telegram_id):
            raise BadInput("There is no ban.", code="already_so")
        self._bans.pop(user_id, None)
        self._barred.pop(self._ledger.order.hash_of("barred", str(found.telegram_id)), None)
        self.pardon(found.telegram_id)
        await self.act("unban", actor, f"user:{user_id}")
        await self._tell(found.telegram_id, say("unbanned", _tongue(found)), ())
        return found

    async def appeal(self, user_id: int) -> bool:
        """Hand a person's appeal to those who keep order; False when there is nothing to appeal, or they did."""
        made = self.ban_of(user_id)
        if made is None or made.appealed_at is not None:
            return False
        found = await self._member(user_id)
        appealed = _with(made, appealed_at=datetime.now(UTC))
        await asyncio.to_thread(self._ledger.order.save_ban, appealed, found.telegram_id)
        self._bans[user_id] = appealed
        await self.act("ban.appeal", user_id, f"user:{user_id}")
        rows = [[("appeal_lift", f"o:lift:{user_id}"), ("appeal_keep", f"o:keep:{user_id}")]]
        for one in await asyncio.to_thread(self._ledger.order.staff):
            language = _tongue(one)
            words = say("appeal_asked", language, name=found.name, ban=self.ban_words(made, language))
            await self._tell(one.telegram_id, words, _said(rows, language))
        return True

    async def keep(self, user_id: int, *, actor: int | None) -> None:
        """Refuse an appeal; the person is told.

        Raises
        ------
        BadInput
            There is none, or it was answered.
        """
        made = self.ban_of(user_id)
        if made is None or made.appealed_at is None or made.answered_at is not None:
            raise BadInput("There is no such appeal.", code="already_so")
        found = await self._member(user_id)
        answered = _with(made, answered_at=datetime.now(UTC))
        await asyncio.to_thread(self._ledger.order.save_ban, answered, found.telegram_id)
        self._bans[user_id] = answered
        await self.act("ban.keep", actor, f"user:{user_id}")
        await self._tell(found.telegram_id, say("appeal_kept", _tongue(found)), ())

    def ban_words(self, made: Ban, language: Language) -> str:
        """Say a ban to the person: until when, and why."""
        term = (
            say("banned_until", language, until=self.moment(made.until, language))
            if made.until
            else say("banned_for_good", language)
        )
        if made.cause != "hand":
            return f"{term} {say(f'because_{made.cause}', language)}"
        return f"{term} {say('banned_because', language, reason=made.reason)}" if made.reason else term

    def moment(self, moment: datetime, language: Language) -> str:
        """Say a moment by the community's clock: "12.03.2026 14:05 MSK"."""
        local = moment.astimezone(self._zone)
        return f"{date(local, language)} {local:%H:%M %Z}"

    async def end_bans(self) -> int:
        """Remove the bans whose term is over; returns how many."""
        now = datetime.now(UTC)
        over = await asyncio.to_thread(self._ledger.order.end_bans, now)
        for user_id in over:
            self._bans.pop(user_id, None)
        self._barred = {who: until for who, until in self._barred.items() if until is None or until > now}
        return len(over)

    def bans(self) -> list[Ban]:
        """List the bans in force, the newest first."""
        found = [one for one in self._bans.values() if self.ban_of(one.user_id) is not None]
        return sorted(found, key=lambda one: one.since, reverse=True)

    # The switch

    async def pause(self, *, actor: int | None, name: str, word: str = "") -> None:
        """Pause answering everywhere, whatever restarts, until `resume`.

        Parameters
        ----------
        actor : int or None
        name : str
            Who does it, as others who keep order will read.
        word : str
            Told to members instead of the usual words.
        """
        said = {"by": actor, "name": name, "at": datetime.now(UTC).isoformat(), "word": word.strip()[:MAX_REASON_CHARS]}
        await asyncio.to_thread(self._ledger.set_setting, PAUSED, said)
        self.paused = said
        await self.act("pause", actor, "")
        log.warning("answering paused", by=actor)

    async def resume(self, *, actor: int | None) -> bool:
        """Answer again; False when nothing was paused."""
        if self.paused is None:
            return False
        await asyncio.to_thread(self._ledger.set_setting, PAUSED, False)
        self.paused = None
        await self.act("resume", actor, "")
        log.warning("answering again", by=actor)
        return True

    # Those who keep order

    async def staff(self) -> list[Member]:
        """List owners, admins and moderators."""
        return await asyncio.to_thread(self._ledger.order.staff)

    async def trusted(self) -> list[Member]:
        """List the members who are trusted with the questions that wait."""
        return await asyncio.to_thread(self._ledger.order.trusted)

    async def members(
        self, *, only: str = "", wanted: str = "", skip: int = 0, limit: int = 50
    ) -> tuple[list[Member], int]:
        """List people, the last seen first; see `appliance.ledger.order.Order.members`."""
        return await asyncio.to_thread(self._ledger.order.members, only=only, wanted=wanted, skip=skip, limit=limit)

    async def member(self, user_id: int) -> Member | None:
        """Return one person."""
        return await asyncio.to_thread(self._ledger.order.member, user_id)

    async def find(self, who: str) -> Member | None:
        """Find a person by ``@username``, the ledger's number, or ``telegram:`` and Telegram's."""
        found = await asyncio.to_thread(self._ledger.people.find, who)
        return None if found is None else await self.member(found.user_id)

    async def counts(self) -> dict[str, int]:
        """Count who waits, is banned, is invited, and appeals."""
        bans = self.bans()
        return {
            "waiting": await asyncio.to_thread(self._ledger.order.waiting),
            "invited": await asyncio.to_thread(self._ledger.order.invitations),
            "banned": len(bans),
            "appeals": sum(one.appealed_at is not None and one.answered_at is None for one in bans),
        }

    async def set_role(self, user_id: int, role: str, *, actor: int | None) -> None:
        """Give a person a role below one's own; they are told.

        Raises
        ------
        BadInput
            No such person or role.
        NotAllowed
            The person, or the role, is not below the one who gives it.
        """
        found = await self._member(user_id)
        await self.may_act_on(found, actor, role)
        if not await asyncio.to_thread(self._ledger.access.set_role, user_id, role):
            raise BadInput("Nobody of that name is known.", code="nobody")
        self._let_in.discard(user_id)
        await self.act("role", actor, f"user:{user_id}", {"role": role})
        if self._notices is not None and role != found.role:
            await self._notices.add([role_given(user_id, role)])

    async def may_act_on(self, found: Member, actor: int | None, role: str = "guest") -> None:
        """Refuse an act on an equal or a mightier one; an owner and the operator's shell may act on anybody else.

        Raises
        ------
        NotAllowed
        """
        if actor is None:
            if found.role in STAFF and role == "guest":
                raise NotAllowed("Who keeps order is not banned: take the role away first.", code="not_on_staff")
            return
        own = await asyncio.to_thread(self._ledger.access.role, actor)
        is_above = ROLES.index(own) < ROLES.index(found.role) and ROLES.index(own) < ROLES.index(role)
        if found.user_id == actor or not (is_above or (own == "owner" and found.role != "owner")):
            raise NotAllowed("Only on who stands below.", code="not_on_staff")

    async def tell_staff(self, key: str, rows: Rows = (), **values: object) -> None:
        """Write to everyone who keeps order, each in their language; buttons are keys of texts."""
        for one in await asyncio.to_thread(self._ledger.order.staff):
            language = _tongue(one)
            await self._tell(one.telegram_id, say(key, language, **values), _said(rows, language))

    async def act(self, kind: str, actor: int | None, subject: str, detail: dict[str, Any] | None = None) -> None:
        """Write an act into the audit log."""
        await asyncio.to_thread(self._ledger.access.record, kind, actor_id=actor, subject=subject, detail=detail)

    async def _member(self, user_id: int) -> Member:
        found = await asyncio.to_thread(self._ledger.order.member, user_id)
        if found is None:
            raise BadInput("Nobody of that name is known.", code="nobody")
        return found


def _tongue(one: Member) -> Language:
    return "en" if one.language == "en" else "ru"


def _said(rows: Rows, language: Language) -> Rows:
    return [[(say(key, language), data) for key, data in row] for row in rows]


def _with(made: Ban, **changed: Any) -> Ban:
    return Ban(**{name: changed.get(name, getattr(made, name)) for name in Ban.__dataclass_fields__})
