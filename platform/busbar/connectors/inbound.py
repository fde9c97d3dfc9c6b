"""What comes in from remote systems: a signed webhook, taken once, turned into changes of tickets, without echo."""

import asyncio
import traceback
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import msgspec
import structlog

from busbar.auth.actor import ALL_PERMISSIONS, ALL_SITES, Actor, Context
from busbar.connectors.configuration import WEBHOOK_SECRET
from busbar.connectors.contract import Connector, InboundMessage, Permanent, RemoteChange
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.foreign_text import fit
from busbar.connectors.http import failure_of
from busbar.connectors.open_endpoint import OpenEndpoint
from busbar.connectors.secrets import Secret
from busbar.connectors.signature import (
    BadSignature,
    VerifiedMessage,
    new_signing_secret,
    read_signing_secrets,
    verify,
)
from busbar.db import execute, fetchrow, fetchval, transaction
from busbar.errors import BusbarError, InternalError, NotFound, RuleViolated, Unavailable

log = structlog.get_logger()

RECEIVE_S: Final = 10.0
"""Longest time of a connector's reading of one message."""
CHANGES_MAX: Final = 1_000
NAME_CHARACTERS_MAX: Final = 255
COMMENT_CHARACTERS_MAX: Final = 10_000
OUTCOME_CHARACTERS_MAX: Final = 2_000

_TAKEN = """
select e.version, m.outcome from core.endpoint e
left join core.inbound_message m on m.endpoint_id = e.endpoint_id and m.message_id = $2 where e.endpoint_id = $1
"""
_TAKE = """
insert into core.inbound_message (endpoint_id, message_id, received_at, outcome) values ($1, $2, $3, '')
on conflict (endpoint_id, message_id) do nothing returning id
"""
_OUTCOME = "select outcome from core.inbound_message where endpoint_id = $1 and message_id = $2"
_BY_REMOTE_ID = """
select subject, marker from core.remote_reference where endpoint_id = $1 and remote_id = $2 order by id desc limit 1
"""
_BY_SUBJECT = "select subject, marker from core.remote_reference where endpoint_id = $1 and subject = $2"
_LEARN = """
insert into core.remote_reference (endpoint_id, subject, remote_id, created_at) values ($1, $2, $3, $4)
on conflict (endpoint_id, subject) do nothing
"""


class UnreadableMessage(RuleViolated):
    """The message is signed, and the connector cannot make sense of it; it may be sent again after a fix."""

    title = "Unreadable message"


class ApplyChange(Protocol):
    """Changes a ticket as a remote system says; given by the application, since tickets lie above connectors."""

    async def __call__(self, ctx: Context, ticket_id: str, *, status: str | None, comment: str | None) -> int:
        """Bring the ticket to `status` step by step, and note `comment`; returns how many changes that took.

        Raises:
            NotFound: there is no such ticket at the actor's sites.
            RuleViolated: the life cycle does not allow it; nothing was written.
        """


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a webhook."""

    outcome: str
    ignored: bool = False
    """Nothing in it was for Busbar."""


async def take_webhook(
    ctx: Context,
    desk: EndpointDesk,
    apply_change: ApplyChange,
    endpoint_id: str,
    *,
    headers: Iterable[tuple[str, str]],
    body: bytes,
) -> Taken:
    """Verify a webhook, and apply what it says once, however often it comes.

    `headers` are all header lines as received, duplicates included.

    Raises:
        BadSignature: it is not signed by this endpoint's remote, or there is no such endpoint: a stranger is not told.
        TooLarge: the body has more than 1 MiB.
        UnreadableMessage: the connector cannot read it; nothing was written.
        Unavailable: it cannot be read now; nothing was written, and the sender should try again.
    """
    headers = list(headers)
    endpoint, connector, message = await _verified(ctx, desk, endpoint_id, headers=headers, body=body)
    known = await fetchval(_OUTCOME, endpoint_id, message.message_id)
    if known is not None:
        return Taken(outcome=known)
    lower = {name.lower(): value for name, value in headers}
    changes = await _read(endpoint, connector, InboundMessage(headers=lower, body=body))
    return await take_changes(acting_as(ctx, endpoint), apply_change, endpoint_id, message.message_id, changes)


async def _verified(
    ctx: Context, desk: EndpointDesk, endpoint_id: str, *, headers: list[tuple[str, str]], body: bytes
) -> tuple[OpenEndpoint, Connector, VerifiedMessage]:
    version = await fetchval("select version from core.endpoint where endpoint_id = $1 and active", endpoint_id)
    endpoint = desk.get(endpoint_id)
    if version is not None and (endpoint is None or endpoint.version != version):
        await desk.refresh()
        endpoint = desk.get(endpoint_id)
    usable = version is not None and endpoint is not None and endpoint.connector is not None
    secrets = _signing_secrets(endpoint.secrets) if usable and endpoint is not None else None
    # Without a secret the signature is checked against one that nobody has: same work, same answer.
    message = verify(secrets=secrets or [new_signing_secret()], headers=headers, body=body, now=ctx.clock())
    if secrets is None or endpoint is None or endpoint.connector is None or endpoint.connector.receive is None:
        raise BadSignature("No signature of the webhook matches: another secret, or a changed body.")
    if desk.quarantined(endpoint.kind):
        raise Unavailable(f"The plugin {endpoint.kind} does not work now; send it again later.", retry_after_s=60)
    return endpoint, endpoint.connector, message


def _signing_secrets(secrets: Mapping[str, Secret]) -> tuple[Secret, ...] | None:
    stored = secrets.get(WEBHOOK_SECRET)
    return None if stored is None else read_signing_secrets(stored)


async def _read(endpoint: OpenEndpoint, connector: Connector, message: InboundMessage) -> tuple[RemoteChange, ...]:
    assert connector.receive is not None
    try:
        async with endpoint.in_use() as seen, asyncio.timeout(RECEIVE_S):
            changes = await connector.receive(seen, message)
        read = msgspec.convert(msgspec.to_builtins(changes), tuple[RemoteChange, ...])
    except Exception as error:  # noqa: BLE001 - a connector is a stranger's code
        try:
            failure = failure_of(error)
        except TypeError:
            cause = endpoint.secrets.redacted("".join(traceback.format_exception(error)))
            log.error("webhook_unreadable", endpoint=endpoint.endpoint_id, connector=connector.kind, cause=cause)
            raise UnreadableMessage("The connector cannot read this message.") from None
        detail = endpoint.secrets.redacted(failure.detail)
        if isinstance(failure, Permanent):
            raise UnreadableMessage(detail) from None
        raise Unavailable(detail, retry_after_s=30) from None
    if len(read) > CHANGES_MAX:
        raise UnreadableMessage(f"The message holds {len(read)} changes; at most {CHANGES_MAX} are taken.")
    return tuple(fitted(change) for change in read)


def fitted(change: RemoteChange) -> RemoteChange:
    """The change with its texts cut to what is stored, and without what the database refuses."""

    def cut(text: str | None, characters_max: int = NAME_CHARACTERS_MAX) -> str | None:
        return None if text is None else fit(text, characters_max=characters_max)

    return RemoteChange(
        remote_id=fit(change.remote_id, characters_max=NAME_CHARACTERS_MAX),
        ticket_id=cut(change.ticket_id),
        status=cut(change.status),
        comment=cut(change.comment, COMMENT_CHARACTERS_MAX),
        marker=cut(change.marker),
    )


def acting_as(ctx: Context, endpoint: OpenEndpoint) -> Context:
    """The remote acts as itself, at the endpoint's sites only, and is not told again of what it said."""
    actor = Actor(
        user_id=f"endpoint:{endpoint.endpoint_id}",
        username=endpoint.endpoint_id,
        roles=("System",),
        permissions=frozenset({ALL_PERMISSIONS}),
        sites=endpoint.sites or (ALL_SITES,),
    )
    return msgspec.structs.replace(ctx, actor=actor, origin=endpoint.endpoint_id)


async def take_changes(
    ctx: Context, apply_change: ApplyChange, endpoint_id: str, message_id: str, changes: tuple[RemoteChange, ...]
) -> Taken:
    """One transaction for the message's id and all of its effects: a repeat finds both, or neither (LESSONS D9)."""
    async with transaction():
        # A second copy that comes at the same time waits here until the first one's transaction has ended.
        if await fetchval(_TAKE, endpoint_id, message_id, ctx.clock()) is None:
            return Taken(outcome=await fetchval(_OUTCOME, endpoint_id, message_id))
        outcomes = [await _apply(ctx, apply_change, endpoint_id, change) for change in changes]
        outcome = "; ".join(outcomes) or "ignored: nothing in it is for Busbar"
        outcome = fit(outcome, characters_max=OUTCOME_CHARACTERS_MAX)
        await execute(
            "update core.inbound_message set outcome = $3 where endpoint_id = $1 and message_id = $2",
            endpoint_id,
            message_id,
            outcome,
        )
    log.info("webhook", endpoint=endpoint_id, message_id=message_id, outcome=outcome)
    return Taken(outcome=outcome, ignored=all(text.startswith("ignored") for text in outcomes))


async def _apply(ctx: Context, apply_change: ApplyChange, endpoint_id: str, change: RemoteChange) -> str:
    """What became of one change, as a sentence that starts with `applied`, `unchanged`, `ignored` or `refused`."""
    if change.ticket_id is None:
        known = await fetchrow(_BY_REMOTE_ID, endpoint_id, change.remote_id)
    else:
        known = await fetchrow(_BY_SUBJECT, endpoint_id, change.ticket_id)
    ticket_id = change.ticket_id or (None if known is None else known["subject"])
    if ticket_id is None:
        return f"ignored: {change.remote_id} belongs to no ticket"
    if change.marker is not None and known is not None and known["marker"] == change.marker:
        return f"ignored: the echo of our own change of {ticket_id}"
    if change.status is None and change.comment is None:
        return f"unchanged: {ticket_id}"
    try:
        async with transaction():
            steps = await apply_change(ctx, ticket_id, status=change.status, comment=change.comment)
            await execute(_LEARN, endpoint_id, ticket_id, change.remote_id, ctx.clock())
    except NotFound:
        return f"ignored: there is no ticket {ticket_id} at the endpoint's sites"
    except (Unavailable, InternalError):
        raise
    except BusbarError as error:
        # A rule said no, and would say so to every repeat.
        return f"refused: {error.detail}"
    return f"applied: {ticket_id} {change.status or 'noted'}" if steps else f"unchanged: {ticket_id}"
