"""The webhook connector, as the core sees it: what it declares."""

from collections.abc import Sequence
from importlib.metadata import version

from busbar.sdk import Connector, DeliveryClass, PluginInfo, hookimpl
from busbar_webhook.connection import test_connection
from busbar_webhook.delivery import deliver
from busbar_webhook.schedule import retry_waits
from busbar_webhook.settings import SECRETS, WebhookSettings
from busbar_webhook.simulator import start_simulator


@hookimpl
def busbar_plugin() -> PluginInfo:
    return PluginInfo(name="webhook", title="Webhooks", version=version("busbar-webhook"), core=">=0.1,<0.2")


@hookimpl
def busbar_connectors() -> Sequence[Connector]:
    return (
        Connector(
            kind="webhook",
            title="Webhook (Standard Webhooks)",
            delivery_class=DeliveryClass.C,
            settings=WebhookSettings,
            secrets=SECRETS,
            deliver=deliver,
            test_connection=test_connection,
            simulator=start_simulator,
            default_pattern="*",
            retry_waits=retry_waits,
        ),
    )
