"""Generator over an OpenAI-compatible chat API (vLLM, llama.cpp): streamed, cancellable, patient only so long.

Sources: https://docs.vllm.ai (OpenAI-compatible server, ``cache_salt``, ``structured_outputs``);
https://html.spec.whatwg.org/multipage/server-sent-events.html (the stream's lines).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx

from models.errors import DownReason, GeneratorDown, ModelError
from models.ports import ChatMessage

MAX_EVENT_BYTES = 1 << 20  # one line of the stream; an answer's whole text is a thousandth of it
REST_S = 1.0  # after a timeout, questions are refused at once for so long instead of waiting one by one


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may keep us waiting, in seconds.

    Attributes
    ----------
    connect_s : float
        To accept a connection.
    first_token_s : float
        From the question to the first piece of text (queueing and reading the prompt included).
    next_token_s : float
        Between two pieces.
    """

    connect_s: float = 2.0
    first_token_s: float = 15.0
    next_token_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What one finished answer took.

    Attributes
    ----------
    prompt_tokens, cached_tokens, completion_tokens : int
        As counted by the server (0 where it does not say); cached ones are part of the prompt's.
    finish_reason : str
        ``"stop"``, or ``"length"`` when cut at ``max_tokens``.
    first_token_ms, total_ms : float
        From the request to the first piece of text, and to the end.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str
    first_token_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model the server offers; `context_tokens` is None where it does not say."""

    name: str
    context_tokens: int | None


class OpenAIGenerator:
    """A `models.ports.Generator` that asks an OpenAI-compatible server.

    One HTTP client, opened with the first question and closed by `aclose`. Proxies of the environment are ignored:
    prompts hold members' questions and go nowhere but to `url`.

    Parameters
    ----------
    url : str
        Base URL, e.g. ``http://vllm:8000/v1`` (``/v1`` is added where there is no path).
    model : str, optional
        Model name to ask for; empty takes the first one served.
    api_key : str, optional
        Sent as a bearer token.
    patience : Patience, optional
        Timeouts.
    extra : mapping, optional
        More fields of every request's body, e.g. ``{"chat_template_kwargs": {"enable_thinking": False}}``.

    Raises
    ------
    ModelError
        If `url` is not an HTTP address.
    """

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        api_key: str = "",
        patience: Patience | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._configured = model
        self._served: ServedModel | None = None
        self._extra = dict(extra or {})
        self._rest_until = 0.0
        self._meeting = asyncio.Lock()
        self._client = httpx.AsyncClient(
            base_url=_base_url(url),
            headers={"Authorization": f"Bearer {api_key}"} if api_key else None,
            timeout=httpx.Timeout(self._patience.connect_s, read=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=4.0),
            trust_env=False,
        )

    @property
    def name(self) -> str:
        """The configured model name, else the served one; empty before the server was first asked."""
        return self._configured or (self._served.name if self._served else "")

    @property
    def context_tokens(self) -> int | None:
        """Context of the served model, prompt and answer together; None while the server has not said it."""
        return self._served.context_tokens if self._served else None

    async def served(self) -> ServedModel:
        """Ask the server which model it serves (remembered until it denies the name).

        Returns
        -------
        ServedModel
            The configured model, or the first one listed.

        Raises
        ------
        GeneratorDown
            If the server cannot be asked, or does not serve the configured model.
        """
        if self._served is None:
            self._served = await self._ask_served(asyncio.get_running_loop().time() + self._patience.first_token_s)
        return self._served

    async def ready(self) -> Usage:
        """Let the model write one token: the only proof that it can.

        Returns
        -------
        Usage
            Of that one-token answer.

        Raises
        ------
        GeneratorDown
            If it cannot.
        """
        usage: list[Usage] = []
        self._served, self._rest_until = None, 0.0
        await self.served()
        question = (ChatMessage(role="user", content="1"),)
        async for _ in self.stream(question, max_tokens=1, on_end=usage.append):
            pass
        return usage[0]

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        cache_salt: str = "",
        extra: Mapping[str, Any] | None = None,
        on_end: Callable[[Usage], None] | None = None,
    ) -> AsyncIterator[str]:
        """Yield pieces of the answer as the model writes them.

        Closing the iterator (``contextlib.aclosing``) or cancelling the task closes the connection, and vLLM stops
        writing. A piece is never empty.

        Parameters
        ----------
        messages : sequence of ChatMessage
            The prompt; the model's own template is applied by the server.
        max_tokens : int
            Longest answer.
        temperature : float, optional
            0 is greedy.
        stop : sequence of str, optional
            Texts that end the answer.
        cache_salt : str, optional
            Keeps prefix caches of different tenants apart (vLLM).
        extra : mapping, optional
            More body fields for this request, e.g. ``response_format`` or vLLM's ``structured_outputs``.
        on_end : callable, optional
            Called once with the `Usage` after the last piece of a whole answer.

        Yields
        ------
        str
            A piece of text.

        Raises
        ------
        GeneratorDown
            When there is no answer, or only a part of one; `.reason` says why.
        """
        started = time.perf_counter()
        clock = asyncio.get_running_loop()
        deadline = clock.time() + self._patience.first_token_s
        self._refuse_while_resting()
        if self._served is None:
            await self._meet(deadline)
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({"stop": list(stop)} if stop else {}),
            **({"cache_salt": cache_salt} if cache_salt else {}),
            **self._extra,
            **(extra or {}),
        }
        first_ms, finish, tokens = 0.0, "", _Tokens(0, 0, 0)
        async with self._post("chat/completions", body, deadline) as lines:
            while (event := await self._next_event(lines, deadline)) is not None:
                finish, tokens = event.finish or finish, event.tokens or tokens
                if event.text:
                    first_ms = first_ms or (time.perf_counter() - started) * 1000
                    yield event.text
                if first_ms:
                    deadline = clock.time() + self._patience.next_token_s
        if finish in ("", "abort", "error"):
            raise _down("The model stopped in the middle of its answer.", "broken")
        total_ms = (time.perf_counter() - started) * 1000
        if on_end is not None:
            on_end(
                Usage(
                    prompt_tokens=tokens.prompt,
                    cached_tokens=tokens.cached,
                    completion_tokens=tokens.completion,
                    finish_reason=finish,
                    first_token_ms=first_ms or total_ms,
                    total_ms=total_ms,
                )
            )

    async def aclose(self) -> None:
        """Close the HTTP client."""
        await self._client.aclose()

    async def _meet(self, deadline: float) -> None:
        """Learn what is served, once for all who ask; a server that keeps no list can still be asked by name."""
        async with self._meeting:
            if self._served is not None:
                return
            try:
                self._served = await self._ask_served(deadline)
            except GeneratorDown as down:
                if not self._configured or down.reason not in ("refused", "broken"):
                    raise

    async def _ask_served(self, deadline: float) -> ServedModel:
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._client.get("models")
            if response.status_code != 200:
                raise self._refused(response.status_code, response.headers, response.content)
            models = [m for m in response.json()["data"] if not self._configured or m["id"] == self._configured]
        except (TimeoutError, httpx.HTTPError) as error:
            raise self._failed(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise _down("The model server's list of models cannot be read.", "broken") from error
        if not models:
            raise _down(
                f"The model server does not serve {self._configured or 'any model'}.",
                "refused",
                cure="Set the generator's model to the name it serves (GET /v1/models), or leave it empty.",
            )
        return ServedModel(name=str(models[0]["id"]), context_tokens=_context(models[0]))

    @asynccontextmanager
    async def _post(self, path: str, body: dict[str, Any], deadline: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Send a request and hand out the lines of its answer; leaving closes the connection."""
        try:
            async with asyncio.timeout_at(deadline):
                request = self._client.build_request("POST", path, json=body)
                response = await self._client.send(request, stream=True)
                if response.status_code != 200:
                    with_body = await response.aread()
                    raise self._refused(response.status_code, response.headers, with_body)
        except (TimeoutError, httpx.HTTPError) as error:
            raise self._failed(error) from error
        try:
            async with aclosing(_lines(response)) as lines:
                yield lines
        finally:
            await response.aclose()

    async def _next_event(self, lines: AsyncIterator[bytes], deadline: float) -> _Event | None:
        """Next ``data:`` event; None at ``[DONE]`` or the end of the stream."""
        try:
            async with asyncio.timeout_at(deadline):
                async for line in lines:
                    field, _, value = line.partition(b":")
                    if field != b"data":
                        continue
                    if value.strip() == b"[DONE]":
                        return None
                    return _event(json.loads(value))
        except (TimeoutError, httpx.HTTPError) as error:
            raise self._failed(error) from error
        except (ValueError, TypeError, AttributeError) as error:
            raise _down("The model server sent a stream that cannot be read.", "broken") from error
        return None

    def _refuse_while_resting(self) -> None:
        left_s = self._rest_until - time.monotonic()
        if left_s > 0:
            raise _down("The model server did not answer in time a moment ago.", "slow", retry_after_s=left_s)

    def _failed(self, error: Exception) -> GeneratorDown:
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            self._rest_until = time.monotonic() + REST_S
            return _down("The model server did not answer in time.", "slow")
        self._served = None  # it may come back with another model
        if isinstance(error, httpx.ConnectError):
            return _down(
                "The model server cannot be reached.", "unreachable", cure="Check that it runs and the generator's URL."
            )
        return _down(f"The connection to the model server broke ({type(error).__name__}).", "broken")

    def _refused(self, status: int, headers: httpx.Headers, body: bytes) -> GeneratorDown:
        """Say what an HTTP error means; the body is never repeated, as it may quote the prompt."""
        after = headers.get("retry-after", "")
        retry_after_s = float(after) if after.isdigit() else None
        if status in (429, 503):
            return _down(f"The model server is overloaded (HTTP {status}).", "overloaded", retry_after_s=retry_after_s)
        if status >= 500:
            return _down(f"The model server failed (HTTP {status}).", "broken")
        if b"context length" in body:
            return _down("The prompt is longer than the model's context.", "refused", cure="Show fewer passages.")
        if status in (401, 403):
            return _down(f"The model server wants another key (HTTP {status}).", "refused", cure="Check its API key.")
        if status == 404:
            self._served = None
            return _down(
                "The model server knows no such model or path (HTTP 404).",
                "refused",
                cure="Check the generator's URL and model name.",
            )
        return _down(f"The model server refused the request (HTTP {status}).", "refused")


@dataclass(frozen=True, slots=True)
class _Tokens:
    prompt: int
    cached: int
    completion: int


@dataclass(frozen=True, slots=True)
class _Event:
    text: str
    finish: str
    tokens: _Tokens | None


def _event(data: Any) -> _Event:
    """Read one ``chat.completion.chunk``; errors of shape are the caller's."""
    if "error" in data:
        raise _down("The model server failed in the middle of its answer.", "broken")
    text, finish, usage = "", "", data.get("usage")
    for choice in data.get("choices") or ():
        finish = str(choice.get("finish_reason") or finish)
        text += (choice.get("delta") or {}).get("content") or ""
    tokens = usage and _Tokens(
        prompt=int(usage.get("prompt_tokens") or 0),
        cached=int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
        completion=int(usage.get("completion_tokens") or 0),
    )
    return _Event(text.encode("utf-8", "replace").decode(), finish, tokens or None)  # no lone surrogates


def _context(entry: dict[str, Any]) -> int | None:
    """Read a listed model's context: vLLM's ``max_model_len``, or llama.cpp's ``meta.n_ctx``."""
    meta = entry.get("meta")
    found = entry.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    return found if isinstance(found, int) else None


def _down(message: str, reason: DownReason, *, retry_after_s: float | None = None, cure: str = "") -> GeneratorDown:
    return GeneratorDown(message, reason=reason, retry_after_s=retry_after_s, cure=cure)


def _base_url(url: str) -> str:
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as error:
        raise ModelError(f"The generator's URL cannot be read: {error}.", cure="Write http://host:port/v1.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ModelError("The generator's URL is not an HTTP address.", cure="Write http://host:port/v1.")
    path = parsed.path.rstrip("/") or "/v1"
    return str(parsed.copy_with(path=path + "/", query=None, fragment=None))


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes]:
    """Cut the body at line feeds alone: text in JSON may hold other line separators raw."""
    buffer = b""
    async with aclosing(cast(AsyncGenerator[bytes], response.aiter_bytes())) as chunks:
        async for chunk in chunks:
            *whole, buffer = (buffer + chunk).split(b"\n")
            for line in whole:
                yield line.removesuffix(b"\r")
            if len(buffer) > MAX_EVENT_BYTES:
                raise ValueError("a line without an end")
    if buffer:
        yield buffer
