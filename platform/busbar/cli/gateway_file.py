"""Kong's declarative configuration as plain data: upstream, services with their routes, plugins, and our keys."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from itertools import groupby
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from busbar.cli.gateway_routes import GatewayRoute
from busbar.errors import InvalidPayload
from busbar.events.asyncapi import STREAM_ADDRESS
from busbar.web.limits import Limits

FORMAT_VERSION: Final = "3.0"
TAG: Final = "busbar"
CORRELATION_HEADER: Final = "X-Correlation-ID"
OPEN_TAG: Final = "open"
"""On every service that takes no token."""
LOGIN: Final = "/api/v1/auth/login"
READY: Final = "/health/ready"
CONNECT_TIMEOUT_MS: Final = 2_000
READ_TIMEOUT_MS: Final = 60_000
"""Between two pieces of an answer; the event stream sends a heartbeat four times as often."""
_INSIDE: Final = (".internal", ".local", ".localhost", ".svc")
"""Ends of names that lead nowhere outside of one's own network."""


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever runs the gateway chooses."""

    upstreams: tuple[str, ...] = ("http://127.0.0.1:8000",)
    """Addresses of the processes that serve the API."""
    requests_per_minute: int = 6_000
    """For each token, and on open routes for each address of a caller."""
    logins_per_minute: int = 5
    """For each address of a caller. In five minutes fewer than Busbar takes failed ones from one source, and all that
    comes through the gateway is one source for Busbar: so no single caller uses up what is everybody's."""
    plain_http: bool = False
    """Take requests without TLS too."""


class GatewayKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What verifies our tokens."""

    jwks: tuple[Mapping[str, str], ...]
    """The public keys (RFC 7517); those of a rotation under way are all there."""
    token_life_s_max: int


def kong_document(routes: Sequence[GatewayRoute], *, keys: GatewayKeys, settings: GatewaySettings) -> dict[str, Any]:
    """The whole file. The same arguments give the same document, in the same order.

    Raises:
        InvalidPayload: an upstream is no address that a gateway may be sent to.
    """
    scheme, targets = _targets(settings.upstreams)
    by_service = sorted(routes, key=lambda each: (each.group, each.is_open, each.template))
    grouped = groupby(by_service, key=lambda each: (each.group, each.is_open))
    return {
        "_format_version": FORMAT_VERSION,
        "plugins": _global_plugins(),
        "upstreams": [_upstream(scheme, targets)],
        "services": [
            _service(group, list(members), scheme=scheme, is_open=is_open, keys=keys, settings=settings)
            for (group, is_open), members in grouped
        ],
        "consumers": [_consumer(keys.jwks)],
    }


def _targets(urls: Iterable[str]) -> tuple[str, list[str]]:
    """The scheme that all have, and `host:port` of each."""
    schemes, targets = set(), []
    for url in urls:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise InvalidPayload(f"The upstream {url} is not an address.") from None
        if parts.scheme not in ("http", "https") or not host or parts.path.strip("/") or parts.query or parts.username:
            raise InvalidPayload(f"The upstream {url} is not of the form http://host:port or https://host:port.")
        if parts.scheme == "http" and not _is_inside(host):
            raise InvalidPayload(f"The upstream {url} is outside, so it needs https: tokens would travel in the clear.")
        schemes.add(parts.scheme)
        shown = f"[{host}]" if ":" in host else host
        targets.append(f"{shown}:{port or (443 if parts.scheme == 'https' else 80)}")
    if len(schemes) != 1:
        raise InvalidPayload("Name at least one upstream, and give all the same scheme.")
    return schemes.pop(), sorted(set(targets))


def _is_inside(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith(_INSIDE)


def _upstream(scheme: str, targets: Sequence[str]) -> dict[str, Any]:
    return {
        "name": TAG,
        "tags": [TAG],
        # Event streams stay open for hours, so turns alone would not spread the load.
        "algorithm": "least-connections",
        "healthchecks": {
            "active": {
                "type": scheme,
                "http_path": READY,
                "timeout": 2,
                "concurrency": 10,
                "healthy": {"interval": 5, "successes": 1, "http_statuses": [200]},
                "unhealthy": {
                    "interval": 2,
                    "http_failures": 1,
                    "tcp_failures": 2,
                    "timeouts": 2,
                    "http_statuses": [429, 500, 502, 503, 504],
                },
            }
        },
        "targets": [{"target": target, "weight": 100, "tags": [TAG]} for target in targets],
    }


def _service(
    group: str,
    routes: Sequence[GatewayRoute],
    *,
    scheme: str,
    is_open: bool,
    keys: GatewayKeys,
    settings: GatewaySettings,
) -> dict[str, Any]:
    access = {OPEN_TAG: True} if is_open else {}
    plugins = [_rate_limit(settings.requests_per_minute, by_token=not is_open)]
    if not is_open:
        plugins.insert(0, _jwt(keys.token_life_s_max))
    return {
        "name": f"{TAG}.{group}" + (f".{OPEN_TAG}" if is_open else ""),
        "tags": [TAG, group, *access],
        "protocol": scheme,
        "host": TAG,
        **({"tls_verify": True} if scheme == "https" else {}),
        # A target that cannot be connected to is left for another; what was sent to one is never sent to a second.
        "retries": 1,
        "connect_timeout": CONNECT_TIMEOUT_MS,
        "read_timeout": READ_TIMEOUT_MS,
        "write_timeout": READ_TIMEOUT_MS,
        "plugins": plugins,
        "routes": [_route(route, settings=settings) for route in routes],
    }


def _route(route: GatewayRoute, *, settings: GatewaySettings) -> dict[str, Any]:
    plugins = []
    if route.template.startswith(Limits().upload_prefixes):
        plugins.append(_size_limit(Limits().upload_bytes_max))
    if route.template == LOGIN:
        plugins.append(_rate_limit(settings.logins_per_minute, by_token=False))
    return {
        "name": f"{TAG}.{route.name}" + (f".{OPEN_TAG}" if route.is_open else ""),
        "tags": [TAG, route.group],
        "protocols": ["http", "https"] if settings.plain_http else ["https"],
        "methods": list(route.methods),
        "paths": [f"~{route.pattern}"],
        "regex_priority": route.rank,
        "strip_path": False,
        **({"response_buffering": False} if route.template == STREAM_ADDRESS else {}),
        **({"plugins": plugins} if plugins else {}),
    }


def _global_plugins() -> list[dict[str, Any]]:
    return [
        _plugin("correlation-id", {"header_name": CORRELATION_HEADER, "generator": "uuid", "echo_downstream": True}),
        _plugin(
            "prometheus",
            {
                "status_code_metrics": True,
                "latency_metrics": True,
                "bandwidth_metrics": True,
                "upstream_health_metrics": True,
            },
        ),
        _size_limit(Limits().body_bytes_max),
    ]


def _jwt(token_life_s_max: int) -> dict[str, Any]:
    """Tokens come in the Authorization header only, as at Busbar; the key's id is in the token's header."""
    config = {
        "header_names": ["authorization"],
        "uri_param_names": [],
        "cookie_names": [],
        "key_claim_name": "kid",
        "claims_to_verify": ["exp"],
        "maximum_expiration": token_life_s_max,
        "run_on_preflight": True,
    }
    return _plugin("jwt", config)


def _rate_limit(per_minute: int, *, by_token: bool) -> dict[str, Any]:
    """All tokens are of one consumer, so callers are told apart by the token itself."""
    by = {"limit_by": "header", "header_name": "authorization"} if by_token else {"limit_by": "ip"}
    return _plugin("rate-limiting", {"minute": per_minute, "policy": "local", **by, "fault_tolerant": True})


def _size_limit(bytes_max: int) -> dict[str, Any]:
    return _plugin("request-size-limiting", {"allowed_payload_size": bytes_max, "size_unit": "bytes"})


def _plugin(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "tags": [TAG], "config": config}


def _consumer(jwks: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    credentials = [
        {"key": jwk["kid"], "algorithm": jwk["alg"], "rsa_public_key": _pem(jwk["x"]), "tags": [TAG]}
        for jwk in sorted(jwks, key=lambda jwk: jwk["kid"])
    ]
    return {"username": TAG, "tags": [TAG], "jwt_secrets": credentials}


def _pem(x: str) -> str:
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "="))
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
