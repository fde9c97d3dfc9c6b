"""CRM (Salesforce), as the core sees it: what it declares."""

from importlib.metadata import version

from busbar.sdk import PluginInfo, hookimpl


@hookimpl
def busbar_plugin() -> PluginInfo:
    return PluginInfo(name="crm", title="CRM (Salesforce)", version=version("busbar-crm"), core=">=0.1,<0.2")
