"""Making, changing, testing and resuming endpoints."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
import msgspec
import structlog

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.connectors import breaker
from busbar.connectors.configuration import check_configuration
from busbar.connectors.contract import ConnectionReport, Connector
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.handover import CAMEL, handover_fault
from busbar.connectors.http import failure_of
from busbar.connectors.secrets import KeyRing, Secret
from busbar.connectors.shared_breaker import change_breaker
from busbar.db import execute, fetchrow, fetchval, on_commit, transaction
from busbar.db.wakeup import Channel, poke
from busbar.errors import Conflict, FieldError, Forbidden, InvalidPayload, NotFound, RuleViolated
from busbar.web.conditional import ANY_VERSION, IfMatch

log = structlog.get_logger()

TEST_S: Final = 15.0
"""Longest time of a connection test."""

_INSERT = """
insert into core.endpoint (endpoint_id, connector, name, sites, settings, secrets, runner, active, version, created_at,
    updated_at)
values ($1, $2, $3, $4, $5::jsonb, $6::jsonb, $7, true, 1, $8, $8)
"""
_UPDATE = """
update core.endpoint set name = $2, sites = $3, settings = $4::jsonb, secrets = $5::jsonb, runner = $6, active = $7,
    version = version + 1, updated_at = $8
where endpoint_id = $1
"""

_BY_CAMEL: Final = (
    "Camel delivers to this endpoint, by the address and credentials of its own configuration, which are not tested "
    "here. By Busbar's, which serve to ask what is new:"
)


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different at an endpoint; None stays as it is."""

    name: str | None = None
    sites: tuple[str, ...] | None = None
    """Empty for all sites."""
    settings: Mapping[str, Any] | None = None
    """All of them; what is left out gets its default."""
    secrets: Mapping[str, Secret | None] = {}
    """Those to be set, or with None removed; the others stay."""
    runner: str | None = None
    """`busbar` or `camel`: who delivers from now on. What Camel has been given already it brings to an end."""
    active: bool | None = None


async def create_endpoint(
    ctx: Context,
    desk: EndpointDesk,
    *,
    endpoint_id: str,
    connector: str,
    name: str,
    sites: Sequence[str] = (),
    settings: Mapping[str, Any],
    secrets: Mapping[str, Secret] | None = None,
    runner: str = "busbar",
) -> None:
    """Make an active endpoint at these sites; at all sites when none is named.

    Raises:
        InvalidPayload: the connector is not installed, Camel cannot be its runner, a site does not exist, or settings
            or secrets are bad; every bad field is named.
        Forbidden: the actor does not work for all of the sites.
        Conflict: the id is taken.
    """
    kind = _connector(desk, connector)
    _require_sites(ctx, sites)
    _check_runner(desk, kind, runner)
    secrets = secrets or {}
    stored = await check_configuration(kind, settings=settings, secrets=secrets, gate=desk.gate)
    sealed = _sealed(desk.key_ring, endpoint_id, secrets)
    async with transaction():
        await _check_sites(sites)
        try:
            await execute(
                _INSERT, endpoint_id, connector, name, sorted(set(sites)), stored, _json(sealed), runner, ctx.clock()
            )
        except asyncpg.UniqueViolationError:
            raise Conflict(f"There is an endpoint {endpoint_id} already.") from None
        details = {"connector": connector, "name": name, "settings": msgspec.Raw((stored or "{}").encode())}
        await _record(ctx, "endpoint.create", endpoint_id, sites, details | {"secrets": sorted(sealed)})
        on_commit(_tell)


async def change_endpoint(
    ctx: Context, desk: EndpointDesk, endpoint_id: str, changes: Changes, *, expected: IfMatch = ANY_VERSION
) -> int:
    """Change an endpoint; returns its new version. New settings, secrets or another runner end a pause.

    Raises:
        NotFound: there is no such endpoint, or the actor works for none of its sites.
        Forbidden: the actor does not work for all of its sites, old and new.
        StaleVersion: somebody else changed it meanwhile.
        InvalidPayload: every bad field is named.
        RuleViolated: settings, secrets or runner are to be changed, and the connector is not installed.
    """
    before = await _find(ctx, endpoint_id)
    stored: str | None = None
    is_handed_over = changes.runner == CAMEL != before["runner"]
    if changes.settings is not None or changes.secrets or is_handed_over:
        kind = desk.connectors.get(before["connector"])
        if kind is None:
            raise RuleViolated(f"No plugin offers the connector {before['connector']}; install it first.")
        if is_handed_over:
            _check_runner(desk, kind, CAMEL)
        stored = await check_configuration(kind, settings=changes.settings, secrets=changes.secrets, gate=desk.gate)
    async with transaction():
        row = await _find(ctx, endpoint_id, lock=True)
        _require_sites(ctx, row["sites"])
        expected.require(row["version"])
        sites = row["sites"] if changes.sites is None else sorted(set(changes.sites))
        if changes.sites is not None:
            _require_sites(ctx, sites)
            await _check_sites(sites)
        sealed = msgspec.json.decode(row["secrets"], type=dict[str, str])
        sealed |= _sealed(desk.key_ring, endpoint_id, changes.secrets)
        sealed = {name: text for name, text in sealed.items() if changes.secrets.get(name, text) is not None}
        await execute(
            _UPDATE,
            endpoint_id,
            changes.name or row["name"],
            sites,
            stored or row["settings"],
            _json(sealed),
            changes.runner or row["runner"],
            row["active"] if changes.active is None else changes.active,
            ctx.clock(),
        )
        if stored is not None or changes.secrets or changes.runner not in (None, row["runner"]):
            await change_breaker(endpoint_id, breaker.reset)
        await _record(ctx, "endpoint.change", endpoint_id, sites, _told(changes, stored))
        on_commit(_tell)
        return int(row["version"]) + 1


async def resume_endpoint(ctx: Context, endpoint_id: str) -> None:
    """End a pause: deliveries go out again at once, and what waited for another attempt is due.

    Raises:
        NotFound, Forbidden: as with `change_endpoint`.
    """
    async with transaction():
        row = await _find(ctx, endpoint_id, lock=True)
        _require_sites(ctx, row["sites"])
        await change_breaker(endpoint_id, breaker.reset)
        await _record(ctx, "endpoint.resume", endpoint_id, row["sites"], {})
        on_commit(_tell)


async def check_connection(ctx: Context, desk: EndpointDesk, endpoint_id: str) -> ConnectionReport:
    """Try the stored settings and secrets against the remote, which changes nothing there.

    Raises:
        NotFound, Forbidden: as with `change_endpoint`.
    """
    row = await _find(ctx, endpoint_id)
    _require_sites(ctx, row["sites"])
    endpoint = desk.get(endpoint_id)
    if endpoint is None or endpoint.version != row["version"]:
        await desk.refresh()
        endpoint = desk.get(endpoint_id)
    if endpoint is None:
        raise NotFound(f"There is no endpoint {endpoint_id}.")
    if endpoint.connector is None or endpoint.fault is not None:
        return ConnectionReport(ok=False, detail=endpoint.fault or "The connector is not installed.")
    if desk.quarantined(endpoint.kind):
        return ConnectionReport(ok=False, detail=f"The plugin {endpoint.kind} is quarantined; see the plugins.")
    try:
        async with endpoint.in_use() as seen, asyncio.timeout(TEST_S):
            report = await endpoint.connector.test_connection(seen)
    except TimeoutError:
        return ConnectionReport(ok=False, detail=f"The remote did not answer within {TEST_S:g} s.")
    except Exception as error:  # noqa: BLE001 - a connector is a stranger's code
        report = ConnectionReport(ok=False, detail=_cause(error))
    detail = report.detail if endpoint.runner != CAMEL else f"{_BY_CAMEL} {report.detail}"
    return msgspec.structs.replace(report, detail=endpoint.secrets.redacted(detail))


def _cause(error: Exception) -> str:
    try:
        return failure_of(error).detail
    except TypeError:
        log.error("connection_test_failed", error=type(error).__name__)
        return f"The connector failed at its own test: {type(error).__name__}."


def _connector(desk: EndpointDesk, kind: str) -> Connector:
    found = desk.connectors.get(kind)
    if found is None:
        message = f"Is not installed; there is {', '.join(sorted(desk.connectors)) or 'none'}."
        raise InvalidPayload("Not accepted: connector.", errors=[FieldError(field="connector", message=message)])
    return found


def _check_runner(desk: EndpointDesk, connector: Connector, runner: str) -> None:
    message = handover_fault(connector, brokered=desk.brokered) if runner == CAMEL else None
    if message is not None:
        raise InvalidPayload(
            f"Camel cannot be the runner. {message}", errors=[FieldError(field="runner", message=message)]
        )


async def _find(ctx: Context, endpoint_id: str, *, lock: bool = False) -> asyncpg.Record:
    suffix = " for update" if lock else ""
    row = await fetchrow(f"select * from core.endpoint where endpoint_id = $1{suffix}", endpoint_id)
    if row is None or not (not row["sites"] or any(ctx.actor.sees_site(site) for site in row["sites"])):
        raise NotFound(f"There is no endpoint {endpoint_id}.")
    return row


def _require_sites(ctx: Context, sites: Sequence[str]) -> None:
    if not sites and ctx.actor.site_filter is not None:
        raise Forbidden("An endpoint of all sites is for those who work for all sites; name yours.")
    for site in sites:
        ctx.require_site(site)


async def _check_sites(sites: Sequence[str]) -> None:
    known = await fetchval("select array_agg(site_id) from core.site where site_id = any($1)", list(sites))
    unknown = sorted(set(sites) - set(known or ()))
    if unknown:
        errors = [FieldError(field="sites", message=f"There is no site {site}.") for site in unknown]
        raise InvalidPayload("Not accepted: sites.", errors=errors)


def _sealed(ring: KeyRing, endpoint_id: str, secrets: Mapping[str, Secret | None]) -> dict[str, str]:
    return {
        name: ring.seal(secret, endpoint_id=endpoint_id, name=name)
        for name, secret in secrets.items()
        if secret is not None
    }


def _told(changes: Changes, stored: str | None) -> dict[str, Any]:
    """The changes as the trail keeps them: of secrets the names."""
    told: dict[str, Any] = {
        "name": changes.name,
        "sites": changes.sites,
        "settings": None if stored is None else msgspec.Raw(stored.encode()),
        "runner": changes.runner,
        "active": changes.active,
        "secrets_set": sorted(name for name, secret in changes.secrets.items() if secret is not None) or None,
        "secrets_removed": sorted(name for name, secret in changes.secrets.items() if secret is None) or None,
    }
    return {name: value for name, value in told.items() if value is not None}


async def _record(
    ctx: Context, action: str, endpoint_id: str, sites: Sequence[str], details: Mapping[str, Any]
) -> None:
    site_id = sites[0] if len(sites) == 1 else None
    await record(
        ctx,
        action=action,
        object_kind="endpoint",
        object_id=endpoint_id,
        site_id=site_id,
        details={"sites": list(sites), **details},
    )


def _json(value: Mapping[str, str]) -> str:
    return msgspec.json.encode(value).decode()


def _tell() -> None:
    poke(Channel.CONFIG, Channel.DELIVERIES)
