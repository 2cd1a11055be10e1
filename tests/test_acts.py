"""What the log of acts and the list of people speak of has words on the admin pages, in both languages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import appliance
from appliance.ledger.access import ROLES

SOURCES = Path(appliance.__file__).parent
WORDS_JS = (SOURCES / "web/page/desk/words.js").read_text("utf-8")


def spoken_in(name: str) -> list[set[str]]:
    """Keys of an object among the page's words, by language."""
    found = re.findall(rf"\b{name}: {{(.*?)}},\n", WORDS_JS, re.DOTALL)
    return [set(re.findall(r'([\w.-]+)"?: "', one)) for one in found]


def recorded_acts() -> set[str]:
    """Kinds of acts that the sources write into the log; a part that varies is ``*``."""
    kinds: set[str] = set()
    for path in SOURCES.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        named = {
            one.targets[0].id: one.value
            for one in ast.walk(tree)
            if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
        }
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or not call.args:
                continue
            called = [ast.unparse(call.func), *map(ast.unparse, call.args)][:2]
            place = 1 if called[0] == "asyncio.to_thread" else 0
            if called[place].rpartition(".")[2] in {"record", "act", "_act"} and len(call.args) > place:
                kinds |= read_kinds(call.args[place], named)
    return kinds


def read_kinds(node: ast.expr, named: dict[str, ast.expr]) -> set[str]:
    match node:
        case ast.Constant(value=str(kind)):
            return {kind}
        case ast.IfExp(body=one, orelse=other):
            return read_kinds(one, named) | read_kinds(other, named)
        case ast.JoinedStr(values=parts):
            return {"".join(part.value if isinstance(part, ast.Constant) else "*" for part in parts)}
        case ast.Name(id=name) if name in named:
            return read_kinds(named[name], {})
    return set()


def test_every_act_of_the_log_has_words_in_both_languages() -> None:
    kinds = recorded_acts()
    varied = {
        "channel.*": {"channel.approved", "channel.refused"},
        "faq.*": {"faq.approved", "faq.refused"},
        "chat.*": {"chat.mode"},
    }
    assert {kind for kind in kinds if "*" in kind} == set(varied)
    kinds = {kind for kind in kinds if "*" not in kind}.union(*varied.values())
    assert {"ban", "channel.close", "plan.grant", "backup", "reindex", "text"} <= kinds
    spoken = spoken_in("acts")
    assert len(spoken) == 2
    for words in spoken:
        assert kinds - words == set()


def test_every_role_that_a_person_may_have_has_words_in_both_languages() -> None:
    assert spoken_in("roles") == [set(ROLES)] * 2
