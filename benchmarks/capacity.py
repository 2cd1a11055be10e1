"""`postfinder capacity`: from measured load to members, memory and money; with a model card, to answers of a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import results
from models.cards import AnswererCard, load_card
from models.errors import ModelError
from models.plan import Plan, plan, weight_bytes

app = typer.Typer(help="Members, memory and money, from the results of `make load` and a model card.")
out = Console()
BUSY = 0.7  # of the measured rate: above it waiting grows
DAYS = 30.4
READ = 0.6  # share of a card's memory bandwidth that generation reaches
ANSWER_TOKENS = 250
PROMPT_TOKENS = 1500


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one server carries.

    Attributes
    ----------
    what : str
    per_s : float
        Answers a second it was measured (or, for a card, reckoned) to give.
    members : int
        Of a community, by how much they ask.
    memory_gb : float
    price : float
        A month.
    per_thousand : float
        Price of a thousand answers at the community's own pace.
    """

    what: str
    per_s: float
    members: int
    memory_gb: float
    price: float
    per_thousand: float


def members_of(per_s: float, *, a_day: float, peak: float) -> int:
    """Return how many members a rate carries in the busiest hour.

    Parameters
    ----------
    per_s : float
        Answers a second at most.
    a_day : float
        Questions of a member a day, on average.
    peak : float
        Share of a day's questions in its busiest hour.

    Returns
    -------
    int
    """
    return int(per_s * BUSY * 3600 / (a_day * peak))


def carried(what: str, per_s: float, memory_gb: float, price: float, *, a_day: float, peak: float) -> Capacity:
    """Join the figures of one way to answer; no members, no price of an answer."""
    members = members_of(per_s, a_day=a_day, peak=peak)
    asked = max(members * a_day * DAYS, 1.0)
    return Capacity(what, per_s, members, memory_gb, price, price / asked * 1000)


def memory_gb(base_mb: float, chunks: int, dim: int) -> float:
    """Memory of an appliance with so many chunks in RAM.

    Parameters
    ----------
    base_mb : float
        Measured over a small corpus.
    chunks : int
    dim : int
        Length of a vector.

    Returns
    -------
    float
        A chunk is its vector, that again in bytes, about 1.5 KB of text and 0.5 KB of words and numbers.
    """
    return (base_mb * 1e6 + chunks * (5 * dim + 2000)) / 2**30


def generated_per_s(found: Plan, bandwidth_gb: float) -> float:
    """Reckon the answers a second of a card: each step reads the weights and all that is cached of the running answers.

    Parameters
    ----------
    found : Plan
    bandwidth_gb : float
        Memory bandwidth, GB/s.

    Returns
    -------
    float
        Bounded by memory bandwidth (Pope et al., arXiv 2211.05102), prompts left out: an upper bound.
    """
    cached = found.answers_at_once * (PROMPT_TOKENS + ANSWER_TOKENS / 2) * found.kv_bytes_per_token
    step_s = (weight_bytes(found.answerer) + cached) / (READ * bandwidth_gb * 1e9)
    return found.answers_at_once / (ANSWER_TOKENS * step_s)


def measured(load: dict[str, Any]) -> tuple[float, float, float]:
    """Return links a second, answers a second, and the most memory in MB of a kept load."""
    result = load["result"]
    return result["links"].get("per_s", 0.0), result["answers_per_s"], result["memory_mb"]["most"]


@app.callback(invoke_without_command=True)
def capacity(
    chunks: Annotated[int, typer.Option("--chunks", min=0, help="Chunks (about as many as posts).")] = 10_000,
    dim: Annotated[int, typer.Option("--dim", min=1, help="Length of the embedder's vectors.")] = 384,
    a_day: Annotated[float, typer.Option("--a-day", min=0.001, help="Questions of a member a day.")] = 0.5,
    peak: Annotated[float, typer.Option("--peak", min=0.01, max=1, help="Share of them in the busiest hour.")] = 0.15,
    price: Annotated[float, typer.Option("--price", min=0, help="Price of this server a month.")] = 15.0,
    card: Annotated[str, typer.Option("--card", help="Model card that writes the answers; empty quotes.")] = "",
    vram: Annotated[float, typer.Option("--vram", help="Memory of the GPU, GiB.")] = 24.0,
    bandwidth: Annotated[float, typer.Option("--bandwidth", help="Memory bandwidth of the GPU, GB/s.")] = 600.0,
    gpu_price: Annotated[float, typer.Option("--gpu-price", min=0, help="Price of the GPU's server a month.")] = 200.0,
) -> None:
    """Say how many members one server carries, in how much memory, for how much money."""
    kept = results.load("load")
    if kept is None:
        out.print("[red]There is no measured load here: run `make load` first.[/]")
        raise typer.Exit(1)
    links, answers, base_mb = measured(kept)
    held = memory_gb(base_mb, chunks, dim)
    rows = [
        carried("links alone (/search)", links, held, price, a_day=a_day, peak=peak),
        carried("answers in quotes", answers, held, price, a_day=a_day, peak=peak),
    ]
    if card:
        try:
            known = load_card(card)
            if not isinstance(known, AnswererCard):
                raise ModelError(f"{card} writes no answers.", cure="`postfinder models list` shows the cards.")
            fits = plan(known, vram_gib=vram)
        except ModelError as error:
            out.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
            raise typer.Exit(1) from None
        per_s = min(answers, generated_per_s(fits, bandwidth))
        both = carried(f"written by {card} (reckoned)", per_s, held, price + gpu_price, a_day=a_day, peak=peak)
        rows.append(both)
    table = Table("one server", "a second", "members", "memory, GB", "a month", "1,000 answers", box=None)
    for row in rows:
        shown = (f"{row.per_s:.1f}", f"{row.members:,}", f"{row.memory_gb:.1f}", f"{row.price:.0f}")
        table.add_row(row.what, *shown, f"{row.per_thousand:.2f}")
    out.print(table)
    machine = kept["machine"]
    out.print(
        f"[dim]{a_day:g} questions of a member a day, {peak:.0%} of them in one hour, {BUSY:.0%} busy; measured on "
        f"{machine['cpu']}, {machine['cores']} cores, at {kept['commit']}; links were asked for at a fixed rate, so "
        "more may be possible.[/]",
        soft_wrap=True,
    )
