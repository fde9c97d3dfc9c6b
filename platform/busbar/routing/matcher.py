"""Works out, for the relay, which published routes an event goes by, and in which shape.

Routes are compiled once per version and kept in memory; `refresh` reads anew what changed. A route that fails on an
event makes a dead letter of that one delivery, with the sentence that says why; the event's other deliveries go on.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import asyncpg
import msgspec
import structlog

from busbar.db import fetch
from busbar.errors import InvalidPayload
from busbar.events.envelope import StoredEvent, as_dict
from busbar.events.subscriptions import Match
from busbar.routing.budget import BURST_S, Budget
from busbar.routing.expressions import Scope
from busbar.routing.patterns import EventPattern, type_matches
from busbar.routing.rules import CompiledRule, RouteRule

log = structlog.get_logger()

_VERSIONS = """
select r.route_id, r.version, r.state = 'published' as published, r.endpoint_id,
    coalesce(e.sites, '{}') as endpoint_sites
from core.route r left join core.endpoint e using (endpoint_id)
"""
_RULES = """
select route_id, version, sites, pattern, filter, mapping from core.route where route_id = any($1::text[])
"""
_COMPILED_AT_ONCE = 20
"""So many routes are compiled before the loop gets a turn; one takes about a millisecond."""
_CANDIDATES_MAX = 10_000
"""Combinations of event type and site that are remembered; the catalogue of types is far smaller."""


def subscription_of(route_id: str) -> str:
    """The name under which a route's deliveries stand in the ledger."""
    return f"route:{route_id}"


class Modules(Protocol):
    """Who knows which module is enabled where; `busbar.sites.directory.SiteDirectory` is one."""

    def enabled(self, site_id: str, module: str) -> bool: ...


class RouteMatcher:
    """The published routes of this process, ready to match; one for each process."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._endpoints: dict[str, str] = {}
        self._routes: dict[str, _Route] = {}
        self._by_type: dict[str, list[_Route]] = {}
        self._by_prefix: list[tuple[str, _Route]] = []
        self._candidates: dict[tuple[str, str], tuple[_Route, ...]] = {}
        self._refreshing = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the routes again; only those with a new version are compiled.

        Raises:
            Unavailable: the database cannot be reached; everything stays as it was.
        """
        async with self._refreshing:
            heads = await fetch(_VERSIONS)
            known = self._routes
            stale = [head["route_id"] for head in heads if head["published"] and not _is_known(known, head)]
            compiled = await _compile_all(await fetch(_RULES, stale) if stale else [])
            routes: dict[str, _Route] = {}
            for head in heads:
                route = compiled.get(head["route_id"]) or known.get(head["route_id"])
                # A route that was changed between the two reads has a newer version; that is as good.
                if head["published"] and route is not None:
                    route.endpoint_id, route.endpoint_sites = head["endpoint_id"], frozenset(head["endpoint_sites"])
                    routes[route.route_id] = route
            self._endpoints = {head["route_id"]: head["endpoint_id"] for head in heads}
            self._index(routes)

    def subscriptions(self) -> Iterable[tuple[str, str]]:
        """Every route's subscription and endpoint, also of routes that are off: they may have open deliveries."""
        return [(subscription_of(route_id), endpoint_id) for route_id, endpoint_id in self._endpoints.items()]

    def published(self) -> Iterable[tuple[str, EventPattern]]:
        """The published routes' subscriptions, and the events that each wants."""
        return [(subscription_of(route.route_id), route.rule.pattern) for route in self._routes.values()]

    def match(self, event: StoredEvent) -> Iterator[Match]:
        """What the event leads to: a match for each published route whose pattern and sites take it."""
        routes = self._candidates_for(event)
        if not routes:
            return
        view = _EventView(event)
        enabled = self._modules.enabled(event.site_id, event.module)
        for route in routes:
            yield self._match(route, view, enabled=enabled)

    def _match(self, route: "_Route", view: "_EventView", *, enabled: bool) -> Match:
        event = view.event
        if not enabled:
            reason = f"module: {event.module} is not enabled at {event.site_id}."
            return route.match(event, state="skipped", reason=reason)
        if event.origin == route.endpoint_id:
            reason = f"echo: the change came in from {event.origin}, which is not told of it again."
            return route.match(event, state="skipped", reason=reason)
        if route.budget.used_up:
            reason = (
                f"The route is too slow: it took more than {BURST_S} s of processor time for the events before this "
                "one. Make its filter and mapping simpler, then replay this delivery."
            )
            return route.match(event, state="dead", reason=reason)
        with route.budget.spending():
            return route.apply(view)

    def _candidates_for(self, event: StoredEvent) -> tuple["_Route", ...]:
        key = (event.event_type, event.site_id)
        found = self._candidates.get(key)
        if found is None:
            if len(self._candidates) >= _CANDIDATES_MAX:
                self._candidates.clear()
            found = self._candidates[key] = tuple(self._find(*key))
        return found

    def _find(self, event_type: str, site_id: str) -> Iterator["_Route"]:
        by_prefix = [route for pattern, route in self._by_prefix if type_matches(pattern, event_type)]
        several = {route.route_id: route for route in (*self._by_type.get(event_type, ()), *by_prefix)}
        for route_id in sorted(several):
            if several[route_id].serves(site_id):
                yield several[route_id]

    def _index(self, routes: dict[str, "_Route"]) -> None:
        self._routes = routes
        self._by_type = {}
        self._by_prefix = []
        for route in routes.values():
            for pattern in route.rule.pattern.types:
                if pattern.endswith("*"):
                    self._by_prefix.append((pattern, route))
                else:
                    self._by_type.setdefault(pattern, []).append(route)
        self._candidates = {}


class _EventView:
    """One event, decoded at most once for all routes, and only if one of them looks inside."""

    def __init__(self, event: StoredEvent) -> None:
        self.event = event
        self._document: dict[str, Any] | None = None
        self._scope: Scope | InvalidPayload | None = None

    @property
    def document(self) -> dict[str, Any]:
        if self._document is None:
            self._document = as_dict(self.event)
        return self._document

    @property
    def scope(self) -> Scope:
        """What expressions see.

        Raises:
            ExpressionError: the event is larger or deeper than expressions may look at; the same for every route.
        """
        if self._scope is None:
            try:
                self._scope = Scope(self.document)
            except InvalidPayload as error:
                self._scope = error
        if isinstance(self._scope, InvalidPayload):
            raise self._scope
        return self._scope


class _Route:
    """One published version of a route."""

    def __init__(self, *, route_id: str, version: int, rule: RouteRule) -> None:
        self.route_id = route_id
        self.version = version
        self.rule = rule
        self.endpoint_id = ""
        self.endpoint_sites: frozenset[str] = frozenset()
        self.budget = Budget()
        self._subscription = subscription_of(route_id)
        self._sites = frozenset(rule.pattern.sites)
        self._compiled: CompiledRule | InvalidPayload
        try:
            self._compiled = CompiledRule(rule)
        except InvalidPayload as error:
            # It was good when it was saved; a later Busbar may take less. Its deliveries say so instead of vanishing.
            log.error("route_not_compiled", route=route_id, version=version, errors=msgspec.to_builtins(error.errors))
            self._compiled = error

    def serves(self, site_id: str) -> bool:
        """Whether events of the site go by this route: its own sites, and those of its endpoint."""
        return all(not sites or site_id in sites for sites in (self._sites, self.endpoint_sites))

    def match(
        self,
        event: StoredEvent,
        *,
        state: str = "pending",
        reason: str | None = None,
        document: dict[str, Any] | None = None,
    ) -> Match:
        return Match(
            subscription=self._subscription,
            ordering_key=event.subject,
            endpoint_id=self.endpoint_id,
            route_id=self.route_id,
            route_version=self.version,
            document=document,
            state=state,
            reason=reason,
        )

    def apply(self, view: _EventView) -> Match:
        """Filter, then map."""
        try:
            compiled = self._compiled
            if isinstance(compiled, InvalidPayload):
                raise compiled
            if self.rule.filter is not None and not compiled.wants(view.document, view.scope):
                return self.match(view.event, state="skipped", reason="filter: it is false for this event.")
            if self.rule.mapping is None:
                return self.match(view.event)
            document = compiled.document(view.document, view.scope)
        except InvalidPayload as error:
            return self.match(view.event, state="dead", reason=_sentence(error))
        if not isinstance(document, dict):
            reason = "The mapping makes no JSON object; endpoints take nothing else."
            return self.match(view.event, state="dead", reason=reason)
        return self.match(view.event, document=document)


async def _compile_all(rows: list[asyncpg.Record]) -> dict[str, _Route]:
    routes: dict[str, _Route] = {}
    for number, row in enumerate(rows, start=1):
        pattern = EventPattern(types=tuple(row["pattern"]), sites=tuple(row["sites"]))
        mapping = None if row["mapping"] is None else msgspec.json.decode(row["mapping"])
        rule = RouteRule(pattern=pattern, filter=row["filter"], mapping=mapping)
        routes[row["route_id"]] = _Route(route_id=row["route_id"], version=row["version"], rule=rule)
        if number % _COMPILED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return routes


def _is_known(routes: dict[str, _Route], head: asyncpg.Record) -> bool:
    known = routes.get(head["route_id"])
    return known is not None and known.version == head["version"]


def _sentence(error: InvalidPayload) -> str:
    """The cause in one line; the first fault of several, for the detail of a BadRule only points at its errors."""
    if error.errors and error.errors[0].message not in error.detail:
        return f"{error.detail} {error.errors[0].field}: {error.errors[0].message}"
    return error.detail
