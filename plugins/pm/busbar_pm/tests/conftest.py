"""Two sites with plant maintenance, one without, and people who work there."""

from collections.abc import Sequence

import pytest
import pytest_asyncio

from busbar.sdk import Context, SchemaApp
from busbar.testing.plugins import add_site, context_of, load_plugin, schema_with
from busbar_pm import plugin
from busbar_pm.permissions import PERMISSIONS

PM = load_plugin(plugin, name="pm")
ALL = [permission.name for permission in PERMISSIONS]


@pytest.fixture
def schema_apps() -> Sequence[SchemaApp]:
    return schema_with(PM)


@pytest_asyncio.fixture
async def ctx(database: str) -> Context:
    """An engineer of the site `north`, which has plant maintenance; so has `south`, and `office` lacks it."""
    await add_site("north", "pm")
    await add_site("south", "pm")
    await add_site("office")
    return context_of("erna", permissions=ALL, sites=["north"])
