"""The receiver that the guide shows to developers, run as it stands there."""

import asyncio
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from busbar.sdk import AuthExpired, new_signing_secret
from busbar_webhook.connection import test_connection as report_on
from busbar_webhook.tests.conftest import MESSAGE_ID, TICKET, Sender

GUIDE = Path(__file__).parents[5] / "docs" / "how-to" / "send-webhooks.md"
SECRET = new_signing_secret().reveal()


@pytest.fixture
async def shown(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Sender]:
    """The guide's receiver as a process, and a sender to it."""
    (script,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET, "PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    try:
        await listens(process, port)
        sender = Sender(f"http://127.0.0.1:{port}/hooks", session)
        sender.secrets = {"webhook_secret": SECRET}
        yield sender
    finally:
        process.kill()
        process.wait()


async def listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait until it takes connections."""
    async with asyncio.timeout(30):
        while process.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
    raise AssertionError(f"the guide's receiver ended with {process.returncode}")


class TestTheReceiverOfTheGuide:
    async def test_takes_a_message_once_and_refuses_a_foreign_signature(self, shown: Sender, tmp_path: Path) -> None:
        for number in (1, 2):
            await shown.deliver(number=number)
        shown.secrets = {"webhook_secret": new_signing_secret().reveal()}
        with pytest.raises(AuthExpired):
            await shown.deliver(delivery_id="4712")
        with sqlite3.connect(tmp_path / "receiver.db") as database:
            assert database.execute("select * from taken").fetchall() == [(MESSAGE_ID, TICKET)]

    async def test_passes_the_connection_test(self, shown: Sender, tmp_path: Path) -> None:
        report = await report_on(shown.endpoint)
        assert report.ok
        assert "foreign signature" not in report.detail
        with sqlite3.connect(tmp_path / "receiver.db") as database:
            assert database.execute("select * from taken").fetchall() == []
