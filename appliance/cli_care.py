"""The operator's commands over backups, restores and upgrades."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import orjson
import typer
from rich.console import Console
from rich.markup import escape

from appliance.client import checked, connect, running
from appliance.config import Config
from appliance.logs import configure_logs

out = Console(highlight=False, soft_wrap=True)
Reach = Callable[[Callable[[httpx.AsyncClient], Awaitable[None]]], None]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def add_care(
    app: typer.Typer, reach: Reach, print_json: Callable[[Any], None], read_config: Callable[[], Config]
) -> None:
    """Add the commands.

    Parameters
    ----------
    app : typer.Typer
    reach : callable
        Runs a command's work against the appliance.
    print_json : callable
    read_config : callable
    """

    @app.command()
    def backup(
        dest: Annotated[Path | None, typer.Argument(help="Folder or new file; else POSTFINDER_BACKUP_DIR.")] = None,
        verify: Annotated[
            bool, typer.Option("--verify", help="Then restore it into a scratch folder and compare.")
        ] = False,
        only: Annotated[
            Path | None, typer.Option("--only-verify", help="Make none; verify this file.", show_default=False)
        ] = None,
        json: Json = False,
    ) -> None:
        """Back up everything into one sealed file, while questions are answered."""

        async def work(client: httpx.AsyncClient) -> None:
            made: dict[str, Any] = {}
            if only is None:
                made = checked(await client.post("/admin/backup", json={"to": str(dest.resolve()) if dest else ""}))
            if verify or only is not None:
                file = str(only.resolve()) if only else made["file"]
                checked_one = checked(await client.post("/admin/backup/verify", json={"file": file}))
                made = {**(made or checked_one), "verified_s": checked_one["took_s"]}
            if json:
                print_json(made)
                return
            out.print(_told(made))
            if "verified_s" in made:
                out.print(f"Restored into a scratch folder and compared in {made['verified_s']:.1f} s: the same.")
            else:
                out.print("Keys are not in it: keep a copy of the keys folder elsewhere.")

        reach(work)

    @app.command()
    def restore(
        file: Annotated[Path, typer.Argument(help="A backup.")],
        into: Annotated[
            Path | None, typer.Option("--into", help="Folder, empty or absent; else the data folder.")
        ] = None,
        json: Json = False,
    ) -> None:
        """Put a backup back; nothing is overwritten, every digest is compared first."""
        config = read_config()
        target = (into or config.data_dir).resolve()
        done = asyncio.run(_restore(config, file.resolve(), target))
        if json:
            print_json(done)
            return
        out.print(f"{_told(done)}\nIt is back in {escape(str(target))}.")
        if done["waiting"]:
            out.print(
                f"{done['waiting']} updates and messages waited when it was made: they are worked on at the next "
                "start, and what was sent since then is sent twice."
            )

    @app.command()
    def check(
        fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended.")] = False,
        json: Json = False,
    ) -> None:
        """Look at the machine, the stores, keys and backups; every finding names its cure. Exit 1 when one fails."""
        config = read_config()
        configure_logs(config.log, least="warning")
        found = asyncio.run(_check(config, fix=fix))
        if json:
            print_json(found)
        else:
            for item in found:
                mark = {"ok": "[green]ok[/]  ", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}[item["status"]]
                cure = f" [bold]{escape(item['cure'])}[/]" if item["cure"] else ""
                out.print(f"{mark} {escape(item['name'])}: {escape(item['what'])}{cure}")
        if any(item["status"] == "fail" for item in found):
            raise typer.Exit(1)

    @app.command()
    def upgrade(json: Json = False) -> None:
        """Bring the data of a stopped appliance to this version: check, back up, migrate, try, or go back."""
        from appliance.upgrade import upgrade as bring_up  # seconds to import

        config = read_config()
        configure_logs(config.log, least="warning")
        done = asyncio.run(bring_up(config, tell=lambda line: None if json else out.print(escape(line))))
        if json:
            print_json(done)
        else:
            out.print(f"[bold]Upgraded[/]: {done.posts} posts, {done.questions} questions. Start it: postfinder serve")


async def _check(config: Config, *, fix: bool) -> list[dict[str, Any]]:
    client = await running(config)
    if client is not None:
        async with aclosing(client):
            found: list[dict[str, Any]] = checked(await client.post("/admin/check", json={"fix": fix}))
            return found
    from appliance.check import check_stopped  # a second to import

    stopped: list[dict[str, Any]] = orjson.loads(orjson.dumps(await asyncio.to_thread(check_stopped, config, fix=fix)))
    hopeless = {"cpu", "keys", "keys open", "restore", "disk kind"}
    if not fix or any(item["status"] == "fail" and item["name"] in hopeless for item in stopped):
        return stopped
    async with connect(config) as opened:  # opening heals, migrates and rebuilds
        after: list[dict[str, Any]] = checked(await opened.post("/admin/check", json={"fix": True}))
    known = {item["name"] for item in after}
    return [item for item in stopped if item["is_mended"] or item["name"] not in known] + after


async def _restore(config: Config, file: Path, target: Path) -> dict[str, Any]:
    client = await running(config)
    if client is not None:
        async with aclosing(client):
            body = {"file": str(file), "into": str(target)}
            result: dict[str, Any] = checked(await client.post("/admin/restore", json=body))
            return result
    from appliance.backup import restore, vault_for  # seconds to import

    with vault_for(config) as vault:
        done: dict[str, Any] = orjson.loads(orjson.dumps(restore(file, target, vault)))
    return done


def _told(made: dict[str, Any]) -> str:
    when = datetime.fromisoformat(made["made_at"]).astimezone()
    posts = (
        f"{made['rows'].get('post', 0)} posts, {made['rows'].get('question', 0)} questions, " if made["rows"] else ""
    )
    return (
        f"[bold]{escape(made['file'])}[/]: {posts}{made['bytes'] / 1e6:.1f} MB, "
        f"made {when:%Y-%m-%d %H:%M}; took {made['took_s']:.1f} s."
    )
