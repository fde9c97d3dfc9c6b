"""Each user of the broker can do its own, and is refused everything else; TLS holds to the authority it was given."""

import base64
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import aio_pika.exceptions
import aiormq.exceptions
import pytest
from aio_pika.abc import AbstractChannel

from busbar.bus.broker_users import camel_user, password_hash, peer_user, platform_user, user_definitions, users_of
from busbar.settings import BadSettings
from busbar.testing.broker import TestBroker, broker
from busbar.testing.certificates import make_certificates

PASSWORDS = {"busbar": "copper rails carry it", "camel": "two humps, no water", "mule": "stubborn but strong"}
REFUSED = aiormq.exceptions.ChannelAccessRefused


@pytest.fixture(scope="module")
async def guarded() -> AsyncIterator[TestBroker]:
    """A broker with the user of Camel and of a peer, and with TLS."""
    users = [camel_user(PASSWORDS["camel"]), peer_user("mule", PASSWORDS["mule"])]
    async with broker(tls=True, users=users) as node:
        yield node


class Caller:
    """A signed-in user; each thing it tries has a channel of its own, for a refusal closes the channel."""

    def __init__(self, connection: aio_pika.abc.AbstractConnection) -> None:
        self.connection = connection

    async def channel(self) -> AbstractChannel:
        return await self.connection.channel()

    async def declare(self, name: str) -> None:
        channel = await self.channel()
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})

    async def bind(self, queue: str, exchange: str) -> None:
        channel = await self.channel()
        await (await channel.get_queue(queue, ensure=False)).bind(exchange, "#")

    async def read(self, queue: str) -> None:
        channel = await self.channel()
        await (await channel.get_queue(queue, ensure=False)).get(fail=False, no_ack=True)

    async def write(self, exchange: str, key: str) -> None:
        channel = await self.channel()
        there = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await there.publish(aio_pika.Message(b"{}"), key, mandatory=False)

    async def delete(self, queue: str) -> None:
        channel = await self.channel()
        await channel.queue_delete(queue)


@pytest.fixture(params=["busbar", "camel", "mule"])
async def caller(request: pytest.FixtureRequest, guarded: TestBroker) -> AsyncIterator[Caller]:
    connection = await aio_pika.connect(guarded.url_of(user=request.param, password=PASSWORDS[request.param]))
    async with connection:
        yield Caller(connection)


def only(user: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("caller", [user], indirect=True)


class TestPlatform:
    @only("busbar")
    async def test_declares_binds_reads_and_writes_what_is_called_busbar(self, caller: Caller) -> None:
        await caller.declare("busbar.deliver.fi.costs")
        await caller.bind("busbar.deliver.fi.costs", "busbar.events")
        await caller.write("busbar.events", "north.mm.STOCK_ISSUED")
        await caller.read("busbar.deliver.fi.costs")
        await caller.delete("busbar.deliver.fi.costs")

    @only("busbar")
    async def test_touches_nothing_else(self, caller: Caller) -> None:
        for attempt in (caller.declare("orders"), caller.write("amq.topic", "x"), caller.read("orders")):
            with pytest.raises(REFUSED):
                await attempt


class TestCamel:
    @only("camel")
    async def test_reads_what_is_handed_over_and_reports_what_became_of_it(self, caller: Caller) -> None:
        await caller.read("busbar.camel.itsm")
        await caller.write("busbar.outcomes", "camel")

    @only("camel")
    async def test_does_nothing_else(self, caller: Caller) -> None:
        for attempt in (
            caller.read("busbar.outcomes"),
            caller.read("busbar.dead"),
            caller.write("busbar.events", "north.pm.INCIDENT_REPORTED"),
            caller.write("busbar.handover", "camel.itsm.x"),
            caller.write("", "busbar.camel.itsm"),
            caller.declare("busbar.camel.mine"),
            caller.bind("busbar.camel.itsm", "busbar.events"),
            caller.delete("busbar.camel.itsm"),
        ):
            with pytest.raises(REFUSED):
                await attempt


class TestPeer:
    @only("mule")
    async def test_has_queues_of_its_own_and_binds_them_to_the_events(self, caller: Caller) -> None:
        await caller.declare("busbar.peer.mule.incidents")
        await caller.bind("busbar.peer.mule.incidents", "busbar.events")
        await caller.read("busbar.peer.mule.incidents")
        await caller.delete("busbar.peer.mule.incidents")

    @only("mule")
    async def test_does_nothing_else(self, caller: Caller) -> None:
        await caller.declare("busbar.peer.mule.incidents")
        for attempt in (
            caller.declare("busbar.peer.ox.incidents"),
            caller.declare("busbar.peer.mule"),
            caller.bind("busbar.peer.mule.incidents", "busbar.handover"),
            caller.bind("busbar.camel.itsm", "busbar.events"),
            caller.read("busbar.camel.itsm"),
            caller.read("busbar.dead"),
            caller.write("busbar.events", "north.pm.INCIDENT_REPORTED"),
            caller.write("busbar.outcomes", "camel"),
            caller.delete("busbar.outcomes"),
        ):
            with pytest.raises(REFUSED):
                await attempt

    @pytest.mark.parametrize("name", ["busbar", "camel", "Mule", "m*le", "", "mule.x"])
    def test_is_not_called_like_somebody_else_or_like_a_pattern(self, name: str) -> None:
        with pytest.raises(ValueError, match="cannot be a peer's name"):
            peer_user(name, PASSWORDS["mule"])


class TestPasswords:
    async def test_a_wrong_one_is_refused(self, guarded: TestBroker) -> None:
        with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
            await aio_pika.connect(guarded.url_of(user="camel", password="wrong"))

    async def test_there_is_no_guest(self, guarded: TestBroker) -> None:
        with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
            await aio_pika.connect(guarded.url_of(user="guest", password="guest"))

    def test_the_file_holds_salted_hashes_only(self) -> None:
        definitions = user_definitions([platform_user(PASSWORDS["busbar"])])
        assert PASSWORDS["busbar"] not in str(definitions)
        raw = base64.b64decode(definitions["users"][0]["password_hash"])
        assert raw[4:] == hashlib.sha256(raw[:4] + PASSWORDS["busbar"].encode()).digest()
        assert password_hash(PASSWORDS["busbar"]) != password_hash(PASSWORDS["busbar"])

    def test_a_short_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="the password of camel is too short"):
            user_definitions([camel_user("camel")])

    def test_two_users_do_not_share_a_name(self) -> None:
        with pytest.raises(ValueError, match="the same name"):
            user_definitions([peer_user("mule", PASSWORDS["mule"]), peer_user("mule", PASSWORDS["camel"])])


class TestEnvironment:
    def test_passwords_come_from_variables_or_files(self, tmp_path: Path) -> None:
        (tmp_path / "mule").write_text(f"{PASSWORDS['mule']}\n")
        environment = {
            "BUSBAR_BROKER_PASSWORD": PASSWORDS["busbar"],
            "CAMEL_BROKER_PASSWORD": PASSWORDS["camel"],
            "MULE_BROKER_PASSWORD_FILE": str(tmp_path / "mule"),
        }
        users = users_of(environment, peers=["mule"])
        assert {user.name: user.password for user in users} == PASSWORDS

    def test_there_is_no_user_for_a_camel_without_a_password(self) -> None:
        (user,) = users_of({"BUSBAR_BROKER_PASSWORD": PASSWORDS["busbar"]})
        assert user.name == "busbar"

    def test_whatever_is_missing_is_named_at_once(self) -> None:
        environment = {"CAMEL_BROKER_PASSWORD": "short", "OX_BROKER_PASSWORD_FILE": "/nowhere/ox"}
        with pytest.raises(BadSettings) as refusal:
            users_of(environment, peers=["mule", "ox", "Camel"])
        for name in (
            "BUSBAR_BROKER_PASSWORD",
            "CAMEL_BROKER_PASSWORD",
            "MULE_BROKER_PASSWORD",
            "/nowhere/ox",
            "'Camel'",
        ):
            assert name in refusal.value.detail


class TestTls:
    async def test_a_client_that_trusts_our_authority_gets_in(self, guarded: TestBroker) -> None:
        assert guarded.certificates is not None
        context = ssl.create_default_context(cafile=str(guarded.certificates.ca))
        async with await aio_pika.connect(guarded.tls_url, ssl_context=context) as connection:
            channel = await connection.channel()
            assert (await channel.get_queue("busbar.outcomes")).name == "busbar.outcomes"

    async def test_a_client_that_trusts_another_authority_does_not_talk_to_it(
        self, guarded: TestBroker, tmp_path: Path
    ) -> None:
        context = ssl.create_default_context(cafile=str(make_certificates(tmp_path).ca))
        with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            await aio_pika.connect(guarded.tls_url, ssl_context=context)
