"""The control API below /_simulator/: look at what happened, make the instance misbehave, change records as a user."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from busbar_itsm.simulator.incidents import RuleBroken
from busbar_itsm.simulator.messages import ApiError, ApiRequest, ApiResponse, answer, not_found
from busbar_itsm.simulator.misbehaviour import Misbehaviour
from busbar_itsm.simulator.records import UnknownTable
from busbar_itsm.simulator.webhook import Webhook

if TYPE_CHECKING:
    from busbar_itsm.simulator.server import Simulator

PREFIX = "/_simulator/"
EFFECTS_PER_ANSWER_MAX = 10_000


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change that a ServiceNow user makes; the record is named by sys_id, or by its correlation_id."""

    sys_id: str = ""
    correlation_id: str = ""
    fields: dict[str, Any]
    table: str = "incident"
    user: str = "service.desk"


class RateLimitRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    requests_max: int | None
    """None switches the rule off."""
    window_s: int = 3600


def handle(simulator: "Simulator", request: ApiRequest) -> ApiResponse:
    """Answer one request below /_simulator/. It needs no credentials: it is for the test that owns the simulator."""
    name = request.path.removeprefix(PREFIX).strip("/")
    handler = _HANDLERS.get((request.method, name))
    if handler is None:
        known = ", ".join(f"{method} {PREFIX}{path}" for method, path in sorted(_HANDLERS))
        return ApiError(404, f"No {request.method} {request.path}", f"There are: {known}").response
    try:
        return answer(200, handler(simulator, request))
    except ApiError as error:
        return error.response
    except (ValueError, RecursionError) as error:
        return ApiError(400, str(error)).response


def _status(simulator: "Simulator", request: ApiRequest) -> Any:
    return {
        "status": "ok",
        "requests": simulator.requests,
        "effects": len(simulator.effects),
        "misbehaviours": simulator.misbehaviours.active,
        "rate_limit": simulator.rate_limit_rule,
        "webhook": simulator.webhooks.webhook.url if simulator.webhooks.webhook else None,
    }


def _effects(simulator: "Simulator", request: ApiRequest) -> Any:
    query = request.query
    found = simulator.effect_log.select(
        method=query.get("method"),
        table=query.get("table"),
        sys_id=query.get("sys_id"),
        correlation_id=query.get("correlation_id"),
        request_correlation_id=query.get("request_correlation_id"),
        after_n=int(query.get("after_n", "0")),
    )
    limit = min(int(query.get("limit", str(EFFECTS_PER_ANSWER_MAX))), EFFECTS_PER_ANSWER_MAX)
    return {"total": len(found), "effects": found[:limit]}


def _records(simulator: "Simulator", request: ApiRequest) -> Any:
    tables = simulator.api.records.tables
    incidents = tables["incident"]
    wanted = request.query.get("correlation_id")
    if wanted is not None:
        found = list(incidents.where("correlation_id", wanted) or ())
        return {"count": len(found), "records": found}
    return {
        "count": len(incidents.by_sys_id),
        "shared_correlation_ids": incidents.shared_values("correlation_id"),
        "tables": {name: len(rows.by_sys_id) for name, rows in tables.items()},
    }


def _misbehaviours(simulator: "Simulator", request: ApiRequest) -> Any:
    return {"misbehaviours": simulator.misbehaviours.active}


def _misbehave(simulator: "Simulator", request: ApiRequest) -> Any:
    simulator.misbehaviours.add(msgspec.json.decode(request.body, type=Misbehaviour))
    return _misbehaviours(simulator, request)


def _behave(simulator: "Simulator", request: ApiRequest) -> Any:
    simulator.misbehaviours.clear(request.query.get("kind"))
    return _misbehaviours(simulator, request)


def _rate_limit(simulator: "Simulator", request: ApiRequest) -> Any:
    rule = msgspec.json.decode(request.body, type=RateLimitRule)
    simulator.set_rate_limit(rule.requests_max, window_s=rule.window_s)
    return {"rate_limit": simulator.rate_limit_rule}


def _reset(simulator: "Simulator", request: ApiRequest) -> Any:
    simulator.reset()
    return {"status": "ok"}


def _revoke_tokens(simulator: "Simulator", request: ApiRequest) -> Any:
    simulator.accounts.revoke_tokens()
    return {"status": "ok"}


def _change(simulator: "Simulator", request: ApiRequest) -> Any:
    change = msgspec.json.decode(request.body, type=Change)
    try:
        return {
            "result": simulator.change(
                sys_id=change.sys_id,
                correlation_id=change.correlation_id,
                fields=change.fields,
                table=change.table,
                user=change.user,
            )
        }
    except KeyError:
        raise not_found() from None
    except UnknownTable as error:
        raise ApiError(400, f"Invalid table {error}") from None
    except RuleBroken as broken:
        raise ApiError(403, "Operation Failed", str(broken)) from None


def _set_webhook(simulator: "Simulator", request: ApiRequest) -> Any:
    simulator.webhooks.configure(msgspec.json.decode(request.body, type=Webhook))
    return _webhooks(simulator, request)


def _remove_webhook(simulator: "Simulator", request: ApiRequest) -> Any:
    simulator.webhooks.configure(None)
    return _webhooks(simulator, request)


def _webhooks(simulator: "Simulator", request: ApiRequest) -> Any:
    sender = simulator.webhooks
    deliveries = [
        {"webhook_id": one.webhook_id, "attempts": one.attempts, "status": one.status, "delivered": one.delivered}
        for one in sender.deliveries
    ]
    return {"url": sender.webhook.url if sender.webhook else None, "deliveries": deliveries}


_HANDLERS: dict[tuple[str, str], Callable[["Simulator", ApiRequest], Any]] = {
    ("GET", "status"): _status,
    ("GET", "effects"): _effects,
    ("GET", "records"): _records,
    ("GET", "misbehave"): _misbehaviours,
    ("POST", "misbehave"): _misbehave,
    ("DELETE", "misbehave"): _behave,
    ("POST", "rate-limit"): _rate_limit,
    ("POST", "reset"): _reset,
    ("POST", "revoke-tokens"): _revoke_tokens,
    ("POST", "change"): _change,
    ("GET", "webhook"): _webhooks,
    ("POST", "webhook"): _set_webhook,
    ("DELETE", "webhook"): _remove_webhook,
}
