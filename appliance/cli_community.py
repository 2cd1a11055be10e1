"""The operator's commands over channels, questions that wait and frequent questions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from appliance.client import checked

out = Console(highlight=False, soft_wrap=True)
Reach = Callable[[Callable[[httpx.AsyncClient], Awaitable[None]]], None]

Name = Annotated[str, typer.Argument(help="@username, title or id.")]
QuestionId = Annotated[str, typer.Argument(help="Id, as the list shows it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def add_community(app: typer.Typer, reach: Reach, print_json: Callable[[Any], None]) -> None:
    """Add the commands.

    Parameters
    ----------
    app : typer.Typer
    reach : callable
        Runs a command's work against the appliance.
    print_json : callable
    """
    channels = typer.Typer(help="The pool of channels.", no_args_is_help=True)
    unanswered = typer.Typer(help="Questions that the posts did not answer.", no_args_is_help=True)
    faq = typer.Typer(help="Frequent questions.", no_args_is_help=True)
    app.add_typer(channels, name="channel")
    app.add_typer(unanswered, name="unanswered")
    app.add_typer(faq, name="faq")

    def post(path: str, body: dict[str, Any]) -> None:
        async def work(client: httpx.AsyncClient) -> None:
            print_json(checked(await client.post(path, json=body)))

        reach(work)

    def rows_of(path: str, show: Callable[[list[dict[str, Any]]], Table], json: bool) -> None:
        async def work(client: httpx.AsyncClient) -> None:
            rows = checked(await client.get(path))
            if json:
                print_json(rows)
            else:
                out.print(show(rows), soft_wrap=False)

        reach(work)

    @channels.command("list")
    def list_(json: Json = False) -> None:
        """List the pool, what waits first."""

        def show(rows: list[dict[str, Any]]) -> Table:
            table = Table(
                "Channel", whole("Name"), whole("Id"), whole("State"), "Found", "From", "Posts", "By", box=None
            )
            for row in rows:
                table.add_row(
                    escape(row["title"]),
                    f"@{row['username']}" if row["username"] else "",
                    str(row["id"] or ""),
                    row["state"],
                    "in every search" if row["is_cross"] else "when named",
                    "live" if row["is_live"] else row["source"],
                    str(row["posts"]),
                    str(row["proposed_by"] or ""),
                )
            return table

        rows_of("/admin/pool", show, json)

    @channels.command()
    def approve(channel: Name) -> None:
        """Approve a channel: its posts are searched."""
        post("/admin/pool/approve", {"channel": channel})

    @channels.command()
    def refuse(channel: Name) -> None:
        """Refuse a channel: its posts are removed and no further ones taken."""
        post("/admin/pool/refuse", {"channel": channel})

    @channels.command()
    def consent(
        channel: Name,
        withdraw: Annotated[bool, typer.Option("--withdraw", help="Its owner agrees no longer.")] = False,
    ) -> None:
        """Note that a channel's owner agrees that its posts are found without naming it."""
        post("/admin/pool/consent", {"channel": channel, "given": not withdraw})

    @channels.command()
    def remove(
        channel: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask; it cannot be undone.")] = False
    ) -> None:
        """Erase a channel with its posts and its key, backups included."""
        if not yes:
            typer.confirm(f"Erase {channel} for good?", abort=True)
        post("/admin/pool/remove", {"channel": channel})

    @channels.command()
    def read(
        channel: Name,
        feed: Annotated[str, typer.Option(help="Address of an RSS or Atom feed; else its preview page.")] = "",
        stop: Annotated[bool, typer.Option("--stop", help="Read it no longer; its posts stay.")] = False,
    ) -> None:
        """Read a public channel from outside, where POSTFINDER_READ_PREVIEWS or POSTFINDER_READ_FEEDS is on."""
        post("/admin/pool/read", {"channel": channel, "feed": feed, "stop": stop})

    @unanswered.command("list")
    def queue(limit: Annotated[int, typer.Option(min=1, max=200)] = 20, json: Json = False) -> None:
        """List them, the most asked first."""

        def show(rows: list[dict[str, Any]]) -> Table:
            table = Table("Asked", whole("Last"), "Question", whole("Id"), box=None)
            for row in rows:
                table.add_row(str(row["asked"]), row["asked_at"][:10], escape(row["text"][:100]), row["question_id"])
            return table

        rows_of(f"/admin/unanswered?limit={limit}", show, json)

    @unanswered.command()
    def reply(
        question: QuestionId, text: str, author: Annotated[str, typer.Option(help="Name shown with the answer.")]
    ) -> None:
        """Answer one: the next asker gets the answer, those who asked are told."""
        post(f"/admin/unanswered/{question}/reply", {"text": text, "author": author})

    @unanswered.command()
    def drop(question: QuestionId) -> None:
        """Take one out of the queue unanswered."""
        post(f"/admin/unanswered/{question}/drop", {})

    @faq.command("list")
    def entries(json: Json = False) -> None:
        """List what is proposed and approved."""

        def show(rows: list[dict[str, Any]]) -> Table:
            table = Table("Asked by", "State", "Question", whole("Id"), box=None)
            for row in rows:
                table.add_row(str(row["asked"]), row["state"], escape(row["text"][:100]), row["question_id"])
            return table

        rows_of("/admin/faq", show, json)

    @faq.command()
    def mine() -> None:
        """Look for frequent questions now."""
        post("/admin/faq/mine", {})

    @faq.command("approve")
    def approve_faq(question: QuestionId) -> None:
        """Show one to members."""
        post(f"/admin/faq/{question}/approved", {})

    @faq.command("refuse")
    def refuse_faq(question: QuestionId) -> None:
        """Show one to nobody."""
        post(f"/admin/faq/{question}/refused", {})


def whole(title: str) -> Column:
    """Return a column that is never cut: its values are copied into the next command."""
    return Column(title, no_wrap=True)
