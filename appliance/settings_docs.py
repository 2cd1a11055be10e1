"""The settings printed for people: ``.env.example`` and the README's table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from appliance.config import Config


def rows() -> list[tuple[str, str, str]]:
    """Return (environment name, default, description) of every setting, in order."""
    return [(_name(name, field), _shown(field.default), field.description or "") for name, field in _fields()]


def as_env() -> str:
    """Return the text of ``.env.example``."""
    lines = ["# Copy to .env and change what you need; every line shows its default.", ""]
    for name, default, description in rows():
        lines += [f"# {description}", f"{name}={default}", ""]
    return "\n".join(lines)


def as_table() -> str:
    """Return the settings as a Markdown table."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {f'`{default}`' if default else 'empty'} | {text} |" for name, default, text in rows()]
    return "\n".join(lines)


def _fields() -> list[tuple[str, FieldInfo]]:
    return list(Config.model_fields.items())


def _name(name: str, field: FieldInfo) -> str:
    if isinstance(field.validation_alias, AliasChoices):
        return str(field.validation_alias.choices[0])
    return f"{Config.model_config['env_prefix']}{name}".upper()


def _shown(default: Any) -> str:
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    return default.as_posix() if isinstance(default, Path) else str(default)
