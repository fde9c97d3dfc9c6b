"""The HTTP client that connectors are given, and what its failures mean for a delivery."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import msgspec

from busbar.connectors.contract import AuthExpired, DeliveryError, Permanent, RateLimited, Retryable
from busbar.connectors.egress import Gate
from busbar.connectors.egress_connector import GatedConnector, GatedResponse
from busbar.connectors.egress_url import EgressRefused

RETRY_AFTER_S_MAX = 86_400
RATE_LIMIT_S_DEFAULT = 60
REFUSED_PAUSE_S = 60.0


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of an endpoint's HTTP client."""

    connect_timeout_s: float = 5.0
    """For lookup, connection and TLS together, and for the wait for a free connection."""
    read_timeout_s: float = 20.0
    """Longest silence between two pieces of an answer."""
    total_timeout_s: float = 30.0
    connections_max: int = 4
    keepalive_s: float = 15.0
    ca_file: Path | None = None
    """PEM file of the utility's own certification authority; it is trusted beside the system's."""


def make_session(gate: Gate, *, settings: HttpSettings | None = None) -> aiohttp.ClientSession:
    """A client for one endpoint: gated, limited, with cookies of its own. To be closed by the caller.

    No proxy or .netrc is taken from the environment, a redirect is an error (RedirectRefused), and so is to `read()`
    more than a few MiB (ResponseTooLarge). Connections to what the gate does not allow raise EgressRefused.
    """
    limits = settings or HttpSettings()
    trust = ssl.create_default_context()
    if limits.ca_file is not None:
        trust.load_verify_locations(cafile=limits.ca_file)
    connector = GatedConnector(
        gate,
        ssl=trust,
        limit=limits.connections_max,
        keepalive_timeout=limits.keepalive_s,
    )
    return aiohttp.ClientSession(
        connector=connector,
        response_class=GatedResponse,
        # SAP wants its cookie back with each write, and stands on a bare address often enough: hence unsafe.
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        trust_env=False,
        timeout=aiohttp.ClientTimeout(
            total=limits.total_timeout_s,
            connect=limits.connect_timeout_s,
            sock_connect=limits.connect_timeout_s,
            sock_read=limits.read_timeout_s,
        ),
        headers={"User-Agent": "busbar"},
        max_headers=100,
    )


def failure_of(error: Exception) -> DeliveryError:
    """What an exception of the HTTP client means for the delivery; a DeliveryError is given back as it is.

    An address that the gate refuses is Retryable: the endpoint is set up wrongly, not the message, so its breaker
    opens and the deliveries wait for the operator. Raises TypeError for an exception that is none of the client's.
    """
    if isinstance(error, DeliveryError):
        return error
    if isinstance(error, EgressRefused):
        return Retryable(error.detail, after_s=REFUSED_PAUSE_S)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Retryable("The remote's TLS certificate is not trusted; check it, or name the CA file in the settings.")
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return Retryable(f"No connection to the remote: {type(error).__name__}.")
    if isinstance(error, aiohttp.InvalidURL):
        return Permanent("The address of the request cannot be read.")
    if isinstance(error, (aiohttp.ClientError, TimeoutError)):
        return Retryable(f"The connection broke before the answer was there: {type(error).__name__}.", uncertain=True)
    raise TypeError(f"{type(error).__name__} is not a failure of the HTTP client.") from error


def failure_of_status(status: int, headers: Mapping[str, str], *, now: datetime) -> DeliveryError:
    """What an HTTP status other than 2xx means, for a remote without rules of its own.

    429 pauses the endpoint as long as Retry-After says (a minute without it, a day at most); 401 means new
    credentials are needed; 408, 425 and 5xx are tried again; everything else is the message's fault.
    """
    after_s = retry_after_s(headers, now=now)
    detail = f"The remote answered {status}."
    if status == 429:
        pause_s = RATE_LIMIT_S_DEFAULT if after_s is None else after_s
        return RateLimited(detail, until=now + timedelta(seconds=pause_s))
    if status == 401:
        return AuthExpired(detail)
    if status in (408, 425) or status >= 500:
        return Retryable(detail, after_s=after_s, uncertain=status not in (425, 503))
    return Permanent(detail)


def retry_after_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds that the Retry-After header asks for (RFC 9110 section 10.2.3), 0 to a day; None if there is none."""
    text = next((value.strip() for name, value in headers.items() if name.lower() == "retry-after"), "")
    if text.isascii() and text.isdigit():
        return float(min(int(text[:9]), RETRY_AFTER_S_MAX))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), float(RETRY_AFTER_S_MAX))
