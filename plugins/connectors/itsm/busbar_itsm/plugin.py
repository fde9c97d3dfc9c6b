"""The ITSM connector, as the core sees it: what it declares."""

from collections.abc import Sequence
from importlib.metadata import version

from busbar.sdk import Connector, DeliveryClass, PluginInfo, hookimpl
from busbar_itsm.composing import compose
from busbar_itsm.connection import test_connection
from busbar_itsm.delivery import deliver
from busbar_itsm.inbound import receive
from busbar_itsm.settings import SECRETS, ItsmSettings
from busbar_itsm.simulator import start_simulator


@hookimpl
def busbar_plugin() -> PluginInfo:
    return PluginInfo(name="itsm", title="ITSM (ServiceNow)", version=version("busbar-itsm"), core=">=0.1,<0.2")


@hookimpl
def busbar_connectors() -> Sequence[Connector]:
    return (
        Connector(
            kind="itsm",
            title="ServiceNow, or what speaks its Table API",
            delivery_class=DeliveryClass.B,
            settings=ItsmSettings,
            secrets=SECRETS,
            deliver=deliver,
            compose=compose,
            test_connection=test_connection,
            receive=receive,
            simulator=start_simulator,
            default_pattern="PM_*",
        ),
    )
