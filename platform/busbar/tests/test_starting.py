"""Starting a platform: it keeps the secret key that its database was used with, and says what it cannot start with."""

from pathlib import Path

import pytest

from busbar.connectors.secrets import KEY_FILE, LostSecretKey, Undecipherable
from busbar.db import DB, execute, fetchval
from busbar.errors import Unavailable
from busbar.runtime import run_platform
from busbar.schema.core import CORE
from busbar.settings import BadSettings, Settings
from busbar.testing.app import KEY
from busbar.testing.database import TestServer


async def start(home: Path, dsn: str, **more: object) -> str:
    """Start and stop; the id of the key that signs tokens."""
    async with run_platform(Settings(home=home, **more), dsn=dsn, plugins=[], work=False):
        return str(await fetchval("select kid from core.signing_key where retired_at is null"))


class TestSecretKey:
    async def test_that_is_lost_stops_the_start_before_a_new_one_is_made(
        self, postgres: TestServer, tmp_path: Path
    ) -> None:
        name, dsn = await postgres.create_database((CORE,))
        key_file = tmp_path / KEY_FILE
        signing = await start(tmp_path, dsn)
        backup = key_file.read_bytes()
        key_file.unlink()

        with pytest.raises(LostSecretKey) as refused:
            await start(tmp_path, dsn)
        assert f"restore {key_file} from a backup, or set BUSBAR_SECRET_KEY" in refused.value.detail
        assert not key_file.exists()
        assert DB.pools == {}, "a start that is refused leaves no connection behind"

        key_file.touch(0o600)
        key_file.write_bytes(backup)
        assert await start(tmp_path, dsn) == signing
        await postgres.drop_database(name)

    async def test_of_another_installation_is_refused_by_name(self, postgres: TestServer, tmp_path: Path) -> None:
        name, dsn = await postgres.create_database((CORE,))
        await start(tmp_path, dsn)
        with pytest.raises(Undecipherable, match="which is not in the key ring"):
            await start(tmp_path / "elsewhere", dsn, secret_key=KEY)
        await postgres.drop_database(name)

    async def test_that_is_lost_for_good_is_replaced_once_the_signing_keys_are_deleted(
        self, postgres: TestServer, tmp_path: Path
    ) -> None:
        name, dsn = await postgres.create_database((CORE,))
        signing = await start(tmp_path, dsn)
        async with run_platform(Settings(home=tmp_path), dsn=dsn, plugins=[], work=False):
            await execute("delete from core.signing_key")
        (tmp_path / KEY_FILE).unlink()
        assert await start(tmp_path, dsn) != signing
        await postgres.drop_database(name)


class TestStart:
    async def test_without_a_database_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(Unavailable, match="Cannot connect to the database: "):
            await start(tmp_path, "postgresql://busbar@127.0.0.1:1/busbar")
        assert DB.pools == {}

    async def test_with_a_wrong_allow_list_names_the_variable(self, postgres: TestServer, tmp_path: Path) -> None:
        name, dsn = await postgres.create_database((CORE,))
        with pytest.raises(BadSettings, match="BUSBAR_EGRESS: not a host: "):
            await start(tmp_path, dsn, egress=("erp.example", "not a host"))
        await postgres.drop_database(name)
