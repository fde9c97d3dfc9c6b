"""Strict reading of an http(s) address: whatever two programs could read in two ways is refused."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal, cast

import msgspec
from yarl import URL

from busbar.errors import RuleViolated

URL_CHARACTERS_MAX = 2048
HOST_CHARACTERS_MAX = 253
DEFAULT_PORTS = {"http": 80, "https": 443}

IPAddress = IPv4Address | IPv6Address
Scheme = Literal["http", "https"]

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]/:?#@%\\]+)(?::(?P<port>[1-9][0-9]{0,4}))?(?:[/?].*)?"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_VISIBLE_ASCII = re.compile(r"[!-~]+")
# A percent sign that starts no pair of hexadecimal digits, or one that hides a control character or a backslash.
_ODD_ENCODING = re.compile(r"%(?![0-9A-Fa-f]{2})|%[01][0-9A-Fa-f]|%7[Ff]|%5[Cc]")


class EgressRefused(RuleViolated):
    """Busbar does not connect there; `detail` says why, and what the operator can do."""

    title = "Address not allowed"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes."""

    scheme: Scheme
    host: str
    """A name in lower case, or an address without brackets."""
    port: int

    @property
    def address(self) -> IPAddress | None:
        """The address when the host is one, None when it is a name that must be resolved."""
        return read_address(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def read_url(text: str) -> Target:
    """The target of an absolute http(s) address; raises EgressRefused.

    Refused: other schemes, user names, fragments, backslashes, blanks, control characters and characters beyond
    ASCII (write an international name in its xn-- form), numbers in place of an address, a final full stop.
    """
    if len(text) > URL_CHARACTERS_MAX:
        raise EgressRefused(f"The address has more than {URL_CHARACTERS_MAX} characters.")
    if not _VISIBLE_ASCII.fullmatch(text):
        raise EgressRefused("The address is empty, or holds blanks, control characters or characters beyond ASCII.")
    if "\\" in text or "#" in text or _ODD_ENCODING.search(text):
        raise EgressRefused("The address holds a backslash, a fragment or a broken percent encoding.")
    match = _URL.fullmatch(text)
    if match is None:
        raise EgressRefused("The address must look like https://host/path or https://host:port/path, without a user.")
    scheme = cast(Scheme, match["scheme"])
    host = read_host(match["host"])
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS[scheme]
    if port > 65_535:
        raise EgressRefused(f"{port} is not a port: the highest is 65535.")
    _agrees_with_http_client(text, scheme, host, port)
    return Target(scheme=scheme, host=host, port=port)


def read_host(text: str) -> str:
    """A host as written in an address: a name, an IPv4 address of four numbers, or an IPv6 address in brackets."""
    host = text.lower()
    if host.startswith("["):
        try:
            return str(IPv6Address(host[1:-1]))
        except AddressValueError as error:
            raise EgressRefused(f"{text} is not an IPv6 address.") from error
    labels = host.split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        # 127.1, 2130706433, 0x7f.1 and 0177.0.0.1 are loopback to some programs and names to others.
        try:
            return str(IPv4Address(host))
        except AddressValueError as error:
            raise EgressRefused(f"{text} is not an IPv4 address of four decimal numbers.") from error
    if len(host) > HOST_CHARACTERS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise EgressRefused(f"{text[:80]} is not a host name.")
    return host


def read_address(text: str) -> IPAddress | None:
    """The address that `text` is in canonical form, or None."""
    for kind in (IPv4Address, IPv6Address):
        try:
            return kind(text)
        except AddressValueError:
            continue
    return None


def _agrees_with_http_client(text: str, scheme: str, host: str, port: int) -> None:
    """The HTTP client has a parser of its own; the two must see the same host, or one of them can be fooled."""
    try:
        url = URL(text)
        seen = (url.scheme, url.raw_host, url.port)
    except ValueError as error:
        raise EgressRefused("The HTTP client cannot read the address.") from error
    if seen != (scheme, host, port) or url.user is not None or url.password is not None:
        raise EgressRefused("The address can be read in two ways.")
