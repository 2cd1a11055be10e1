"""aiogram's way to a handler, shortened: the same routers, filters and order without threads and wrappers between.

A plain filter like `F.chat.type == "private"` takes microseconds; aiogram hands it to a thread, which takes a hundred,
and an update meets dozens. Besides, the same filter stands on many routers, every router is wrapped as if it had
middlewares of its own, and every command reads messages that have no slash.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any

from aiogram import Router
from aiogram.dispatcher.event.bases import REJECTED, UNHANDLED, SkipHandler
from aiogram.dispatcher.event.handler import FilterObject, HandlerObject
from aiogram.filters import Command

Filters = list[tuple[FilterObject, str | None, Hashable]]  # with a command's prefix, and a magic filter's signature


def quicken(dispatcher: Router, looked: _Looked | None = None) -> None:
    """Shorten the way through the routers of a dispatcher.

    Parameters
    ----------
    dispatcher : Router
        With all its routers, handlers and middlewares; what is registered later is not met.
    looked : optional
        Shared by all routers.
    """
    looked = looked or _Looked()
    for router in dispatcher.sub_routers:
        quicken(router, looked)
        setattr(router, "propagate_event", _straight(router, looked))  # noqa: B010 - a method of aiogram's, exchanged


def _straight(router: Router, looked: _Looked) -> Callable[..., Awaitable[Any]]:
    usual = router.propagate_event
    ways: dict[str, tuple[Filters, list[tuple[HandlerObject, Filters]]]] = {
        kind: (
            _read(observer._handler.filters),
            [(handler, _read(handler.filters)) for handler in observer.handlers],
        )
        for kind, observer in router.observers.items()
    }

    async def propagate_event(update_type: str, event: Any, **data: Any) -> Any:
        observer = router.observers.get(update_type)
        if observer is None or observer.outer_middleware or router.sub_routers:
            return await usual(update_type, event, **data)
        root, handlers = ways[update_type]
        if not handlers:
            return UNHANDLED
        data["event_router"] = router
        passed = await _passed(root, event, data, looked)
        if passed is None:
            return UNHANDLED
        for handler, filters in handlers:
            passed["handler"] = handler
            found = await _passed(filters, event, passed, looked)
            if found is None:
                continue
            try:
                wrapped = observer.outer_middleware.wrap_middlewares(observer._resolve_middlewares(), handler.call)
                response = await wrapped(event, found)
            except SkipHandler:
                continue
            return UNHANDLED if response is REJECTED else response
        return UNHANDLED

    return propagate_event


def _read(filters: Iterable[FilterObject] | None) -> Filters:
    found: Filters = []
    for one in filters or ():
        prefix = one.callback.prefix if isinstance(one.callback, Command) else None
        found.append((one, prefix, None if one.magic is None else _signature(one.magic)))
    return found


def _signature(magic: Any) -> Hashable:
    """Name what a magic filter looks at, so that equal ones are asked once an update; None when it is not plain."""
    try:
        parts = tuple(
            (type(step), *(_frozen(getattr(step, name)) for name in step.__slots__)) for step in magic._operations
        )
        hash(parts)
    except (AttributeError, TypeError):
        return None
    return parts


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((name, _frozen(held)) for name, held in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    return frozenset(value) if isinstance(value, set) else value


class _Looked:
    """What magic filters said of the event at hand."""

    event: Any = None
    said: dict[Hashable, Any] = {}  # noqa: RUF012 - replaced, never shared

    def up(self, one: FilterObject, signature: Hashable, event: Any) -> Any:
        """Return what a filter says; updates are frozen, so it says it once."""
        if self.event is not event:
            self.event, self.said = event, {}
        if signature not in self.said:
            self.said[signature] = one.callback(event)
        return self.said[signature]


async def _passed(filters: Filters, event: Any, data: dict[str, Any], looked: _Looked) -> dict[str, Any] | None:
    """Return the data with what the filters found, or None when one of them refuses."""
    for one, prefix, signature in filters:
        found: Any
        if signature is not None:
            found = looked.up(one, signature, event)
        elif prefix is not None:
            text = getattr(event, "text", None) or getattr(event, "caption", None) or " "
            found = text[0] in prefix and await one.call(event, **data)
        elif one.awaitable:
            found = await one.call(event, **data)
        else:
            found = one.callback(event, **one._prepare_kwargs(data))
        if not found:
            return None
        if isinstance(found, dict):
            data = {**data, **found}
    return data
