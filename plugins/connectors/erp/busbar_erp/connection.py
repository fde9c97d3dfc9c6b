"""The way to an endpoint's system: its client, and the test that tells an operator what is wrong with it."""

import time
from weakref import WeakKeyDictionary

import aiohttp
import msgspec

from busbar.sdk import AuthExpired, ConnectionReport, DeliveryError, Endpoint, Secret
from busbar_erp.auth import Auth, BasicAuth, ClientCredentials, CsrfToken
from busbar_erp.client import ODataClient
from busbar_erp.failures import translated
from busbar_erp.model import COST_CENTERS, MATERIAL_DOCUMENTS, NOTIFICATIONS, ORDERS, REQUISITIONS, STOCK, services
from busbar_erp.settings import ErpSettings

PROBED = {
    COST_CENTERS: "A_CostCenter",
    STOCK: "A_MaterialStock",
    REQUISITIONS: "A_PurchaseRequisitionHeader",
    MATERIAL_DOCUMENTS: "A_MaterialDocumentHeader",
    NOTIFICATIONS: "MaintenanceNotification",
    ORDERS: "MaintenanceOrder",
}
"""The services that deliveries use, and the entity set of each that the connection test reads."""


class _Kept(msgspec.Struct, frozen=True):
    """What outlives one call: the CSRF token belongs to the session's cookie, the OAuth token to the credentials."""

    settings: ErpSettings
    secret: Secret
    auth: Auth
    csrf: CsrfToken


_kept: WeakKeyDictionary[aiohttp.ClientSession, _Kept] = WeakKeyDictionary()


def client_of(endpoint: Endpoint) -> ODataClient:
    """A client for the endpoint's system. Raises AuthExpired when a secret has not been entered."""
    settings: ErpSettings = endpoint.settings
    secret = _secret(endpoint, "password" if settings.auth == "basic" else "client_secret")
    kept = _kept.get(endpoint.http)
    if kept is None or (kept.settings, kept.secret) != (settings, secret):
        auth: Auth = BasicAuth(settings.username, secret.reveal())
        if settings.auth == "oauth":
            auth = ClientCredentials(settings.client_id or "", secret.reveal(), token_path=settings.token_path)
        kept = _kept[endpoint.http] = _Kept(settings, secret, auth, CsrfToken())
    return ODataClient(
        endpoint.http,
        settings.base_url,
        kept.auth,
        csrf=kept.csrf,
        sap_client=settings.sap_client,
        language=settings.language,
        timeout_s=settings.timeout_s,
    )


async def test_connection(endpoint: Endpoint) -> ConnectionReport:
    """Read one entity of each service, and the cost centers that the settings name; nothing is changed."""
    started_s = time.perf_counter()
    try:
        detail = await _probe(endpoint)
    except DeliveryError as error:
        return ConnectionReport(ok=False, detail=error.detail)
    return ConnectionReport(ok=True, detail=detail, latency_ms=(time.perf_counter() - started_s) * 1000)


async def _probe(endpoint: Endpoint) -> str:
    settings: ErpSettings = endpoint.settings
    with translated(endpoint, changing=False):
        client = client_of(endpoint)
        for service, entity_set in PROBED.items():
            await client.find(service, entity_set, top=1)
        wanted = {*settings.cost_centers.values(), *filter(None, [settings.default_cost_center])}
        area = {} if settings.controlling_area is None else {"ControllingArea": settings.controlling_area}
        missing = [
            name
            for name in sorted(wanted)
            if not await client.find(COST_CENTERS, "A_CostCenter", {**area, "CostCenter": name}, top=1)
        ]
    words = [f"{settings.username} can read {len(PROBED)} of {len(services())} services at {settings.base_url}."]
    if missing:
        words.append(f"SAP has no cost center {', '.join(missing)}: correct the settings.")
    if settings.base_url.startswith("http:"):
        words.append("The address is not https: credentials and documents travel unprotected.")
    return " ".join(words)


def _secret(endpoint: Endpoint, name: str) -> Secret:
    secret = endpoint.secrets.get(name)
    if not secret:
        raise AuthExpired(f"The endpoint {endpoint.name} has no {name}; enter it.")
    return secret
