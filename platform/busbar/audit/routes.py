"""The HTTP side of the trail: reading it, exporting its head, and checking it."""

import asyncio
from datetime import datetime
from typing import Annotated, Final

from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter, SkipValidation

from busbar.audit import queries, sealer
from busbar.audit.queries import AuditEntryView, AuditFilter
from busbar.audit.sealer import SealHead, Verification
from busbar.audit.trail import ContextOfEntry
from busbar.errors import FieldError, InvalidPayload, Unavailable
from busbar.web.access import needs
from busbar.web.pagination import CursorParameter, LimitParameter, Page, SortParameter
from busbar.web.text import SINGLE_LINE

# The context itself is made by the layer above; here only its shape is known.
Ctx = NamedDependency[SkipValidation[ContextOfEntry]]

ActorFilter = Annotated[
    str | None,
    QueryParameter(name="actor", max_length=120, pattern=SINGLE_LINE, description="Name or id of who acted."),
]
ActionFilter = Annotated[
    str | None, QueryParameter(name="action", max_length=120, pattern=SINGLE_LINE, description="As user.create.")
]
KindFilter = Annotated[
    str | None, QueryParameter(name="object_kind", max_length=60, pattern=SINGLE_LINE, description="As ticket.")
]
ObjectFilter = Annotated[
    str | None, QueryParameter(name="object_id", max_length=120, pattern=SINGLE_LINE, description="What changed.")
]
SiteFilter = Annotated[
    str | None, QueryParameter(name="site", max_length=40, pattern=SINGLE_LINE, description="Site id.")
]
CorrelationFilter = Annotated[
    str | None,
    QueryParameter(name="correlation_id", max_length=128, pattern=SINGLE_LINE, description="Of the request."),
]
SinceFilter = Annotated[datetime | None, QueryParameter(name="since", description="From this moment on (RFC 3339).")]
UntilFilter = Annotated[datetime | None, QueryParameter(name="until", description="Before this moment (RFC 3339).")]
SealNumber = Annotated[
    int | None, QueryParameter(name="seal_id", ge=1, le=2**63 - 1, description="Of a head kept before.")
]
SealHash = Annotated[
    str | None, QueryParameter(name="hash", pattern=r"^[0-9a-f]{64}$(?!\n)", description="Of a head kept before.")
]

_verifying: Final = asyncio.Lock()


@get("/audit", opt=needs("audit.read"))
async def list_audit(
    ctx: Ctx,
    actor: ActorFilter = None,
    action: ActionFilter = None,
    object_kind: KindFilter = None,
    object_id: ObjectFilter = None,
    site: SiteFilter = None,
    correlation_id: CorrelationFilter = None,
    since: SinceFilter = None,
    until: UntilFilter = None,
    limit: LimitParameter = 50,
    cursor: CursorParameter = None,
    sort: SortParameter = None,
) -> Page[AuditEntryView]:
    """Read the trail of who did what, newest first; `sort=audit_id` is oldest first.

    Somebody who works for some sites sees the entries of these.
    """
    asked_for = AuditFilter(
        actor=actor,
        action=action,
        object_kind=object_kind,
        object_id=object_id,
        site_id=site,
        correlation_id=correlation_id,
        since=_aware("since", since),
        until=_aware("until", until),
    )
    return await queries.list_entries(ctx, asked_for, limit=limit, cursor=cursor, sort=sort)


@get("/audit/head", opt=needs("audit.read"))
async def audit_head() -> SealHead:
    """The last seal of the trail. Kept outside of Busbar, it proves later that nothing before it was changed."""
    return await sealer.head()


@get("/audit/verification", opt=needs("audit.read"))
async def verify_audit(seal_id: SealNumber = None, hash_: SealHash = None) -> Verification:
    """Compare the whole trail with its seals, and with a head that was kept before, if `seal_id` and `hash` are given.

    Takes about a second for 50,000 entries; one check runs at a time.
    """
    if (seal_id is None) != (hash_ is None):
        raise InvalidPayload("Give both, seal_id and hash, or neither.")
    if _verifying.locked():
        raise Unavailable("The trail is being checked already; ask again later.", retry_after_s=10)
    async with _verifying:
        anchor = None if seal_id is None or hash_ is None else SealHead(seal_id=seal_id, hash=hash_)
        return await sealer.verify(anchor)


def _aware(field: str, moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        message = "Needs an offset, such as 2026-11-23T08:00:00Z."
        raise InvalidPayload(f"Not accepted: {field}.", errors=[FieldError(field=field, message=message)])
    return moment


ROUTES = (list_audit, audit_head, verify_audit)
"""Below /api/v1."""
