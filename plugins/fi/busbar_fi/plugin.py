"""Finance, as the core sees it: what it declares."""

from importlib.metadata import version

from busbar.sdk import PluginInfo, hookimpl


@hookimpl
def busbar_plugin() -> PluginInfo:
    return PluginInfo(name="fi", title="Finance", version=version("busbar-fi"), core=">=0.1,<0.2", module=True)
