"""What simulators of remote systems share: a server on HTTP and TLS, the effect log, trouble on purpose, webhooks.

Start reading at `server.py` (what a simulator derives from) and `control.py` (what tests can ask of any of them).
It imports nothing of Busbar and nothing of a plugin.
"""

from connector_simulation.effects import Effect, EffectLog
from connector_simulation.messages import ApiRequest, ApiResponse, Refusal, answer
from connector_simulation.misbehaviour import KINDS, Misbehaviour, Misbehaviours
from connector_simulation.server import Options, SimulatorServer, running, started, system_clock
from connector_simulation.webhook import RETRY_DELAYS_S, Webhook, WebhookDelivery, WebhookSender, sign

__all__ = [
    "KINDS",
    "RETRY_DELAYS_S",
    "ApiRequest",
    "ApiResponse",
    "Effect",
    "EffectLog",
    "Misbehaviour",
    "Misbehaviours",
    "Options",
    "Refusal",
    "SimulatorServer",
    "Webhook",
    "WebhookDelivery",
    "WebhookSender",
    "answer",
    "running",
    "sign",
    "started",
    "system_clock",
]
