"""What one event of materials management means for SAP, as requests for a runner that is not Busbar's own."""

from collections.abc import Mapping
from typing import Any

import msgspec

from busbar.sdk import Attempt, Endpoint, Permanent
from busbar_erp import calls, documents, movements, requisitions
from busbar_erp.answers import Refused
from busbar_erp.calls import Call
from busbar_erp.facts import Facts, RequisitionApproved, RequisitionCancelled, StockChanged, facts_of
from busbar_erp.model import MATERIAL_DOCUMENTS, REQUISITIONS, services
from busbar_erp.movements import KEY
from busbar_erp.settings import ErpSettings


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """What the mapping table says of the documents that an event is about."""

    short_id: str
    """Of the document to be made or changed; of the one to be cancelled."""
    refers_to: movements.Known = movements.Known()


async def prepare(endpoint: Endpoint, attempt: Attempt) -> Mapping[str, Any]:
    """Reserve the documents of the event, as a delivery would, so that what SAP says of them later is understood.

    Raises Permanent, or NothingToTell for what means nothing to SAP.
    """
    noted = await _noted(endpoint, _handed_over(attempt))
    known: dict[str, Any] = msgspec.to_builtins(noted)
    return known


async def _noted(endpoint: Endpoint, facts: Facts) -> Noted:
    match facts:
        case RequisitionApproved() as approved:
            return Noted(short_id=(await requisitions.reserve_new(endpoint, approved)).short_id)
        case RequisitionCancelled() as cancelled:
            return Noted(short_id=(await requisitions.reserve_withdrawn(endpoint, cancelled)).short_id)
        case StockChanged(reverses_transaction_id=str(original)) as stock:
            posted = await documents.find(endpoint.endpoint_id, "movement", original)
            if posted is None:
                raise Permanent(movements.missing(original))
            await movements.reserve(endpoint, "reversal", stock)
            return Noted(short_id=posted.short_id)
        case StockChanged() as stock:
            refers_to = await movements.known_of(endpoint, stock)
            return Noted(short_id=(await movements.reserve(endpoint, "movement", stock)).short_id, refers_to=refers_to)
    raise AssertionError("maintenance is not handed over")


def compose(settings: ErpSettings, attempt: Attempt) -> Mapping[str, Any]:
    """How to look for the document, and what to send if it is not there; `attempt.known` is what `prepare` gave.

    The form is told in docs/how-to/run-camel.md. Raises Permanent or NothingToTell.
    """
    facts = _handed_over(attempt)
    noted = msgspec.convert(attempt.known, Noted)
    try:
        match facts:
            case RequisitionApproved() as approved:
                return _requisition(approved, noted, attempt, settings)
            case RequisitionCancelled():
                return _withdrawal(noted, settings)
            case StockChanged(reverses_transaction_id=str(original)) as stock:
                return _cancellation(stock, original, noted, settings)
            case StockChanged() as stock:
                return _movement(stock, noted, attempt, settings)
    except Refused as error:
        raise Permanent(f"This cannot be sent to SAP: {error}") from error
    raise AssertionError("maintenance is not handed over")


def _handed_over(attempt: Attempt) -> Facts:
    """The facts of an event that another runner can deliver."""
    facts = facts_of(attempt.event)
    if isinstance(facts, RequisitionApproved | RequisitionCancelled | StockChanged):
        return facts
    raise Permanent(
        f"Camel does not tell SAP of {attempt.event.get('type')}: maintenance needs Busbar's own runner. Route these "
        "events to an endpoint whose runner is busbar, or set this one's, and replay."
    )


def _requisition(
    facts: RequisitionApproved, noted: Noted, attempt: Attempt, settings: ErpSettings
) -> Mapping[str, Any]:
    body = requisitions.with_reference(requisitions.body_of_new(facts, attempt, settings), noted.short_id)
    return {
        "operation": "create",
        "token": _token(REQUISITIONS, settings),
        "look": _request(calls.find(**requisitions.looked_for(noted.short_id)), settings),
        "found": list(requisitions.NUMBER),
        "create": _request(calls.create(REQUISITIONS, requisitions.HEADERS, body), settings),
    }


def _withdrawal(noted: Noted, settings: ErpSettings) -> Mapping[str, Any]:
    service = services()[REQUISITIONS]
    key = ",".join(f"{name}='{_place(name)}'" for name in requisitions.ITEM_KEY)
    change = Call(path=f"{service.path}/{requisitions.ITEMS}({key})", body=requisitions.FLAGGED)
    return {
        "operation": "change",
        "token": _token(REQUISITIONS, settings),
        "look": _request(calls.find(**requisitions.looked_for(noted.short_id)), settings),
        "found": list(requisitions.NUMBER),
        "change": _request(change, settings),
        "none": requisitions.NEVER_HAD,
    }


def _movement(facts: StockChanged, noted: Noted, attempt: Attempt, settings: ErpSettings) -> Mapping[str, Any]:
    body = movements.body_of_new(facts, noted.refers_to, attempt, settings)
    sent = {**body, "ReferenceDocument": noted.short_id}
    return {
        "operation": "create",
        "token": _token(MATERIAL_DOCUMENTS, settings),
        "look": _request(calls.find(**movements.looked_for(noted.short_id)), settings),
        "found": list(KEY),
        "create": _request(calls.create(MATERIAL_DOCUMENTS, movements.HEADERS, sent), settings),
    }


def _cancellation(facts: StockChanged, original: str, noted: Noted, settings: ErpSettings) -> Mapping[str, Any]:
    conditions = [f"Reversed{name} eq '{_place(name)}'" for name in KEY]
    look = calls.find(MATERIAL_DOCUMENTS, movements.ITEMS, conditions=conditions, top=1)
    call = calls.function(MATERIAL_DOCUMENTS, "Cancel", {"PostingDate": movements.posting_date(facts, settings)})
    places = {name: f"'{_place(name)}'" for name in KEY}
    return {
        "operation": "cancel",
        "token": _token(MATERIAL_DOCUMENTS, settings),
        "original": _request(calls.find(**movements.looked_for(noted.short_id)), settings),
        "missing": movements.missing(original),
        "look": _request(look, settings),
        "found": list(KEY),
        "call": _request(Call(path=call.path, query={**places, **call.query}), settings),
    }


def _token(service: str, settings: ErpSettings) -> dict[str, Any]:
    return _request(Call(path=f"{services()[service].path}/"), settings)


def _request(call: Call, settings: ErpSettings) -> dict[str, Any]:
    system = {"sap-client": settings.sap_client, "sap-language": settings.language}
    query = {name: text for name, text in system.items() if text} | dict(call.query)
    return {"path": call.path, "query": query, **({} if call.body is None else {"body": call.body})}


def _place(name: str) -> str:
    """Stands for a field of the document that was found."""
    return f"{{{name}}}"
