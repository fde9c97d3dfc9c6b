"""The control API below /_simulator/: look at what happened, make the system misbehave, change records as a user."""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from connector_simulation.effects import Effect, EffectLog
from connector_simulation.messages import ApiRequest, ApiResponse, Refusal, answer
from connector_simulation.misbehaviour import Misbehaviour, Misbehaviours
from connector_simulation.webhook import Webhook, WebhookSender

PREFIX = "/_simulator/"
EFFECTS_PER_ANSWER_MAX = 10_000

Handler = Callable[[ApiRequest], Any]
"""Makes the document of a 200; may raise Refusal, or ValueError for a 400."""


class Controlled(Protocol):
    """What the control API needs of a simulator."""

    requests: int
    misbehaviours: Misbehaviours
    webhooks: WebhookSender

    @property
    def effect_log(self) -> EffectLog[Any]: ...

    def status(self) -> dict[str, Any]: ...

    def records(self, request: ApiRequest) -> Any: ...

    def change_by_user(self, request: ApiRequest) -> Any: ...

    def reset(self) -> None: ...


class ControlApi:
    """Answers requests below /_simulator/. It needs no credentials: it is for the test that owns the simulator."""

    def __init__(self, simulator: Controlled) -> None:
        self._simulator = simulator
        self.handlers: dict[tuple[str, str], Handler] = {
            ("GET", "status"): self._status,
            ("GET", "effects"): self._effects,
            ("GET", "records"): simulator.records,
            ("GET", "misbehave"): self._misbehaviours,
            ("POST", "misbehave"): self._misbehave,
            ("DELETE", "misbehave"): self._behave,
            ("POST", "reset"): self._reset,
            ("POST", "change"): simulator.change_by_user,
            ("GET", "webhook"): self._webhooks,
            ("POST", "webhook"): self._set_webhook,
            ("DELETE", "webhook"): self._remove_webhook,
        }
        """By method and name; a simulator adds its own."""

    def handle(self, request: ApiRequest) -> ApiResponse:
        """Answer one request. Errors are answers too."""
        name = request.path.removeprefix(PREFIX).strip("/")
        handler = self.handlers.get((request.method, name))
        if handler is None:
            known = ", ".join(f"{method} {PREFIX}{path}" for method, path in sorted(self.handlers))
            return _error(404, f"No {request.method} {request.path}", f"There are: {known}")
        try:
            return answer(200, handler(request))
        except Refusal as refusal:
            return refusal.response
        except (ValueError, RecursionError) as error:
            return _error(400, str(error))

    def _status(self, request: ApiRequest) -> Any:
        simulator = self._simulator
        webhook = simulator.webhooks.webhook
        return {
            "status": "ok",
            "requests": simulator.requests,
            "effects": len(simulator.effect_log.effects),
            "misbehaviours": simulator.misbehaviours.active,
            "webhook": webhook.url if webhook else None,
            **simulator.status(),
        }

    def _effects(self, request: ApiRequest) -> Any:
        query = dict(request.query)
        after_n = int(query.pop("after_n", "0"))
        limit = min(int(query.pop("limit", str(EFFECTS_PER_ANSWER_MAX))), EFFECTS_PER_ANSWER_MAX)
        found: list[Effect] = self._simulator.effect_log.select(query, after_n=after_n)
        return {"total": len(found), "effects": found[:limit]}

    def _misbehaviours(self, request: ApiRequest) -> Any:
        return {"misbehaviours": self._simulator.misbehaviours.active}

    def _misbehave(self, request: ApiRequest) -> Any:
        self._simulator.misbehaviours.add(msgspec.json.decode(request.body, type=Misbehaviour))
        return self._misbehaviours(request)

    def _behave(self, request: ApiRequest) -> Any:
        self._simulator.misbehaviours.clear(request.query.get("kind"))
        return self._misbehaviours(request)

    def _reset(self, request: ApiRequest) -> Any:
        self._simulator.reset()
        return {"status": "ok"}

    def _set_webhook(self, request: ApiRequest) -> Any:
        self._simulator.webhooks.configure(msgspec.json.decode(request.body, type=Webhook))
        return self._webhooks(request)

    def _remove_webhook(self, request: ApiRequest) -> Any:
        self._simulator.webhooks.configure(None)
        return self._webhooks(request)

    def _webhooks(self, request: ApiRequest) -> Any:
        sender = self._simulator.webhooks
        deliveries = [
            {"webhook_id": one.webhook_id, "attempts": one.attempts, "status": one.status, "delivered": one.delivered}
            for one in sender.deliveries
        ]
        return {"url": sender.webhook.url if sender.webhook else None, "deliveries": deliveries}


def _error(status: int, message: str, detail: str | None = None) -> ApiResponse:
    return answer(status, {"error": {"message": message, "detail": detail}, "status": "failure"})
