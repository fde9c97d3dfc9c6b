"""The CRM connector, as the core sees it: what it declares."""

from collections.abc import Sequence
from importlib.metadata import version

from busbar.sdk import Connector, DeliveryClass, PluginInfo, hookimpl
from busbar_crm.composing import compose
from busbar_crm.connection import test_connection
from busbar_crm.delivery import deliver
from busbar_crm.inbound import receive
from busbar_crm.polling import poll
from busbar_crm.settings import SECRETS, CrmSettings
from busbar_crm.simulator import start_simulator


@hookimpl
def busbar_plugin() -> PluginInfo:
    return PluginInfo(name="crm", title="CRM (Salesforce)", version=version("busbar-crm"), core=">=0.1,<0.2")


@hookimpl
def busbar_connectors() -> Sequence[Connector]:
    return (
        Connector(
            kind="crm",
            title="Salesforce, or what speaks its REST API",
            delivery_class=DeliveryClass.A,
            settings=CrmSettings,
            secrets=SECRETS,
            deliver=deliver,
            compose=compose,
            test_connection=test_connection,
            receive=receive,
            poll=poll,
            simulator=start_simulator,
            default_pattern="FI_*",
        ),
    )
