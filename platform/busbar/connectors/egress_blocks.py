"""Blocks of addresses that no endpoint may have, whatever the operator allows, and whether an address is our own."""

import socket
from ipaddress import IPv4Network, IPv6Network, ip_network

from busbar.connectors.egress_url import IPAddress

IPNetwork = IPv4Network | IPv6Network

# IANA special-purpose registries, RFC 6890 and its successors; the metadata services are the cloud providers' own.
# IPv6 forms that carry an IPv4 address are refused as a whole: written honestly, such an endpoint is IPv4.
_FORBIDDEN: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "an unspecified address"),
    ("127.0.0.0/8", "a loopback address"),
    ("169.254.0.0/16", "a link-local or metadata address"),
    ("192.0.0.0/24", "a protocol or metadata address"),
    ("192.88.99.0/24", "a relay address"),
    ("100.100.100.200/32", "a metadata address"),
    ("168.63.129.16/32", "a metadata address"),
    ("224.0.0.0/4", "a multicast address"),
    ("240.0.0.0/4", "a reserved or broadcast address"),
    ("::1/128", "a loopback address"),
    ("::/96", "an unspecified or IPv4-compatible address"),
    ("::ffff:0:0/96", "an IPv4-mapped address"),
    ("::ffff:0:0:0/96", "an IPv4-translated address"),
    ("64:ff9b::/96", "a NAT64 address"),
    ("64:ff9b:1::/48", "a NAT64 address"),
    ("100::/64", "a discard address"),
    ("2001::/32", "a Teredo address"),
    ("2002::/16", "a 6to4 address"),
    ("fd00:ec2::254/128", "a metadata address"),
    ("fd20:ce::254/128", "a metadata address"),
    ("fd00:42::42/128", "a metadata address"),
    ("fe80::/10", "a link-local address"),
    ("fec0::/10", "a site-local address"),
    ("ff00::/8", "a multicast address"),
)
FORBIDDEN_BLOCKS: tuple[tuple[IPNetwork, str], ...] = tuple((ip_network(block), word) for block, word in _FORBIDDEN)


def forbidden_because(address: IPAddress) -> str | None:
    """What is wrong with `address`, such as "a link-local or metadata address", or None when nothing is."""
    for block, word in FORBIDDEN_BLOCKS:
        if address in block:
            return word
    return None


def is_of_this_machine(address: IPAddress) -> bool:
    """Whether one of this machine's interfaces has `address`.

    The kernel takes the destination as the source exactly when the destination is its own. Connecting a UDP socket
    asks it that and sends nothing.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return bool(probe.getsockname()[0] == str(address))
    except OSError:
        return False  # no route there: it cannot be an address of this machine
