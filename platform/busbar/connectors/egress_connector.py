"""The gate inside aiohttp: names resolve to checked addresses only, and no socket is made for any other."""

import socket
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from busbar.connectors.contract import Permanent
from busbar.connectors.egress import Gate
from busbar.connectors.egress_url import EgressRefused, Target, read_address, read_url

REDIRECTS = frozenset({301, 302, 303, 307, 308})
BODY_BYTES_MAX = 4 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024

# aiohttp tells its resolver and its socket factory no scheme; the request they work for stands here.
_target: ContextVar[Target] = ContextVar("busbar_egress_target")


class GatedResolver(AbstractResolver):
    """Resolves by the gate; never called for a literal address, which is why the connector checks again."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        """All addresses of `host`, each of them checked. Raises EgressRefused, or OSError when there are none."""
        target = _target.get()
        if (host, port) != (target.host, target.port):
            raise EgressRefused(f"The HTTP client asks for {host}:{port} on the way to {target}.")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._gate.addresses(target)
        ]

    async def close(self) -> None:
        """Nothing to let go of."""


class GatedConnector(aiohttp.TCPConnector):
    """A TCP connector that checks each request, each lookup and, last of all, each socket before it is made."""

    def __init__(self, gate: Gate, **options: Any) -> None:
        self._gate = gate
        super().__init__(
            resolver=GatedResolver(gate),
            use_dns_cache=False,
            # One address after the other: a refused address then ends the request, instead of losing a race.
            happy_eyeballs_delay=None,
            socket_factory=self._make_socket,
            **options,
        )

    async def connect(self, req: aiohttp.ClientRequest, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:
        """A connection for `req`, new or kept alive. Raises EgressRefused."""
        if req.proxy is not None:
            raise EgressRefused("Connectors do not use proxies: the address that was checked is the one connected to.")
        target = read_url(f"{req.url.scheme}://{req.url.raw_authority}")
        self._gate.check_target(target)
        token = _target.set(target)
        try:
            return await super().connect(req, traces, timeout)
        finally:
            _target.reset(token)

    def _make_socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """The last gate: it sees literals and lookups alike, and the very address that is connected to."""
        family, kind, protocol, _, sockaddr = addr_info
        target = _target.get()
        address = read_address(str(sockaddr[0]))
        if address is None or sockaddr[1] != target.port:
            raise EgressRefused(f"The HTTP client left the way to {target}.")
        self._gate.check_address(target, address)
        return socket.socket(family=family, type=kind, proto=protocol)


class RedirectRefused(Permanent):
    """The remote sent the request elsewhere. A redirect is not followed: the final address belongs in the settings."""


class ResponseTooLarge(Permanent):
    """The remote's answer is longer than is read."""


class GatedResponse(aiohttp.ClientResponse):
    """A response that is no redirect, whatever `allow_redirects` says, and whose body does not fill the memory."""

    async def start(self, connection: Any) -> "GatedResponse":
        """Read status and headers. Raises RedirectRefused."""
        await super().start(connection)
        if self.status in REDIRECTS:
            raise RedirectRefused(
                f"{self.method} {self.url.host} answered {self.status}, a redirect, which is not followed. "
                "Enter the final address in the endpoint's settings."
            )
        return self

    async def read(self) -> bytes:
        """The whole body, decompressed; `text` and `json` read it by this. `content` is for who measures it himself.

        Raises:
            ResponseTooLarge: it has more than BODY_BYTES_MAX bytes; the connection is closed then.
        """
        if self._body is None:
            body = bytearray()
            async for chunk in self.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    self.close()
                    raise ResponseTooLarge(f"The answer of {self.url.host} has more than {BODY_BYTES_MAX} bytes.")
            self._body = bytes(body)
        return await super().read()
