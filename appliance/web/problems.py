"""Errors on the wire: a status, a stable code, and words a person understands, in their language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from appliance import texts
from appliance.errors import (
    BadExport,
    BadInput,
    NotAllowed,
    Paused,
    PostFinderError,
    SlowDown,
    StartupError,
    StoreError,
    UnknownChannel,
)
from appliance.schema import Language

STATUS: tuple[tuple[type[PostFinderError], int], ...] = (
    (UnknownChannel, 404),
    (BadInput, 400),
    (NotAllowed, 403),
    (Paused, 503),
    (SlowDown, 429),
    (StoreError, 503),
    (StartupError, 503),
)
FOR_OPERATORS = (BadExport, StoreError, StartupError)  # their own words name the file and the cure

# code: language: (what happened, what to do)
WORDS: dict[str, dict[Language, tuple[str, str]]] = {
    "body_too_large": {
        "ru": ("Запрос слишком большой.", "Задайте вопрос короче."),
        "en": ("The request is too large.", "Ask a shorter question."),
    },
    "bad_request": {
        "ru": ("Запрос не разобрать: {detail}.", "Поправьте запрос; поля описаны в /openapi.json."),
        "en": ("The request cannot be read: {detail}.", "Mend it; /openapi.json describes the fields."),
    },
    "bad_date": {
        "ru": ("Такую дату не понять.", "Напишите её так: 2026-01-31."),
        "en": ("That date cannot be read.", "Write it as 2026-01-31."),
    },
    "bad_dates": {
        "ru": ("Начало срока позже его конца.", "Поменяйте даты местами или уберите одну."),
        "en": ("The first date is not before the last.", "Swap the dates, or leave one out."),
    },
    "unknown_channel": {
        "ru": ("Такого канала нет среди тех, что вам видны.", "Выберите канал из списка /channels."),
        "en": ("There is no such channel among those you may see.", "Choose one that /channels lists."),
    },
    "unknown_page": {
        "ru": ("Такого адреса здесь нет.", "Адреса перечислены в /openapi.json."),
        "en": ("There is nothing at this address.", "/openapi.json lists the addresses."),
    },
    "bad_method": {
        "ru": ("Этот адрес так не спрашивают.", "Методы перечислены в /openapi.json."),
        "en": ("This address is not asked that way.", "/openapi.json lists the methods."),
    },
    "no_post": {
        "ru": ("Такого поста нет, или он вам не виден.", "Он мог быть удалён; спросите ещё раз."),
        "en": ("There is no such post among those you may see.", "It may have been deleted; ask again."),
    },
    "no_answer": {
        "ru": ("Такого ответа нет.", "Оцените ответ, полученный только что."),
        "en": ("There is no such answer.", "Rate an answer you were just given."),
    },
    "bad_token": {
        "ru": (
            "Ключ не подходит.",
            "Попросите новый у владельца (postfinder key create); его собственный — в serving.json в папке данных.",
        ),
        "en": (
            "The token is not right.",
            "Ask the operator for one (postfinder key create); theirs is in serving.json of the data folder.",
        ),
    },
    "internal": {
        "ru": ("У нас что-то сломалось; вопрос ни при чём.", "Попробуйте ещё раз; если повторится, скажите владельцу."),
        "en": ("Something broke on our side.", "Try again; if it repeats, tell the operator."),
    },
}
REASONS: dict[str, dict[Language, str]] = {
    "missing": {"ru": "поле «{field}» не указано", "en": "`{field}` is missing"},
    "extra_forbidden": {"ru": "поля «{field}» нет", "en": "there is no field `{field}`"},
    "json_invalid": {"ru": "это не JSON", "en": "it is not JSON"},
    "not_json": {
        "ru": "нужен JSON с заголовком Content-Type: application/json",
        "en": "JSON with Content-Type: application/json is needed",
    },
    "value": {"ru": "в поле «{field}» не то значение", "en": "`{field}` has a wrong value"},
}


def language_of_headers(headers: Mapping[str, str]) -> Language:
    """Choose the interface's language by ``Accept-Language``: Russian where it is asked before English, or nothing is.

    Parameters
    ----------
    headers : mapping
        With lower-case lookups.

    Returns
    -------
    {'ru', 'en'}
    """
    wishes = []
    for place, wish in enumerate(headers.get("accept-language", "").split(",")[:20]):
        name, _, weight = wish.partition(";q=")
        try:
            worth = float(weight) if weight else 1.0
        except ValueError:
            worth = 0.0
        spoken = name.strip().lower()[:2]
        if spoken in {"ru", "en"} and math.isfinite(worth):
            wishes.append((-worth, place, spoken))
    return "en" if wishes and min(wishes)[2] == "en" else "ru"


def problem(
    status: int,
    code: str,
    language: Language,
    *,
    message: str | None = None,
    cure: str | None = None,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """Return an error as ``application/problem+json`` (RFC 9457).

    Parameters
    ----------
    status : int
        HTTP status.
    code : str
        Stable name; its words come from `WORDS` or `appliance.texts`.
    language : {'ru', 'en'}
    message, cure : str, optional
        Instead of the code's words.
    headers : mapping, optional
    **values
        Filled into the words.

    Returns
    -------
    Response
    """
    body = {"status": status, **described(code, language, message=message, cure=cure, **values)}
    return Response(orjson.dumps(body), status, headers=dict(headers or {}), media_type="application/problem+json")


def described(
    code: str, language: Language, *, message: str | None = None, cure: str | None = None, **values: Any
) -> dict[str, str]:
    """Return ``code``, ``message`` and ``cure`` of an error in a language."""
    if message is None and code in WORDS:
        words, help_ = WORDS[code][language]
        message, cure = words.format(**values), help_ if cure is None else cure
    elif message is None:
        message = texts.say(code, language, **values)
    return {"code": code, "message": message, "cure": cure or ""}


def described_error(error: Exception, language: Language, *, for_operator: bool = False) -> dict[str, str]:
    """Describe an error for its reader: one raised on purpose in its own terms, any other as ``internal``.

    A member reads the words of its code; the operator, where the code has none but those of all bad input, its own.
    """
    if not isinstance(error, PostFinderError):
        return described("internal", language)
    if isinstance(error, FOR_OPERATORS) or (for_operator and error.code == BadInput.code):
        return described(error.code, language, message=str(error.args[0]), cure=error.cure)
    if isinstance(error, Paused) and error.word:
        return described(error.code, language, message=error.word)
    return described(error.code, language)


def status_of(error: PostFinderError) -> int:
    """Return the HTTP status of an error raised on purpose."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def add_problems(app: FastAPI) -> None:
    """Teach an application to answer every error with `problem`."""

    @app.exception_handler(PostFinderError)
    async def on_purpose(request: Request, error: PostFinderError) -> Response:
        headers = {"Retry-After": str(math.ceil(error.retry_after_s))} if isinstance(error, SlowDown) else {}
        path = request.url.path
        for_operator = path.startswith("/admin/") and not path.startswith("/admin/desk/")  # there admins read
        words = described_error(error, language_of_request(request), for_operator=for_operator)
        return problem(status_of(error), headers=headers, language=language_of_request(request), **words)

    @app.exception_handler(RequestValidationError)
    async def on_bad_request(request: Request, error: RequestValidationError) -> Response:
        language = language_of_request(request)
        return problem(422, "bad_request", language, detail=reason(error.errors(), language))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        language = language_of_request(request)
        code = {404: "unknown_page", 405: "bad_method", 413: "body_too_large", 401: "bad_token"}.get(error.status_code)
        if code is not None:
            return problem(error.status_code, code, language, headers=error.headers)
        detail = REASONS["json_invalid"][language]
        return problem(error.status_code, "bad_request", language, headers=error.headers, detail=detail)


def language_of_request(request: Request) -> Language:
    """Return the language a body asked for (noted by its route), or that of the headers."""
    return getattr(request.state, "language", None) or language_of_headers(request.headers)


def reason(errors: Sequence[Any], language: Language) -> str:
    """Say the first thing wrong with a body, without repeating what was sent."""
    first = errors[0]
    place = [str(part) for part in first["loc"][1:]]
    kind = first["type"] if first["type"] in REASONS else "value"
    if not place:
        kind = "not_json"
    field = ".".join(place)[:80]
    return REASONS[kind][language].format(field=field if field.isascii() and field.isprintable() else "…")
