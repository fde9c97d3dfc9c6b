"""The running receiver: it verifies each message, takes it once by its id, and does wrong when it is told to."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

import connector_simulation
from busbar_webhook.simulator.effects import Effect
from busbar_webhook.simulator.verification import BadMessage, key_of, verified_id
from connector_simulation import (
    KINDS,
    ApiRequest,
    ApiResponse,
    Misbehaviour,
    Refusal,
    SimulatorServer,
    answer,
    running,
    started,
    system_clock,
)

PATH = "/webhook"
PING = "busbar.ping"
LOGIN_PAGE = b"<!DOCTYPE html><html><body><h1>Please sign in</h1></body></html>"


class Options(connector_simulation.Options, frozen=True, kw_only=True):
    """How the receiver starts, and what a reset goes back to."""

    secret: str | None = None
    """Signs what is taken, `whsec_` and base64; None: a random one."""


class Secrets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /_simulator/secrets."""

    secrets: tuple[str, ...]
    """A message needs the signature of one of them."""


class Simulator(SimulatorServer[Effect]):
    """One receiver, run by `run_simulator` or `start_simulator`; it takes messages at `url` + `PATH`."""

    NAME = "Webhook receiver"
    KINDS: Mapping[str, float] = {**KINDS, "gone": 0.0, "redirect": 0.0, "refused": 0.0}
    API_PATH = PATH

    def __init__(self, options: Options, *, clock: Callable[[], datetime] = system_clock) -> None:
        super().__init__(options, Effect, clock=clock)
        if options.secret is not None:
            self.webhook_secret = options.secret
        self.control.handlers |= {("POST", "secrets"): self._change_secrets}
        self.start_anew()

    @property
    def address(self) -> str:
        """Where it takes messages."""
        return self.url + PATH

    @property
    def endpoint_settings(self) -> dict[str, Any]:
        """The settings of a sender's endpoint that reaches this receiver."""
        return {"url": self.address, "receiver_deduplicates": True}

    @property
    def endpoint_secrets(self) -> dict[str, str]:
        """The secrets of such an endpoint."""
        return {"webhook_secret": self.webhook_secret}

    def accept(self, *secrets: str) -> None:
        """Take what one of these secrets has signed, from now on. Raises ValueError for a bad one, or none."""
        if not secrets:
            raise ValueError("there must be a secret")
        for secret in secrets:
            key_of(secret)
        self._secrets = secrets

    def messages(self, subject: str | None = None) -> list[Effect]:
        """What was taken, once each, in order."""
        return self.effect_log.select({"subject": subject})

    def received(self, webhook_id: str) -> int:
        """How often a message with this id and a good signature came."""
        return self._received.get(webhook_id, 0)

    async def wait_for_messages(self, count: int, *, timeout_s: float = 10.0) -> list[Effect]:
        """What was taken, as soon as there are `count`. Raises TimeoutError."""
        return await self.effect_log.wait(count, {}, timeout_s=timeout_s)

    def start_anew(self) -> None:
        """Go back to no messages, and to the secret of the start."""
        self._received: dict[str, int] = {}
        self.accept(self.webhook_secret)

    def restore(self, effect: Effect) -> None:
        """Know a message again."""
        self._received[effect.webhook_id] = 1

    def respond(self, request: ApiRequest) -> ApiResponse:
        """Verify a message, and take it unless it is there already."""
        if request.path != PATH or request.method != "POST":
            return answer(404, {"error": f"There is only POST {PATH}"})
        try:
            webhook_id = verified_id(request.headers, request.body, secrets=self._secrets, now=self._clock())
            document = msgspec.json.decode(request.body, type=dict[str, Any])
        except BadMessage as error:
            return answer(401, {"error": str(error)})
        except (ValueError, RecursionError) as error:
            return answer(400, {"error": str(error)})
        if document.get("type") == PING:
            return ApiResponse(status=204)
        self._received[webhook_id] = self._received.get(webhook_id, 0) + 1
        if self._received[webhook_id] > 1:
            return answer(200, {"duplicate": True})
        self._take(request, webhook_id, document)
        return answer(200, {"duplicate": False})

    def respond_badly(self, request: ApiRequest, trouble: Misbehaviour) -> ApiResponse:
        """The answer for each kind of trouble; a `wrong_body` takes the message all the same, for 200 says so."""
        if trouble.kind == "wrong_body":
            self.respond(request)
            return ApiResponse(status=200, body=LOGIN_PAGE, headers={"Content-Type": "text/html"})
        if trouble.kind == "rate_limit":
            return answer(429, {"error": "too many"}, headers={"Retry-After": str(int(trouble.delay_s or 0))})
        if trouble.kind == "redirect":
            return ApiResponse(status=307, headers={"Location": f"{request.base_url}/elsewhere"})
        statuses = {"unauthorized": 401, "gone": 410, "refused": 422, "server_error": trouble.status}
        return answer(statuses[trouble.kind], {"error": "The simulator was told to fail"})

    def status(self) -> dict[str, Any]:
        """How many messages came, repeated ones too."""
        return {"received": sum(self._received.values())}

    def records(self, request: ApiRequest) -> Any:
        """The messages that were taken, or those about one subject, and how often each came."""
        found = self.messages(request.query.get("subject"))
        told = [
            {
                "webhook_id": one.webhook_id,
                "type": one.type,
                "subject": one.subject,
                "received": self.received(one.webhook_id),
            }
            for one in found
        ]
        return {"count": len(found), "messages": told}

    def change_by_user(self, request: ApiRequest) -> Any:
        """Nobody works at a receiver. Raises Refusal."""
        message = "a receiver only takes messages; nobody changes anything at it"
        raise Refusal(message, answer(405, {"error": message}))

    def _take(self, request: ApiRequest, webhook_id: str, document: dict[str, Any]) -> None:
        self.effect_log.append(
            Effect(
                n=self.effect_log.next_n,
                time=self._clock(),
                method=request.method,
                fields=document,
                changed=tuple(document),
                request_correlation_id=request.headers.get("X-Correlation-ID", ""),
                webhook_id=webhook_id,
                type=str(document.get("type", "")),
                subject=str(document.get("subject", "")),
            )
        )

    def _change_secrets(self, request: ApiRequest) -> Any:
        self.accept(*msgspec.json.decode(request.body, type=Secrets).secrets)
        return {"status": "ok"}


@asynccontextmanager
async def run_simulator(
    options: Options | None = None, *, clock: Callable[[], datetime] = system_clock
) -> AsyncIterator[Simulator]:
    """Run a receiver in this process, for the length of an `async with` block."""
    async with running(Simulator(options or Options(), clock=clock)) as simulator:
        yield simulator


async def start_simulator(host: str, port: int, state_file: Path | None = None) -> Simulator:
    """Start a receiver on a host and port (0: any free one), with a made-up secret; the caller stops it.

    The TLS port is the one after `port`. What was taken is restored from `state_file`, and appended to it.
    """
    return await started(Simulator(Options(host=host, port=port, tls_port=port and port + 1, state_file=state_file)))
