"""Idempotency keys: a POST that is repeated with the same `Idempotency-Key` has its effect once (DESIGN section 5).

A keyed request runs inside one transaction, together with the record of its answer: there is no moment at which the
effect is stored and the answer is not, so a repeat after a crash finds either both or neither. Requests without a key
do not come here. Only successful answers are kept; a refused request may be corrected and sent again.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from busbar.db import execute, fetchrow, fetchval, transaction
from busbar.errors import BadFormat, Conflict, FieldError, RuleViolated
from busbar.kit.clock import Clock
from busbar.web.access import takes_key

KEPT_DAYS: Final = 30
"""At least as long as a dead letter may be replayed."""
KEY_CHARACTERS_MAX: Final = 255
_KEPT_HEADERS: Final = (b"content-type", b"etag", b"location")

_INSERT = """
insert into core.idempotency (scope, key, fingerprint, status, headers, body, created_at)
values ($1, $2, $3, $4, $5, $6, $7)
"""


class KeyReused(RuleViolated):
    """The key was used for another request already."""

    title = "Idempotency key used before"


class InProgress(Conflict):
    """The first request with this key is still being worked on."""

    title = "In progress"


class _Refused(Exception):
    """Rolls the transaction back after an answer that is not kept."""


def idempotency_middleware(clock: Clock) -> Callable[[ASGIApp], ASGIApp]:
    """For `Litestar(middleware=[...])`, inside of the one that finds the actor."""

    def middleware(app: ASGIApp) -> ASGIApp:
        async def keyed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP or scope["method"] != "POST" or not takes_key(scope["route_handler"]):
                await app(scope, receive, send)
                return
            if (key := _key(scope)) is None:
                await app(scope, receive, send)
                return
            await _once(app, scope, receive, send, key=key, now=clock())

        return keyed

    return middleware


async def forget_old(before: datetime) -> int:
    """Drop the answers that are older than `before`; returns how many."""
    tag = await execute("delete from core.idempotency where created_at < $1", before)
    return int(tag.split()[-1])


def _key(scope: HTTPScope) -> str | None:
    found = [value for name, value in scope["headers"] if name == b"idempotency-key"]
    if not found:
        return None
    key = found[0].decode("latin-1").strip().strip('"')
    if len(found) > 1 or not 1 <= len(key) <= KEY_CHARACTERS_MAX or not (key.isascii() and key.isprintable()):
        error = FieldError(field="Idempotency-Key", message=f"1 to {KEY_CHARACTERS_MAX} printable ASCII characters")
        raise BadFormat("The Idempotency-Key header is not valid.", errors=[error])
    return key


async def _once(app: ASGIApp, scope: HTTPScope, receive: Receive, send: Send, *, key: str, now: datetime) -> None:
    body = await _read(receive)
    # Two callers may choose the same key, and one caller may use it for two addresses.
    whose = f"{getattr(scope.get('user'), 'user_id', '')} {scope['path']}"
    fingerprint = hashlib.sha256(body).hexdigest()
    answer: list[Message] = []

    async def replay_body() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def keep(message: Message) -> None:
        answer.append(message)

    try:
        async with transaction():
            if not await fetchval("select pg_try_advisory_xact_lock(hashtextextended($1, 0))", f"{whose} {key}"):
                raise InProgress("The first request with this key is being worked on.", headers={"Retry-After": "1"})
            known = await fetchrow("select * from core.idempotency where scope = $1 and key = $2", whose, key)
            if known is None:
                await app(scope, replay_body, keep)
                status = answer[0]["status"]  # type: ignore[typeddict-item]  # the start comes first
                if not 200 <= status < 300:
                    raise _Refused
                await execute(_INSERT, whose, key, fingerprint, status, _kept_headers(answer), _body_of(answer), now)
            elif known["fingerprint"] != fingerprint:
                raise KeyReused("This Idempotency-Key was used with another body; take a new key for a new request.")
            else:
                answer = _stored(known)
    except _Refused:
        pass
    for message in answer:
        await send(message)


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message: Any = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _kept_headers(answer: list[Message]) -> str:
    sent = answer[0]["headers"]  # type: ignore[typeddict-item]  # the start comes first
    headers = [(n.decode(), v.decode("latin-1")) for n, v in sent if n.lower() in _KEPT_HEADERS]
    return msgspec.json.encode(headers).decode()


def _body_of(answer: list[Message]) -> bytes:
    return b"".join(message.get("body", b"") for message in answer[1:])  # type: ignore[misc]  # pieces of the body


def _stored(known: Any) -> list[Message]:
    headers = [(n.encode(), v.encode("latin-1")) for n, v in msgspec.json.decode(known["headers"])]
    headers += [(b"idempotency-replayed", b"true"), (b"content-length", str(len(known["body"])).encode())]
    return [
        {"type": "http.response.start", "status": known["status"], "headers": headers},
        {"type": "http.response.body", "body": known["body"], "more_body": False},
    ]
