"""The live route table as a gateway needs it: each address once, with its methods, and whether it takes a token."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute
from litestar.types.internal_types import PathParameterDefinition

from busbar.app import API
from busbar.errors import NotFound, RuleViolated
from busbar.web.access import is_open

UNEXPOSED = ("/health/", "/metrics")
"""For whoever runs Busbar, on the inside."""
UNKNOWN_DOCUMENT = "/openapi/{path}"
"""The framework's page for documents that there are not."""
_LITERAL = re.compile(r"[A-Za-z0-9_.-]+")
_OWN = ("OPTIONS",)
"""Answered by the framework for every address; no route of ours."""


class GatewayRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One address, with the methods that are served there under the same access."""

    group: str
    """The first part of the address below /api/v1, such as `tickets` or `pm`; at the root, the first part there."""
    template: str
    """Such as `/api/v1/tickets/{ticket_id}`."""
    methods: tuple[str, ...]
    is_open: bool
    """Whether it takes no token: open to anyone, or signed by its sender."""

    @property
    def name(self) -> str:
        """The address with dots for slashes, such as `tickets.~ticket_id.assign`; unique with `is_open`."""
        parts = _parts(self.template.removeprefix(API))
        return ".".join(re.sub(r"\{(\w+)\}", r"~\1", part) for part in parts).lstrip(".")

    @property
    def pattern(self) -> str:
        """A regular expression for the whole path; a parameter is one part that is not empty.

        Written in what PCRE and Rust's engine have in common. Like the application, it takes a slash at the end.
        """
        return "".join(f"/{_escaped(part)}" for part in _parts(self.template)) + "/?$"

    @property
    def rank(self) -> int:
        """Higher goes first where two patterns match: the one whose first part that differs is a word, not a parameter.

        Patterns match the same path only when they have as many parts, so it is the parts read as a binary number.
        """
        return int("".join("0" if part.startswith("{") else "1" for part in _parts(self.template)), base=2)


def gateway_routes(app: Litestar, *, with_health: bool = False) -> tuple[GatewayRoute, ...]:
    """All that the application serves to the outside, in the order of the addresses.

    Left out are metrics, health unless asked for, the page that says that there is no such document, and addresses with
    a parameter that takes any number of parts, for that would open a whole tree.
    """
    found: dict[tuple[str, bool], set[str]] = defaultdict(set)
    for template, handler_methods, takes_no_token in _operations(app):
        if template.startswith(UNEXPOSED) and not (with_health and template.startswith("/health/")):
            continue
        if template == UNKNOWN_DOCUMENT:
            continue
        found[template, takes_no_token].update(handler_methods)
    return tuple(
        GatewayRoute(group=_group(template), template=template, methods=tuple(sorted(methods)), is_open=takes_no_token)
        for (template, takes_no_token), methods in sorted(found.items())
        if methods
    )


def of_modules(
    routes: tuple[GatewayRoute, ...], *, wanted: Collection[str], known: Collection[str]
) -> tuple[GatewayRoute, ...]:
    """The routes of the core and of the wanted modules; `known` are all modules. With none wanted, all are.

    Raises:
        NotFound: there is no such module.
    """
    if unknown := sorted(set(wanted) - set(known)):
        raise NotFound(f"There is no module {', '.join(unknown)} here; there are {', '.join(sorted(known))}.")
    if not wanted:
        return routes
    return tuple(route for route in routes if route.group in wanted or route.group not in known)


def _operations(app: Litestar) -> Iterator[tuple[str, set[str], bool]]:
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            raise RuleViolated(f"{route.path_format} is not plain HTTP; no gateway configuration is written for it.")
        if any(
            isinstance(part, PathParameterDefinition) and part.full.endswith(":path") for part in _components(route)
        ):
            continue
        for handler in route.route_handlers:
            yield route.path_format, {str(method) for method in handler.http_methods} - set(_OWN), is_open(handler)


def _components(route: HTTPRoute) -> list[str | PathParameterDefinition]:
    return list(route.path_components)


def _parts(template: str) -> list[str]:
    return template.strip("/").split("/")


def _group(template: str) -> str:
    return _parts(template.removeprefix(API))[0].lstrip(".")


def _escaped(part: str) -> str:
    if part.startswith("{") and part.endswith("}"):
        return "[^/]+"
    if not _LITERAL.fullmatch(part):
        raise RuleViolated(f"The part {part!r} of an address has characters that no gateway route is written for.")
    return part.replace(".", r"\.")
