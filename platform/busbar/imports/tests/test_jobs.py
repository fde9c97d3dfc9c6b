"""Imports over HTTP: sent, followed, reported; whatever goes wrong, the job says so."""

import asyncio
import csv
import io
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio

from busbar.db import execute, fetch, fetchval
from busbar.imports.commands import RUNNING_MAX, fail_abandoned
from busbar.imports.tests.lab import Lab
from busbar.imports.uploads import FILES_MAX
from busbar.kit.clock import utc_now
from busbar.kit.ids import uuid7
from busbar.testing.app import Answer, Client, RunningApp, running_app
from busbar.testing.database import TestServer
from busbar.testing.plugins import add_site

RAW_HEADERS = {"Content-Type": "multipart/form-data; boundary=x"}
RAW_FORM = (
    b'--x\r\nContent-Disposition: form-data; name="importer"\r\n\r\nlab.lines\r\n'
    b'--x\r\nContent-Disposition: form-data; name="site"\r\n\r\na\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nonce\r\n--x--\r\n'
)


class Bench:
    """A running platform with the plugin, and its callers."""

    def __init__(self, app: RunningApp, lab: Lab, researcher: Client) -> None:
        self.app = app
        self.lab = lab
        self.researcher = researcher

    async def send(self, content: bytes | str, *, client: Client | None = None, **fields: str) -> Answer:
        """Upload a file as `lab.lines` at the site `a`, unless other fields are given."""
        form = aiohttp.FormData(quote_fields=False)
        for name, value in ({"importer": "lab.lines", "site": "a"} | fields).items():
            if name != "file_name":
                form.add_field(name, value)
        content = content.encode() if isinstance(content, str) else content
        form.add_field("file", content, filename=fields.get("file_name", "rows.csv"), content_type="text/csv")
        return await (client or self.researcher).send("POST", "/imports", data=form())

    async def done(self, answer: Answer) -> dict[str, Any]:
        """The job, once it has ended."""
        assert answer.status == 202, answer
        return await self.job(answer.body["import_id"], until=lambda job: job["state"] != "running")

    async def job(self, import_id: str, *, until: Any) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                job = await self.researcher.get(f"/imports/{import_id}")
                if until(job):
                    return dict(job)
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bench(postgres: TestServer) -> AsyncIterator[Bench]:
    lab = Lab()
    async with running_app(postgres, plugins=[lab.plugin()]) as app:
        await add_site("empty")
        yield Bench(app, lab, await app.client("Researcher", "a", "empty"))


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name in names:
            packed.writestr(name, "x")
    return out.getvalue()


class TestAnImport:
    async def test_is_accepted_and_followed_to_its_report(self, bench: Bench) -> None:
        answer = await bench.send("good\nbad one\ngood\n", file_name="räume.csv")
        assert answer.headers["Location"] == f"/api/v1/imports/{answer.body['import_id']}"
        assert (answer.body["importer"], answer.body["site"], answer.body["file_name"]) == (
            "lab.lines",
            "a",
            "räume.csv",
        )
        job = await bench.done(answer)
        assert (job["state"], job["failure"]) == ("done", None)
        assert (job["rows_read"], job["rows_accepted"], job["rows_rejected"]) == (3, 2, 1)
        assert job["outcomes"] == {"created": 2}
        assert job["errors"] == [{"line": 2, "field": "name", "value": "bad one", "message": "is bad"}]

    async def test_shows_its_progress_while_it_runs(self, bench: Bench) -> None:
        bench.lab.go_on.clear()
        answer = await bench.send("a\nb\nc\nwait\nd\n")
        try:
            running = await bench.job(answer.body["import_id"], until=lambda job: job["rows_read"] == 3)
            assert running["state"] == "running"
        finally:
            bench.lab.go_on.set()
        assert (await bench.done(answer))["rows_read"] == 5

    async def test_leaves_no_file_behind(self, bench: Bench) -> None:
        for content in ("good", "refuse", "crash"):
            await bench.done(await bench.send(content))
            async with asyncio.timeout(30):
                while bench.lab.paths[-1].exists():
                    await asyncio.sleep(0.01)

    async def test_is_in_the_audit_trail_with_what_came_of_it(self, bench: Bench) -> None:
        job = await bench.done(await bench.send("good\nbad"))
        rows = await fetch(
            "select action, details->>'rejected' as rejected, actor_name from core.audit where object_id = $1 "
            "order by audit_id",
            job["import_id"],
        )
        assert [(row["action"], row["rejected"]) for row in rows] == [("import.start", None), ("import.finish", "1")]
        assert {row["actor_name"] for row in rows} == {job["created_by"]}

    async def test_is_made_once_when_it_is_sent_twice_with_one_key(self, bench: Bench) -> None:
        headers = RAW_HEADERS | {"Idempotency-Key": str(uuid7())}
        first, second = [
            await bench.researcher.send("POST", "/imports", data=RAW_FORM, headers=headers) for _ in range(2)
        ]
        assert (first.status, second.status) == (202, 202)
        assert first.body["import_id"] == second.body["import_id"]
        assert (await bench.done(first))["rows_read"] == 1

    async def test_hands_the_mapping_and_the_mode_on(self, bench: Bench) -> None:
        mapping = '{"fields": {"name": {"column": "Bezeichnung"}}}'
        await bench.done(await bench.send("good", mapping=mapping, mode="partial"))
        run = bench.lab.runs[-1]
        assert run.mapping is not None
        assert (run.mapping.fields["name"].column, run.mode) == ("Bezeichnung", "partial")


class TestAFailedImport:
    async def test_says_why_the_file_was_refused(self, bench: Bench) -> None:
        job = await bench.done(await bench.send("good\nrefuse"))
        assert (job["state"], job["failure"], job["rows_read"]) == ("failed", "The file is refused.", 1)

    async def test_tells_no_internals_when_the_importer_is_faulty(self, bench: Bench) -> None:
        job = await bench.done(await bench.send("crash"))
        assert job["state"] == "failed"
        assert job["correlation_id"] in job["failure"]
        assert "secret" not in job["failure"]

    async def test_is_what_becomes_of_one_whose_process_has_died(self, bench: Bench) -> None:
        dead, alive = uuid7(), uuid7()
        for import_id, age in ((dead, 120), (alive, 1)):
            await execute(
                "insert into core.import_job (import_id, importer, site_id, file_name, mode, state, created_by, "
                "correlation_id, created_at, heartbeat_at) values ($1, 'lab.lines', 'a', 'f', 'partial', 'running', "
                "'x', 'x', now(), now() - make_interval(secs => $2))",
                import_id,
                age,
            )
        assert await fail_abandoned(utc_now()) == 1
        job = await bench.researcher.get(f"/imports/{dead}")
        assert (job["state"], "process" in job["failure"]) == ("failed", True)
        assert (await bench.researcher.get(f"/imports/{alive}"))["state"] == "running"
        await execute("delete from core.import_job where import_id = $1", alive)


class TestARefusedUpload:
    async def test_starts_no_job(self, bench: Bench) -> None:
        before = await fetchval("select count(*) from core.import_job")
        reader = await bench.app.client("Reader", "a")
        for status, code, sent in (
            (404, "RES_001", bench.send("x", importer="lab.nothing")),
            (403, "AUTH_003", bench.send("x", client=reader)),
            (404, "RES_001", bench.send("x", site="b")),
            (404, "RES_001", bench.send("x", site="empty")),
            (404, "RES_001", bench.send("x", site="nowhere")),
            (400, "VAL_001", bench.send("x", mode="sometimes")),
            (400, "VAL_003", bench.send("x", mapping="{")),
            (400, "VAL_001", bench.send("x", mapping='{"fields": {"name": {"colour": "red"}}}')),
            (400, "VAL_001", bench.send(archive("f"), importer="lab.folder", mapping='{"fields": {"a": {}}}')),
            (401, "AUTH_001", bench.send("x", client=bench.app.anonymous)),
        ):
            answer = await sent
            assert (answer.status, answer.body["code"]) == (status, code), answer
        assert await fetchval("select count(*) from core.import_job") == before

    async def test_names_the_rule_of_the_mapping_that_is_wrong(self, bench: Bench) -> None:
        answer = await bench.send("x", mapping='{"fields": {"name": {"column": ""}}}')
        assert [error["field"] for error in answer.body["errors"]] == ["mapping.fields.name.column"]

    async def test_without_a_file_or_importer_names_what_is_missing(self, bench: Bench) -> None:
        form = aiohttp.FormData({"site": "a"})
        form.add_field("more", b"x", filename="x")
        answer = await bench.researcher.send("POST", "/imports", data=form())
        assert answer.status == 400, answer
        assert answer.body["code"].startswith("VAL_")

    async def test_in_a_character_set_that_it_is_not_in_is_malformed(self, bench: Bench) -> None:
        for charset, text in (("utf-8", b"\xff"), ("nonsense", b"x"), ("utf-7", b"+2AA-")):
            odd = (
                f'--x\r\nContent-Disposition: form-data; name="mapping"\r\nContent-Type: text/plain; charset={charset}'
            )
            body = odd.encode() + b"\r\n\r\n" + text + b"\r\n" + RAW_FORM
            answer = await bench.researcher.send("POST", "/imports", data=body, headers=RAW_HEADERS)
            assert (answer.status, answer.body["code"]) == (400, "VAL_003"), answer

    async def test_is_told_to_wait_when_too_many_run(self, bench: Bench) -> None:
        bench.lab.go_on.clear()
        running = [await bench.send("wait") for _ in range(RUNNING_MAX)]
        try:
            answer = await bench.send("one more")
            assert (answer.status, answer.body["code"]) == (503, "SYS_002")
            assert int(answer.headers["Retry-After"]) > 0
        finally:
            bench.lab.go_on.set()
        for each in running:
            assert (await bench.done(each))["state"] == "done"


class TestAFolder:
    async def test_is_unpacked_from_an_archive(self, bench: Bench) -> None:
        job = await bench.done(await bench.send(archive("grid/Line.csv", "grid/Node.csv"), importer="lab.folder"))
        assert (job["state"], job["rows_read"]) == ("done", 2)
        assert bench.lab.names[-1] == ["Line.csv", "Node.csv"]

    async def test_keeps_files_inside_whatever_their_names_say(self, bench: Bench) -> None:
        await bench.done(await bench.send(archive("../../evil.csv", "/etc/evil2", "c:\\evil3"), importer="lab.folder"))
        assert bench.lab.names[-1] == ["evil.csv", "evil2", "evil3"]

    async def test_is_refused_when_it_is_no_archive_within_the_limits(self, bench: Bench) -> None:
        for content in (
            b"no archive",
            b"",
            archive(),
            archive("twice/a", "again/a"),
            archive("x/.."),
            archive(*(f"f{n}" for n in range(FILES_MAX + 1))),
        ):
            answer = await bench.send(content, importer="lab.folder")
            assert (answer.status, answer.body["code"]) == (400, "VAL_003"), answer


class TestReadingImports:
    async def test_gives_the_errors_as_a_file_that_no_spreadsheet_runs(self, bench: Bench) -> None:
        job = await bench.done(await bench.send("good\nbad =1+1\n"))
        answer = await bench.researcher.send("GET", f"/imports/{job['import_id']}/errors.csv")
        assert answer.headers["Content-Type"].startswith("text/csv")
        assert "attachment" in answer.headers["Content-Disposition"]
        assert list(csv.reader(io.StringIO(answer.content.decode()))) == [
            ["line", "field", "value", "message"],
            ["2", "name", "bad =1+1", "is bad"],
        ]

    async def test_lists_those_of_ones_sites_the_latest_first(self, bench: Bench) -> None:
        older, newer = [await bench.done(await bench.send(f"good{n}\nbad")) for n in range(2)]
        page = await bench.researcher.get("/imports?limit=2&state=done&importer=lab.lines&site=a")
        assert [item["import_id"] for item in page["items"]] == [newer["import_id"], older["import_id"]]
        assert page["items"][0]["errors_total"] == 1
        assert page["items"][0]["errors"] == []
        stranger = await bench.app.client("Reader", "b")
        assert (await stranger.get("/imports"))["items"] == []
        for path in ("", "/errors.csv"):
            assert (await stranger.send("GET", f"/imports/{newer['import_id']}{path}")).status == 404

    async def test_lists_the_importers_with_the_fields_they_fill(self, bench: Bench) -> None:
        users, folder, lines = await bench.researcher.get("/importers")
        assert (users["name"], users["allowed"]) == ("core.users", False)
        assert (folder["name"], folder["folder"], folder["fields"]) == ("lab.folder", True, None)
        assert (lines["name"], lines["allowed"]) == ("lab.lines", True)
        assert lines["fields"]["properties"]["weight_kg"]["default"] == 0
        assert lines["fields"]["required"] == ["name"]
        reader = await bench.app.client("Reader", "a")
        assert [each["allowed"] for each in await reader.get("/importers")] == [False, False, False]
