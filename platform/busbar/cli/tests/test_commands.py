"""The commands as an operator runs them: real processes on an embedded home, their sentences and exit codes."""

import asyncio
import base64
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from openapi_spec_validator import validate

from busbar.auth.passwords import Passwords
from busbar.cli.tests.home import PASSWORD, Home, Zygote, folder_for_all
from busbar.db.embedded import EmbeddedServer, start_embedded
from busbar.events.registry import REGISTRY
from busbar.host.catalog import Catalog
from busbar.host.loader import installed, load
from busbar.testing.broker import TestBroker


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


@pytest.fixture
def nowhere(zygote: Zygote, tmp_path: Path) -> Home:
    """A home in which nothing was ever started."""
    return Home(zygote, tmp_path / "home")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server(zygote: Zygote) -> AsyncIterator[tuple[Home, EmbeddedServer]]:
    """A home whose server runs already, so that not every command has to start one; `busbar migrate` was run there."""
    with folder_for_all() as name:
        home = Home(zygote, Path(name) / "home")
        running = await start_embedded(home.folder, fast_and_unsafe=True)
        try:
            first = await home.ok("migrate", BUSBAR_ADMIN_PASSWORD=PASSWORD)
            assert re.search(r"The schema is up to date: \d+ migrations\.", first.sentence)
            assert PASSWORD not in first.told
            yield home, running
        finally:
            await running.stop()


@pytest.fixture
async def home(server: tuple[Home, EmbeddedServer]) -> Home:
    return server[0]


@pytest.fixture
async def database(server: tuple[Home, EmbeddedServer]) -> AsyncIterator[asyncpg.Connection]:
    """A look at the home's database, past Busbar."""
    connection = await asyncpg.connect(server[1].dsn)
    yield connection
    await connection.close()


class TestWithoutAnything:
    def test_help_lists_every_command(self) -> None:
        command_line = [sys.executable, "-m", "busbar", "--help"]
        shown = subprocess.run(command_line, capture_output=True, text=True, timeout=30, check=True).stdout
        for command in ("up", "serve", "worker", "migrate", "seed", "doctor", "openapi", "asyncapi", "site", "user"):
            assert re.search(rf"^\W*{command}\s+[A-Z]", shown, re.MULTILINE), command

    async def test_an_unknown_command_is_refused(self, nowhere: Home) -> None:
        ended = await nowhere.run("frobnicate")
        assert ended.code == 2
        assert "No such command 'frobnicate'" in ended.sentence

    async def test_plugin_list_shows_each_plugin_and_its_state(self, nowhere: Home) -> None:
        told = (await nowhere.ok("plugin", "list")).told
        for plugin in ("itsm", "pm"):
            assert re.search(rf"│ {plugin} .*│ working ", told), told
        assert not nowhere.folder.exists()

    async def test_asyncapi_describes_every_event(self, nowhere: Home) -> None:
        document = msgspec.json.decode((await nowhere.ok("asyncapi")).out)
        assert document["asyncapi"].startswith("3.")
        Catalog(load(installed())).register_event_types(REGISTRY)
        told = str(document["channels"]) + str(document["components"])
        assert [each.name for each in REGISTRY if each.module == "pm" and each.name not in told] == []
        assert not nowhere.folder.exists()

    async def test_doctor_says_that_nothing_is_there_yet_and_makes_nothing(self, nowhere: Home) -> None:
        ended = await nowhere.ok("doctor")
        assert "none yet at" in ended.told
        assert "bad" not in ended.told
        assert not nowhere.folder.exists()

    async def test_a_bad_setting_is_told_once_by_its_name(self, nowhere: Home) -> None:
        sentence = await nowhere.refused("site", "list", BUSBAR_PORT="http", AMQP_URL="http://guest:hidden@mq")
        assert sentence.count("BUSBAR_PORT: 'http' is not a number") == 1
        assert sentence.count("AMQP_URL: not an address such as") == 1
        assert "hidden" not in sentence

    async def test_a_database_that_is_not_there_is_told_in_a_sentence(self, nowhere: Home) -> None:
        address = "postgresql://busbar:hidden@127.0.0.1:1/busbar"
        listed, looked = await asyncio.gather(
            nowhere.refused("site", "list", DATABASE_URL=address), nowhere.run("doctor", DATABASE_URL=address)
        )
        assert listed.startswith("Error SYS_002: Cannot connect to the database: ")
        assert looked.code == 1
        assert re.search(r"^bad  database      Cannot connect to the database: ", looked.told, re.MULTILINE)
        assert "hidden" not in listed + looked.told


class TestFirstStart:
    async def test_by_any_command_shows_the_admin_password_once(self, zygote: Zygote) -> None:
        with folder_for_all() as name:
            home = Home(zygote, Path(name) / "home")
            first = await home.ok("site", "add", "depot-1", "Depot 1", "--module", "pm")
            assert re.search(r"sign in as admin with the password \S{12,}", first.sentence)
            second = await home.ok("site", "list")
            assert "password" not in second.told
            assert re.search(r"│ depot-1 │ Depot 1 │ UTC +│ pm +│", second.told), second.told


class TestDoctor:
    async def test_finds_nothing_wrong_with_a_healthy_home(self, home: Home) -> None:
        lines = (await home.ok("doctor")).told.splitlines()
        found = dict(re.fullmatch(r"ok   (.{14})(\S.*)", line).groups() for line in lines)  # type: ignore[union-attr]
        told = {name.strip(): text for name, text in found.items()}
        assert list(told) == [
            "disk",
            "secret key",
            "plugin",
            "database",
            "clock",
            "schema",
            "secrets",
            "outbox",
            "jobs",
            "dead letters",
        ]
        assert re.fullmatch(r"1 key; the newest is [0-9a-f]{16}", told["secret key"])
        assert told["secrets"] == "1 value, of the newest key"
        assert (told["outbox"], told["dead letters"]) == ("empty", "none")
        assert told["database"].startswith("PostgreSQL ")

    async def test_finds_a_dead_letter_an_old_event_and_a_key_that_others_can_read(
        self, home: Home, database: asyncpg.Connection
    ) -> None:
        await database.execute(
            "insert into core.event (event_id, event_type, module, site_id, subject, time, data, schema_version, "
            "correlation_id, actor_id) "
            "values (gen_random_uuid(), 'X_Y', 'x', 's', 'X', now() - interval '5 min', '{}', 1, 'c', 'a')"
        )
        await database.execute(
            "insert into core.delivery (event_id, position, subscription, site_id, state, next_attempt_at, created_at, "
            "updated_at) select event_id, 1, 'x.y', 's', 'dead', now(), now(), now() from core.event"
        )
        key = home.folder / "secret.key"
        key.chmod(0o644)
        try:
            ended = await home.run("doctor")
        finally:
            key.chmod(0o600)
            await database.execute("truncate core.delivery, core.event cascade")
        assert ended.code == 1
        bad = [line for line in ended.told.splitlines() if line.startswith("bad")]
        assert [line[:19] for line in bad] == ["bad  secret key    ", "bad  outbox        ", "bad  dead letters  "]
        assert "can be read by others" in bad[0]
        assert re.search(r"1 event in it, the oldest for 30\d s", bad[1])
        assert "1: see GET /api/v1/deliveries?state=dead" in bad[2]

    async def test_finds_deliveries_that_camel_has_had_for_too_long(
        self, home: Home, database: asyncpg.Connection
    ) -> None:
        await database.execute(
            "insert into core.delivery (event_id, position, subscription, endpoint_id, site_id, state, handed_over_at, "
            "next_attempt_at, created_at, updated_at) select gen_random_uuid(), n, 'route:mm', 'sap', 's', "
            "'in_flight', now() - interval '6 min', now(), now(), now() from generate_series(1, 2) n"
        )
        try:
            ended = await home.run("doctor")
        finally:
            await database.execute("truncate core.delivery cascade")
        assert ended.code == 1
        [bad] = [line for line in ended.told.splitlines() if line.startswith("bad")]
        told = r"bad  handed over   2 deliveries of sap at Camel without an outcome, the oldest for 36\d s; see whether"
        assert re.match(told, bad)

    async def test_looks_at_the_broker(self, nowhere: Home, rabbitmq: TestBroker, vhost: str) -> None:
        found = await nowhere.ok("doctor", AMQP_URL=rabbitmq.url_of(vhost))
        assert re.search(r"ok   broker +amqp://127\.0\.0\.1:\d+ answers", found.told)
        assert re.search(r"ok   broker +nothing in busbar\.dead", found.told)
        assert "copper rails" not in found.told, "an address holds a password"
        missed = await nowhere.run("doctor", AMQP_URL="amqp://busbar:hidden@127.0.0.1:1/busbar")
        assert missed.code == 1
        (bad,) = [line for line in missed.told.splitlines() if line.startswith("bad")]
        assert re.match(r"bad  broker +amqp://127\.0\.0\.1:1: .+; the ledger goes on alone", bad)
        assert "hidden" not in missed.told


class TestLostKey:
    async def test_is_found_by_doctor_and_stops_every_start_without_a_new_one(self, home: Home) -> None:
        key = home.folder / "secret.key"
        hidden = key.rename(home.folder / "hidden.key")
        try:
            looked, listed = await asyncio.gather(home.run("doctor"), home.refused("site", "list"))
            assert not key.exists()
        finally:
            hidden.rename(key)
        assert looked.code == 1
        assert "bad  secret key    is not there, and the database was used with one; restore it" in looked.told
        assert f"restore {key} from a backup, or set BUSBAR_SECRET_KEY" in listed


class TestAnotherSecretKey:
    async def test_takes_over_and_the_old_one_can_go(self, home: Home) -> None:
        file = home.folder / "secret.key"
        old, new = file.read_text(), base64.b64encode(os.urandom(32)).decode() + "\n"
        file.write_text(new + old)
        assert "1 value of older keys; `busbar reseal-secrets` moves them" in (await home.ok("doctor")).told
        told = (await home.ok("reseal-secrets")).told
        said = r"Moved to the key \w{16}: 0 of endpoints, 1 of signing keys\. Nothing needs these any more: \w{16}\."
        assert re.search(said, told)
        file.write_text(new)
        found, listed = await asyncio.gather(home.ok("doctor"), home.ok("site", "list"))
        assert "1 value, of the newest key" in found.told
        file.write_text(old)
        looked, listed = await asyncio.gather(home.run("doctor"), home.run("site", "list"))
        file.write_text(new)
        assert (looked.code, listed.code) == (1, 1)
        assert re.search(
            r"bad  secrets +cannot be read: 1 value of the key [0-9a-f]{16}, such as the signing", looked.told
        )


class TestDocuments:
    async def test_openapi_is_a_valid_document_of_all_groups(self, home: Home) -> None:
        document = msgspec.json.decode((await home.ok("openapi")).out)
        validate(document)
        assert {"/api/v1/tickets", "/api/v1/pm/assets", "/api/v1/sites", "/health/ready"} <= set(document["paths"])


class TestSites:
    async def test_are_made_and_their_modules_switched(self, home: Home, database: asyncpg.Connection) -> None:
        made = await home.ok("site", "add", "north", "Depot North", "--timezone", "Europe/Berlin", "--module", "pm")
        assert made.sentence == "Made the site north."
        modules = "select enabled from core.site_module where site_id = 'north' and module = 'pm'"
        off = await home.ok("site", "disable", "north", "pm")
        assert (off.sentence, await database.fetchval(modules)) == ("pm is now disabled at north.", False)
        on = await home.ok("site", "enable", "north", "pm")
        assert (on.sentence, await database.fetchval(modules)) == ("pm is now enabled at north.", True)

    async def test_are_refused_with_the_reason(self, home: Home) -> None:
        module, zone, site = await asyncio.gather(
            home.refused("site", "add", "x", "X", "--module", "gas"),
            home.refused("site", "add", "x", "X", "--timezone", "Mars/Base"),
            home.refused("site", "enable", "nowhere", "pm"),
        )
        assert module == "Error RES_001: There is no module gas; installed are fi, mm, pm."
        assert zone.startswith("Error VAL_001: The time zone is not known. timezone: ")
        assert site == "Error RES_001: There is no site nowhere."


class TestUsers:
    async def test_are_made_and_get_a_new_password(self, home: Home, database: asyncpg.Connection) -> None:
        arguments = ("--role", "Maintenance_Engineer", "--site", "*", "--password-stdin")
        assert (await home.ok("user", "add", "mia", *arguments, text=PASSWORD + "\n")).sentence == "Made the user mia."
        row = await database.fetchrow("select * from core.user_account where username = 'mia'")
        assert (row["roles"], row["sites"], row["active"]) == (["Maintenance_Engineer"], ["*"], True)
        new = PASSWORD + " again"
        changed = await home.ok("user", "password", "mia", "--password-stdin", text=new + "\n")
        assert changed.sentence == "The password of mia is changed; all sessions are ended."
        after = await database.fetchval("select password_hash from core.user_account where username = 'mia'")
        passwords = Passwords()
        try:
            # Reads as: password, stored hash.
            assert await passwords.verify(PASSWORD, row["password_hash"])
            assert await passwords.verify(new, after)
            assert not await passwords.verify(PASSWORD, after)
        finally:
            passwords.close()
        shown = (await home.ok("user", "list")).told
        assert re.search(r"│ mia .*│ Maintenance_Engineer ", shown), shown
        assert PASSWORD not in shown

    async def test_are_refused_with_the_reason_and_without_the_password(self, home: Home) -> None:
        short, role, unknown = await asyncio.gather(
            home.refused("user", "add", "x", "--role", "Admin", "--site", "*", "--password-stdin", text="tiny\n"),
            home.refused("user", "add", "x", "--role", "King", "--site", "*", "--password-stdin", text=PASSWORD + "\n"),
            home.refused("user", "password", "nobody", "--password-stdin", text=PASSWORD + "\n"),
        )
        assert "A password has 12 to 128 characters." in short
        assert "tiny" not in short
        assert "King" in role
        assert unknown == "Error RES_001: There is no user nobody."


class TestPort:
    @pytest.mark.parametrize("command", ["serve", "worker"])
    async def test_that_is_taken_is_told_in_a_sentence(self, home: Home, command: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            told = await home.refused(command, BUSBAR_PORT=str(port), BUSBAR_LOG_LEVEL="ERROR")
        assert f"Busbar cannot listen on port {port} of 127.0.0.1: Address already in use" in told
        assert "BUSBAR_PORT" in told


class TestImport:
    async def test_of_a_wrong_folder_ends_with_one_sentence(self, home: Home, tmp_path: Path) -> None:
        await home.ok("site", "add", "grid", "Grid", "--module", "pm")
        nothing, empty, unnamed = await asyncio.gather(
            home.refused("import", "simbench", str(tmp_path / "missing")),
            home.refused("import", "simbench", str(tmp_path), "--site", "grid"),
            home.refused("import", "simbench", str(tmp_path), "--site", "nowhere"),
        )
        assert nothing == f"Error RES_001: There is nothing at {tmp_path / 'missing'}."
        assert re.fullmatch(r"Error VAL_003: The grid cannot be loaded: \S+\.csv is not there; .*\.", empty), empty
        assert "nowhere" in unnamed
