"""The Bot API's machine-readable schema: checks a call as Telegram would, and makes typed results for any method."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

from aiogram import methods
from aiogram.methods import TelegramMethod
from aiohttp import web
from pydantic.fields import FieldInfo

# Newer than the schema file (Bot API 10.1), as the Bot API 10.3 has them.
NEWER_FIELDS = {
    "can_stop", "keep_on_stop", "ephemeral_message_parameters", "ephemeral_message_id", "force_reply", "is_ephemeral",
}  # fmt: skip
NEWER_REQUIRED = {"ChatAdministratorRights": {"can_send_welcome_messages": True}}
# What the schema file does not know, or all where there is none, is asked of aiogram's own models.
MODELS: dict[str, type[TelegramMethod[Any]]] = {
    model.__api_method__: model
    for model in vars(methods).values()
    if isinstance(model, type) and issubclass(model, TelegramMethod) and model is not TelegramMethod
}
_ALWAYS = re.compile(r"(?:always|must be) [\"“]?(\w+)")


class BadCallError(Exception):
    """A call that Telegram would refuse: the HTTP status, the description and the response's parameters."""

    def __init__(self, description: str, status: int = 400, parameters: dict[str, int] | None = None) -> None:
        super().__init__(description)
        self.status = status
        self.parameters = parameters
        self.description = description


class Schema:
    """Methods and types of the Bot API.

    Parameters
    ----------
    path : Path or None
        ``api.json``; None knows only aiogram's models.
    """

    def __init__(self, path: Path | None = None) -> None:
        data = json.loads(path.read_bytes()) if path is not None else {"methods": {}, "types": {}}
        self.methods: dict[str, Any] = data["methods"]
        self.types: dict[str, Any] = data["types"]
        self._names = {name.lower(): name for name in [*self.methods, *MODELS]}

    def method(self, name: str) -> str:
        """Return the method's own spelling (names are case-insensitive), or refuse with 404."""
        try:
            return str(self._names[name.lower()])
        except KeyError:
            raise BadCallError("Not Found", 404) from None

    def check(self, method: str, given: dict[str, Any]) -> dict[str, Any]:
        """Decode and check the parameters of a call.

        Parameters
        ----------
        method : str
        given : dict
            As they came: JSON values, or strings of a form.

        Returns
        -------
        dict
            Decoded to the types of the schema.

        Raises
        ------
        BadCallError
            A required parameter is missing, unknown or of a wrong type.
        """
        described = self.methods.get(method)
        if described is None:
            known = MODELS[method].model_fields
            for name, field in known.items():
                if field.is_required():
                    self._required(name, given)
            return {
                name: value if name in known and _is_text(known[name]) else _loose(value)
                for name, value in given.items()
            }
        fields = {field["name"]: field for field in described.get("fields", [])}
        for name, field in fields.items():
            if field["required"]:
                self._required(name, given)
        decoded: dict[str, Any] = {}
        for name, value in given.items():
            if name in NEWER_FIELDS:
                decoded[name] = _loose(value)
            elif name not in fields:
                raise BadCallError(f"Bad Request: {method} has no parameter {name}")
            else:
                decoded[name] = self._value(value, fields[name]["types"], name)
        return decoded

    def check_object(self, type_name: str, value: dict[str, Any]) -> list[str]:
        """Name what departs from the schema in an object, e.g. an update the server is about to deliver."""
        try:
            self._value(value, [type_name], type_name)
        except BadCallError as error:
            return [error.description]
        return []

    def sample(self, returns: list[str]) -> Any:
        """Make a plausible result of the first of the given types, with its required fields."""
        return self._sample(returns[0], "", "")

    @staticmethod
    def _required(name: str, given: dict[str, Any]) -> None:
        if given.get(name) not in (None, ""):
            return
        if name == "text":
            raise BadCallError("Bad Request: message text is empty")
        if name == "url" and name in given:  # an empty address removes the webhook
            return
        raise BadCallError(
            f"Bad Request: parameter {name} is required" if name != "chat_id" else f"Bad Request: {name} is empty"
        )

    def _value(self, value: Any, types: list[str], name: str) -> Any:
        reasons = []
        for type_name in types:
            try:
                return self._one(value, type_name, name)
            except BadCallError as error:
                reasons.append(error.description)
        raise BadCallError(
            reasons[0] if len(set(reasons)) == 1 else f"Bad Request: wrong {name}: " + "; ".join(reasons)
        )

    def _one(self, value: Any, type_name: str, name: str) -> Any:
        wrong = BadCallError(f"Bad Request: {name} must be {type_name}")
        if type_name.startswith("Array of "):
            items = _loose(value)
            if not isinstance(items, list):
                raise wrong
            return [self._value(item, [type_name.removeprefix("Array of ")], f"{name}[]") for item in items]
        if type_name == "Integer":
            if isinstance(value, int) and not isinstance(value, bool):
                return value
            if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
                return int(value)
            raise wrong
        if type_name == "Float":
            try:
                return float(value)
            except (TypeError, ValueError):
                raise wrong from None
        if type_name == "Boolean":
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.lower() in {"true", "false"}:
                return value.lower() == "true"
            raise wrong
        if type_name == "String":
            if isinstance(value, str):
                return value
            raise wrong
        if type_name == "InputFile":
            if isinstance(value, (str, bytes)):
                return value
            raise wrong
        return self._object(_loose(value), type_name, name)

    def _object(self, value: Any, type_name: str, name: str) -> Any:
        if not isinstance(value, dict):
            raise BadCallError(f"Bad Request: {name} must be {type_name}")
        described = self.types[type_name]
        if described.get("subtypes"):
            return self._value(value, described["subtypes"], name)
        fields = {field["name"]: field for field in described.get("fields", [])}
        for field in fields.values():
            if field["required"] and field["name"] not in value:
                raise BadCallError(f"Bad Request: {name}.{field['name']} is missing")
            said = _ALWAYS.search(field["description"])
            if field["name"] in {"type", "status", "source"} and said and value.get(field["name"]) != said[1]:
                raise BadCallError(f"Bad Request: {name}.{field['name']} is not {said[1]}")
        for key in value:
            if key not in fields and key not in NEWER_FIELDS:
                raise BadCallError(f"Bad Request: {name}.{key} is unknown")
        return {
            key: item if key in NEWER_FIELDS else self._value(item, fields[key]["types"], f"{name}.{key}")
            for key, item in value.items()
        }

    def _sample(self, type_name: str, field: str, description: str) -> Any:
        if type_name.startswith("Array of "):
            return [self._sample(type_name.removeprefix("Array of "), field, description)]
        if type_name == "Integer":
            return 1
        if type_name == "Float":
            return 1.0
        if type_name == "Boolean":
            return True
        if type_name == "InputFile":
            return "attach://file"
        if type_name == "String":
            said = _ALWAYS.search(description)
            named = re.search(r"[\"“](\w+)[\"”]", description)
            if field in {"type", "status", "source", "state"} and (said or named):
                return (said or named)[1]  # type: ignore[index]
            return field or "sample"
        described = self.types[type_name]
        if described.get("subtypes"):
            return self._sample(described["subtypes"][0], field, description)
        required = [item for item in described.get("fields", []) if item["required"]]
        made = {item["name"]: self._sample(item["types"][0], item["name"], item["description"]) for item in required}
        return {**made, **NEWER_REQUIRED.get(type_name, {})}


def _is_text(field: FieldInfo) -> bool:
    """Whether a parameter is text, whatever it looks like."""
    kinds = get_args(field.annotation) or (field.annotation,)
    return str in kinds and int not in kinds


def _loose(value: Any) -> Any:
    """Decode a form's string where it is JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def refusal(error: BadCallError) -> web.Response:
    """Say no as Telegram does."""
    body: dict[str, Any] = {"ok": False, "error_code": error.status, "description": error.description}
    if error.parameters:
        body["parameters"] = error.parameters
    return web.json_response(body, status=error.status)


async def parameters_of(request: web.Request) -> dict[str, Any]:
    """Read a call's parameters from the query, a form (files as their bytes) or JSON."""
    given: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json":
        try:
            body = await request.json()
        except ValueError:
            raise BadCallError("Bad Request: can't parse JSON") from None
        if not isinstance(body, dict):
            raise BadCallError("Bad Request: parameters must be an object")
        return {**given, **body}
    for name, value in (await request.post()).items():
        given[name] = value.file.read() if isinstance(value, web.FileField) else value
    for name, value in list(given.items()):
        if isinstance(value, str) and value.startswith("attach://"):
            given[name] = given.pop(value.removeprefix("attach://"), value)
    return given
