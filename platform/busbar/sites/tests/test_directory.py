"""What a process knows of the sites, when another process changed them and the notice has not come yet."""

import pytest

from busbar.auth.actor import Actor, Context
from busbar.db import execute
from busbar.errors import NotFound
from busbar.kit.ids import uuid7
from busbar.sites.directory import DIRECTORY
from busbar.sites.scope import module_scope, module_site

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(autouse=True)
async def _read(database: str) -> None:
    await DIRECTORY.refresh()


def a_context(*sites: str) -> Context:
    actor = Actor(user_id="u-1", username="alex", sites=sites or ("*",), permissions=frozenset({"*"}))
    return Context(actor=actor, correlation_id=str(uuid7()))


async def another_process_makes(site_id: str, *modules: str) -> None:
    await execute("insert into core.site (site_id, name) values ($1, $1)", site_id)
    for module in modules:
        await execute("insert into core.site_module (site_id, module, enabled) values ($1, $2, true)", site_id, module)


class TestASiteThatWasMadeAMomentAgo:
    async def test_is_known_to_the_request_that_names_it(self) -> None:
        await another_process_makes("north", "pm")
        assert await module_scope(a_context(), "pm", "north") == ["north"]

    async def test_is_known_to_the_request_that_names_none(self) -> None:
        await another_process_makes("north", "pm")
        assert await module_site(a_context(), "pm", None, thing="asset") == "north"

    async def test_is_known_where_no_module_is_asked_for(self) -> None:
        await another_process_makes("north")
        await DIRECTORY.require_site("north")

    async def test_is_still_not_seen_by_who_works_elsewhere(self) -> None:
        await another_process_makes("north", "pm")
        with pytest.raises(NotFound, match="There is no site north"):
            await module_scope(a_context("south"), "pm", "north")


class TestAModuleThatWasEnabledAMomentAgo:
    async def test_is_known(self) -> None:
        await another_process_makes("north", "mm")
        await DIRECTORY.refresh()
        await execute("insert into core.site_module (site_id, module, enabled) values ('north', 'pm', true)")
        await DIRECTORY.require("north", "pm")


class TestRefusals:
    async def test_name_the_site_that_is_not_there(self) -> None:
        for refused in (DIRECTORY.require("nowhere", "pm"), DIRECTORY.require_site("nowhere")):
            with pytest.raises(NotFound, match="There is no site nowhere"):
                await refused

    async def test_name_the_module_that_is_not_enabled(self) -> None:
        await another_process_makes("north", "mm")
        with pytest.raises(NotFound, match="The module pm is not enabled at the site north"):
            await DIRECTORY.require("north", "pm")

    async def test_say_when_the_module_is_enabled_nowhere(self) -> None:
        with pytest.raises(NotFound, match="not enabled at any of your sites"):
            await module_scope(a_context(), "pm")
