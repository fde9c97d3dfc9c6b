"""The ERP connector, as the core sees it: what it declares."""

from collections.abc import Sequence
from importlib.metadata import version

from busbar.sdk import Connector, DeliveryClass, PluginInfo, SchemaApp, hookimpl
from busbar_erp.composing import compose, prepare
from busbar_erp.connection import test_connection
from busbar_erp.delivery import deliver
from busbar_erp.inbound import receive
from busbar_erp.polling import poll
from busbar_erp.settings import SECRETS, ErpSettings
from busbar_erp.simulator import start_simulator
from busbar_erp.tables import TABLES


@hookimpl
def busbar_plugin() -> PluginInfo:
    return PluginInfo(name="erp", title="ERP (SAP S/4HANA)", version=version("busbar-erp"), core=">=0.1,<0.2")


@hookimpl
def busbar_schema() -> SchemaApp:
    return SchemaApp(name="erp", tables=TABLES, migrations="busbar_erp.migrations")


@hookimpl
def busbar_connectors() -> Sequence[Connector]:
    return (
        Connector(
            kind="erp",
            title="SAP S/4HANA, or what speaks its OData services",
            delivery_class=DeliveryClass.B,
            settings=ErpSettings,
            secrets=SECRETS,
            deliver=deliver,
            compose=compose,
            prepare=prepare,
            test_connection=test_connection,
            receive=receive,
            poll=poll,
            simulator=start_simulator,
            default_pattern="MM_*",
        ),
    )
