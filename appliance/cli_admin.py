"""The operator's commands over people, posts, roles and keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.markup import escape

from appliance.client import checked

out = Console(highlight=False, soft_wrap=True)
Reach = Callable[[Callable[[httpx.AsyncClient], Awaitable[None]]], None]

Who = Annotated[str, typer.Argument(help="@username, the user id, or telegram:123456.")]


def add_commands(app: typer.Typer, reach: Reach, print_json: Callable[[Any], None]) -> None:
    """Add the commands.

    Parameters
    ----------
    app : typer.Typer
    reach : callable
        Runs a command's work against the appliance.
    print_json : callable
    """
    keys = typer.Typer(help="Keys of the API.", no_args_is_help=True)
    app.add_typer(keys, name="key")
    plans = typer.Typer(help="Plans of members.", no_args_is_help=True)
    app.add_typer(plans, name="plan")

    def post(path: str, body: dict[str, Any]) -> None:
        async def work(client: httpx.AsyncClient) -> None:
            print_json(checked(await client.post(path, json=body)))

        reach(work)

    def get(path: str) -> None:
        async def work(client: httpx.AsyncClient) -> None:
            print_json(checked(await client.get(path)))

        reach(work)

    @app.command("export-person")
    def export_person(who: Who, to: Annotated[Path, typer.Option(help="File to write.")] = Path("person.zip")) -> None:
        """Write everything about a person into a ZIP, for them."""

        async def work(client: httpx.AsyncClient) -> None:
            reply = await client.post("/admin/people/archive", json={"who": who})
            if reply.is_error:
                checked(reply)
            to.touch(mode=0o600)
            to.write_bytes(reply.content)
            out.print(f"{escape(str(to))}: {len(reply.content)} bytes")

        reach(work)

    @app.command()
    def erase(who: Who) -> None:
        """Erase a person everywhere, backups included; prints the receipt."""
        post("/admin/people/erase", {"who": who})

    @app.command()
    def forget(
        what: Annotated[str, typer.Argument(help="Link of a post; with --channel, a channel.")],
        channel: Annotated[bool, typer.Option("--channel", help="Erase a whole channel with its key.")] = False,
    ) -> None:
        """Remove a post, or a channel, for good; prints the receipt."""
        if channel:
            post("/admin/channels/forget", {"who": what})
        else:
            post("/admin/posts/forget", {"link": what})

    @app.command("opt-out")
    def opt_out(author: Annotated[str, typer.Argument(help="Id of the author, as in an export: user123.")]) -> None:
        """Keep no more posts of an author, and remove those there are."""
        post("/admin/authors/opt-out", {"who": author})

    @app.command()
    def sync(
        path: Annotated[Path, typer.Argument(help="A newer, complete export.")],
        remove: Annotated[bool, typer.Option("--remove", help="Remove them; otherwise only counted.")] = False,
        all_of_them: Annotated[bool, typer.Option("--all-of-them", help="Even more than a fifth.")] = False,
    ) -> None:
        """Remove the posts that a newer, complete export no longer holds."""
        body = {"path": str(path.resolve()), "dry_run": not remove, "all_of_them": all_of_them}
        post("/admin/sync", body)

    @app.command()
    def role(
        who: Who, role: Annotated[str, typer.Argument(help="owner, admin, moderator, trusted, member or guest.")]
    ) -> None:
        """Give a person a role; nobody becomes owner by being first."""
        post("/admin/people/role", {"who": who, "role": role})

    @app.command()
    def ban(
        who: Who,
        days: Annotated[float, typer.Option(min=0.0, max=3650.0, help="For how long; 0 has no end.")] = 0.0,
        reason: Annotated[str, typer.Option(help="They will read it.")] = "",
    ) -> None:
        """Ban a person; they are told, and may appeal."""
        post("/admin/people/ban", {"who": who, "days": days or None, "reason": reason})

    @app.command()
    def unban(who: Who) -> None:
        """End a ban; the person is told."""
        post("/admin/people/unban", {"who": who})

    @app.command()
    def pause(
        word: Annotated[str, typer.Option(help="What members are told; the usual words by default.")] = "",
    ) -> None:
        """Pause answering at every door, until `resume`; it survives a restart."""
        post("/admin/pause", {"word": word})

    @app.command()
    def resume() -> None:
        """Answer again."""
        post("/admin/resume", {})

    @app.command()
    def member(
        who: Who,
        channel_id: Annotated[int, typer.Argument(help="Id of the closed channel.")],
        remove: Annotated[bool, typer.Option("--remove", help="Take the right away.")] = False,
    ) -> None:
        """Let a person read a closed channel, or no longer."""
        post("/admin/people/membership", {"who": who, "channel_id": channel_id, "may_read": not remove})

    @app.command()
    def audit(limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100) -> None:
        """Print the newest administrative acts."""
        get(f"/admin/audit?limit={limit}")

    @app.command("rotate-key")
    def rotate_key() -> None:
        """Make a new master key; every data key is wrapped anew."""
        post("/admin/master-key/rotate", {})

    @app.command()
    def records() -> None:
        """Print the records of processing, made from the ledger's schema."""
        from appliance.ledger.records import as_markdown  # a second to import

        typer.echo(as_markdown(datetime.now().astimezone()))

    @plans.command("list")
    def list_plans() -> None:
        """List the plans, the free one first."""
        get("/admin/plans")

    @plans.command("add")
    def add_plan(
        name: Annotated[str, typer.Argument(help="Up to 32 characters; a plan of this name is changed.")],
        stars: Annotated[int, typer.Option(min=0, max=10_000, help="Price of 30 days; 0 is only given.")] = 0,
        per_day: Annotated[int, typer.Option(min=0, help="Questions a day; 0 for no limit.")] = 0,
        per_month: Annotated[int, typer.Option(min=0, help="Questions a month; 0 for no limit.")] = 0,
        retire: Annotated[bool, typer.Option("--retire", help="Sell it no longer; who has it keeps it.")] = False,
    ) -> None:
        """Create a plan, or change the one of this name."""
        limits = {"per_day": per_day or None, "per_month": per_month or None}
        post("/admin/plans", {"name": name, "stars": stars, "is_retired": retire, **limits})

    @plans.command("grant")
    def grant_plan(
        who: Who,
        plan: Annotated[str, typer.Argument(help="Name of the plan.")],
        days: Annotated[int, typer.Option(min=0, max=3650, help="0 for good.")] = 30,
    ) -> None:
        """Give a person a plan without a payment."""
        post("/admin/plans/grant", {"who": who, "plan": plan, "days": days or None})

    @plans.command("payments")
    def payments() -> None:
        """List the newest payments with their ids."""
        get("/admin/payments")

    @plans.command("refund")
    def refund(
        charge_id: Annotated[str, typer.Argument(help="Id of the payment, as `plan payments` lists it.")],
    ) -> None:
        """Give a payment back through the bot; what it bought ends now."""
        post("/admin/payments/refund", {"charge_id": charge_id})

    @keys.command("create")
    def create(
        name: Annotated[str, typer.Option(help="For whom.")] = "unnamed",
        scope: Annotated[list[str] | None, typer.Option(help="ask, search, read, rate; again for more.")] = None,
        days: Annotated[int, typer.Option(min=1, max=3650)] = 90,
        per_minute: Annotated[int, typer.Option(min=1, max=100_000)] = 60,
    ) -> None:
        """Make a key; it is shown once."""
        body = {"name": name, "scopes": scope or ["ask"], "days": days, "per_minute": per_minute}
        post("/admin/keys", body)

    @keys.command("list")
    def list_() -> None:
        """List the keys, without their secrets."""
        get("/admin/keys")

    @keys.command("revoke")
    def revoke(key_id: str) -> None:
        """Make a key good for nothing."""
        post(f"/admin/keys/{key_id}/revoke", {})
