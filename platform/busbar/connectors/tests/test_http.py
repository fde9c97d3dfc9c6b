"""The connectors' HTTP client against servers that redirect, flood, drip and hang."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from busbar.connectors.contract import AuthExpired, Permanent, RateLimited, Retryable
from busbar.connectors.egress import Gate
from busbar.connectors.egress_connector import BODY_BYTES_MAX, RedirectRefused, ResponseTooLarge
from busbar.connectors.egress_url import EgressRefused
from busbar.connectors.http import (
    HttpSettings,
    failure_of,
    failure_of_status,
    make_session,
)
from busbar.kit.clock import utc_now

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def development_gate() -> Gate:
    return Gate(allow=(), allow_loopback=True)


class Remote:
    """A server that gives the same answer to everybody, and keeps the heads of the requests."""

    def __init__(self, answer: bytes | Answer) -> None:
        self._answer = answer
        self.heads: list[bytes] = []
        self.url = ""
        self.tasks: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                if isinstance(self._answer, bytes):
                    writer.write(self._answer)
                else:
                    await self._answer(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client hung up, as it should
        finally:
            writer.close()


@asynccontextmanager
async def remote(answer: bytes | Answer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Remote]:
    server = Remote(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    try:
        yield server
    finally:
        listener.close()
        talks = [task for task in server.tasks if task is not None]
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


async def hang(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def flood(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    number = 0
    while True:
        number += 1
        writer.write(b"X-%d: y\r\n" % number)
        await writer.drain()


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("options", [{}, {"allow_redirects": True}, {"middlewares": ()}])
    async def test_are_refused_whatever_the_connector_asks_for(self, status: int, options: dict[str, Any]) -> None:
        async with remote(OK) as elsewhere:
            moved = f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n".encode()
            async with remote(moved) as first, make_session(development_gate()) as session:
                with pytest.raises(RedirectRefused, match="final address"):
                    await session.post(first.url, **options)
                assert len(first.heads) == 1
            assert elsewhere.heads == []

    async def test_of_an_unchanged_resource_is_an_answer_and_no_redirect(self) -> None:
        async with (
            remote(b"HTTP/1.1 304 Not Modified\r\n\r\n") as server,
            make_session(development_gate()) as session,
            session.get(server.url) as response,
        ):
            assert response.status == 304


class TestLargeAndSlowAnswers:
    async def test_an_answer_without_end_is_cut_off(self) -> None:
        async with (
            remote(flood) as server,
            make_session(development_gate()) as session,
            session.get(server.url) as response,
        ):
            with pytest.raises(ResponseTooLarge):
                await response.json()

    async def test_a_compressed_bomb_is_measured_unpacked(self) -> None:
        bomb = gzip.compress(b"\0" * 50_000_000)
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
        async with (
            remote(head + bomb) as server,
            make_session(development_gate()) as session,
            session.get(server.url) as response,
        ):
            with pytest.raises(ResponseTooLarge):
                await response.read()

    async def test_headers_without_end_are_a_failure(self) -> None:
        async with remote(endless_headers) as server, make_session(development_gate()) as session:
            with pytest.raises(aiohttp.ClientError) as failure:
                await session.get(server.url)
            assert isinstance(failure_of(failure.value), Retryable)

    @pytest.mark.parametrize("answer", [hang, drip])
    async def test_a_remote_that_hangs_or_drips_ends_at_the_total_timeout(self, answer: Answer) -> None:
        settings = HttpSettings(total_timeout_s=0.3)
        async with remote(answer) as server, make_session(development_gate(), settings=settings) as session:
            with pytest.raises(TimeoutError) as failure:
                async with session.get(server.url) as response:
                    await response.read()
            meaning = failure_of(failure.value)
            assert isinstance(meaning, Retryable)
            assert meaning.uncertain

    async def test_an_answer_within_the_limit_is_read_whole(self) -> None:
        async with (
            remote(OK) as server,
            make_session(development_gate()) as session,
            session.get(server.url) as response,
        ):
            assert await response.read() == b"ok"
            assert await response.text() == "ok", "and stays there"

    @pytest.mark.parametrize("more", [0, 1])
    async def test_the_limit_is_the_last_that_is_read(self, more: int) -> None:
        size = BODY_BYTES_MAX + more
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, b"x" * size)
        async with (
            remote(answer) as server,
            make_session(development_gate()) as session,
            session.get(server.url) as response,
        ):
            if more:
                with pytest.raises(ResponseTooLarge):
                    await response.text()
            else:
                assert await response.text() == "x" * size


class TestCookies:
    async def test_go_back_to_the_remote_and_not_to_another_endpoints_client(self) -> None:
        answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: SAP_SESSIONID=abc; Path=/\r\nContent-Length: 0\r\n\r\n"
        async with remote(answer) as server:
            async with make_session(development_gate()) as one, make_session(development_gate()) as other:
                await one.get(server.url)
                await one.get(server.url)
                await other.get(server.url)
            assert [b"SAP_SESSIONID=abc" in head for head in server.heads] == [False, True, False]


@pytest.fixture(scope="module")
def own_authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that no system trusts: its PEM file, and a server's TLS context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Utility test authority")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    ca_file, key_file = folder / "ca.pem", folder / "key.pem"
    ca_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(ca_file, key_file)
    return ca_file, server


class TestCertificates:
    async def test_of_an_unknown_authority_are_refused_with_the_cure(
        self, own_authority: tuple[Path, ssl.SSLContext]
    ) -> None:
        async with remote(OK, tls=own_authority[1]) as server, make_session(development_gate()) as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError) as failure:
                await session.get(server.url)
            assert server.heads == []
        assert "CA file" in failure_of(failure.value).detail

    async def test_of_the_utilitys_own_authority_are_trusted_once_it_is_named(
        self, own_authority: tuple[Path, ssl.SSLContext]
    ) -> None:
        ca_file, tls = own_authority
        settings = HttpSettings(ca_file=ca_file)
        async with remote(OK, tls=tls) as server, make_session(development_gate(), settings=settings) as session:
            async with session.get(server.url) as response:
                assert await response.read() == b"ok"
            wrong_name = server.url.replace("127.0.0.1", "localhost")
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(wrong_name)


class TestWhatAFailureMeans:
    async def test_nobody_listening_is_retryable_and_certain(self) -> None:
        async with remote(OK) as server:
            url = server.url
        async with make_session(development_gate()) as session:
            with pytest.raises(aiohttp.ClientError) as failure:
                await session.get(url)
        meaning = failure_of(failure.value)
        assert isinstance(meaning, Retryable)
        assert not meaning.uncertain

    async def test_a_connection_that_breaks_after_the_request_is_uncertain(self) -> None:
        async def hang_up(writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        async with remote(hang_up) as server, make_session(development_gate()) as session:
            with pytest.raises(aiohttp.ClientError) as failure:
                await session.post(server.url, data=b"{}")
        meaning = failure_of(failure.value)
        assert isinstance(meaning, Retryable)
        assert meaning.uncertain

    async def test_a_refused_address_waits_for_the_operator(self) -> None:
        async with make_session(Gate(allow=())) as session:
            with pytest.raises(EgressRefused) as failure:
                await session.get("https://erp.example/")
        meaning = failure_of(failure.value)
        assert isinstance(meaning, Retryable)
        assert "allow-list" in meaning.detail

    async def test_a_name_that_does_not_exist_is_retryable(self) -> None:
        async def nothing(host: str, port: int) -> list[str]:
            raise OSError("no such name")

        async with make_session(Gate(allow=(), allow_loopback=True, lookup=nothing)) as session:
            with pytest.raises(aiohttp.ClientConnectorDNSError) as failure:
                await session.get("http://localhost/")
        assert isinstance(failure_of(failure.value), Retryable)

    def test_a_fault_of_the_connector_is_not_taken_for_one_of_the_network(self) -> None:
        with pytest.raises(TypeError):
            failure_of(KeyError("sys_id"))

    @pytest.mark.parametrize(
        ("status", "kind", "uncertain"),
        [
            (400, Permanent, None),
            (404, Permanent, None),
            (410, Permanent, None),
            (422, Permanent, None),
            (401, AuthExpired, None),
            (408, Retryable, True),
            (425, Retryable, False),
            (500, Retryable, True),
            (502, Retryable, True),
            (503, Retryable, False),
            (504, Retryable, True),
        ],
    )
    def test_a_status_is_judged(self, status: int, kind: type[Exception], uncertain: bool | None) -> None:
        failure = failure_of_status(status, {}, now=NOW)
        assert type(failure) is kind
        assert getattr(failure, "uncertain", None) == uncertain

    @pytest.mark.parametrize(
        ("header", "pause_s"),
        [
            (None, 60),
            ("120", 120),
            ("0", 0),
            ("Mon, 23 Nov 2026 12:10:00 GMT", 600),
            ("Mon, 23 Nov 2026 11:00:00 GMT", 0),
            ("99999999999999999999", 86_400),
            ("Mon, 23 Nov 2099 12:10:00 GMT", 86_400),
            ("soon", 60),
            ("-5", 60),
            ("٥", 60),
            ("", 60),
        ],
    )
    def test_a_quota_pauses_as_long_as_the_remote_says(self, header: str | None, pause_s: int) -> None:
        failure = failure_of_status(429, {} if header is None else {"RETRY-AFTER": header}, now=NOW)
        assert isinstance(failure, RateLimited)
        assert failure.until == NOW + timedelta(seconds=pause_s)
