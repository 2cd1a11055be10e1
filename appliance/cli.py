"""The `postfinder` command."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, get_args

import httpx
import orjson
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from appliance import __version__, sample, settings_docs
from appliance.cli_admin import add_commands
from appliance.cli_care import add_care
from appliance.cli_community import add_community, whole
from appliance.client import checked, connect, events, import_app, language
from appliance.config import Config
from appliance.errors import PostFinderError
from appliance.links import parse_link
from appliance.logs import configure_logs
from appliance.schema import LimitKind
from appliance.texts import count, date, say

app = typer.Typer(
    name="postfinder",
    help="Answers from a community's own Telegram posts, on the community's own server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
PANEL_WIDTH = 100

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Channels = Annotated[list[str] | None, typer.Option("--channel", "-c", help="Only this channel: @name, title or id.")]
Since = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Posts from this day on.")]
Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Posts before this day.")]
Author = Annotated[str | None, typer.Option(help="Posts signed by this author.")]
Media = Annotated[str | None, typer.Option(help="Posts with this: photo, video, file, voice, audio, poll, or any.")]
Plain = Annotated[bool, typer.Option("--plain", help="Read no limits («за прошлую неделю») from the words.")]


@app.callback()
def configure() -> None:
    """Answers from a community's own Telegram posts."""


@app.command()
def serve(
    demo: Annotated[
        bool, typer.Option("--demo", help="Import the sample channel if there are no posts; ask three questions.")
    ] = False,
) -> None:
    """Start the appliance: the web page, and the bot where a token is set."""
    asyncio.run(_serve(read_config(), demo))


async def _serve(config: Config, demo: bool) -> None:
    app_room = import_app()
    configure_logs(config.log, least="warning" if demo else "info")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with app_room.open_app(config) as opened, app_room.open_doors(opened) as url:
        if demo:
            async with connect(config) as client:
                await _show_demo(client)
            configure_logs(config.log)
        bot = "and the bot answers" if config.bot_token() else "no bot: TELEGRAM_BOT_TOKEN is empty"
        out.print(f"\n[bold]{url}[/]  the page is open ({bot}). Ctrl+C stops.")
        await stop.wait()
        out.print("Stopping…")


async def _show_demo(client: httpx.AsyncClient) -> None:
    if not checked(await client.get("/channels")):
        out.print("No posts yet: importing the sample channel.")
        with sample.export() as path:
            await _import(client, path, username=sample.USERNAME, dry_run=False)
    for question in sample.questions():
        await _print_answer(client, {"question": question})


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="Telegram Desktop's result.json, or its folder.")],
    username: Annotated[
        str | None, typer.Option(help="Public name of the channel: an export does not hold it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and count; store nothing.")] = False,
    json: Json = False,
) -> None:
    """Import a Telegram Desktop export; again changes nothing, a newer one updates edits."""
    reach(lambda client: _import(client, path.resolve(), username=username, dry_run=dry_run, json=json))


async def _import(
    client: httpx.AsyncClient, path: Path, *, username: str | None, dry_run: bool, json: bool = False
) -> None:
    body = {"path": str(path), "username": username, "dry_run": dry_run}
    last: dict[str, Any] = {}
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=err,
        disable=json,
    )
    with bar:
        task = bar.add_task(path.name, total=None, rate="")
        async with client.stream("POST", "/admin/import", json=body, headers={"Accept": "text/event-stream"}) as reply:
            async for name, data in events(reply):
                if name not in {"progress", "done", "final"}:
                    continue
                last = data
                posts = data["new"] + data["edited"] + data["same"]
                bar.update(
                    task,
                    completed=data["bytes_read"],
                    total=data["bytes_total"] or None,
                    rate=f"{posts / max(data['elapsed_s'], 0.001):,.0f} posts/s",
                )
    if json:
        print_json(last)
        return
    if not last:
        raise PostFinderError("The import ended without a word.", cure="Look at the appliance's log.")
    for broken in last["broken"]:
        place = f"message {broken['message_id']}" if broken["message_id"] is not None else "file"
        err.print(f"[yellow]{escape(broken['file'])}, {place}:[/] {escape(broken['reason'])}. {escape(broken['cure'])}")
    titles = ", ".join(channel["title"] for channel in last["channels"])
    verb = "Would import" if dry_run else "Imported"
    out.print(
        f"{verb} «{escape(titles)}»: {last['new']} new, {last['edited']} edited, {last['same']} unchanged, "
        f"{last['skipped']} skipped, {len(last['broken'])} broken; "
        f"{last['chunks']} chunks in {last['elapsed_s']:.1f} s."
    )


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to find.")],
    channel: Channels = None,
    since: Since = None,
    until: Until = None,
    author: Author = None,
    media: Media = None,
    plain: Plain = False,
    limit: Annotated[int, typer.Option(min=1, max=50)] = 5,
    json: Json = False,
) -> None:
    """Find posts."""
    body = {"query": query, "limit": limit, **_filters(channel, since, until, author, media, plain)}
    reach(lambda client: _search(client, body, json))


async def _search(client: httpx.AsyncClient, body: dict[str, Any], json: bool) -> None:
    result = checked(await client.post("/search", json=body))
    if json:
        print_json(result)
        return
    if result["searched_as"]:
        out.print(f"[dim]Searched: {escape(result['searched_as'])}[/]")
    said_limits(result)
    print_found(result["found"])


def print_found(found: list[dict[str, Any]]) -> None:
    """Print found posts: the first line of each, its channel, date and link."""
    for number, hit in enumerate(found, start=1):
        first = next(iter(hit["post"]["text"].strip().splitlines()), "")
        out.print(f"[bold]{number}.[/] {escape(first[:110])}")
        out.print(f"   [dim]{escape(hit['channel']['title'])} · {hit['post']['date'][:10]} · {hit['link']}[/]")
    if not found:
        out.print("Nothing found.")


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question, in any words.")],
    channel: Channels = None,
    since: Since = None,
    until: Until = None,
    author: Author = None,
    media: Media = None,
    plain: Plain = False,
    json: Json = False,
) -> None:
    """Answer a question from the posts, each sentence with its link."""
    body = {"question": question, **_filters(channel, since, until, author, media, plain)}
    reach(lambda client: _print_answer(client, body, json))


@app.command()
def related(
    link: Annotated[str, typer.Argument(help="Link of a post.")],
    limit: Annotated[int, typer.Option(min=1, max=20)] = 5,
    json: Json = False,
) -> None:
    """Find posts on the subject of a post."""
    reach(lambda client: _related(client, link, limit, json))


async def _related(client: httpx.AsyncClient, link: str, limit: int, json: bool) -> None:
    read = parse_link(link)
    if read is None:
        raise PostFinderError("This is no link of a post.", cure="Copy it in Telegram: ⋮ → Copy link.")
    name, message_id = read
    rows = [row["channel"] for row in checked(await client.get("/channels"))]
    known = [row["id"] for row in rows if name == row["id"] or str(name).lower() == (row["username"] or "").lower()]
    if not known:
        raise PostFinderError("Its channel is not here.", cure="`postfinder channels` lists those that are.")
    found = checked(await client.get(f"/posts/{known[0]}/{message_id}/related", params={"limit": limit}))
    if json:
        print_json(found)
        return
    print_found(found)


@app.command()
def story(
    subject: Annotated[str, typer.Argument(help="What it is about.")],
    channel: Channels = None,
    since: Since = None,
    until: Until = None,
    json: Json = False,
) -> None:
    """Tell what was said about a subject over time."""
    body = {"subject": subject, "language": language(), **_filters(channel, since, until, None)}
    reach(lambda client: _story(client, body, json))


async def _story(client: httpx.AsyncClient, body: dict[str, Any], json: bool) -> None:
    told = checked(await client.post("/story", json=body))
    if json:
        print_json(told)
        return
    said_limits(told)
    links = {citation["number"]: citation["link"] for citation in told["citations"]}
    for chapter in told["chapters"]:
        out.print(f"[bold]{escape(chapter['words'])}[/] [dim]{count('posts', chapter['posts'], language())}[/]")
        for sentence in chapter["sentences"]:
            (number,) = sentence["citations"]
            out.print(f"   {escape(sentence['text'])} [dim]{links[number]}[/]")
    if not told["chapters"]:
        out.print(say("story_none", language()))


def said_limits(result: dict[str, Any]) -> None:
    """Say which limits were read from the words of a query, and whether they held."""
    if result["limits"]:
        words = " · ".join(dict.fromkeys(limit["words"] for limit in result["limits"]))
        key = "limits_held" if result["are_limits_held"] else "limits_dropped"
        out.print(f"[dim]{escape(say(key, language(), limits=words))}[/]")


@app.command()
def digest(
    days: Annotated[int, typer.Option(min=1, max=3660, help="Days back from the newest post.")] = 7,
    channel: Channels = None,
    since: Since = None,
    until: Until = None,
    json: Json = False,
) -> None:
    """Tell what the posts of a period say, each sentence with its link."""
    body = {"days": days, "language": language(), **_filters(channel, since, until, None)}
    reach(lambda client: _print_answer(client, body, json, path="/digest"))


async def _print_answer(
    client: httpx.AsyncClient, body: dict[str, Any], json: bool = False, *, path: str = "/ask"
) -> None:
    answer = checked(await client.post(path, json=body))
    if json:
        print_json(answer)
        return
    lines = [
        escape(sentence["text"]) + " " + " ".join(rf"[cyan]\[{number}][/]" for number in sentence["citations"])
        for sentence in answer["sentences"]
    ]
    if answer["remark"]:
        lines.insert(0, f"[dim]{escape(answer['remark'])}[/]")
    if answer["limits"] and answer["are_limits_held"]:
        held = " · ".join(dict.fromkeys(limit["words"] for limit in answer["limits"]))
        lines.insert(0, f"[dim]{escape(say('limits_held', language(), limits=held))}[/]")
    if answer["outcome"] != "answered":
        tongue, searched = answer["language"], answer["searched"]
        lines.append(say("not_found", tongue))
        if searched["posts"]:
            until = datetime.fromisoformat(searched["until"]) if searched["until"] else None
            channels = ", ".join(searched["channels"])
            where = say(
                "searched",
                tongue,
                channels=channels,
                posts=count("posts", searched["posts"], tongue),
                until=date(until, tongue) if until else "—",
            )
            lines += [escape(where), say("nearest", tongue) + ":"]
        else:
            lines.append(say("searched_nothing", tongue))
    lines += [
        f"[dim]\\[{source['number']}] {source['date'][:10]} {source['link']} [italic]{escape(source['title'])}[/][/]"
        for source in answer["citations"]
    ]
    times = answer["times_ms"]
    subtitle = f"[dim]links {times['links']:.0f} ms · complete {times['complete']:.0f} ms[/]"
    title = f"[bold]{escape(body.get('question', 'digest'))}[/]"
    panel = Panel("\n".join(lines), title=title, title_align="left", subtitle=subtitle, width=PANEL_WIDTH)
    out.print(panel, soft_wrap=False, crop=False, overflow="fold")


@app.command()
def reindex(
    model: Annotated[str, typer.Option("--model", help="Card of the embedder: `postfinder models list`.")] = "",
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the embedder before.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Switch even if the new index finds less.")] = False,
    json: Json = False,
) -> None:
    """Embed all posts with another model and switch to it, without downtime; again goes on where it stopped."""
    if bool(model) == rollback:
        raise PostFinderError("Say where to.", cure="Either --model CARD or --rollback.")
    body = {"card": model, "rollback": rollback, "force": force}
    reach(lambda client: _reindex(client, body, json))


async def _reindex(client: httpx.AsyncClient, body: dict[str, Any], json: bool) -> None:
    last: dict[str, Any] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err, disable=json) as bar:
        task = bar.add_task("opening", total=None)
        headers = {"Accept": "text/event-stream"}
        async with client.stream("POST", "/admin/reindex", json=body, headers=headers) as reply:
            async for name, data in events(reply):
                if name in {"progress", "done"}:
                    last = data
                    bar.update(task, description=data["stage"], completed=data["posts"], total=data["of"] or None)
    if json:
        print_json(last)
        return
    if not last.get("done"):
        raise PostFinderError("The work ended without a word.", cure="Look at the appliance's log.")
    out.print(
        f"{escape(last['card'])} serves {last['posts']} posts after {last['elapsed_s']:.0f} s. "
        f"Posts that find themselves: {last['self_retrieval']:.0%} (before {last['self_retrieval_before']:.0%}); "
        f"{last['overlap']:.0%} of the first ten are the same. `postfinder reindex --rollback` goes back."
    )
    if not last["calibrated"]:
        out.print(
            "This embedder was never calibrated: refusals use the default embedder's figures. "
            "`python -m benchmarks.calibrate` fits them."
        )


@app.command()
def channels(json: Json = False) -> None:
    """List the channels with their posts."""
    reach(lambda client: _channels(client, json))


async def _channels(client: httpx.AsyncClient, json: bool) -> None:
    rows = checked(await client.get("/channels"))
    if json:
        print_json(rows)
        return
    table = Table("Channel", whole("Name"), whole("Id"), "Posts", "First", "Last", box=None)
    for row in rows:
        channel = row["channel"]
        table.add_row(
            escape(channel["title"]),
            f"@{channel['username']}" if channel["username"] else "",
            str(channel["id"]),
            str(row["posts"]),
            (row["first"] or "")[:10],
            (row["last"] or "")[:10],
        )
    out.print(table, soft_wrap=False)


@app.command()
def stats() -> None:
    """Print the figures of the questions' rows as JSON."""
    reach(_stats)


async def _stats(client: httpx.AsyncClient) -> None:
    print_json(checked(await client.get("/stats")))


@app.command()
def settings(
    env: Annotated[bool, typer.Option("--env", help="As an .env file.")] = False,
) -> None:
    """Print every setting with its default and meaning."""
    out.print(settings_docs.as_env() if env else settings_docs.as_table(), markup=False)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__)


def _filters(
    channel: list[str] | None,
    since: datetime | None,
    until: datetime | None,
    author: str | None,
    media: str | None = None,
    plain: bool = False,
) -> dict[str, Any]:
    limits = {
        "media": media,
        "unread": list(get_args(LimitKind)) if plain else None,
        "channels": channel or None,
        "since": since.date().isoformat() if since else None,
        "until": until.date().isoformat() if until else None,
        "author": author,
    }
    return {name: value for name, value in limits.items() if value is not None}


def print_json(value: Any) -> None:
    """Write JSON to standard output."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")


def read_config() -> Config:
    """Read the settings, or say which one is wrong and stop.

    Raises
    ------
    PostFinderError
        A setting that cannot be read.
    """
    try:
        return Config()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])).upper()
        raise PostFinderError(
            f"Setting {name}: {first['msg']}.",
            cure="Mend it in the environment or .env; `postfinder settings` lists all.",
        ) from error


def reach(work: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    """Run a command's work against the appliance."""
    config = read_config()
    configure_logs(config.log, least="warning")

    async def run() -> None:
        async with connect(config) as client:
            await work(client)

    asyncio.run(run())


add_commands(app, reach, print_json)
add_care(app, reach, print_json, read_config)
add_community(app, reach, print_json)


def main() -> None:
    """Run the command; errors raised on purpose become one line and exit status 1."""
    for point in entry_points(group="postfinder.commands"):
        app.add_typer(point.load(), name=point.name)
    try:
        app()
    except PostFinderError as error:
        err.print(f"[red]{escape(str(error))}[/]")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
