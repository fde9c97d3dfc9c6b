"""ERP (SAP S/4HANA), as the core sees it: what it declares."""

from importlib.metadata import version

from busbar.sdk import PluginInfo, hookimpl


@hookimpl
def busbar_plugin() -> PluginInfo:
    return PluginInfo(name="erp", title="ERP (SAP S/4HANA)", version=version("busbar-erp"), core=">=0.1,<0.2")
