"""Users from a table: all of them or none, each with roles and sites that exist, and no password in a file."""

from pathlib import Path
from typing import Any

import pytest

from busbar.db import fetch, fetchrow, fetchval
from busbar.imports.commands import run_import
from busbar.imports.contract import ALL_OR_NOTHING, PARTIAL, ImportRun
from busbar.imports.report import ImportReport
from busbar.testing.app import RunningApp
from busbar.testing.plugins import context_of

GOOD = """username,display name,email,roles,sites
Maria.Weber,Maria Weber,maria@utility.example,"Maintenance_Engineer; Integration_Operator",a
j.berger,Jo Berger,,Maintenance_Engineer,"a, b"
"""


async def load(app: RunningApp, folder: Path, text: str, *, mode: Any = ALL_OR_NOTHING, by: Any = None) -> ImportReport:
    path = folder / "users.csv"
    path.write_text(text, "utf-8")
    ctx = by or context_of("admin", permissions=["*"], sites=["*"])
    importer = app.platform.importers["core.users"]
    return await run_import(ctx, importer, ImportRun(ctx=ctx, path=path, site_id="a", mode=mode))


class TestUsersFromAFile:
    async def test_are_made_once_and_changed_where_the_file_differs(self, app: RunningApp, tmp_path: Path) -> None:
        first = await load(app, tmp_path, GOOD)
        assert (first.rows_accepted, first.outcomes) == (2, {"created": 2})
        row = await fetchrow("select * from core.user_account where username = 'maria.weber'")
        assert (row["display_name"], row["roles"], row["sites"]) == (
            "Maria Weber",
            ["Integration_Operator", "Maintenance_Engineer"],
            ["a"],
        )
        assert (await load(app, tmp_path, GOOD)).outcomes == {"unchanged": 2}
        changed = await load(app, tmp_path, GOOD.replace("Jo Berger", "Johanna Berger"))
        assert changed.outcomes == {"unchanged": 1, "updated": 1}
        trail = await fetch("select action from core.audit where object_kind = 'user' and actor_name = 'admin'")
        assert [each["action"] for each in trail].count("user.change") == 1

    async def test_cannot_sign_in_before_an_administrator_has_set_a_password(
        self, app: RunningApp, tmp_path: Path
    ) -> None:
        await load(app, tmp_path, "username,display_name\nnew.one,New One\n")
        answer = await app.anonymous.send("POST", "/auth/login", {"username": "new.one", "password": "new.one"})
        assert answer.status == 401
        user_id = await fetchval("select user_id from core.user_account where username = 'new.one'")
        admin = await app.client()
        password = "a train of wet sparrows"
        assert (await admin.send("POST", f"/users/{user_id}/password", {"password": password})).status < 300
        await app.sign_in("new.one", password)

    @pytest.mark.parametrize(
        ("row", "field", "message"),
        [
            ("x.y,X,,No_Such_Role,a", "roles", "There is no role No_Such_Role."),
            ("x.y,X,,,nowhere", "sites", "There is no site nowhere."),
            ("x.y,X,not-a-mail,,a", "email", "is not accepted"),
            ("x y,X,,,a", "username", "letters, digits"),
        ],
    )
    async def test_with_a_bad_row_are_not_made_at_all(
        self, app: RunningApp, tmp_path: Path, row: str, field: str, message: str
    ) -> None:
        text = f"username,display_name,email,roles,sites\nfine.one,Fine,,,a\n{row}\n"
        report = await load(app, tmp_path, text)
        assert (report.rows_rejected, report.outcomes) == (1, {"withheld": 1})
        assert (report.errors[0].line, report.errors[0].field) == (3, field)
        if field != "email":
            assert message in report.errors[0].message
        assert await fetchval("select count(*) from core.user_account where username = 'fine.one'") == 0

    async def test_with_a_bad_row_are_made_but_that_one_when_so_asked(self, app: RunningApp, tmp_path: Path) -> None:
        text = "username,display_name,roles\nkept.one,Kept,\nlost.one,Lost,No_Such_Role\n"
        report = await load(app, tmp_path, text, mode=PARTIAL)
        assert (report.rows_accepted, report.rows_rejected, report.outcomes) == (1, 1, {"created": 1})
        names = await fetch("select username from core.user_account where username in ('kept.one', 'lost.one')")
        assert [each["username"] for each in names] == ["kept.one"]

    async def test_get_no_more_rights_than_whoever_loads_them_has(self, app: RunningApp, tmp_path: Path) -> None:
        clerk = context_of("clerk", permissions=["users.write"], sites=["a"])
        report = await load(app, tmp_path, "username,display_name,roles\nhigh.one,High,Admin\n", by=clerk)
        assert report.rows_rejected == 1
        assert "permissions that you do not have" in report.errors[0].message

    async def test_are_loaded_over_http_too(self, app: RunningApp) -> None:
        names = [each["name"] for each in await (await app.client()).get("/importers")]
        assert "core.users" in names
