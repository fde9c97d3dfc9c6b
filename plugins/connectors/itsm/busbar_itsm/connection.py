"""The way to an endpoint's instance: its client, and the test that tells an operator what is wrong with it."""

import time
from weakref import WeakKeyDictionary

import aiohttp

from busbar.sdk import AuthExpired, ConnectionReport, DeliveryError, Endpoint, Permanent, Secret
from busbar_itsm.client import Auth, BasicAuth, ClientCredentials, TableClient
from busbar_itsm.failures import translated
from busbar_itsm.overrides import RESERVED
from busbar_itsm.settings import ItsmSettings

NO_SUCH_TICKET = "TKT-BUSBAR-CONNECTION-TEST"

# A token outlives one call; it is kept for as long as the endpoint's session lives and its credentials stay the same.
_tokens: WeakKeyDictionary[aiohttp.ClientSession, tuple[ItsmSettings, Secret, ClientCredentials]] = WeakKeyDictionary()


def client_of(endpoint: Endpoint) -> TableClient:
    """A client for the endpoint's instance. Raises AuthExpired when a secret has not been entered."""
    settings: ItsmSettings = endpoint.settings
    return TableClient(endpoint.http, settings.base_url, _auth_of(endpoint), timeout_s=settings.timeout_s)


async def test_connection(endpoint: Endpoint) -> ConnectionReport:
    """Read one record, and look for one that does not exist, which shows whether looking can be relied on."""
    started_s = time.perf_counter()
    try:
        detail = await _probe(endpoint)
    except DeliveryError as error:
        return ConnectionReport(ok=False, detail=error.detail)
    return ConnectionReport(ok=True, detail=detail, latency_ms=(time.perf_counter() - started_s) * 1000)


async def _probe(endpoint: Endpoint) -> str:
    settings: ItsmSettings = endpoint.settings
    with translated(endpoint, changing=False):
        client = client_of(endpoint)
        records = await client.find(settings.table, {}, fields=RESERVED, limit=1)
        await client.find(settings.table, {"correlation_id": NO_SUCH_TICKET}, limit=1)
    if hidden := [name for name in RESERVED if records and name not in records[0]]:
        raise Permanent(f"{settings.username} cannot read {' and '.join(hidden)}; let it read and write them.")
    words = [f"{settings.username} can read the table {settings.table} at {settings.base_url}."]
    if not records:
        words.append("It shows no record: it is empty, or an access rule hides its records from this user.")
    if settings.base_url.startswith("http:"):
        words.append("The address is not https: credentials and records travel unprotected.")
    return " ".join(words)


def _auth_of(endpoint: Endpoint) -> Auth:
    settings: ItsmSettings = endpoint.settings
    if settings.auth == "basic":
        return BasicAuth(settings.username, _secret(endpoint, "password").reveal())
    secret = _secret(endpoint, "client_secret")
    kept = _tokens.get(endpoint.http)
    if kept is not None and kept[:2] == (settings, secret):
        return kept[2]
    auth = ClientCredentials(settings.client_id or "", secret.reveal())
    _tokens[endpoint.http] = (settings, secret, auth)
    return auth


def _secret(endpoint: Endpoint, name: str) -> Secret:
    secret = endpoint.secrets.get(name)
    if not secret:
        raise AuthExpired(f"The endpoint {endpoint.name} has no {name}; enter it.")
    return secret
