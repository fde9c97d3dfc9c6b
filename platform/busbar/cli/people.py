"""Commands for sites, users, and the keys that sign their tokens and encrypt what is secret."""

import sys

import typer
from rich.table import Table

from busbar.auth import commands as users
from busbar.cli.console import people
from busbar.cli.session import operator, run
from busbar.connectors.resealing import Resealed, reseal
from busbar.connectors.secrets import KeyRing
from busbar.db import fetch, fetchval
from busbar.errors import NotFound
from busbar.runtime import Platform
from busbar.sites import commands as sites


def add_site(site_id: str, name: str, timezone: str, modules: list[str]) -> None:
    """Make a site."""

    async def work(running: Platform) -> None:
        _check_modules(running, modules)
        await sites.create_site(operator(), site_id=site_id, name=name, timezone=timezone, modules=modules)

    run(work)
    people.print(f"Made the site {site_id}.")


def switch_module(site_id: str, module: str, *, enabled: bool) -> None:
    """Enable or disable a module at a site."""

    async def work(running: Platform) -> None:
        _check_modules(running, [module])
        await sites.set_module(operator(), site_id, module, enabled=enabled)

    run(work)
    people.print(f"{module} is now {'enabled' if enabled else 'disabled'} at {site_id}.")


def list_sites() -> None:
    """Show the sites."""

    async def work(running: Platform) -> list[tuple[str, ...]]:
        rows = await fetch(
            "select s.site_id, s.name, s.timezone, coalesce(string_agg(m.module, ', ' order by m.module) "
            "filter (where m.enabled), '') from core.site s left join core.site_module m using (site_id) "
            "group by s.site_id order by s.site_id"
        )
        return [tuple(row) for row in rows]

    _show(("site", "name", "time zone", "modules"), run(work))


def list_users() -> None:
    """Show the users."""

    async def work(running: Platform) -> list[tuple[str, ...]]:
        rows = await fetch(
            "select username, display_name, roles, sites, active from core.user_account order by username"
        )
        return [
            (row["username"], row["display_name"], ", ".join(row["roles"]), ", ".join(row["sites"]), str(row["active"]))
            for row in rows
        ]

    _show(("user", "name", "roles", "sites", "active"), run(work))


def add_user(username: str, roles: list[str], site_ids: list[str], *, password_stdin: bool) -> None:
    """Make a user."""
    password = _password(password_stdin)

    async def work(running: Platform) -> None:
        await users.create_user(
            running.auth,
            operator(),
            username=username,
            display_name=username,
            password=password,
            roles=roles,
            sites=site_ids,
        )

    run(work)
    people.print(f"Made the user {username}.")


def set_password(username: str, *, password_stdin: bool) -> None:
    """Set a password."""
    password = _password(password_stdin)

    async def work(running: Platform) -> None:
        user_id = await fetchval("select user_id from core.user_account where username = $1", username.lower())
        if user_id is None:
            raise NotFound(f"There is no user {username}.")
        await users.set_password(running.auth, operator(), user_id, password=password)

    run(work)
    people.print(f"The password of {username} is changed; all sessions are ended.")


def rotate_signing_key(*, after_minutes: int) -> None:
    """Make a new key that signs access tokens."""

    async def work(running: Platform) -> str:
        return await running.auth.rotate_keys(operator(), after_s=after_minutes * 60)

    kid = run(work)
    when = (
        f"in {after_minutes} minutes; give it to the gateway before (busbar kong)" if after_minutes else "from now on"
    )
    people.print(f"The key {kid} signs {when}.", markup=False, soft_wrap=True)


def reseal_secrets() -> None:
    """Encrypt with the newest secret key whatever older ones have encrypted."""

    async def work(running: Platform) -> tuple[KeyRing, Resealed]:
        return running.endpoints.key_ring, await reseal(operator(), running.endpoints.key_ring)

    ring, moved = run(work)
    told = f"Moved to the key {ring.primary_id}: {moved.secrets} of endpoints, {moved.signing_keys} of signing keys."
    older = [key_id for key_id in ring.key_ids if key_id != ring.primary_id]
    rest = f"Nothing needs these any more: {', '.join(older)}." if older else "There is no other key."
    people.print(f"{told} {rest}", markup=False, soft_wrap=True)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    text: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return text


def _check_modules(running: Platform, modules: list[str]) -> None:
    for module in modules:
        if module not in running.catalog.modules:
            raise NotFound(f"There is no module {module}; installed are {', '.join(running.catalog.modules)}.")


def _show(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    people.print(table)
