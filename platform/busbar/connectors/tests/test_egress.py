"""The egress gate against a corpus of addresses that have fooled other programs, with listeners that must stay silent.

The gate of the corpus allows every address and port there is, so that only the rules for what is never allowed, and
the strict reading of addresses, stand between the corpus and the listeners.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network

import aiohttp
import pytest
from yarl import URL

from busbar.connectors.egress import AllowEntry, Gate, OwnAddress, read_allow_list
from busbar.connectors.egress_blocks import is_of_this_machine
from busbar.connectors.egress_url import EgressRefused
from busbar.connectors.http import make_session

BOTH = frozenset({"http", "https"})
ALL_PORTS = frozenset(range(1, 65_536))
EVERYTHING = (
    AllowEntry(text="all", schemes=BOTH, ports=ALL_PORTS, network=ip_network("0.0.0.0/0")),
    AllowEntry(text="all", schemes=BOTH, ports=ALL_PORTS, network=ip_network("::/0")),
)

# What a hostile name server says.
HOSTILE_NAMES = {
    "loopback.example": ["127.0.0.1"],
    "localhost": ["127.0.0.1", "::1"],
    "localhost.localdomain": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "two-answers.example": ["192.0.2.7", "127.0.0.1"],
    "two-answers-turned.example": ["127.0.0.1", "192.0.2.7"],
    "last-of-many.example": [*(f"192.0.2.{n}" for n in range(1, 9)), "::1"],
    "six.example": ["::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "six-to-four.example": ["2002:7f00:1::"],
    "zero.example": ["0.0.0.0"],  # noqa: S104 - looked up, not bound
    "link-local.example": ["fe80::1%lo"],
    "multicast.example": ["239.1.2.3"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "cname-to-internal.example": ["169.254.170.2"],
    "unreadable.example": ["not-an-address"],
    "no-answer.example": [],
    "too-many.example": [f"192.0.2.{n}" for n in range(33)],
    "xn--0a.example": ["127.0.0.1"],
    "_srv.example": ["127.0.0.1"],
}

# {port} is the port of a listener on 127.0.0.1 and ::1.
CORPUS = (
    # Ways to write loopback
    "http://127.0.0.1:{port}/",
    "http://127.0.0.2:{port}/",
    "http://127.255.255.254:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0X7F.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://127.0.0.01:{port}/",
    "http://127.0.0.0x1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0.1.2.3:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://127．0．0．1:{port}/",
    "http://１２７.0.0.1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://127.0.0.1%00.good.example:{port}/",
    "http://256.256.256.256:{port}/",
    "http://1.2.3.4.5:{port}/",
    "http://4294967297:{port}/",
    # IPv6 forms
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[0:0:0:0:0:ffff:7f00:1]:{port}/",
    "http://[::ffff:0:127.0.0.1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::]:{port}/",
    "http://[fe80::1]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fe80::1%lo]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[fec0::1]:{port}/",
    "http://[ff02::1]:{port}/",
    "http://[100::1]:{port}/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[::1:{port}/",
    "http://::1:{port}/",
    "http://[127.0.0.1]:{port}/",
    "http://[v1.fe80::1]:{port}/",
    # Metadata services, multicast, reserved
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://0xa9fea9fe/",
    "http://2852039166/",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/machine",
    "http://192.0.0.8/",
    "http://192.0.0.192/opc/v2/",
    "http://192.88.99.1/",
    "http://224.0.0.1/",
    "http://239.255.255.250:1900/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://metadata.google.internal/computeMetadata/v1/",
    # User names, separators, and characters that two parsers read differently
    "http://good.example@127.0.0.1:{port}/",
    "http://good.example:80@127.0.0.1:{port}/",
    "http://user:password@good.example:{port}/",
    "http://@127.0.0.1:{port}/",
    "http://good.example\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@good.example/",
    "http://127.0.0.1:{port}#@good.example/",
    "http://127.0.0.1:{port}?@good.example/",
    "http://good.example#@127.0.0.1:{port}/",
    "http://good.example%23@127.0.0.1:{port}/",
    "http:\\\\127.0.0.1:{port}\\",
    "http:/127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}",
    "",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/ ",
    "http://127.0.0.1 :{port}/",
    "http://127.0.0.1\t:{port}/",
    "ht\ntp://127.0.0.1:{port}/",
    "http://good.example\r\nHost: good.example:{port}/",
    "http://good.example:{port}/%0d%0aHost:%20good.example",
    "http://good.example:{port}/\r\nX: 1",
    "http://good.example:{port}/\x00",
    "http://loop\u00adback.example:{port}/",
    "http://loopback。example:{port}/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/",
    "http://good.example.:{port}/",
    "http://loopback..example:{port}/",
    "http://.good.example:{port}/",
    "http://-good.example:{port}/",
    "http://good.example:{port}:80/",
    "http://good.example:/",
    "http://good.example:0/",
    "http://good.example:65536/",
    "http://good.example:٨٠/",
    "http://good.example:080/",
    "http://good.example:-1/",
    "http://good.example:{port}/%zz",
    "http://good.example:{port}/%5c..%5c",
    "http://" + "a" * 64 + ".example:{port}/",
    "http://" + "a." * 130 + "example:{port}/",
    "http://good.example:{port}/" + "a" * 2_100,
    # Other schemes
    "https://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_GET",
    "ftp://127.0.0.1:{port}/",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "data:text/plain,hello",
    "ws://127.0.0.1:{port}/",
    "dict://127.0.0.1:{port}/stat",
    "ldap://127.0.0.1:{port}/",
    "javascript:alert(1)",
    # Names that lead where no endpoint is
    *(f"http://{name}:{{port}}/" for name in HOSTILE_NAMES),
    "http://LOCALHOST:{port}/",
    "http://LoopBack.Example:{port}/",
)


async def hostile_lookup(host: str, port: int) -> Sequence[str]:
    """Knows no other name: an address that should have been refused as it was read fails the test here."""
    return HOSTILE_NAMES[host]


async def loopback_lookup(host: str, port: int) -> Sequence[str]:
    """However the HTTP client reads an address, whatever it takes for the name leads to the listener."""
    return HOSTILE_NAMES.get(host, ["127.0.0.1"])


class Canary:
    """A listener that counts who connects, and answers every request with 200."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> "Canary":
        four = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = four.sockets[0].getsockname()[1]
        self._servers = [four]
        if socket.has_ipv6:
            self._servers.append(await asyncio.start_server(self._answer, "::1", self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with Canary() as listener:
        yield listener


def open_gate(**options: object) -> Gate:
    return Gate(allow=EVERYTHING, lookup=hostile_lookup, **options)  # type: ignore[arg-type]


class TestTheCorpus:
    def test_is_large_enough(self) -> None:
        assert len(set(CORPUS)) == len(CORPUS) >= 120

    @pytest.mark.parametrize("template", CORPUS)
    async def test_no_address_is_saved_and_no_connection_made(self, canary: Canary, template: str) -> None:
        url = template.replace("{port}", str(canary.port))
        with pytest.raises(EgressRefused):
            await open_gate().check(url)
        async with make_session(Gate(allow=EVERYTHING, lookup=loopback_lookup)) as session:
            with pytest.raises((EgressRefused, aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError)):
                await session.get(url)
        assert canary.connections == 0

    async def test_the_listener_can_be_reached_when_loopback_is_allowed(self, canary: Canary) -> None:
        async with make_session(open_gate(allow_loopback=True)) as session:
            for host in ("127.0.0.1", "[::1]", "localhost"):
                async with session.get(f"http://{host}:{canary.port}/") as response:
                    assert await response.text() == "ok"
        assert canary.connections == 3

    async def test_no_other_name_may_lead_to_loopback_even_then(self, canary: Canary) -> None:
        async with make_session(open_gate(allow_loopback=True)) as session:
            for name in ("loopback.example", "two-answers.example", "mapped.example", "zero.example"):
                with pytest.raises(EgressRefused):
                    await session.get(f"http://{name}:{canary.port}/")
        assert canary.connections == 0


class TestRebinding:
    async def test_a_name_that_turns_to_loopback_after_the_check_is_refused(self, canary: Canary) -> None:
        answers = [["192.0.2.7"], ["127.0.0.1"]]

        async def turning_lookup(host: str, port: int) -> Sequence[str]:
            return answers.pop(0)

        gate = Gate(allow=EVERYTHING, lookup=turning_lookup)
        await gate.check(f"http://rebind.example:{canary.port}/")
        async with make_session(gate) as session:
            with pytest.raises(EgressRefused):
                await session.get(f"http://rebind.example:{canary.port}/")
        assert canary.connections == 0
        assert answers == []

    async def test_the_socket_goes_to_the_address_that_was_checked(self, canary: Canary) -> None:
        """One lookup per connection: the second answer, which is bad, is never asked for."""
        answers = [["127.0.0.1"], ["169.254.169.254"]]

        async def turning_lookup(host: str, port: int) -> Sequence[str]:
            return answers.pop(0)

        gate = Gate(allow=(), lookup=turning_lookup, allow_loopback=True)
        async with make_session(gate) as session, session.get(f"http://localhost:{canary.port}/") as response:
            assert response.status == 200
        assert answers == [["169.254.169.254"]]

    async def test_a_resolver_that_does_not_check_is_stopped_at_the_socket(
        self, canary: Canary, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def unchecked(self: Gate, target: object) -> tuple[str, ...]:
            return ("127.0.0.1",)

        monkeypatch.setattr(Gate, "addresses", unchecked)
        async with make_session(open_gate()) as session:
            with pytest.raises(EgressRefused):
                await session.get(f"http://good.example:{canary.port}/")
        assert canary.connections == 0

    async def test_a_literal_that_skips_the_check_of_the_request_is_stopped_at_the_socket(
        self, canary: Canary, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Gate, "check_target", lambda self, target: None)
        async with make_session(open_gate()) as session:
            with pytest.raises(EgressRefused):
                await session.get(f"http://127.0.0.1:{canary.port}/")
        assert canary.connections == 0


class TestBypasses:
    async def test_proxies_of_the_environment_are_not_used(
        self, canary: Canary, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with Canary() as proxy:
            for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            async with make_session(open_gate(allow_loopback=True)) as session:
                await session.get(f"http://127.0.0.1:{canary.port}/")
            assert (canary.connections, proxy.connections) == (1, 0)

    async def test_a_proxy_named_in_the_call_is_refused(self, canary: Canary) -> None:
        async with make_session(open_gate(allow_loopback=True)) as session:
            with pytest.raises(EgressRefused, match="prox"):
                await session.get("http://192.0.2.7/", proxy=f"http://127.0.0.1:{canary.port}")
        assert canary.connections == 0

    async def test_an_address_handed_over_as_parsed_is_checked_too(self, canary: Canary) -> None:
        url = URL.build(scheme="http", host="127.0.0.1", port=canary.port, path="/")
        async with make_session(open_gate()) as session:
            with pytest.raises(EgressRefused):
                await session.get(url)
        assert canary.connections == 0


class TestOwnServices:
    @pytest.mark.parametrize("port", [5432, 5672, 8001, 15672])
    async def test_a_service_of_busbar_is_refused_even_in_development(self, port: int) -> None:
        own = OwnAddress(address=ip_address("127.0.0.1"), port=port)
        gate = open_gate(own=[own], allow_loopback=True)
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(EgressRefused, match="Busbar itself"):
                await gate.check(f"http://{host}:{port}/")

    async def test_a_service_on_another_machine_is_refused_though_its_network_is_allowed(self) -> None:
        gate = Gate(
            allow=read_allow_list(["http://10.0.0.0/8:5432,8080"]),
            own=[OwnAddress(address=ip_address("10.0.0.5"), port=5432)],
        )
        with pytest.raises(EgressRefused, match="Busbar itself"):
            await gate.check("http://10.0.0.5:5432/")
        await gate.check("http://10.0.0.5:8080/")

    async def test_the_machine_it_runs_on_is_refused_though_its_network_is_allowed(self) -> None:
        gate = open_gate(is_of_this_machine=lambda address: str(address) == "192.0.2.7")
        with pytest.raises(EgressRefused, match="machine that Busbar runs on"):
            await gate.check("http://192.0.2.7/")
        await gate.check("http://192.0.2.8/")

    def test_the_machine_knows_its_own_addresses(self) -> None:
        assert is_of_this_machine(ip_address("127.0.0.1"))
        assert not is_of_this_machine(ip_address("192.0.2.1"))
        assert not is_of_this_machine(ip_address("2001:db8::1"))
