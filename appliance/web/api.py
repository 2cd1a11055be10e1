"""The HTTP API and the page: routes hold verbs, never stores or models."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, FastAPI
from fastapi import Path as InPath
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from appliance import __version__, sample, texts
from appliance.access import Access
from appliance.answer import question_text
from appliance.config import Config
from appliance.errors import PostFinderError
from appliance.schema import (
    Answer,
    Asker,
    ChannelStatus,
    Door,
    Final,
    ImportProgress,
    Language,
    Links,
    Part,
    Piece,
    Question,
    ReindexProgress,
    SearchResult,
)
from appliance.verbs import Verbs
from appliance.web.admin import administering
from appliance.web.community import communing
from appliance.web.desk import desk
from appliance.web.exploring import exploring
from appliance.web.guard import guard, where
from appliance.web.limits import limited
from appliance.web.operations import caring
from appliance.web.problems import add_problems, described_error, language_of_request, problem
from appliance.web.receiving import MAX_BYTES as MAX_UPDATE_BYTES
from appliance.web.receiving import PATH as UPDATES_PATH
from appliance.web.receiving import Receiver, receiving
from appliance.web.stream import SILENCE, ListenerGone, Mark, arrivals, event, pumped, unless_gone
from appliance.web.wire import (
    AskBody,
    DigestBody,
    ImportBody,
    PostView,
    Problem,
    RatingBody,
    ReindexBody,
    SearchBody,
    encode,
    filters_of,
    shown,
    shown_limits,
    shown_result,
)
from appliance.wording import limits_words

log = structlog.get_logger()

PAGE = Path(__file__).parent / "page"
MAX_ID = 2**52  # Telegram promises ids of at most 52 bits
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "What is wrong with the request and its cure."}
}
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def open_stack() -> AsyncIterator[AsyncExitStack]:
    """Give a stack that is unwound when the response has been sent or its listener is gone."""
    async with AsyncExitStack() as stack:
        yield stack


Id = Annotated[int, InPath(ge=1, le=MAX_ID)]
Stack = Annotated[AsyncExitStack, Depends(open_stack)]


def create_api(
    verbs: Verbs, *, config: Config, metrics: Callable[[], bytes], admin_token: str, hook: Receiver | None = None
) -> FastAPI:
    """Build the web door.

    Parameters
    ----------
    verbs : Verbs
        All that the door may do.
    config : Config
        Limits of bodies and questions.
    metrics : callable
        Returns the Prometheus text.
    admin_token : str
        Bearer token of the operator's own shell.
    hook : Receiver, optional
        Takes the updates Telegram posts.

    Returns
    -------
    FastAPI
        An ASGI application.
    """
    api = FastAPI(
        title="PostFinder",
        version=__version__,
        description="Answers from a community's own Telegram posts.",
        docs_url=None,  # the built-in pages fetch their scripts from outside
        redoc_url=None,
        middleware=[
            Middleware(guard, max_body_bytes=config.max_body_bytes, larger={UPDATES_PATH: MAX_UPDATE_BYTES}),
            Middleware(limited, antifraud=verbs.antifraud),
            Middleware(GZipMiddleware, minimum_size=1024, compresslevel=1),
        ],
    )
    add_problems(api)

    @api.exception_handler(ListenerGone)
    async def on_gone(request: Request, error: ListenerGone) -> Response:
        return Response(status_code=499)  # nobody reads it; the log does

    # Routes are tried in this order: what is asked a hundred times a second stands first.
    api.include_router(asking(verbs, config, admin_token))
    if hook is not None:
        api.include_router(receiving(hook))
    api.include_router(reading(verbs, admin_token))

    def asker_of(request: Request, language: Language | None, scope: str) -> tuple[Asker, Door]:
        return who(request, admin_token, language, access=verbs.access, scope=scope)

    api.include_router(exploring(verbs, asker_of, PROBLEMS))
    api.include_router(health(verbs, metrics))
    api.include_router(desk(verbs, config, partial(is_operator, admin_token=admin_token)))
    api.include_router(operating(verbs, admin_token))
    api.include_router(administering(verbs, partial(only_operator, admin_token=admin_token)))
    api.include_router(caring(verbs, partial(only_operator, admin_token=admin_token)))
    api.include_router(communing(verbs, partial(only_operator, admin_token=admin_token)))
    api.mount("/assets", StaticFiles(directory=PAGE))
    return api


def caller_of(
    request: Request, admin_token: str, access: Access | None = None, scope: str = ""
) -> Literal["operator", "key", "anyone"]:
    """Tell whether a request carries the operator's token, compared in constant time, a key good for `scope`, or none.

    Raises
    ------
    HTTPException
        401 for a wrong token: it is never taken for none.
    NotAllowed, SlowDown
        A key that is not for this, or used too often.
    """
    given = request.headers.get("authorization")
    if given is None:
        return "anyone"
    scheme, _, token = given.partition(" ")
    if access is not None and scope and scheme.lower() == "bearer" and access.key(token.strip(), scope) is not None:
        return "key"
    if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), admin_token.encode()):
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
    return "operator"


def is_operator(request: Request, admin_token: str) -> bool:
    """Tell whether the request carries the operator's token; as `caller_of`, but a key is a wrong token here."""
    return caller_of(request, admin_token) == "operator"


def only_operator(request: Request, admin_token: str) -> None:
    """Refuse a request without the operator's token.

    Raises
    ------
    HTTPException
        401.
    """
    if not is_operator(request, admin_token):
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})


def who(
    request: Request, admin_token: str, language: Language | None = None, *, access: Access, scope: str
) -> tuple[Asker, Door]:
    """Return who asks and through which door; note the language for errors to come."""
    request.state.language = language
    spoken = language_of_request(request)
    caller = caller_of(request, admin_token, access, scope)
    if caller == "operator":
        return Asker(language=spoken, sees_everything=True), "cli"
    at_the_page = request.headers.get("x-postfinder-door") == "web"  # the page says so; it counts for figures alone
    return Asker(language=spoken, has_key=caller == "key"), "web" if at_the_page else "api"


def json_of(value: Any, status: int = 200) -> Response:
    """Return a record as a JSON response."""
    return Response(encode(value), status, media_type="application/json")


def asking(verbs: Verbs, config: Config, admin_token: str) -> APIRouter:
    """Build the routes that ask, search and rate."""
    router = APIRouter(responses=PROBLEMS)

    @router.post(
        "/ask",
        response_model=Answer,
        responses={200: {"content": {"text/event-stream": {}}, "description": "One JSON answer, or its parts."}},
    )
    async def ask(request: Request, body: AskBody, stack: Stack) -> Response:
        """Answer a question from the posts, each sentence with its link.

        With ``Accept: text/event-stream`` the answer comes as events: ``links``, ``piece`` …, ``final``, or ``error``.
        """
        asker, door = who(request, admin_token, body.language, access=verbs.access, scope="ask")
        unread = frozenset(body.unread)
        question = Question(body.question, asker, filters_of(body), door, body.dialogue_id, unread)
        queue = await stack.enter_async_context(pumped(verbs.ask(question)))
        first = await unless_gone(request, queue.get())  # what is wrong with a question is said before the stream
        if isinstance(first, Exception):
            raise first
        if "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(
                answer_events(arrivals(first, queue), asker.language),
                headers=STREAM_HEADERS,
                media_type="text/event-stream",
            )
        part = await unless_gone(request, last(arrivals(first, queue)))
        return json_of(answer_view(part.answer, asker.language))

    @router.post(
        "/digest",
        response_model=Answer,
        responses={200: {"content": {"text/event-stream": {}}, "description": "One JSON answer, or its parts."}},
    )
    async def digest(request: Request, body: DigestBody, stack: Stack) -> Response:
        """Tell what the posts of a period say, each sentence with its link; events as those of `/ask`."""
        asker, door = who(request, admin_token, body.language, access=verbs.access, scope="ask")
        work = verbs.digest(asker, filters_of(body), days=body.days, door=door)
        queue = await stack.enter_async_context(pumped(work))
        first = await unless_gone(request, queue.get())
        if isinstance(first, Exception):
            raise first
        if "text/event-stream" in request.headers.get("accept", ""):
            events = answer_events(arrivals(first, queue), asker.language)
            return StreamingResponse(events, headers=STREAM_HEADERS, media_type="text/event-stream")
        part = await unless_gone(request, last(arrivals(first, queue)))
        return json_of(answer_view(part.answer, asker.language))

    @router.post("/search", response_model=SearchResult)
    async def search(request: Request, body: SearchBody) -> Response:
        """Find posts, best first."""
        asker, door = who(request, admin_token, body.language, access=verbs.access, scope="search")
        query = question_text(Question(body.query, asker, door=door), config.max_question_chars)
        found = verbs.limits(query, asker=asker, filters=filters_of(body), limit=body.limit, unread=body.unread)
        return json_of(shown_result(await unless_gone(request, found), asker.language))

    @router.post("/answers/{answer_id}/rating")
    async def rate(
        request: Request,
        body: RatingBody,
        answer_id: Annotated[str, InPath(pattern=r"^[A-Za-z0-9_-]{1,64}$")],
    ) -> Response:
        """Say whether an answer was good."""
        asker, _ = who(request, admin_token, body.language, access=verbs.access, scope="rate")
        if not await verbs.rate(answer_id, asker=asker, vote=body.vote, reason=body.reason.strip()):
            return problem(404, "no_answer", asker.language)
        return json_of({"stored": True})

    return router


async def last(parts: AsyncIterator[Part | Exception | Mark]) -> Final:
    """Return the last part of an answer's stream, or raise the error that ended it."""
    async for part in parts:
        if isinstance(part, Exception):
            raise part
        if isinstance(part, Final):
            return part
    raise RuntimeError("an answer's stream ended without its last part")


async def answer_events(parts: AsyncIterator[Part | Exception | Mark], language: Language) -> AsyncIterator[bytes]:
    """Yield an answer's parts as server-sent events."""
    async for part in parts:
        if isinstance(part, Links):
            yield event("links", encode({"citations": part.citations}))
        elif isinstance(part, Piece):
            yield event("piece", encode(part.sentence))
        elif isinstance(part, Final):
            yield event("final", encode(answer_view(part.answer, language)))
        elif isinstance(part, Exception):
            yield event("error", encode(told(part, language)))
        else:
            yield SILENCE


def answer_view(answer: Answer, language: Language) -> dict[str, Any]:
    """Return an answer for the wire, with its remark in words."""
    remarks = [texts.say(answer.note, language)] if answer.note else []
    if answer.limits and not answer.are_limits_held:
        remarks.append(texts.say("limits_dropped", language, limits=limits_words(answer.limits, language)))
    if answer.searched_as:
        remarks.append(texts.say("searched_as", language, query=answer.searched_as))
    if answer.quota is not None:
        remarks.append(texts.left_words(answer.quota, language))
    limits = shown_limits(answer.limits, language)
    view = {field.name: getattr(answer, field.name) for field in fields(answer)}
    return {**view, "limits": limits, "remark": " ".join(remarks)}


def told(error: Exception, language: Language, *, for_operator: bool = False) -> dict[str, str]:
    """Describe an error that ended a stream; one not raised on purpose is also logged."""
    if not isinstance(error, PostFinderError):
        log.error("stream failed", kind=type(error).__name__, where=where(error))
    return described_error(error, language, for_operator=for_operator)


def reading(verbs: Verbs, admin_token: str) -> APIRouter:
    """Build the routes that show the page, its channels and posts."""
    router = APIRouter(responses=PROBLEMS)

    @router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})

    @router.get("/channels", response_model=list[ChannelStatus])
    async def channels(request: Request) -> Response:
        """List the channels that may be searched, with their counts."""
        asker, _ = who(request, admin_token, access=verbs.access, scope="read")
        return json_of(await verbs.channels(asker))

    @router.get("/examples", response_model=list[str])
    async def examples(request: Request) -> Response:
        """Suggest questions; empty where none are known to have an answer."""
        asker, _ = who(request, admin_token, access=verbs.access, scope="read")
        names = {status.channel.username for status in await verbs.channels(asker)}
        return json_of(sample.questions() if sample.USERNAME in names else [])

    @router.get("/posts/{channel_id}/{message_id}", response_model=PostView)
    async def post(request: Request, channel_id: Id, message_id: Id) -> Response:
        """Show one post, with its link in Telegram."""
        asker, _ = who(request, admin_token, access=verbs.access, scope="read")
        found = await verbs.post((channel_id, message_id), asker)
        if found is None:
            return problem(404, "no_post", asker.language)
        return json_of(PostView(shown(found[0]), found[1]))

    return router


def health(verbs: Verbs, metrics: Callable[[], bytes]) -> APIRouter:
    """Build the routes that machines ask."""
    router = APIRouter()

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Tell that the process lives."""
        return {"status": "alive", "version": __version__}

    @router.get("/readyz", responses={503: {"description": "Not ready; `reasons` say why."}})
    async def readyz() -> Response:
        """Tell whether questions can be answered."""
        reasons = await verbs.ready()
        return json_of({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """Give the figures to Prometheus."""
        text = await asyncio.to_thread(metrics)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def operating(verbs: Verbs, admin_token: str) -> APIRouter:
    """Build the operator's routes: one process owns the ledger, so its commands come through here."""
    router = APIRouter(responses=PROBLEMS)

    @router.get("/stats")
    async def stats(request: Request) -> Response:
        """Give the figures of the questions' rows; they name every channel, so the token is needed."""
        only_operator(request, admin_token)
        return json_of(await verbs.stats())

    @router.post("/admin/import", responses={200: {"content": {"text/event-stream": {}}, "model": ImportProgress}})
    async def import_export(request: Request, body: ImportBody, stack: Stack) -> Response:
        """Import a Telegram Desktop export; events ``progress`` …, ``done``, or ``error``."""
        only_operator(request, admin_token)
        language = language_of_request(request)
        queue = await stack.enter_async_context(
            pumped(verbs.import_export(Path(body.path), username=body.username, dry_run=body.dry_run))
        )
        first = await unless_gone(request, queue.get())
        if isinstance(first, Exception):
            raise first
        parts = arrivals(first, queue)
        events = progress_events(parts, language)
        return StreamingResponse(events, headers=STREAM_HEADERS, media_type="text/event-stream")

    @router.post("/admin/reindex", responses={200: {"content": {"text/event-stream": {}}, "model": ReindexProgress}})
    async def reindex(request: Request, body: ReindexBody, stack: Stack) -> Response:
        """Embed all posts with another model and switch to it; events ``progress`` …, ``done``, or ``error``.

        Leaving stops nothing: asked again, it shows what runs.
        """
        only_operator(request, admin_token)
        language = language_of_request(request)
        work = verbs.reindex(body.card, rollback=body.rollback, force=body.force)
        queue = await stack.enter_async_context(pumped(work))
        first = await unless_gone(request, queue.get())
        if isinstance(first, Exception):
            raise first
        parts = arrivals(first, queue)
        events = progress_events(parts, language)
        return StreamingResponse(events, headers=STREAM_HEADERS, media_type="text/event-stream")

    return router


async def progress_events(
    parts: AsyncIterator[ImportProgress | ReindexProgress | Exception | Mark], language: Language
) -> AsyncIterator[bytes]:
    """Yield the progress of an operator's long work as server-sent events."""
    async for part in parts:
        if isinstance(part, ImportProgress | ReindexProgress):
            yield event("done" if part.done else "progress", encode(part))
        elif isinstance(part, Exception):
            yield event("error", encode(told(part, language, for_operator=True)))
        else:
            yield SILENCE
