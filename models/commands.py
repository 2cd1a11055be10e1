"""``postfinder models …``: the catalogue, the memory plan, weights, and the servers."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shlex
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Column, Table

from models import fetch, quality
from models.cards import AnswererCard, Card, EmbedderCard, RerankerCard, all_cards, load_card
from models.errors import CardError, ModelError, WeightsError
from models.plan import (
    ENCODER_STEP_TOKENS,
    GIB,
    Plan,
    encoder_bytes,
    find_gpus,
    free_memory_gib,
    plan,
    plan_cpu,
    plans,
)

app = typer.Typer(help="Models: what fits, get it, check it, serve it.", no_args_is_help=True)
out = Console()
err = Console(stderr=True)

P = ParamSpec("P")
CardName = Annotated[str, typer.Argument(help="Name of a card; `postfinder models list` shows them.")]
WeightsDir = Annotated[
    Path, typer.Option("--weights-dir", envvar="POSTFINDER_WEIGHTS_DIR", help="Folder of model weights.")
]
Vram = Annotated[float | None, typer.Option("--vram", help="Memory of the GPU in GiB; asks the driver if not given.")]
Answers = Annotated[int, typer.Option("--answers", help="Answers to be written at once.")]
Context = Annotated[int, typer.Option("--context", help="Tokens of a prompt and its answer.")]
Embedder = Annotated[str, typer.Option("--embedder", help="Card of the embedder beside it; empty for none.")]
Reranker = Annotated[str, typer.Option("--reranker", help="Card of a reranker beside it.")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on; keep it internal, there is no key.")]
Port = Annotated[int, typer.Option("--port", help="Port to listen on.")]
WEIGHTS = Path("weights")


def said(command: Callable[P, None]) -> Callable[P, None]:
    """Turn an error raised on purpose into one line and exit status 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ModelError as error:
            told = str(error)
        except OSError as error:  # a folder that cannot be written, a full disk
            told = f"{error.filename or 'A file'}: {error.strerror or type(error).__name__}."
        else:
            return
        err.print(f"[red]{escape(told)}[/]", soft_wrap=True)
        raise typer.Exit(1)

    return run


@app.command("list")
@said
def list_cards(weights_dir: WeightsDir = WEIGHTS) -> None:
    """Show the catalogue and what is here."""
    names = ("model", "kind", "GPU, GiB", "size", "licence", "here")
    table = Table(*(Column(name, no_wrap=True) for name in names), box=None)
    for card in all_cards().values():
        least = (str(card.min_vram_gb) if card.min_vram_gb else "CPU") if isinstance(card, AnswererCard) else ""
        billions = f"{card.parameters / 1e9:.1f}B"
        table.add_row(card.name, card.kind, least, billions, card.licence, _here(card, weights_dir))
    out.print(table)


@app.command("plan")
@said
def show_plan(
    card: Annotated[str, typer.Argument(help="An answerer; tries all if not given.")] = "",
    vram: Vram = None,
    answers: Answers = 4,
    context: Context = 8192,
    embedder: Embedder = "bge-m3",
    reranker: Reranker = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what fits the GPU together, and how many answers it writes at once; cards of llama.cpp: what fits the CPU."""
    if card and _answerer(card).engine == "llama.cpp":
        memory = free_memory_gib()
        shares = plan_cpu(_answerer(card), memory_gib=memory, answers_at_once=answers, context=context)
        parts = ", ".join(f"{share.what} {share.bytes / GIB:.1f}" for share in shares)
        out.print(f"{card} fits {memory:.1f} GiB of free memory, on the CPU: {parts} GiB.", soft_wrap=True)
        return
    memory = _vram(vram)
    beside, ranker = _embedder(embedder), _reranker(reranker)
    if card:
        fits = [
            plan(
                _answerer(card),
                vram_gib=memory,
                embedder=beside,
                reranker=ranker,
                answers_at_once=answers,
                context=context,
            )
        ]
        refused: list[str] = []
    else:
        every = [c for c in all_cards().values() if isinstance(c, AnswererCard) and c.engine == "vllm"]
        fits, errors = plans(
            every, vram_gib=memory, embedder=beside, reranker=ranker, answers_at_once=answers, context=context
        )
        refused = [str(error) for error in errors]
    if as_json:
        out.print_json(json.dumps({"vram_gib": memory, "fits": [_as_dict(p) for p in fits], "refused": refused}))
    else:
        _print_plans(fits, memory)
        for line in refused:
            out.print(f"[dim]{escape(line)}[/]", soft_wrap=True)
    if not fits:
        raise typer.Exit(1)


@app.command("pull")
@said
def pull_card(
    card: CardName,
    weights_dir: WeightsDir = WEIGHTS,
    source: Annotated[str, typer.Option("--from", help="Address of a hub, or a mirror folder.")] = fetch.HUB,
    token: Annotated[str, typer.Option("--token", envvar="HF_TOKEN", help="The hub's key, if it asks for one.")] = "",
) -> None:
    """Get a model's weights; a begun download goes on where it stopped."""
    found = load_card(card)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        tasks: dict[str, int] = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)  # type: ignore[arg-type]

        folder = fetch.pull(found, weights_dir, source=source, token=token, progress=progress)
    manifest = fetch.read_manifest(folder)
    out.print(f"{card} is in {folder}, revision {manifest['revision'] or 'unknown'}.", soft_wrap=True)


@app.command("verify")
@said
def verify_card(card: CardName, weights_dir: WeightsDir = WEIGHTS) -> None:
    """Check every file against its SHA-256."""
    manifest = fetch.verify(weights_dir / load_card(card).name)
    revision = manifest["revision"]
    since = f"revision {revision}" if revision else "no revision known"
    out.print(f"{card}: {len(manifest['files'])} files as they were pulled, {since}.", soft_wrap=True)


@app.command("remove")
@said
def remove_card(card: CardName, weights_dir: WeightsDir = WEIGHTS) -> None:
    """Delete a model's weights."""
    freed = fetch.remove(load_card(card).name, weights_dir)
    out.print(f"{freed / 1e9:.2f} GB free again." if freed else f"Nothing of {card} is in {weights_dir}.")


@app.command("bundle")
@said
def bundle_cards(
    cards: Annotated[list[str], typer.Argument(help="Names of pulled cards.")],
    to: Annotated[Path, typer.Option("--to", help="The tar file to write.")] = Path("models.tar"),
    weights_dir: WeightsDir = WEIGHTS,
) -> None:
    """Pack models into one file for a host without a network."""
    size = fetch.bundle([load_card(card).name for card in cards], weights_dir, to)
    out.print(f"{to}: {size / 1e9:.2f} GB. There: postfinder models unbundle {to.name}")


@app.command("unbundle")
@said
def unbundle_cards(
    file: Annotated[Path, typer.Argument(help="A file of `bundle`.")], weights_dir: WeightsDir = WEIGHTS
) -> None:
    """Unpack a bundle, checking every file."""
    out.print(f"{', '.join(fetch.unbundle(file, weights_dir))}: whole and checked.")


@app.command("quantize")
@said
def quantize_card(card: CardName, weights_dir: WeightsDir = WEIGHTS) -> None:
    """Turn a pulled 16-bit answerer into 4 bits in place, and compare the two."""
    from models.quantize import quantize

    found = _answerer(card)
    if found.made_by != "quantize":
        raise CardError(f"{card} is served as it is published.", cure="Quantise cards marked bnb-4bit.")
    folder = weights_dir / card
    fetch.verify(folder)
    if _is_quantised(folder):
        raise WeightsError(f"{card} is in 4 bits already.")
    figures = quantize(folder, folder, card=card)
    out.print(
        f"{figures.bytes / 1e9:.2f} → {figures.bytes_4bit / 1e9:.2f} GB; loss {figures.loss:.3f} → "
        f"{figures.loss_4bit:.3f}; same likeliest token in {figures.same_top:.0%} of places."
    )


@app.command("check-quality")
@said
def check_quality(
    card: CardName,
    texts: Annotated[Path, typer.Option("--texts", help="UTF-8 file, a text a line; posts of your channels serve.")],
    weights_dir: WeightsDir = WEIGHTS,
    most_distance: Annotated[
        float, typer.Option("--most-distance", help="Largest cosine distance allowed.")
    ] = quality.MOST_DISTANCE,
    least_overlap: Annotated[
        float, typer.Option("--least-overlap", help="Smallest share of common neighbours allowed.")
    ] = quality.LEAST_OVERLAP,
    threads: Annotated[int, typer.Option("--threads", help="Threads of the engines.")] = 0,
) -> None:
    """Compare BGE-M3 in int8 with fp32 on your texts; status 1 beyond the tolerance."""
    from models import embed_bge_m3

    found = _embedder(card)
    if found is None or found.engine != "bge-m3":
        raise CardError(f"{card} is not exported in two precisions.", cure="Check bge-m3.")
    try:
        lines = [line for line in texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{texts} cannot be read.", cure="Give a UTF-8 file, a text a line.") from error
    fp32, int8 = (
        embed_bge_m3.load(found, weights_dir=weights_dir, threads=threads, precision=precision)
        for precision in ("fp32", "int8")
    )
    figures = quality.compare(fp32, int8, lines)
    out.print(
        f"{figures.texts} texts: cosine distance p50 {figures.distance_p50:.1e}, max {figures.distance_max:.1e}; "
        f"{figures.overlap:.0%} of the {quality.NEIGHBOURS} nearest in common."
    )
    quality.check(figures, most_distance=most_distance, least_overlap=least_overlap)


@app.command("serve")
@said
def serve_card(
    card: CardName,
    weights_dir: WeightsDir = WEIGHTS,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    vram: Vram = None,
    answers: Answers = 4,
    context: Context = 8192,
    embedder: Embedder = "bge-m3",
    reranker: Reranker = "",
    threads: Annotated[int, typer.Option("--threads", help="Threads of a model on the CPU; 0 takes all.")] = 0,
    with_vllm: Annotated[
        bool, typer.Option("--vllm", help="Serve an embedder with vLLM instead of our server.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print vLLM's command instead of running it.")] = False,
) -> None:
    """Serve an answerer with vLLM or llama.cpp, or an embedder with our own server; weights are checked first."""
    found = load_card(card)
    folder = weights_dir / card
    if isinstance(found, RerankerCard):
        raise CardError(f"{card} runs inside the appliance.", cure=f"Set POSTFINDER_RERANKER={card}.")
    if isinstance(found, EmbedderCard) and not with_vllm:
        _serve_embedder(found, weights_dir, host, port, threads)
        return
    if isinstance(found, EmbedderCard):
        memory = vram or max((gpu.total_gib for gpu in find_gpus()), default=None)
        _serve_with_vllm(vllm_embedder_command(found, folder, host=host, port=port, vram_gib=memory), folder, dry_run)
        return
    answerer = _answerer(card)
    if answerer.engine == "llama.cpp":
        from models import serve_gguf

        plan_cpu(answerer, memory_gib=free_memory_gib(), answers_at_once=answers, context=context)
        fetch.verify(folder)
        serve_gguf.run(
            folder / answerer.file,
            name=card,
            host=host,
            port=port,
            context=context,
            answers_at_once=answers,
            threads=threads,
        )
        return
    made = plan(
        answerer,
        vram_gib=_vram(vram),
        embedder=_embedder(embedder),
        reranker=_reranker(reranker),
        answers_at_once=answers,
        context=context,
    )
    command = vllm_command(made, folder, host=host, port=port)
    _serve_with_vllm(command, folder, dry_run, in_4_bits=answerer.made_by == "quantize")


@app.command("warm")
@said
def warm(
    url: Annotated[str, typer.Argument(help="Base URL of a model server, e.g. http://vllm:8000/v1.")],
) -> None:
    """Let a served answerer write one token: the proof that it can."""
    from models.load import load_generator

    async def ask() -> None:
        generator = load_generator(url)
        try:
            usage = await generator.ready()
            context = f", reads {generator.context_tokens:,} tokens" if generator.context_tokens else ""
            out.print(f"{generator.name} answers: first token after {usage.first_token_ms:.0f} ms{context}.")
        finally:
            await generator.aclose()

    asyncio.run(ask())


def vllm_command(made: Plan, folder: Path, *, host: str, port: int) -> list[str]:
    """Write vLLM's command line for a plan: local files only, text only, no remote code, prefixes cached.

    Parameters
    ----------
    made : Plan
        What fits.
    folder : Path
        The weights.
    host, port : str, int
        Where to listen.

    Returns
    -------
    list of str
        Program and arguments.
    """
    return [
        sys.executable,
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder)),
        *("--served-model-name", made.answerer.name),
        *("--host", host),
        *("--port", str(port)),
        *("--load-format", "bitsandbytes" if made.answerer.quantisation == "bnb-4bit" else "safetensors"),
        "--enable-prefix-caching",
        *made.vllm_args,
    ]


def vllm_embedder_command(
    card: EmbedderCard, folder: Path, *, host: str, port: int, vram_gib: float | None = None
) -> list[str]:
    """Write vLLM's command line for an embedder in its pooling runner.

    Parameters
    ----------
    card : EmbedderCard
        One with flags for vLLM.
    folder : Path
        The weights.
    host, port : str, int
        Where to listen.
    vram_gib : float, optional
        Memory of the GPU, of which it takes no more than its share; None: there is no GPU.

    Returns
    -------
    list of str
        Program and arguments.

    Raises
    ------
    CardError
        If vLLM does not serve it.
    """
    if not card.vllm_args:
        raise CardError(f"vLLM does not serve {card.name}.", cure="Leave --vllm out.")
    share = encoder_bytes(card) / (vram_gib * GIB) if vram_gib else 0.0
    return [
        sys.executable,
        *("-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder)),
        *("--served-model-name", card.name),
        *("--host", host),
        *("--port", str(port)),
        *("--max-model-len", str(card.context)),
        *("--max-num-batched-tokens", str(ENCODER_STEP_TOKENS)),
        *(("--gpu-memory-utilization", f"{min(0.95, math.ceil(share * 100) / 100):.2f}") if vram_gib else ()),
        *card.vllm_args,
    ]


def _serve_with_vllm(command: list[str], folder: Path, dry_run: bool, *, in_4_bits: bool = False) -> None:
    """Check the weights and become vLLM, or only show the command."""
    if dry_run:
        out.print(shlex.join(command), soft_wrap=True, markup=False, highlight=False)
        return
    fetch.verify(folder)
    if in_4_bits and not _is_quantised(folder):
        raise WeightsError(f"{folder.name} is still in 16 bits.", cure=f"Run: postfinder models quantize {folder.name}")
    os.environ |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    os.execv(command[0], command)  # noqa: S606


def _serve_embedder(card: EmbedderCard, weights_dir: Path, host: str, port: int, threads: int) -> None:
    from models import embed_bge_m3, serve

    if card.engine != "bge-m3":
        raise CardError(f"Our server does not run {card.name}.", cure="Serve bge-m3.")
    fetch.verify(weights_dir / card.name)
    if find_gpus():
        embedder = embed_bge_m3.open_torch(card, weights_dir / card.name)
    else:
        embedder = embed_bge_m3.load(card, weights_dir=weights_dir, threads=threads)
    serve.run(embedder, host=host, port=port)


def _print_plans(fits: list[Plan], memory: float) -> None:
    names = ("model", "answers at once", "weights", "KV cache", "embedder")
    table = Table(*(Column(name, no_wrap=True) for name in names), box=None, title=f"{memory:g} GiB")
    for made in fits:
        table.add_row(
            made.answerer.name,
            f"{made.answers_at_once} × {made.context} tokens",
            f"{made.shares[0].bytes / GIB:.1f}",
            f"{made.kv_bytes / GIB:.1f}",
            made.embedder,
        )
    if fits:
        out.print(table)


def _as_dict(made: Plan) -> dict[str, object]:
    return {
        "answerer": made.answerer.name,
        "answers_at_once": made.answers_at_once,
        "context": made.context,
        "shares_bytes": {share.what: share.bytes for share in made.shares},
        "kv_bytes": made.kv_bytes,
        "embedder": made.embedder,
        "reranker": made.reranker,
        "vllm_args": list(made.vllm_args),
    }


def _vram(given: float | None) -> float:
    if given is not None:
        return given
    gpus = find_gpus()
    if not gpus:
        raise ModelError(
            "There is no NVIDIA GPU here, or no driver.", cure="Plan for another host with --vram GIB, e.g. --vram 24."
        )
    largest = max(gpus, key=lambda gpu: gpu.total_gib)
    err.print(f"{largest.name}: {largest.total_gib:.0f} GiB, {largest.free_gib:.0f} free.")
    return largest.total_gib


def _answerer(name: str) -> AnswererCard:
    card = load_card(name)
    if not isinstance(card, AnswererCard):
        raise CardError(f"{name} is a card of kind {card.kind}, not an answerer.")
    return card


def _embedder(name: str) -> EmbedderCard | None:
    card = load_card(name) if name else None
    if card is not None and not isinstance(card, EmbedderCard):
        raise CardError(f"{name} is a card of kind {card.kind}, not an embedder.")
    return card


def _reranker(name: str) -> RerankerCard | None:
    card = load_card(name) if name else None
    if card is not None and not isinstance(card, RerankerCard):
        raise CardError(f"{name} is a card of kind {card.kind}, not a reranker.")
    return card


def _here(card: Card, weights_dir: Path) -> str:
    if isinstance(card, EmbedderCard) and card.package:
        return "comes along"
    if (weights_dir / card.name / fetch.MANIFEST).is_file():
        return "yes"
    return "begun" if (weights_dir / f".{card.name}.partial").is_dir() else ""


def _is_quantised(folder: Path) -> bool:
    return "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
