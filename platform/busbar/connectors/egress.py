"""The egress gate: which addresses Busbar may connect to. Default deny, and an operator's list of what is allowed."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_network

import msgspec

from busbar.connectors.egress_blocks import FORBIDDEN_BLOCKS, IPNetwork, forbidden_because, is_of_this_machine
from busbar.connectors.egress_url import (
    DEFAULT_PORTS,
    EgressRefused,
    IPAddress,
    Target,
    read_address,
    read_host,
    read_url,
)
from busbar.errors import InvalidPayload

ALLOW_ENTRIES_MAX = 1_000
PORTS_MAX = 32
ADDRESSES_MAX = 32
# Wider than this, a block is a typing error or a way to allow everything.
PREFIX_BITS_MIN = {4: 8, 6: 7}

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""All addresses of a name, as text; raises OSError when there are none."""


class BadAllowEntry(InvalidPayload):
    """An entry of the allow-list cannot be read, or would allow what is never allowed."""

    title = "Bad allow-list entry"


class AllowEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the operator's allow-list, as read by `read_allow_entry`."""

    text: str
    schemes: frozenset[str]
    ports: frozenset[int]
    """Empty: the default port of the scheme."""
    name: str | None = None
    suffix: str | None = None
    """`.example.com` for `*.example.com`: all names below it, not itself."""
    network: IPNetwork | None = None

    def fits(self, target: Target) -> bool:
        """Whether scheme and port are the entry's; says nothing about the host."""
        ports = self.ports or {DEFAULT_PORTS[target.scheme]}
        return target.scheme in self.schemes and target.port in ports

    def vouches_for(self, target: Target, address: IPAddress) -> bool:
        """Whether the entry allows this connection.

        An exact name may have a private address, since utilities' own systems do. A wildcard may not: the names
        below it may be given to strangers, who could point one into the utility's network.
        """
        if not self.fits(target):
            return False
        if self.network is not None:
            return address in self.network
        if self.suffix is not None:
            return target.host.endswith(self.suffix) and address.is_global
        return target.host == self.name


class OwnAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A service of Busbar itself: its API, database, broker or gateway. No endpoint may be one, in any mode."""

    address: IPAddress
    port: int


class Gate:
    """Decides on every connection that connector code makes. It keeps no state but its rules."""

    def __init__(
        self,
        *,
        allow: Iterable[AllowEntry],
        own: Iterable[OwnAddress] = (),
        allow_loopback: bool = False,
        lookup: Lookup | None = None,
        is_of_this_machine: Callable[[IPAddress], bool] = is_of_this_machine,
    ) -> None:
        """`allow_loopback` is development mode: literal loopback addresses and `localhost`, any port, need no entry."""
        self._allow = tuple(allow)
        self._own = frozenset(own)
        self._allow_loopback = allow_loopback
        self._lookup = lookup or system_lookup
        self._is_of_this_machine = is_of_this_machine

    def check_url(self, text: str) -> Target:
        """Read an address and refuse it if it can never be reached; asks no name server. Raises EgressRefused."""
        target = read_url(text)
        self.check_target(target)
        return target

    async def check(self, text: str) -> Target:
        """`check_url`, and all addresses that the name has now. Raises EgressRefused."""
        target = self.check_url(text)
        try:
            await self.addresses(target)
        except OSError as error:
            raise EgressRefused(f"The name {target.host} cannot be resolved.") from error
        return target

    def check_target(self, target: Target) -> None:
        """Refuse what needs no name server to be refused. Raises EgressRefused."""
        address = target.address
        if address is not None:
            self.check_address(target, address)
        elif not self._may_be_allowed(target):
            raise EgressRefused(_not_listed(target))

    async def addresses(self, target: Target) -> tuple[str, ...]:
        """All addresses of the target, each of them checked; one bad address refuses the name. Raises OSError too."""
        literal = target.address
        found = [str(literal)] if literal is not None else await self._lookup(target.host, target.port)
        if not 1 <= len(found) <= ADDRESSES_MAX:
            raise EgressRefused(f"The name {target.host} has {len(found)} addresses; 1 to {ADDRESSES_MAX} are taken.")
        for text in found:
            address = read_address(text)
            if address is None:
                raise EgressRefused(f"The name {target.host} has an address that cannot be read.")
            self.check_address(target, address)
        return tuple(found)

    def check_address(self, target: Target, address: IPAddress) -> None:
        """The decision on one connection. Raises EgressRefused, whose text names no address that a lookup gave."""
        if OwnAddress(address=address, port=target.port) in self._own:
            raise EgressRefused(f"{target} is a service of Busbar itself.")
        if address.is_loopback and self._allow_loopback and _says_loopback(target):
            return
        if reason := forbidden_because(address):
            raise EgressRefused(f"{target} leads to {reason}, which is never allowed.")
        if not any(entry.vouches_for(target, address) for entry in self._allow):
            raise EgressRefused(_not_listed(target))
        if not self._allow_loopback and self._is_of_this_machine(address):
            raise EgressRefused(f"{target} leads to the machine that Busbar runs on.")

    def _may_be_allowed(self, target: Target) -> bool:
        """Whether some entry could vouch for the name, once its addresses are known."""
        if self._allow_loopback and _says_loopback(target):
            return True
        return any(
            entry.fits(target)
            and (
                entry.network is not None
                or entry.name == target.host
                or (entry.suffix is not None and target.host.endswith(entry.suffix))
            )
            for entry in self._allow
        )


def read_allow_list(lines: Iterable[str]) -> tuple[AllowEntry, ...]:
    """Read the lines of an allow-list; blank lines and lines that start with # are left out. Raises BadAllowEntry."""
    entries = tuple(read_allow_entry(line) for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if len(entries) > ALLOW_ENTRIES_MAX:
        raise BadAllowEntry(f"The allow-list has {len(entries)} entries; at most {ALLOW_ENTRIES_MAX} are taken.")
    return entries


def read_allow_entry(text: str) -> AllowEntry:
    """Read `[scheme://]host[:port[,port…]]`; raises BadAllowEntry.

    The host is a name, `*.suffix`, an address or a CIDR block; IPv6 with a port stands in brackets:
    `[2001:db8::/32]:8443`. Without a scheme only https is allowed, without a port only the scheme's own.
    """
    line = text.strip()
    scheme, found, rest = line.lower().rpartition("://")
    if found and scheme not in DEFAULT_PORTS:
        raise BadAllowEntry(f"{line}: the scheme must be http or https.")
    host, ports = _split_ports(rest, line)
    schemes = frozenset({scheme or "https"})
    if host.startswith("*."):
        return AllowEntry(text=line, schemes=schemes, ports=ports, suffix="." + _read_name(host[2:], line))
    network = _read_network(host, line)
    if network is not None:
        return AllowEntry(text=line, schemes=schemes, ports=ports, network=network)
    return AllowEntry(text=line, schemes=schemes, ports=ports, name=_read_name(host, line))


def _split_ports(text: str, line: str) -> tuple[str, frozenset[int]]:
    if text.startswith("["):
        host, closed, ports = text[1:].partition("]")
        if not closed or ":" not in host or (ports and not ports.startswith(":")):
            raise BadAllowEntry(f"{line}: brackets hold an IPv6 address or block.")
        ports = ports[1:]
    elif text.count(":") > 1:
        host, ports = text, ""
    else:
        host, colon, ports = text.partition(":")
        if colon and not ports:
            raise BadAllowEntry(f"{line}: the port after the colon is missing.")
    numbers = [number.strip() for number in ports.split(",")] if ports else []
    if len(numbers) > PORTS_MAX or not all(n.isascii() and n.isdigit() and 0 < int(n[:6]) < 65_536 for n in numbers):
        raise BadAllowEntry(f"{line}: ports are numbers from 1 to 65535, at most {PORTS_MAX} of them.")
    return host, frozenset(int(number) for number in numbers)


def _read_network(host: str, line: str) -> IPNetwork | None:
    if "/" not in host and read_address(host) is None:
        return None
    try:
        network = ip_network(host)
    except ValueError as error:
        raise BadAllowEntry(f"{line}: not an address or CIDR block, such as 10.20.0.0/16.") from error
    if network.prefixlen < PREFIX_BITS_MIN[network.version]:
        raise BadAllowEntry(f"{line}: wider than /{PREFIX_BITS_MIN[network.version]}, which would allow too much.")
    for block, word in FORBIDDEN_BLOCKS:
        if block.version == network.version and network.subnet_of(block):  # type: ignore[arg-type]  # of one version
            raise BadAllowEntry(f"{line}: {word} is never allowed.")
    return network


def _read_name(host: str, line: str) -> str:
    try:
        return read_host(host)
    except EgressRefused as error:
        raise BadAllowEntry(f"{line}: {error.detail}") from error


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """All addresses that the system's resolver gives for `host`, without repetition."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


def _says_loopback(target: Target) -> bool:
    """In development mode only an address that shows what it is may be loopback; no other name may resolve to it."""
    return target.host == "localhost" or (target.address is not None and target.address.is_loopback)


def _not_listed(target: Target) -> str:
    return f"{target} is not on the allow-list. An operator can add the host, or the block of its address."
