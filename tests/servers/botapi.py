"""A Bot API server on loopback: real HTTP, real long polling and webhooks, Telegram's refusals and limits.

It holds people, chats and their messages; a test (or `make chat`) acts for the people, the bot under test calls it as
it would call Telegram. Calls are checked against the machine-readable schema where that file is given.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from tests.servers.botapi_limits import Fault, Flood, Limits
from tests.servers.botapi_modes import Modes
from tests.servers.botapi_posting import Posting
from tests.servers.botapi_schema import BadCallError, Schema, parameters_of, refusal
from tests.servers.botapi_stars import Stars
from tests.servers.botapi_text import checked_markup, checked_text, find_entities

T = TypeVar("T")
JsonObject = dict[str, Any]

SCHEMA_FILE = Path(__file__).parents[3] / "shared" / "data" / "botapi" / "api.json"
DEFAULT_TOKEN = "1000001:loopback-token-for-tests"  # the part before the colon is the bot's id, as Telegram has it
_FIRST_UPDATE_IDS = itertools.count(700_000_001, 1_000_000)  # of each server: an update's id never comes again
OFF_BY_DEFAULT = {"chat_member", "message_reaction", "message_reaction_count"}
UNLIMITED = {"sendChatAction"}
ADMIN_RIGHTS = (
    "can_manage_chat", "can_delete_messages", "can_manage_video_chats", "can_restrict_members", "can_promote_members",
    "can_change_info", "can_invite_users", "can_post_stories", "can_edit_stories", "can_delete_stories",
    "can_send_welcome_messages",
)  # fmt: skip
WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)
OTHER_POLLER = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
NOT_MODIFIED = (
    "Bad Request: message is not modified: specified new message content and reply markup are exactly the same as "
    "a current content and reply markup of the message"
)


class BotApi:
    """The server.

    Parameters
    ----------
    token : str
        The only bot's token.
    schema : Path or None
        ``api.json``; by default where the shared data has it, if it is there.
    limits : Limits
    seed : int
        Of the faults' chances.
    username : str
        Of the bot.
    """

    def __init__(
        self,
        *,
        token: str = DEFAULT_TOKEN,
        schema: Path | None = SCHEMA_FILE,
        limits: Limits | None = None,
        seed: int = 0,
        username: str = "postfinder_bot",
    ) -> None:
        self.token = token
        self.schema = Schema(schema if schema is not None and schema.exists() else None)
        self.flood = Flood(limits or Limits(), time.monotonic)
        self.me: JsonObject = {
            "id": int(token.split(":")[0]),
            "is_bot": True,
            "first_name": "PostFinder",
            "username": username,
        }
        self.chats: dict[int, JsonObject] = {}
        self.users: dict[int, JsonObject] = {}
        self.messages: dict[int, dict[int, JsonObject]] = {}  # what each chat sees, by message id
        self.blocked_by: set[int] = set()
        self.admins: dict[int, set[int]] = {}  # administrators of groups, the bot's own id among them where it is one
        self.migrated: dict[int, int] = {}
        self.faults: list[Fault] = []
        self.calls: list[tuple[float, str, Any, int]] = []  # (monotonic time, method, chat id, HTTP status)
        self.documents: list[tuple[int, bytes]] = []  # (chat id, content), pictures among them
        self.pictures: dict[tuple[int, int], bytes] = {}  # by chat and message
        self.drafts: list[JsonObject] = []
        self.actions: list[tuple[int, str]] = []
        self.callback_answers: dict[str, JsonObject] = {}
        self.commands: dict[str, list[JsonObject]] = {}  # by language, of the default scope
        self.scoped_commands: dict[tuple[str, int, str], list[JsonObject]] = {}  # by scope, its chat and language
        self.posting = Posting(self)
        self.modes = Modes(self)
        self.stars = Stars(self)
        self.webhook: JsonObject | None = None
        self._open_callbacks: set[str] = set()
        self._updates: dict[int, str] = {}  # raw JSON by update id, in order
        self._next_update_id = next(_FIRST_UPDATE_IDS)
        self._next_id = 0
        self._allowed: set[str] | None = None
        self._poll = 0
        self._changed = asyncio.Event()
        self._random = random.Random(seed)
        self._runner: web.AppRunner | None = None
        self.url = ""
        self._methods: dict[str, Callable[[JsonObject], Awaitable[Any]]] = {
            "getUpdates": self._get_updates,
            "getMe": self._get_me,
            "setMyCommands": self._set_my_commands,
            "deleteMyCommands": self._delete_my_commands,
            "sendMessage": self._send_message,
            "sendDocument": self._send_document,
            "sendPhoto": self._send_photo,
            "sendMessageDraft": self._send_draft,
            "editMessageText": self._edit_message,
            "editMessageReplyMarkup": self._edit_message,
            "deleteMessage": self._delete_message,
            "sendChatAction": self._send_chat_action,
            "answerCallbackQuery": self._answer_callback,
            "getChatMember": self._get_chat_member,
            "getChatAdministrators": self._get_chat_administrators,
            **self.posting.methods(),
            **self.modes.methods(),
            **self.stars.methods(),
        }

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> BotApi:
        """Listen on loopback; `url` says where."""
        app = web.Application(client_max_size=60 * 2**20)
        app.router.add_post("/_control/{verb}", self._control)
        app.router.add_get("/_control/{verb}", self._control)
        app.router.add_route("*", "/bot{token}/{method}", self._call)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        host, bound = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{bound}"
        return self

    async def stop(self) -> None:
        """Close every connection and stop listening."""
        self._poll += 1
        self._notify()
        await self.posting.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> BotApi:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # -- people, chats and their updates ------------------------------------------------------------------------------

    def add_user(self, user_id: int, first_name: str, language_code: str | None = "ru", **more: Any) -> JsonObject:
        """Create a person, with a private chat."""
        user = {"id": user_id, "is_bot": False, "first_name": first_name, **more}
        if language_code:
            user["language_code"] = language_code
        self.users[user_id] = user
        names = {key: user[key] for key in ("first_name", "last_name", "username") if key in user}
        self.chats[user_id] = {"id": user_id, "type": "private", **names}
        self.messages.setdefault(user_id, {})
        return user

    def add_group(self, chat_id: int, title: str, kind: str = "supergroup") -> JsonObject:
        """Create a group (negative id) in which the bot is."""
        self.chats[chat_id] = {"id": chat_id, "type": kind, "title": title}
        self.messages.setdefault(chat_id, {})
        return self.chats[chat_id]

    def migrate(self, chat_id: int, new_id: int) -> None:
        """Turn a group into a supergroup with a new id."""
        self.migrated[chat_id] = new_id
        self.add_group(new_id, self.chats[chat_id]["title"])

    def say(
        self,
        user_id: int,
        text: str = "",
        *,
        chat_id: int | None = None,
        reply_to: int | None = None,
        topic: int | None = None,
        **more: Any,
    ) -> int:
        """Let a person send a message (`more` are further fields, e.g. a photo); returns its id."""
        chat_id = user_id if chat_id is None else chat_id
        if topic is not None:
            more = {**more, "message_thread_id": topic, "is_topic_message": True}
        message = self._new_message(chat_id, self.users[user_id], reply_to)
        if text:
            message["text"] = text
            if entities := find_entities(text):
                message["entities"] = entities
        message.update(more)
        self.push({"message": self._seen(message)})
        return int(message["message_id"])

    def edit(self, user_id: int, message_id: int, text: str, *, chat_id: int | None = None) -> None:
        """Let a person edit a message of theirs."""
        message = self.messages[user_id if chat_id is None else chat_id][message_id]
        message.update(text=text, edit_date=int(time.time()), entities=find_entities(text))
        self.push({"edited_message": self._seen(message)})

    def press(self, user_id: int, message_id: int, button: str, *, chat_id: int | None = None) -> str:
        """Let a person press a button, named by its text or its data; returns the callback query's id."""
        chat_id = user_id if chat_id is None else chat_id
        message = self.messages[chat_id][message_id]
        for row in message.get("reply_markup", {}).get("inline_keyboard", []):
            for key in row:
                if button in (key["text"], key.get("callback_data")):
                    return self.press_data(user_id, message_id, key["callback_data"], chat_id=chat_id)
        raise LookupError(f"no button {button!r} under message {message_id}")

    def press_data(self, user_id: int, message_id: int, data: str, *, chat_id: int | None = None) -> str:
        """Send callback data that may stand on no button at all."""
        chat_id = user_id if chat_id is None else chat_id
        return self._press(user_id, self.messages[chat_id][message_id], data)

    def press_whispered(self, user_id: int, chat_id: int, button: str) -> str:
        """Let a person press a button of the last ephemeral message they see there."""
        message = self.modes.whispered(user_id, chat_id)[-1]
        keys = [key for row in message.get("reply_markup", {}).get("inline_keyboard", []) for key in row]
        return self._press(user_id, message, next(key["callback_data"] for key in keys if key["text"] == button))

    def _press(self, user_id: int, message: JsonObject, data: str) -> str:
        self._next_id += 1
        query_id = str(4_000_000_000_000 + self._next_id)
        self._open_callbacks.add(query_id)
        self.modes.pressed(message["chat"]["id"], user_id)
        self.push(
            {
                "callback_query": {
                    "id": query_id,
                    "from": self.users[user_id],
                    "message": self._seen(message),
                    "chat_instance": str(message["chat"]["id"]),
                    "data": data,
                }
            }
        )
        return query_id

    def push(self, update: JsonObject, *, update_id: int | None = None) -> int:
        """Queue an update of any shape for the bot; returns its id."""
        kind = next((key for key in update if key != "update_id"), "")
        update_id = update_id or update.get("update_id") or self._next_update_id
        if kind not in (self._allowed if self._allowed is not None else {kind} - OFF_BY_DEFAULT):
            return update_id
        return self.push_raw(json.dumps({"update_id": update_id, **update}, ensure_ascii=False), update_id)

    def push_raw(self, raw: str, update_id: int | None = None) -> int:
        """Queue raw bytes as an update, be they JSON or not."""
        update_id = update_id or self._next_update_id
        self._next_update_id = max(self._next_update_id, update_id + 1)
        self._updates[update_id] = raw
        self._notify()
        return update_id

    def pending(self) -> list[int]:
        """Ids of updates the bot has not confirmed."""
        return list(self._updates)

    def seen(self, chat_id: int) -> list[JsonObject]:
        """What a chat shows, oldest first."""
        return [self.messages[chat_id][key] for key in sorted(self.messages[chat_id])]

    def from_bot(self, chat_id: int) -> list[JsonObject]:
        """The bot's messages in a chat, oldest first."""
        return [message for message in self.seen(chat_id) if message.get("from", {}).get("id") == self.me["id"]]

    async def until(self, ready: Callable[[], T], timeout_s: float = 60.0) -> T:
        """Wait until `ready` returns something true; `TimeoutError` with its last word otherwise."""
        deadline = time.monotonic() + timeout_s
        while not (value := ready()):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"not after {timeout_s} s: {value!r}; methods called: {Counter(c[1] for c in self.calls)}"
                )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(left, 0.2))
        return value

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _new_message(self, chat_id: int, sender: JsonObject, reply_to: int | None) -> JsonObject:
        shelf = self.messages[chat_id]
        message = {
            "message_id": max(shelf, default=0) + 1,
            "from": sender,
            "chat": self.chats[chat_id],
            "date": int(time.time()),
        }
        if reply_to is not None:
            message["reply_to_message"] = {
                key: value for key, value in shelf[reply_to].items() if key != "reply_to_message"
            }
        shelf[message["message_id"]] = message
        self._notify()
        return message

    @staticmethod
    def _seen(message: JsonObject) -> JsonObject:
        return json.loads(json.dumps(message))  # type: ignore[no-any-return]

    # -- one call -----------------------------------------------------------------------------------------------------

    async def _call(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["token"] != self.token:
            return refusal(BadCallError("Unauthorized", 401))
        try:
            method = self.schema.method(request.match_info["method"])
            given = await parameters_of(request)
        except BadCallError as error:
            return refusal(error)
        fault = next((fault for fault in self.faults if fault.strikes(method, self._random.random())), None)
        chat_id = given.get("chat_id")
        if fault is not None and fault.kind != "lost":
            return await self._fail(request, method, chat_id, fault)
        try:
            params = self.schema.check(method, given)
            result = await self._do(method, params)
        except BadCallError as error:
            self.calls.append((time.monotonic(), method, chat_id, error.status))
            self._notify()
            return refusal(error)
        if fault is not None:
            self._drop(request)
        self.calls.append((time.monotonic(), method, chat_id, 200))
        self._notify()
        if isinstance(result, web.Response):
            return result
        return web.json_response({"ok": True, "result": result})

    async def _do(self, method: str, params: JsonObject) -> Any:
        is_sent = method.startswith(("send", "edit", "copy", "forward")) and method not in UNLIMITED
        if is_sent and "chat_id" in params:
            chat = self._chat(params["chat_id"])
            if wait := self.flood.retry_after(chat["id"], is_group=chat["type"] != "private"):
                raise _too_many(wait)
        if (native := self._methods.get(method)) is not None:
            return await native(params)
        described = self.schema.methods.get(method)
        return self.schema.sample(described["returns"]) if described else True

    async def _fail(self, request: web.Request, method: str, chat_id: Any, fault: Fault) -> web.StreamResponse:
        self.calls.append((time.monotonic(), method, chat_id, {"429": 429, "500": 500, "502": 502}.get(fault.kind, 0)))
        self._notify()
        if fault.kind == "429":
            key = int(chat_id) if str(chat_id).lstrip("-").isdigit() else chat_id
            return refusal(_too_many(self.flood.block(key, fault.retry_after_s)))
        if fault.kind == "500":
            return refusal(BadCallError("Internal Server Error", 500))
        if fault.kind == "502":
            return web.Response(status=502, text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html")
        if fault.kind == "timeout":
            await asyncio.sleep(fault.hang_s)
        self._drop(request)
        return web.Response(status=499)

    @staticmethod
    def _drop(request: web.Request) -> None:
        if request.transport is not None:
            request.transport.abort()

    # -- methods ------------------------------------------------------------------------------------------------------

    async def _get_updates(self, params: JsonObject) -> Any:
        if self.webhook is not None:
            raise BadCallError(WEBHOOK_ACTIVE, 409)
        self._poll += 1
        mine = self._poll
        self._notify()
        self._allow(params)
        offset = params.get("offset", 0)
        if offset < 0:
            for update_id in list(self._updates)[:offset]:
                del self._updates[update_id]
        for update_id in [known for known in self._updates if known < offset]:
            del self._updates[update_id]
        deadline = time.monotonic() + params.get("timeout", 0)
        while not self._updates and mine == self._poll and (left := deadline - time.monotonic()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        if mine != self._poll:
            raise BadCallError(OTHER_POLLER, 409)
        limit = min(max(params.get("limit", 100), 1), 100)
        raws = [self._updates[update_id] for update_id in sorted(self._updates)[:limit]]
        body = '{"ok":true,"result":[' + ",".join(raws) + "]}"
        return web.Response(text=body, content_type="application/json")

    def _allow(self, params: JsonObject) -> None:
        if "allowed_updates" in params:
            self._allowed = set(params["allowed_updates"]) or None

    async def _get_me(self, params: JsonObject) -> Any:
        abilities = ("can_join_groups", "can_read_all_group_messages", "supports_inline_queries")
        known = {field["name"] for field in self.schema.types.get("User", {}).get("fields", [])}
        required = [f["name"] for f in self.schema.types.get("User", {}).get("fields", []) if f["required"]]
        extra: JsonObject = {name: False for name in [*abilities, *required] if name in known and name not in self.me}
        return {**extra, **self.me}

    async def _set_my_commands(self, params: JsonObject) -> Any:
        language, scope = params.get("language_code", ""), params.get("scope") or {"type": "default"}
        if scope["type"] == "default":
            self.commands[language] = params["commands"]
        self.scoped_commands[scope["type"], scope.get("chat_id", 0), language] = params["commands"]
        return True

    async def _delete_my_commands(self, params: JsonObject) -> Any:
        language, scope = params.get("language_code", ""), params.get("scope") or {"type": "default"}
        if scope["type"] == "default":
            self.commands.pop(language, None)
        self.scoped_commands.pop((scope["type"], scope.get("chat_id", 0), language), None)
        return True

    async def _get_chat_member(self, params: JsonObject) -> Any:
        return self._member(self._chat(params["chat_id"]), params["user_id"])

    async def _get_chat_administrators(self, params: JsonObject) -> Any:
        chat = self._chat(params["chat_id"])
        if chat["type"] == "private":
            raise BadCallError("Bad Request: there are no administrators in the private chat")
        return [self._member(chat, user_id) for user_id in sorted(self.admins.get(chat["id"], ()))]

    def _member(self, chat: JsonObject, user_id: int) -> JsonObject:
        person = self.me if user_id == self.me["id"] else self.users.get(user_id)
        if person is None:
            raise BadCallError("Bad Request: user not found")
        if user_id not in self.admins.get(chat["id"], ()):
            return {"status": "member", "user": person}
        rights = dict.fromkeys(ADMIN_RIGHTS, True)
        return {"status": "administrator", "user": person, "can_be_edited": False, "is_anonymous": False, **rights}

    async def _send_message(self, params: JsonObject) -> Any:
        chat = self._writable(params["chat_id"])
        if "ephemeral_message_parameters" in params:
            return self._seen(self.modes.send(chat, params))
        text, entities = checked_text(params["text"], params.get("entities", []))
        markup = checked_markup(params.get("reply_markup"))
        reply_to = None
        if (reply := params.get("reply_parameters")) is not None:
            reply_to = reply.get("message_id")
            if reply_to not in self.messages[chat["id"]]:
                if not reply.get("allow_sending_without_reply"):
                    raise BadCallError("Bad Request: message to be replied not found")
                reply_to = None
        message = self._new_message(chat["id"], self.me, reply_to)
        message["text"] = text
        if "message_thread_id" in params:
            message.update(message_thread_id=params["message_thread_id"], is_topic_message=True)
        if entities:
            message["entities"] = entities
        if markup:
            message["reply_markup"] = markup
        if "link_preview_options" in params:
            message["link_preview_options"] = params["link_preview_options"]
        return self._seen(message)

    async def _send_document(self, params: JsonObject) -> Any:
        """Take a file or a picture, as a message of its caption."""
        content = params.get("document", params.get("photo"))
        if not isinstance(content, bytes):
            raise BadCallError("Bad Request: there is no document in the request")
        sent = await self._send_message({**params, "text": params.get("caption") or "…", "entities": []})
        self.documents.append((int(params["chat_id"]), content))
        return sent

    async def _send_photo(self, params: JsonObject) -> Any:
        sent = await self._send_document(params)
        self.pictures[sent["chat"]["id"], sent["message_id"]] = params["photo"]
        return sent

    async def _send_draft(self, params: JsonObject) -> Any:
        chat = self._writable(params["chat_id"])
        if chat["type"] != "private":
            raise BadCallError("Bad Request: drafts are for private chats")
        if params["draft_id"] == 0:
            raise BadCallError("Bad Request: draft_id must be non-zero")
        if params.get("text"):
            checked_text(params["text"], params.get("entities", []))
        self.drafts.append({**params, "at": time.monotonic()})
        return True

    async def _edit_message(self, params: JsonObject) -> Any:
        chat = self._chat(params.get("chat_id"))
        message = self.messages[chat["id"]].get(params.get("message_id", 0))
        if message is None:
            raise BadCallError("Bad Request: message to edit not found")
        if message["from"]["id"] != self.me["id"]:
            raise BadCallError("Bad Request: message can't be edited")
        changed = {"reply_markup": checked_markup(params.get("reply_markup"))}
        if "text" in params:
            changed["text"], changed["entities"] = checked_text(params["text"], params.get("entities", []))
        if all((message.get(key) or None) == (value or None) for key, value in changed.items()):
            raise BadCallError(NOT_MODIFIED)
        message.update(changed, edit_date=int(time.time()))
        for key in [key for key, value in message.items() if not value]:
            del message[key]
        return self._seen(message)

    async def _delete_message(self, params: JsonObject) -> Any:
        chat = self._chat(params["chat_id"])
        if self.messages[chat["id"]].pop(params["message_id"], None) is None:
            raise BadCallError("Bad Request: message to delete not found")
        return True

    async def _send_chat_action(self, params: JsonObject) -> Any:
        self.actions.append((self._writable(params["chat_id"])["id"], params["action"]))
        return True

    async def _answer_callback(self, params: JsonObject) -> Any:
        query_id = params["callback_query_id"]
        if query_id not in self._open_callbacks:
            raise BadCallError("Bad Request: query is too old and response timeout expired or query ID is invalid")
        if len(params.get("text", "")) > 200:
            raise BadCallError("Bad Request: MESSAGE_TOO_LONG")
        self._open_callbacks.discard(query_id)
        self.callback_answers[query_id] = params
        return True

    def _chat(self, chat_id: Any) -> JsonObject:
        if isinstance(chat_id, str):
            wanted = chat_id.removeprefix("@").lower()
            chat_id = next((c["id"] for c in self.chats.values() if c.get("username", "").lower() == wanted), None)
        if chat_id in self.migrated:
            raise BadCallError(
                "Bad Request: group chat was upgraded to a supergroup chat",
                parameters={"migrate_to_chat_id": self.migrated[chat_id]},
            )
        if chat_id not in self.chats:
            raise BadCallError("Bad Request: chat not found")
        return self.chats[chat_id]

    def _writable(self, chat_id: Any) -> JsonObject:
        chat = self._chat(chat_id)
        if chat["id"] in self.blocked_by:
            raise BadCallError("Forbidden: bot was blocked by the user", 403)
        if chat["type"] == "private" and not self.messages[chat["id"]]:
            raise BadCallError("Forbidden: bot can't initiate conversation with a user", 403)
        return chat

    # -- control over HTTP --------------------------------------------------------------------------------------------

    async def _control(self, request: web.Request) -> web.Response:
        """Act for the people from another process: ``POST /_control/say {"user_id": 5, "text": "…"}`` and so on."""
        verbs: dict[str, Callable[..., Any]] = {
            "add_user": self.add_user,
            "add_group": self.add_group,
            "say": self.say,
            "edit": self.edit,
            "press": self.press,
            "press_data": self.press_data,
            "ask_inline": self.modes.ask_inline,
            "ask_guest": self.modes.ask_guest,
            "push": lambda update: self.push(update),
            "fault": lambda **fault: self.faults.append(Fault(**fault)),
            "transcript": lambda chat_id: self.seen(int(chat_id)),
            "stats": self.stats,
        }
        try:
            given = await request.json() if request.body_exists else dict(request.query)
            return web.json_response({"ok": True, "result": verbs[request.match_info["verb"]](**given)})
        except (LookupError, TypeError, ValueError) as error:
            return web.json_response({"ok": False, "description": repr(error)}, status=400)

    def stats(self) -> JsonObject:
        """Figures of the run."""
        return {
            "calls": Counter(f"{method} {status}" for _, method, _, status in self.calls),
            "pending": len(self._updates),
            "messages": sum(map(len, self.messages.values())),
            "over_limit": self.flood.refused,
            "inside_retry_after": self.flood.violations,
        }


def _too_many(seconds: int) -> BadCallError:
    return BadCallError(f"Too Many Requests: retry after {seconds}", 429, {"retry_after": seconds})
