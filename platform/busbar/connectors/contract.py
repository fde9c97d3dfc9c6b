"""What a connector declares, what it is handed for each delivery, and how it says what happened."""

import base64
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, quote_plus

import aiohttp
import msgspec

from busbar.connectors.secrets import Secret
from busbar.kit.clock import Clock
from busbar.observability.redaction import REDACTED, redacted_text

REDACTED_CHARACTERS_MIN: Final = 4
"""A shorter secret would take half of every sentence with it."""
REDACTED_PART_CHARACTERS_MIN: Final = 12
"""A shorter word of a secret, such as `Bearer`, is none."""

_KIND = re.compile(r"[a-z][a-z0-9_]{1,30}")


class DeliveryClass(Enum):
    """What the remote system does for exactly-once effects; A and B promise them (DESIGN section 8)."""

    A = "A"
    """The remote honours our key: sending twice is one effect, as with an upsert by external id."""
    B = "B"
    """Look before create: the remote can be asked whether it has our correlation id already."""
    C = "C"
    """Neither. After an attempt without an answer a duplicate is possible, and is flagged."""


class DeliveryError(Exception):
    """An attempt failed; `detail` is one sentence for the operator, without secrets or the remote's whole answer."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Retryable(DeliveryError):
    """The remote cannot take it now. `after_s` is the shortest wait in seconds, where the remote named one.

    `uncertain` says that the request may have reached the remote: a class C delivery is then flagged.
    """

    def __init__(self, detail: str, *, after_s: float | None = None, uncertain: bool = False) -> None:
        super().__init__(detail)
        self.after_s = after_s
        self.uncertain = uncertain


class Permanent(DeliveryError):
    """The remote will never take it as it is: straight to the dead letters, to be corrected and replayed."""


class RateLimited(DeliveryError):
    """The quota is used up: the endpoint pauses `until` (aware UTC), and this does not count as an attempt."""

    def __init__(self, detail: str, *, until: datetime) -> None:
        super().__init__(detail)
        if until.tzinfo is None:
            raise ValueError("RateLimited.until must be an aware datetime.")
        self.until = until


class AuthExpired(DeliveryError):
    """The credentials no longer work: the endpoint pauses until somebody enters new ones."""


class NothingToTell(DeliveryError):
    """The event means nothing to this remote: nothing was sent, and the delivery ends as skipped, with the reason."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The remote has it."""

    remote_id: str
    """Id of the record at the remote, for example the `sys_id` or number of an incident."""
    remote_url: str | None = None
    """Address of the record for a person's browser."""
    detail: str | None = None
    duplicate: bool = False
    """The remote had it already, from an earlier attempt whose answer was lost."""
    once: bool = False
    """This remote is known to keep our key, though others of its kind need not: a repeated attempt was one effect, and
    a class C delivery is not flagged."""
    marker: str | None = None
    """What this write left in the record, such as its new revision: `RemoteChange.marker` with the same text is the
    echo of it."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try to deliver one event."""

    number: int
    """Counts from 1, over replays too."""
    first: bool
    """No earlier attempt can have had an effect: class B may create without looking."""
    delivery_id: str
    """Stays the same over all attempts: the idempotency key for class A."""
    correlation_id: str
    event: Mapping[str, Any]
    """The CloudEvent, as its JSON object."""
    document: Mapping[str, Any] | None = None
    """The fields that the route's mapping made, or None when the route has no mapping."""
    remote_id: str | None = None
    """Id of the subject's record at this remote, once an earlier delivery has learnt it."""
    known: Mapping[str, Any] = {}
    """For `Connector.compose`: what `Connector.prepare` found."""


class InboundMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook whose signature has been verified."""

    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class RemoteChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change that somebody made at the remote."""

    remote_id: str
    ticket_id: str | None = None
    """Busbar's ticket where the message names it; otherwise it is found by `remote_id`."""
    status: str | None = None
    """The ticket status that it means, in Busbar's words, or None when the status did not change."""
    comment: str | None = None
    marker: str | None = None
    """What Busbar wrote into the record at its own last change: lets the echo of it be dropped."""


class Polled(msgspec.Struct, frozen=True, kw_only=True):
    """What a poll has found."""

    changes: tuple[RemoteChange, ...]
    """In the order in which they were made; each needs its `marker`, by which it is taken once."""
    cursor: str
    """Where the next poll goes on; opaque to Busbar."""


class ConnectionReport(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of "test connection"."""

    ok: bool
    detail: str
    """One sentence that names the cause and the cure, when it is not ok."""
    latency_ms: float | None = None


class SecretBag(Mapping[str, Secret]):
    """The secrets of one endpoint by name; printing it shows the names only."""

    def __init__(self, secrets: Mapping[str, Secret]) -> None:
        self._secrets = dict(secrets)

    def __getitem__(self, name: str) -> Secret:
        return self._secrets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._secrets)

    def __len__(self) -> int:
        return len(self._secrets)

    def __repr__(self) -> str:
        return f"SecretBag({', '.join(self._secrets)})"

    def redacted(self, text: str) -> str:
        """`text` without the values of these secrets, in any form in which an error of a client may carry them."""
        for secret in self._secrets.values():
            value = secret.reveal()
            # One of several signing secrets, or a token without its scheme, is as secret as the whole.
            for part in (value, *(part for part in value.split() if len(part) >= REDACTED_PART_CHARACTERS_MIN)):
                for form in _forms(part):
                    text = text.replace(form, REDACTED)
        return redacted_text(text)


def _forms(value: str) -> list[str]:
    """How a value may be written: as it is, in JSON, in an address, in base64; the longest first."""
    if len(value) < REDACTED_CHARACTERS_MIN:
        return []
    forms = {value, json.dumps(value)[1:-1], repr(value)[1:-1], quote(value, safe=""), quote_plus(value)}
    forms.add(base64.b64encode(value.encode()).decode())
    return sorted(forms, key=len, reverse=True)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One configured instance of a connector, as its code sees it during a call."""

    endpoint_id: str
    name: str
    sites: tuple[str, ...]
    """Site ids; empty means all sites."""
    settings: Any
    """An instance of the connector's settings struct."""
    secrets: SecretBag
    http: aiohttp.ClientSession
    """The only way out: it refuses what the operator has not allowed, redirects, proxies, and a `read()` over 4 MiB."""
    clock: Clock


class RunningSimulator(Protocol):
    """A simulator that listens."""

    url: str
    """Base address, for people."""

    @property
    def endpoint_settings(self) -> Mapping[str, Any]:
        """The settings of an endpoint that reaches it."""

    @property
    def endpoint_secrets(self) -> Mapping[str, str]:
        """The secrets of such an endpoint, `webhook_secret` among them."""

    def tell(self, address: str) -> None:
        """Send a webhook, signed with `webhook_secret`, to this address when a simulated user changes something."""

    async def stop(self) -> None:
        """Close the listener and let go of everything."""


Deliver = Callable[[Endpoint, Attempt], Awaitable[Receipt]]
Compose = Callable[[Any, Attempt], Mapping[str, Any]]
Prepare = Callable[[Endpoint, Attempt], Awaitable[Mapping[str, Any]]]
TestConnection = Callable[[Endpoint], Awaitable[ConnectionReport]]
Receive = Callable[[Endpoint, InboundMessage], Awaitable[tuple[RemoteChange, ...]]]
Poll = Callable[[Endpoint, str | None], Awaitable[Polled]]
RetryWaits = Callable[[Any], tuple[float, ...]]
StartSimulator = Callable[[str, int, Path], Awaitable[RunningSimulator]]


class Connector(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of external system. Raises ValueError or TypeError with one sentence when it is declared wrongly."""

    kind: str
    """One word for code, addresses and permissions: lower-case letters, digits and underscores, such as `itsm`."""
    title: str
    delivery_class: DeliveryClass
    settings: type[msgspec.Struct]
    """Becomes the JSON Schema of the endpoint's form. The platform itself reads `ca_file`, where there is one: a PEM
    file of the utility's own certification authority."""
    secrets: tuple[str, ...] = ()
    """Names of values that are written, never read back."""
    deliver: Deliver
    """Deliver one event; raises Retryable, Permanent, RateLimited, AuthExpired or NothingToTell."""
    compose: Compose | None = None
    """What `deliver` would do at the remote, for another runner to do it (`runner: camel`): made of the settings and
    the attempt alone, as what JSON can hold. Raises Permanent or NothingToTell. None: only Busbar can deliver."""
    prepare: Prepare | None = None
    """Called before `compose` by a connector with tables of its own: notes there what `deliver` would note, and returns
    `Attempt.known`. It must not ask the remote. Raises Permanent or NothingToTell."""
    test_connection: TestConnection
    """Reach the remote with these credentials and change nothing; reports failure, does not raise it."""
    receive: Receive | None = None
    """Read a verified webhook; an empty tuple means there is nothing in it for Busbar."""
    poll: Poll | None = None
    """Ask the remote what changed since the cursor of the last poll (None at first), for systems that send no webhooks.
    Called every `poll_s` seconds, a setting of the endpoint that such a connector has; 0 means never."""
    simulator: StartSimulator | None = None
    """Start a simulator of the remote on a host and port (0: any free one), with its effects in a file that it
    restores itself from."""
    default_pattern: str
    """Event pattern that a new route to this connector starts with, such as `pm.*`."""
    retry_waits: RetryWaits | None = None
    """The waits in seconds after the first, second, … failed attempt at one delivery while the remote works, by the
    endpoint's settings; each is kept to a tenth, and the last repeats itself. None or an empty tuple: Busbar's own."""

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise ValueError(f"Connector kind {self.kind!r} must be lower-case letters, digits and underscores.")
        if not (isinstance(self.settings, type) and issubclass(self.settings, msgspec.Struct)):
            raise TypeError(f"Connector {self.kind}: settings must be a msgspec.Struct class.")
        for name in self.secrets:
            if not _KIND.fullmatch(name):
                raise ValueError(
                    f"Connector {self.kind}: the secret name {name!r} must be lower-case letters and digits."
                )
        if len(set(self.secrets)) != len(self.secrets):
            raise ValueError(f"Connector {self.kind}: a secret name stands twice.")
        fields = {field.name for field in msgspec.structs.fields(self.settings)}
        if self.poll is not None and "poll_s" not in fields:
            raise ValueError(f"Connector {self.kind}: one that polls needs the setting poll_s, seconds between polls.")
        if both := fields.intersection(self.secrets):
            raise ValueError(
                f"Connector {self.kind}: {', '.join(sorted(both))} is a setting and a secret; keep the secret."
            )
        for role in ("deliver", "prepare", "test_connection", "receive", "poll", "simulator"):
            function = getattr(self, role)
            if function is not None and not _is_async(function):
                raise TypeError(f"Connector {self.kind}: {role} must be an async function.")
        if self.compose is not None and _is_async(self.compose):
            raise TypeError(f"Connector {self.kind}: compose must not be an async function; prepare is for what waits.")
        if self.prepare is not None and self.compose is None:
            raise ValueError(f"Connector {self.kind}: prepare is for a connector that composes.")


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
