"""`postfinder bench`: run a suite, judge it by what is expected, keep it, render the tables."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Annotated

import orjson
import typer
from rich.console import Console

from benchmarks import results, tables

app = typer.Typer(help="Run benchmark suites and render their tables.", no_args_is_help=True)
out = Console(highlight=False, soft_wrap=True)

SUITES = {
    "retrieval": "benchmarks.retrieval",
    "answers": "benchmarks.answers",
    "ask": "benchmarks.ask",
    "import": "benchmarks.import_rate",
    "answerer": "benchmarks.answerer",
    "bad-models": "benchmarks.bad_models",
    "sealing": "benchmarks.sealing",
    "hostile": "benchmarks.hostile",
    "russian": "benchmarks.russian",
    "remembered": "benchmarks.remembered",
    "antifraud": "benchmarks.antifraud",
    "hot": "benchmarks.hot",
    "webhook": "benchmarks.webhook",
    "alerts": "benchmarks.alerts",
    "wording": "benchmarks.wording",
    "calibration": "benchmarks.calibrate",
    "intents": "benchmarks.intents",
    "repeats": "benchmarks.repeats",
    "rights": "benchmarks.rights",
    "plan": "benchmarks.plan",
    "embed-server": "benchmarks.embed_server",
    "updates": "benchmarks.updates",
}
FAULTS = {
    "faults-kill": "benchmarks.faults.kill",
    "faults-power": "benchmarks.faults.power",
    "faults-telegram": "benchmarks.faults.telegram",
    "faults-garbage": "benchmarks.faults.garbage",
    "faults-canary": "benchmarks.faults.canary",
    "faults-restore": "benchmarks.faults.restore",
}  # each with a control broken on purpose, which must fail; `hostile` has its own
MODELS = {"answers-model": "benchmarks.written"}  # of the model at POSTFINDER_GENERATOR_URL


def _module(name: str) -> ModuleType:
    if str(results.ROOT) not in sys.path:  # the loopback servers stand in the tests
        sys.path.insert(0, str(results.ROOT))
    return importlib.import_module((SUITES | FAULTS | MODELS)[name])


def run_suite(name: str, json: bool, **options: float | str) -> bool:
    """Run one suite; returns whether every expectation held."""
    module = _module(name)
    given = "".join(f" --{option} {value}" for option, value in options.items())
    document = results.keep(name, module.run(**options), given)
    if json:
        typer.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    for row in document["judgement"] if not json else []:
        mark = "[green]ok[/]  " if row["ok"] else "[red]MISS[/]"
        value = row["value"] if not isinstance(row["value"], float) else round(row["value"], 4)
        out.print(f"{mark} {name} {row['figure']} = {value} ({row['bound']})")
    return all(row["ok"] for row in document["judgement"])


def _command(name: str) -> None:
    @app.command(name, help=f"Run the {name} suite.")
    def command(json: Annotated[bool, typer.Option("--json", help="Print the whole result.")] = False) -> None:
        if not run_suite(name, json):
            raise typer.Exit(1)


def _fault(name: str) -> None:
    @app.command(name, help=f"Run the {name} suite.")
    def command(
        rounds: Annotated[int | None, typer.Option(help="How many; the suite's own number by default.")] = None,
        seed: Annotated[int, typer.Option(help="The same seed makes the same faults.")] = 1,
        json: Annotated[bool, typer.Option("--json", help="Print the whole result.")] = False,
    ) -> None:
        if not run_suite(name, json, **({"rounds": rounds} if rounds else {}), seed=seed):
            raise typer.Exit(1)


for _name in SUITES:
    if _name != "answers":
        _command(_name)
for _name in FAULTS:
    if _name != "faults-kill":
        _fault(_name)


@app.command("faults-kill")
def faults_kill(
    rounds: Annotated[int, typer.Option(help="Kills.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed makes the same faults.")] = 1,
    minutes: Annotated[
        float, typer.Option(help="End after so many minutes, however many kills that was; 0 for none.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the whole result.")] = False,
) -> None:
    """Run the faults-kill suite."""
    if not run_suite("faults-kill", json, rounds=rounds, seed=seed, **({"minutes": minutes} if minutes else {})):
        raise typer.Exit(1)


@app.command()
def answers(
    json: Annotated[bool, typer.Option("--json", help="Print the whole result.")] = False,
    questions: Annotated[int, typer.Option("--questions", help="Questions for a model; 0 for all.")] = 0,
    judge: Annotated[str, typer.Option("--judge", help="Base URL of a model that compares answers with quotes.")] = "",
) -> None:
    """Run the answers suite: of quotes, or of the model at POSTFINDER_GENERATOR_URL."""
    if not os.environ.get("POSTFINDER_GENERATOR_URL"):
        held = run_suite("answers", json)
    else:
        held = run_suite("answers-model", json, questions=questions, judge=judge)
    if not held:
        raise typer.Exit(1)


@app.command("faults", help="Run every suite of faults (an hour on two cores).")
def run_faults() -> None:
    """Run every suite of faults, then fail if any missed what it expects."""
    held = [run_suite(name, json=False) for name in (*FAULTS, "hostile")]
    if not all(held):
        raise typer.Exit(1)


@app.command("all", help="Run the suites, but not faults, load and answers by a model.")
def run_all() -> None:
    """Run the suites that need nothing else, then fail if any missed what it expects; one left out says why."""
    held = []
    for name in SUITES:
        if why := getattr(_module(name), "missing", str)():
            out.print(f"left out: {name}, {why}")
        else:
            held.append(run_suite(name, json=False))
    if not all(held):
        raise typer.Exit(1)


@app.command()
def render(check: Annotated[bool, typer.Option("--check", help="Fail when a document is stale.")] = False) -> None:
    """Render kept results and settings into the documents."""
    changed = tables.render_all(write=not check)
    for path in changed:
        out.print(f"{'stale' if check else 'rendered'}: {path}")
    if check and changed:
        raise typer.Exit(1)
