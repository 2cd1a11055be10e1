"""aiogram's way to a handler, shortened: the same routers, filters and order without what lies between them.

A plain filter like `F.chat.type == "private"` takes microseconds; aiogram hands it to a thread, which takes a hundred,
and an update meets dozens. Besides, the same filter stands on many routers, every router is wrapped and handed a copy
of all the data as if it had middlewares of its own, and every command reads messages that are another's or none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from aiogram import Router
from aiogram.dispatcher.event.bases import REJECTED, UNHANDLED, MiddlewareType, SkipHandler
from aiogram.dispatcher.event.handler import FilterObject, HandlerObject
from aiogram.dispatcher.middlewares.manager import MiddlewareManager
from aiogram.filters import Command

Plain = tuple[int, Callable[[Any], Any]]  # a filter that looks at the event alone; equal ones have the same number
NOTHING: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class _Filters:
    """Filters in their order: the plain ones in front, then the rest; ``names`` are the commands passed, if known."""

    plain: tuple[Plain, ...]
    rest: tuple[FilterObject, ...]
    is_command: bool
    names: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class _Part:
    """A router's handlers of one kind of event; none where aiogram's own way leads through it."""

    router: Router
    root: _Filters
    handlers: tuple[tuple[HandlerObject, _Filters], ...]
    middlewares: tuple[MiddlewareType[Any], ...]


def quicken(dispatcher: Router) -> None:
    """Shorten the way through a dispatcher and each of its routers.

    Parameters
    ----------
    dispatcher : Router
        With all its routers, handlers and middlewares; what is registered later is not met.
    """
    _quicken(dispatcher, {})


def _quicken(router: Router, numbers: dict[Hashable, int]) -> None:
    for one in router.sub_routers:
        _quicken(one, numbers)
    setattr(router, "propagate_event", _straight(router, numbers))  # noqa: B010 - a method of aiogram's, exchanged


def _straight(router: Router, numbers: dict[Hashable, int]) -> Callable[..., Awaitable[Any]]:
    usual = router.propagate_event
    every: dict[str, list[_Part]] = {}
    said: dict[str, list[_Part]] = {}  # without the handlers of commands
    prefixes: set[str] = set()
    for kind, observer in router.observers.items():
        if observer.outer_middleware or (router.sub_routers and observer._handler.filters):
            continue
        found = [_read(router, kind, numbers), *(_part(one, kind, numbers) for one in router.sub_routers)]
        every[kind] = [part for part in found if part is not None]
        said[kind] = [part for one in every[kind] if (part := _without_commands(one)) is not None]
    for one in (router, *router.sub_routers):
        prefixes.update(_prefixes(one))

    async def propagate_event(update_type: str, event: Any, **data: Any) -> Any:
        if update_type not in every:
            return await usual(update_type, event, **data)
        text = (getattr(event, "text", None) or getattr(event, "caption", None) or "").lstrip()
        name = None
        if text[:1] in prefixes:
            name = text.split(maxsplit=1)[0][1:].partition("@")[0].casefold()
        seen: dict[int, Any] = {}  # what plain filters said of the event
        for part in (said if name is None else every)[update_type]:
            if not part.handlers:
                response = await part.router.propagate_event(update_type, event, **data)
            elif (given := _agreed(part.root, event, seen)) is None:
                continue
            else:
                response = await _taken(part, event, name, {**data, "event_router": part.router, **given}, seen)
            if response is not UNHANDLED:
                return response
        return UNHANDLED

    return propagate_event


def _agreed(filters: _Filters, event: Any, seen: dict[int, Any]) -> dict[str, Any] | None:
    """Ask the plain filters, equal ones once; return what they found, or None when one of them refuses."""
    given = NOTHING
    for number, ask in filters.plain:
        found = seen[number] if number in seen else seen.setdefault(number, ask(event))
        if not found:
            return None
        if isinstance(found, dict):
            given = {**given, **found}
    return given


async def _asked(filters: _Filters, event: Any, data: dict[str, Any]) -> dict[str, Any] | None:
    """Ask the filters that are not plain; return the data with what they found, or None when one of them refuses."""
    for one in filters.rest:
        found = one.callback(event, **one._prepare_kwargs(data))
        if one.awaitable:
            found = await found
        if not found:
            return None
        if isinstance(found, dict):
            data = {**data, **found}
    return data


async def _taken(part: _Part, event: Any, name: str | None, data: dict[str, Any], seen: dict[int, Any]) -> Any:
    """Return what the first handler says that takes the event; ``name`` is the command in it."""
    passed = await _asked(part.root, event, data)
    if passed is None:
        return UNHANDLED
    for handler, filters in part.handlers:
        if filters.names is not None and name not in filters.names:
            continue
        given = _agreed(filters, event, seen)
        if given is None:
            continue
        found = await _asked(filters, event, {**passed, "handler": handler, **given})
        if found is None:
            continue
        try:
            response = await _called(handler, part.middlewares, event, found)
        except SkipHandler:
            continue
        return UNHANDLED if response is REJECTED else response
    return UNHANDLED


async def _called(
    handler: HandlerObject, middlewares: tuple[MiddlewareType[Any], ...], event: Any, data: dict[str, Any]
) -> Any:
    if not middlewares:
        return await handler.call(event, **data)
    return await MiddlewareManager.wrap_middlewares(middlewares, handler.call)(event, data)


def _part(router: Router, kind: str, numbers: dict[Hashable, int]) -> _Part | None:
    """Read a router that stands below another."""
    if router.sub_routers or router.observers[kind].outer_middleware:
        return _Part(router, _filters(None, numbers), (), ())
    return _read(router, kind, numbers)


def _read(router: Router, kind: str, numbers: dict[Hashable, int]) -> _Part | None:
    observer = router.observers[kind]
    if not observer.handlers:
        return None
    handlers = tuple((one, _filters(one.filters, numbers)) for one in observer.handlers)
    root = _filters(observer._handler.filters, numbers)
    return _Part(router, root, handlers, tuple(observer._resolve_middlewares()))


def _without_commands(part: _Part) -> _Part | None:
    if not part.handlers:
        return part
    handlers = tuple(one for one in part.handlers if not one[1].is_command)
    return replace(part, handlers=handlers) if handlers and not part.root.is_command else None


def _prefixes(router: Router) -> set[str]:
    """Return what commands may begin with."""
    return {
        sign
        for observer in router.observers.values()
        for asked in (observer._handler, *observer.handlers)
        for one in asked.filters or ()
        if isinstance(one.callback, Command)
        for sign in one.callback.prefix
    }


def _filters(found: Iterable[FilterObject] | None, numbers: dict[Hashable, int]) -> _Filters:
    filters = tuple(found or ())
    plain: list[Plain] = []
    for one in filters:
        signature = None if one.magic is None else _signature(one.magic)
        if signature is None:
            break
        plain.append((numbers.setdefault(signature, len(numbers)), one.callback))
    command = next((one.callback for one in filters if isinstance(one.callback, Command)), None)
    names = None
    if command is not None and all(isinstance(name, str) for name in command.commands):
        names = frozenset(str(name).casefold() for name in command.commands)
    return _Filters(tuple(plain), filters[len(plain) :], command is not None, names)


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
