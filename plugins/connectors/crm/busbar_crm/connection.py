"""The way to an endpoint's organization: its client, its quota, and the test that tells an operator what is wrong."""

import time
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

import aiohttp
import msgspec

from busbar.sdk import AuthExpired, ConnectionReport, DeliveryError, Endpoint, RateLimited, Secret
from busbar_crm.answers import QUOTA_RETRY_S, Usage
from busbar_crm.client import SalesforceClient
from busbar_crm.failures import translated
from busbar_crm.oauth import ClientCredentials, Grant, JwtBearer, Session
from busbar_crm.settings import CrmSettings

_CREDENTIAL_SETTINGS = ("base_url", "client_id", "auth", "username", "audience")


class _Kept(msgspec.Struct):
    """What outlives one call: it is kept as long as the endpoint's http session lives and its credentials stay."""

    credentials: tuple[object, ...]
    session: Session
    usage: Usage | None = None
    usage_at: datetime | None = None


_kept: WeakKeyDictionary[aiohttp.ClientSession, _Kept] = WeakKeyDictionary()


def client_of(endpoint: Endpoint, *, correlation_id: str = "") -> SalesforceClient:
    """A client for the endpoint's organization. Raises AuthExpired when a secret has not been entered."""
    settings: CrmSettings = endpoint.settings
    return SalesforceClient(
        endpoint.http,
        settings.base_url,
        _kept_of(endpoint).session,
        api_version=settings.api_version,
        timeout_s=settings.timeout_s,
        headers={"X-Correlation-ID": correlation_id} if correlation_id else None,
    )


def note_usage(endpoint: Endpoint, client: SalesforceClient) -> str:
    """Keep what the last answer said of the quota; a sentence when it is nearly used up."""
    settings: CrmSettings = endpoint.settings
    kept, usage = _kept_of(endpoint), client.usage
    if usage is None:
        return ""
    kept.usage, kept.usage_at = usage, endpoint.clock()
    if not _is_too_much(usage, settings):
        return ""
    return f"{usage.used} of {usage.allowed} API requests of 24 hours are used; Busbar waits before the next."


def require_quota(endpoint: Endpoint) -> None:
    """Raise RateLimited while Busbar leaves the rest of the quota to others.

    What was seen counts for as long as a pause takes; then one request may look again.
    """
    settings: CrmSettings = endpoint.settings
    kept = _kept_of(endpoint)
    if kept.usage is None or kept.usage_at is None or not _is_too_much(kept.usage, settings):
        return
    until = kept.usage_at + timedelta(seconds=QUOTA_RETRY_S)
    if endpoint.clock() < until:
        raise RateLimited(
            f"{kept.usage.used} of {kept.usage.allowed} API requests of 24 hours are used; beyond "
            f"{settings.quota_percent_max} % Busbar leaves them to others.",
            until=until,
        )


async def test_connection(endpoint: Endpoint) -> ConnectionReport:
    """Log in, read one Case with our fields, and read the limits; change nothing."""
    started_s = time.perf_counter()
    try:
        detail = await _probe(endpoint)
    except DeliveryError as error:
        return ConnectionReport(ok=False, detail=error.detail)
    return ConnectionReport(ok=True, detail=detail, latency_ms=(time.perf_counter() - started_s) * 1000)


async def _probe(endpoint: Endpoint) -> str:
    settings: CrmSettings = endpoint.settings
    with translated(endpoint, changing=False):
        client = client_of(endpoint)
        fields = f"Id, CaseNumber, Status, {settings.external_id_field}, {settings.marker_field}"
        await client.query(f"SELECT {fields} FROM Case LIMIT 1", records_max=1)
        limits = await client.limits()
        tracking = await _is_status_tracked(client) if settings.poll_s else True
    note_usage(endpoint, client)
    words = [f"Busbar can read Cases at {settings.base_url} as user {await client.user_id()}."]
    daily = limits.get("DailyApiRequests")
    if isinstance(daily, dict):
        words.append(f"{daily.get('Remaining')} of {daily.get('Max')} API requests of 24 hours are left.")
    if not tracking:
        words.append("Turn on field history tracking for Status of Case: without it no change of status is found.")
    if settings.base_url.startswith("http:"):
        words.append("The address is not https: credentials and records travel unprotected.")
    return " ".join(words)


async def _is_status_tracked(client: SalesforceClient) -> bool:
    found = await client.query(
        "SELECT QualifiedApiName, IsFieldHistoryTracked FROM FieldDefinition "
        "WHERE EntityDefinition.QualifiedApiName = 'Case' AND QualifiedApiName = 'Status'",
        records_max=1,
    )
    return any(record.get("IsFieldHistoryTracked") is True for record in found)


def _is_too_much(usage: Usage, settings: CrmSettings) -> bool:
    return usage.used * 100 >= usage.allowed * settings.quota_percent_max


def _kept_of(endpoint: Endpoint) -> _Kept:
    settings: CrmSettings = endpoint.settings
    secret = _secret(endpoint, "client_secret" if settings.auth == "client_credentials" else "private_key")
    credentials = (secret, *(getattr(settings, name) for name in _CREDENTIAL_SETTINGS))
    kept = _kept.get(endpoint.http)
    if kept is None or kept.credentials != credentials:
        kept = _Kept(credentials=credentials, session=Session(_grant(endpoint, secret)))
        _kept[endpoint.http] = kept
    return kept


def _grant(endpoint: Endpoint, secret: Secret) -> Grant:
    settings: CrmSettings = endpoint.settings
    if settings.auth == "client_credentials":
        return ClientCredentials(settings.client_id, secret.reveal())
    return JwtBearer(
        settings.client_id,
        settings.username or "",
        secret.reveal(),
        audience=settings.audience,
        clock=endpoint.clock,
    )


def _secret(endpoint: Endpoint, name: str) -> Secret:
    secret = endpoint.secrets.get(name)
    if not secret:
        raise AuthExpired(f"The endpoint {endpoint.name} has no {name}; enter it.")
    return secret
