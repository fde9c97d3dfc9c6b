"""Making, changing, publishing and switching off routes, on a real database."""

import asyncio
from typing import Any

import msgspec
import pytest

from busbar.db import fetch, fetchval, spawn
from busbar.errors import (
    Conflict,
    Forbidden,
    ForbiddenTransition,
    InvalidPayload,
    NotFound,
    RuleViolated,
    StaleVersion,
)
from busbar.routing.commands import (
    RouteChanges,
    change_route,
    create_route,
    publish_route,
    roll_back_route,
    switch_off_route,
)
from busbar.routing.queries import RouteFilter, get_route, get_version, list_routes, list_versions
from busbar.routing.tests.support import Platform, a_context, a_definition, add_endpoint, add_route
from busbar.web.conditional import IfMatch

pytestmark = pytest.mark.usefixtures("platform")

MAPPING = {"title": "=data.title", "parts": {"=for": "data.parts", "=each": {"id": "=item.material_id"}}}


async def faults_of(**changes: Any) -> list[str]:
    """The fields that are named when such a route is refused."""
    with pytest.raises(InvalidPayload) as refused:
        await create_route(a_context(), a_definition(**changes))
    assert await fetchval("select count(*) from core.route") == 0
    return [error.field for error in refused.value.errors]


class TestCreate:
    async def test_makes_a_draft_that_reads_as_it_was_written(self) -> None:
        definition = a_definition(sites=("north",), filter="data.severity == 'P1'", mapping=MAPPING, attempts_max=3)
        route_id = await create_route(a_context(), definition)
        route = await get_route(a_context(), route_id)
        assert (route.route_id, route.state, route.version) == ("faults-to-acme", "draft", 1)
        for field in msgspec.structs.fields(definition):
            assert getattr(route, field.name) == getattr(definition, field.name)

    @pytest.mark.parametrize(
        ("name", "route_id"),
        [
            ("Störung → ServiceNow!", "storung-servicenow"),
            ("400 kV", "route-400-kv"),
            ("→", "route"),
            ("A" * 100, "a" * 40),
        ],
    )
    async def test_makes_an_id_of_any_name(self, name: str, route_id: str) -> None:
        assert await create_route(a_context(), a_definition(name=name)) == route_id

    async def test_refuses_an_id_that_is_taken(self) -> None:
        await add_route("faults")
        with pytest.raises(Conflict, match="give this one another id"):
            await create_route(a_context(), a_definition(), route_id="faults")

    async def test_refuses_an_id_that_is_an_address_of_its_own(self) -> None:
        with pytest.raises(InvalidPayload, match="route_id"):
            await create_route(a_context(), a_definition(name="Dry run"))

    async def test_names_every_fault_at_once(self) -> None:
        named = await faults_of(
            pattern=("PM_*", "*_X"),
            sites=("nowhere",),
            filter="data.title ==",
            mapping={"a": "=data.", "b": {"c": ["=datum"]}, "d": "fine"},
            endpoint_id="missing",
        )
        assert named == ["pattern[1]", "filter", "mapping.a", "mapping.b.c[0]", "sites", "endpoint_id"]

    async def test_refuses_a_mapping_that_makes_a_list(self) -> None:
        assert await faults_of(mapping={"=for": "data.parts", "=each": "=item"}) == ["mapping"]

    async def test_refuses_sites_that_the_endpoint_does_not_take(self) -> None:
        await add_endpoint("southern", sites=["south"])
        assert await faults_of(endpoint_id="southern", sites=("north", "south")) == ["sites"]
        assert await faults_of(endpoint_id="southern") == ["sites"]
        await create_route(a_context(), a_definition(endpoint_id="southern", sites=("south",)))


class TestVersions:
    async def test_rise_with_every_act_and_all_are_kept(self) -> None:
        ctx = a_context()
        await create_route(ctx, a_definition(filter="true"), route_id="r")
        assert await publish_route(ctx, "r") == 2
        assert await change_route(ctx, "r", RouteChanges(filter="false", name="New")) == 3
        assert await switch_off_route(ctx, "r") == 4
        assert await roll_back_route(ctx, "r", version=1) == 5
        page = await list_versions(ctx, "r", limit=50, cursor=None, sort=None)
        assert [(each.version, each.action, each.state) for each in page.items] == [
            (5, "rollback", "off"),
            (4, "off", "off"),
            (3, "change", "published"),
            (2, "publish", "published"),
            (1, "create", "draft"),
        ]
        assert page.total == 5
        assert {each.changed_by for each in page.items} == {"alex"}

    async def test_say_how_they_differ_from_the_one_before(self) -> None:
        ctx = a_context()
        await create_route(ctx, a_definition(mapping={"a": "=data.title", "b": 1}), route_id="r")
        await change_route(ctx, "r", RouteChanges(filter="true", mapping={"a": "=data.severity", "b": 1}))
        version = await get_version(ctx, "r", 2)
        assert [(each.field, each.kind, each.before, each.after) for each in version.differences] == [
            ("filter", "changed", None, "true"),
            ("mapping.a", "changed", "=data.title", "=data.severity"),
        ]
        assert (version.definition.filter, version.previous_state) == ("true", "draft")
        first = await get_version(ctx, "r", 1)
        assert first.previous_state is None
        assert "pattern" in {each.field for each in first.differences}

    async def test_do_not_rise_when_nothing_is_different(self) -> None:
        await add_route("r", mapping=MAPPING)
        assert await change_route(a_context(), "r", RouteChanges(mapping=MAPPING)) == 2
        with pytest.raises(RuleViolated, match="nothing to do"):
            await roll_back_route(a_context(), "r", version=1)

    async def test_leave_a_trail(self) -> None:
        await create_route(a_context(), a_definition(), route_id="r")
        await change_route(a_context(), "r", RouteChanges(filter="true"))
        await publish_route(a_context(), "r")
        rows = await fetch("select action, previous_status, new_status, details from core.audit order by audit_id")
        assert [(row["action"], row["previous_status"], row["new_status"]) for row in rows] == [
            ("route.create", None, "draft"),
            ("route.change", "draft", "draft"),
            ("route.publish", "draft", "published"),
        ]
        changes = msgspec.json.decode(rows[1]["details"])["changes"]
        assert changes == [{"field": "filter", "kind": "changed", "before": None, "after": "true"}]

    async def test_that_do_not_exist_cannot_be_read_or_rolled_back_to(self) -> None:
        await add_route("r")
        with pytest.raises(NotFound, match="no version 7"):
            await get_version(a_context(), "r", 7)
        with pytest.raises(NotFound, match="no version 7"):
            await roll_back_route(a_context(), "r", version=7)


class TestChange:
    async def test_removes_a_filter_and_a_mapping_when_told_so(self) -> None:
        await add_route("r", filter="true", mapping=MAPPING)
        await change_route(a_context(), "r", RouteChanges(filter=None, mapping=None))
        route = await get_route(a_context(), "r")
        assert (route.filter, route.mapping) == (None, None)

    async def test_writes_nothing_when_it_is_refused(self) -> None:
        await add_route("r", filter="true")
        with pytest.raises(InvalidPayload):
            await change_route(a_context(), "r", RouteChanges(filter="data.("))
        assert (await get_route(a_context(), "r")).version == 2
        assert await fetchval("select count(*) from core.route_version") == 2

    async def test_gives_only_a_draft_another_endpoint(self) -> None:
        await add_endpoint("other")
        await add_route("draft", published=False)
        await add_route("live")
        await change_route(a_context(), "draft", RouteChanges(endpoint_id="other"))
        assert (await get_route(a_context(), "draft")).endpoint_id == "other"
        with pytest.raises(RuleViolated, match="make another route for other"):
            await change_route(a_context(), "live", RouteChanges(endpoint_id="other"))
        await publish_route(a_context(), "draft")
        with pytest.raises(RuleViolated, match="make another route for acme"):
            await roll_back_route(a_context(), "draft", version=1)

    async def test_of_a_version_that_somebody_else_changed_is_refused(self) -> None:
        await add_route("r")
        await change_route(a_context(), "r", RouteChanges(name="First"), expected=IfMatch(versions=(2,)))
        for act in (
            change_route(a_context(), "r", RouteChanges(name="Second"), expected=IfMatch(versions=(2,))),
            switch_off_route(a_context(), "r", expected=IfMatch(versions=(2,))),
            roll_back_route(a_context(), "r", version=1, expected=IfMatch(versions=(2,))),
        ):
            with pytest.raises(StaleVersion):
                await act
        assert (await get_route(a_context(), "r")).name == "First"

    async def test_by_two_people_at_once_is_made_by_one(self) -> None:
        await add_route("r")

        async def change(name: str) -> bool:
            try:
                await change_route(a_context(), "r", RouteChanges(name=name), expected=IfMatch(versions=(2,)))
            except StaleVersion:
                return False
            return True

        tasks = [spawn(change(f"Name {n}"), name=f"change-{n}") for n in range(6)]
        assert sum(await asyncio.gather(*tasks)) == 1
        assert (await get_route(a_context(), "r")).version == 3


class TestStates:
    async def test_cannot_be_entered_twice(self) -> None:
        await add_route("r")
        with pytest.raises(ForbiddenTransition, match="published already"):
            await publish_route(a_context(), "r")
        await switch_off_route(a_context(), "r")
        with pytest.raises(ForbiddenTransition, match="off already"):
            await switch_off_route(a_context(), "r")
        assert await publish_route(a_context(), "r") == 4

    async def test_published_is_refused_when_the_endpoint_has_gone(self) -> None:
        await add_route("r", published=False)
        await fetch("delete from core.endpoint")
        with pytest.raises(InvalidPayload) as refused:
            await publish_route(a_context(), "r")
        assert [error.field for error in refused.value.errors] == ["endpoint_id"]


class TestSites:
    async def test_limit_what_somebody_sees(self) -> None:
        for site in ("north", "south"):
            await add_route(f"of-{site}", sites=(site,))
        await add_route("of-both", sites=("north", "south"))
        await add_route("of-all")
        northern = a_context(sites=["north"])
        page = await list_routes(northern, RouteFilter(), limit=50, cursor=None, sort=None)
        assert ([route.route_id for route in page.items], page.total) == (["of-all", "of-both", "of-north"], 3)
        for read in (
            get_route(northern, "of-south"),
            get_version(northern, "of-south", 1),
            list_versions(northern, "of-south", limit=9, cursor=None, sort=None),
            switch_off_route(northern, "of-south"),
        ):
            with pytest.raises(NotFound, match="no route of-south"):
                await read

    async def test_limit_what_somebody_changes(self) -> None:
        await add_route("of-both", sites=("north", "south"))
        await add_route("of-all")
        await add_route("of-north", sites=("north",))
        northern = a_context(sites=["north"])
        for act in (
            create_route(northern, a_definition(name="All")),
            create_route(northern, a_definition(name="South", sites=("south",))),
            switch_off_route(northern, "of-both"),
            switch_off_route(northern, "of-all"),
            change_route(northern, "of-north", RouteChanges(sites=())),
            change_route(northern, "of-north", RouteChanges(sites=("north", "south"))),
        ):
            with pytest.raises(Forbidden):
                await act
        await change_route(northern, "of-north", RouteChanges(name="Mine"))

    async def test_hide_the_endpoints_of_other_sites(self) -> None:
        await add_endpoint("southern", sites=["south"])
        with pytest.raises(InvalidPayload) as refused:
            await create_route(a_context(sites=["north"]), a_definition(sites=("north",), endpoint_id="southern"))
        assert [error.message for error in refused.value.errors] == ["There is no endpoint southern."]


class TestList:
    async def test_can_be_narrowed_and_sorted(self) -> None:
        await add_endpoint("other")
        await add_route("a", sites=("north",))
        await add_route("b", sites=("south",), published=False)
        await add_route("c", endpoint_id="other")

        async def ids(wanted: RouteFilter, sort: str | None = None) -> list[str]:
            page = await list_routes(a_context(), wanted, limit=50, cursor=None, sort=sort)
            return [route.route_id for route in page.items]

        assert await ids(RouteFilter(), "-route_id") == ["c", "b", "a"]
        assert await ids(RouteFilter(state="published")) == ["a", "c"]
        assert await ids(RouteFilter(endpoint_id="other")) == ["c"]
        assert await ids(RouteFilter(site="south")) == ["b", "c"]

    async def test_comes_in_pages(self, platform: Platform) -> None:
        for name in "abc":
            await add_route(name)
        first = await list_routes(a_context(), RouteFilter(), limit=2, cursor=None, sort="-updated_at")
        rest = await list_routes(a_context(), RouteFilter(), limit=2, cursor=first.next, sort="-updated_at")
        assert [route.route_id for route in (*first.items, *rest.items)] == ["c", "b", "a"]
        assert (first.total, rest.next) == (3, None)
