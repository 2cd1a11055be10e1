"""Appliances that forget about rights, in one place each: the controls of the suite `rights`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args

from appliance import app as app_room
from appliance.bot import inline as inline_room
from appliance.cache import Memory
from appliance.ledger.notices import Notices
from appliance.schema import Asker

ROOM: Any = app_room  # where parts are bound to verbs
Break = Literal["none", "memory", "posts", "story", "related", "alerts", "guests"]
BREAKS: tuple[Break, ...] = get_args(Break)[1:]


@contextmanager
def broken(how: Break) -> Iterator[None]:
    """Make an appliance that forgets about rights in one place."""

    def seeing(asker: Asker) -> Asker:
        return replace(asker, sees_everything=True)

    def blind(inner: Callable[..., Any]) -> Callable[..., Any]:
        return lambda what, *, asker, **more: inner(what, asker=seeing(asker), **more)

    place, visible, due = Memory.place, ROOM.visible_post, Notices.due
    parts: dict[Break, tuple[Any, str, Any]] = {
        "memory": (Memory, "place", lambda self, text, channels, *more: place(self, text, (), *more)),
        "posts": (ROOM, "visible_post", lambda ledger, key, asker: visible(ledger, key, seeing(asker))),
        "story": (ROOM, "story", blind(ROOM.story)),
        "related": (ROOM, "related", blind(ROOM.related)),
        "alerts": (Notices, "due", lambda *a, **k: [replace(one, asker=seeing(one.asker)) for one in due(*a, **k)]),
        "guests": (inline_room, "Asker", partial(Asker, sees_everything=True)),
    }
    if how == "none":
        yield
        return
    room, name, wrong = parts[how]
    right = getattr(room, name)
    setattr(room, name, wrong)
    try:
        yield
    finally:
        setattr(room, name, right)
