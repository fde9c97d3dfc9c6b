"""Imports users from a table: who they are, their roles and sites. Passwords are not read from files."""

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from busbar.auth.commands import add_user, change_user
from busbar.auth.fields import Email, RoleName, Username
from busbar.auth.service import Auth
from busbar.db import fetchrow, transaction
from busbar.errors import BusbarError, InvalidPayload
from busbar.imports.contract import ALL_OR_NOTHING, Importer, ImportRun
from busbar.imports.mapping import MappedRow, RowConverter, convert_rows, suggest_mapping
from busbar.imports.readers import open_source
from busbar.imports.report import CellError, ImportReport, ReportBuilder
from busbar.imports.threads import iterate_in_thread
from busbar.web.text import SINGLE_LINE, Name

NAME: Final = "core.users"
TITLE: Final = "Users (CSV, XLSX or XLS)"
PERMISSION: Final = "users.write"
NAMES_CHARACTERS_MAX: Final = 1_000
_SEPARATORS: Final = re.compile(r"[,; ]+")

Names = Annotated[str, msgspec.Meta(max_length=NAMES_CHARACTERS_MAX, pattern=SINGLE_LINE)]
"""Names separated by commas, semicolons or spaces."""


class UserRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a table of users. A user who is there already is changed in the fields that are mapped."""

    username: Username
    display_name: Name
    email: Email | None = None
    roles: Names = ""
    """Such as `Maintenance_Engineer, Store_Manager`."""
    sites: Names = ""
    """Site ids, or `*` for every site; if empty, the site of the import."""
    active: bool = True


class _Undone(Exception):
    """Ends the transaction of an import of all or nothing that has a bad row."""


def user_importer(auth: Auth) -> Importer:
    """The importer `core.users`.

    A new user gets a password that nobody knows, and can sign in once an administrator has set one.
    """

    async def run(given: ImportRun) -> ImportReport:
        return await _import_users(auth, given)

    return Importer(name=NAME, title=TITLE, permission=PERMISSION, run=run, target=UserRecord)


async def _import_users(auth: Auth, run: ImportRun) -> ImportReport:
    source = await asyncio.to_thread(open_source, run.path)
    mapping = run.mapping or suggest_mapping(UserRecord, source.columns)
    converter = RowConverter(UserRecord, mapping, source.columns)
    report = ReportBuilder()
    rows: list[MappedRow[UserRecord]] = []
    async for batch in iterate_in_thread(convert_rows(source, converter, report, key="username")):
        rows += batch
        run.progress(len(batch))
    password_hash = await auth.passwords.hash(secrets.token_urlsafe(32))
    outcomes: Counter[str] = Counter()
    try:
        async with transaction():
            for row in rows:
                try:
                    # A savepoint, so that a bad row takes back itself and no other.
                    async with transaction():
                        outcomes[await _write(run, row.value, tuple(mapping.fields), password_hash)] += 1
                except BusbarError as refused:
                    report.revoke(row.line, _cells(refused))
            if run.mode == ALL_OR_NOTHING and report.rows_rejected:
                raise _Undone
    except _Undone:
        return report.report({"withheld": report.rows_accepted})
    return report.report(outcomes)


async def _write(run: ImportRun, user: UserRecord, mapped: Sequence[str], password_hash: str) -> str:
    roles, sites = _names(user.roles), _names(user.sites) or [run.site_id]
    _check_roles(roles)
    known = await fetchrow(
        "select user_id, display_name, email, roles, sites, active from core.user_account where username = $1",
        user.username.lower(),
    )
    if known is None:
        await add_user(
            run.ctx,
            username=user.username,
            display_name=user.display_name,
            password_hash=password_hash,
            email=user.email,
            roles=roles,
            sites=sites,
            active=user.active,
        )
        return "created"
    # An empty cell says nothing of where somebody works.
    kept = ("username",) if user.sites.strip() else ("username", "sites")
    given: dict[str, Any] = {**msgspec.structs.asdict(user), "roles": sorted(set(roles)), "sites": sorted(set(sites))}
    changes = {
        name: given[name]
        for name in mapped
        if name not in kept and given[name] != (list(known[name]) if name in ("roles", "sites") else known[name])
    }
    if not changes:
        return "unchanged"
    await change_user(run.ctx, known["user_id"], **changes)
    return "updated"


def _names(text: str) -> list[str]:
    return [name for name in _SEPARATORS.split(text.strip()) if name]


def _check_roles(roles: Sequence[str]) -> None:
    for role in roles:
        try:
            msgspec.convert(role, RoleName)
        except msgspec.ValidationError:
            raise InvalidPayload(f"{role} is no name of a role.") from None


def _cells(refused: BusbarError) -> list[CellError]:
    errors = [CellError(field=error.field, message=error.message) for error in refused.errors]
    return errors or [CellError(field="", message=refused.detail)]
