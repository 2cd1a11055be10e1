"""What Telegram does beyond plain messages: inline queries with their cache, guests, ephemeral messages, Stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.servers.botapi_schema import BadCallError
from tests.servers.botapi_text import checked_markup, checked_text

if TYPE_CHECKING:
    from tests.servers.botapi import BotApi

JsonObject = dict[str, Any]

INLINE_RESULTS = 50
INLINE_LIFE_S = 30.0  # an inline query that waits longer is too old
EPHEMERAL_REPLY_S = 15.0  # after a press or an ephemeral command; an administrator needs neither
TOO_OLD = "Bad Request: query is too old and response timeout expired or query ID is invalid"


class Modes:
    """The state of one server's inline, guest and ephemeral messages.

    Parameters
    ----------
    server : BotApi

    Attributes
    ----------
    inline_answers : dict
        What the bot answered, by the query's id.
    inline_cached : list of (user id, query)
        Queries that Telegram answered from its cache, without asking the bot.
    guest_answers : dict
        The result the bot sent, by the guest query's id.
    ephemeral : dict
        Messages only one person sees: by chat and person, oldest first.
    """

    def __init__(self, server: BotApi) -> None:
        self._server = server
        self._open: dict[str, tuple[float, JsonObject]] = {}  # queries not yet answered: since when, what was asked
        self._cache: dict[tuple[int | None, str, str], tuple[float, JsonObject]] = {}
        self.inline_answers: dict[str, JsonObject] = {}
        self.inline_cached: list[tuple[int, str]] = []
        self.guest_answers: dict[str, JsonObject] = {}
        self.ephemeral: dict[tuple[int, int], list[JsonObject]] = {}
        self._triggers: dict[tuple[int, int], float] = {}  # last press or ephemeral command: by chat and person
        self._next_id = 0

    def methods(self) -> dict[str, Any]:
        """Bot API methods that are answered here."""
        return {
            "answerInlineQuery": self._answer_inline,
            "answerGuestQuery": self._answer_guest,
            "editEphemeralMessageText": self._edit_ephemeral,
            "editEphemeralMessageReplyMarkup": self._edit_ephemeral,
            "deleteEphemeralMessage": self._delete_ephemeral,
        }

    def _id(self, first: int) -> str:
        self._next_id += 1
        return str(first + self._next_id)

    # -- inline -------------------------------------------------------------------------------------------------------

    def ask_inline(self, user_id: int, query: str, *, offset: str = "", chat_type: str | None = "private") -> str:
        """Let a person type an inline query; returns its id, whose answer may come from Telegram's cache."""
        query_id = self._id(5_000_000_000_000)
        for owner in (user_id, None):
            known = self._cache.get((owner, query, offset))
            if known is not None and known[0] > time.monotonic():
                self.inline_answers[query_id] = known[1]
                self.inline_cached.append((user_id, query))
                return query_id
        asked = {"id": query_id, "from": self._server.users[user_id], "query": query, "offset": offset}
        self._open[query_id] = (time.monotonic(), asked)
        self._server.push({"inline_query": {**asked, **({"chat_type": chat_type} if chat_type else {})}})
        return query_id

    async def _answer_inline(self, params: JsonObject) -> Any:
        asked = self._take(params["inline_query_id"])
        results = params["results"]
        if len(results) > INLINE_RESULTS:
            raise BadCallError("Bad Request: RESULTS_TOO_MUCH")
        ids = [result["id"] for result in results]
        if any(not 1 <= len(one.encode()) <= 64 for one in ids):
            raise BadCallError("Bad Request: RESULT_ID_INVALID")
        if len(set(ids)) < len(ids):
            raise BadCallError("Bad Request: RESULT_ID_DUPLICATE")
        if len(params.get("next_offset", "").encode()) > 64:
            raise BadCallError("Bad Request: NEXT_OFFSET_INVALID")
        button = params.get("button")
        if button is not None and ("web_app" in button) == ("start_parameter" in button):
            raise BadCallError("Bad Request: exactly one of web_app and start_parameter must be used")
        for result in results:
            _check_result(result)
        self.inline_answers[asked["id"]] = params
        owner = asked["from"]["id"] if params.get("is_personal") else None
        until = time.monotonic() + params.get("cache_time", 300)
        self._cache[owner, asked["query"], asked["offset"]] = (until, params)
        return True

    # -- guests -------------------------------------------------------------------------------------------------------

    def ask_guest(self, user_id: int, text: str, *, title: str = "Чужая беседа") -> str:
        """Let a person call the bot in a chat where it is not; returns the guest query's id."""
        query_id = self._id(6_000_000_000_000)
        message = {
            "message_id": 77,
            "from": self._server.users[user_id],
            "chat": {"id": -1001999000111, "type": "supergroup", "title": title},
            "date": int(time.time()),
            "text": text,
            "guest_query_id": query_id,
        }
        self._open[query_id] = (time.monotonic(), message)
        self._server.push({"guest_message": message})
        return query_id

    async def _answer_guest(self, params: JsonObject) -> Any:
        self._take(params["guest_query_id"])
        _check_result(params["result"])
        self.guest_answers[params["guest_query_id"]] = params["result"]
        return {"inline_message_id": f"guest-{params['guest_query_id']}"}

    def _take(self, query_id: str) -> JsonObject:
        since, asked = self._open.pop(query_id, (0.0, {}))
        if not asked or time.monotonic() - since > INLINE_LIFE_S:
            raise BadCallError(TOO_OLD)
        return asked

    # -- ephemeral ----------------------------------------------------------------------------------------------------

    def whisper(self, user_id: int, text: str, chat_id: int) -> None:
        """Let a person send an ephemeral command, which only the bot sees."""
        server = self._server
        message: JsonObject = {
            "message_id": 0,
            "ephemeral_message_id": self._number(),
            "from": server.users[user_id],
            "receiver_user": server.me,
            "chat": server.chats[chat_id],
            "date": int(time.time()),
            "text": text,
        }
        self._triggers[chat_id, user_id] = time.monotonic()
        server.push({"message": message})

    def whispered(self, user_id: int, chat_id: int) -> list[JsonObject]:
        """What a person alone sees in a chat, oldest first."""
        return self.ephemeral.get((chat_id, user_id), [])

    def pressed(self, chat_id: int, user_id: int) -> None:
        """Note that a person pressed a button there."""
        self._triggers[chat_id, user_id] = time.monotonic()

    def send(self, chat: JsonObject, params: JsonObject) -> JsonObject:
        """Take an ephemeral message of the bot."""
        user_id = params["ephemeral_message_parameters"]["receiver_user_id"]
        if chat["type"] not in {"group", "supergroup"}:
            raise BadCallError("Bad Request: ephemeral messages can be sent only to groups and supergroups")
        if user_id not in self._server.users:
            raise BadCallError("Bad Request: user not found")
        is_due = time.monotonic() - self._triggers.get((chat["id"], user_id), -1e9) <= EPHEMERAL_REPLY_S
        if not is_due and self._server.me["id"] not in self._server.admins.get(chat["id"], set()):
            raise BadCallError("Bad Request: ephemeral message can't be sent to the user")
        text, entities = checked_text(params["text"], params.get("entities", []))
        message: JsonObject = {
            "message_id": 0,
            "ephemeral_message_id": self._number(),
            "from": self._server.me,
            "receiver_user": self._server.users[user_id],
            "chat": chat,
            "date": int(time.time()),
            "text": text,
        }
        if "message_thread_id" in params:
            message["message_thread_id"] = params["message_thread_id"]
        if entities:
            message["entities"] = entities
        if markup := checked_markup(params.get("reply_markup")):
            message["reply_markup"] = markup
        self.ephemeral.setdefault((chat["id"], user_id), []).append(message)
        return message

    async def _edit_ephemeral(self, params: JsonObject) -> Any:
        message = self._found(params)
        if "text" in params:
            message["text"], message["entities"] = checked_text(params["text"], params.get("entities", []))
        message["reply_markup"] = checked_markup(params.get("reply_markup")) or {}
        return True

    async def _delete_ephemeral(self, params: JsonObject) -> Any:
        message = self._found(params)
        self.ephemeral[params["chat_id"], params["receiver_user_id"]].remove(message)
        return True

    def _found(self, params: JsonObject) -> JsonObject:
        there = self.ephemeral.get((params["chat_id"], params["receiver_user_id"]), [])
        wanted = params["ephemeral_message_id"]
        found = next((message for message in there if message["ephemeral_message_id"] == wanted), None)
        if found is None:
            raise BadCallError("Bad Request: message to edit not found")
        return found

    def _number(self) -> int:
        self._next_id += 1
        return self._next_id

    # -- stop ---------------------------------------------------------------------------------------------------------

    def stop(self, user_id: int, draft_id: int, topic_id: int | None = None) -> None:
        """Let a person press Stop under a draft; `LookupError` where the draft shows no such button."""
        server = self._server
        drafts = [one for one in server.drafts if (one["chat_id"], one["draft_id"]) == (user_id, draft_id)]
        if not drafts or not drafts[-1].get("can_stop"):
            raise LookupError("no draft with a Stop button")
        update: JsonObject = {"chat": server.chats[user_id], "draft_id": draft_id}
        if topic_id is not None:
            update["message_thread_id"] = topic_id
        server.push({"stopped_message_generation": update})


def _check_result(result: JsonObject) -> None:
    content = result.get("input_message_content")
    if content is None:
        raise BadCallError("Bad Request: MESSAGE_EMPTY")
    if "message_text" in content:
        checked_text(content["message_text"], content.get("entities", []))
    if not result.get("title"):
        raise BadCallError("Bad Request: ARTICLE_TITLE_EMPTY")
    checked_markup(result.get("reply_markup"))
