"""Kong's routes are exactly what the application serves: walked, and tried with paths that nobody declared."""

import re
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from litestar import Litestar, get

from busbar.cli.gateway_file import GatewaySettings
from busbar.cli.gateway_routes import gateway_routes
from busbar.cli.kong import exposed, kong_text
from busbar.cli.tests.kong_router import KongRouter
from busbar.errors import NotFound, RuleViolated
from busbar.testing.app import RunningApp
from busbar.tests.route_table import Operation, operations
from busbar.tests.test_access import OPEN, SIGNED

INSIDE_ONLY = {"GET /health/live", "GET /health/ready", "GET /metrics"}
"""For whoever runs Busbar."""
ALWAYS_404 = {"GET /openapi/{path}"}
"""The framework's page for unknown documents."""
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")


def document_of(app: RunningApp, **arguments: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(kong_text(app.platform, settings=GatewaySettings(), **arguments))
    return document


def served_outside(app: RunningApp) -> list[Operation]:
    return [each for each in operations(app) if str(each) not in INSIDE_ONLY | ALWAYS_404]


def fits(template: str, path: str) -> bool:
    """Whether a path is one of the template's, compared part by part; no regular expression of the product's."""
    parts, wanted = path.removeprefix("/").removesuffix("/").split("/"), template.removeprefix("/").split("/")
    return len(parts) == len(wanted) and all(
        part == word or (part != "" and word.startswith("{")) for part, word in zip(parts, wanted, strict=True)
    )


class TestKongsRoutes:
    async def test_take_every_operation_by_exactly_one(self, app: RunningApp) -> None:
        router = KongRouter(document_of(app))
        assert len(served_outside(app)) > 100
        for operation in served_outside(app):
            for path in (operation.path()[1:], operation.path()[1:] + "/"):
                matches = router.matches(operation.method, path)
                assert len(matches) == 1, f"{operation} is taken by {len(matches)}"
                assert fits(operation.template, re.sub(r"\[\^/\]\+", "x", _bare(matches[0].route["paths"][0])))

    async def test_take_nothing_that_is_not_served(self, app: RunningApp) -> None:
        router = KongRouter(document_of(app))
        served = [(each.method, each.template) for each in served_outside(app)]
        words = sorted({part for _, template in served for part in template.split("/") if part and part[0] != "{"})
        part = st.sampled_from(words) | st.sampled_from(["", "x", "..", "%2e", "API", "v2", "pm2", "tickets%2f1", "~"])
        below = st.lists(part, max_size=5).map(lambda parts: "/api/v1/" + "/".join(parts))
        near = st.sampled_from([template for _, template in served]).flatmap(
            lambda template: st.sampled_from(
                [f"{template}/x", f"/x{template}", template[:-1], f"{template}x", template]
            )
        )
        paths = below | near | st.lists(part, max_size=4).map(lambda parts: "/" + "/".join(parts))

        @settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(method=st.sampled_from(METHODS), path=paths)
        @example(method="GET", path="/")
        @example(method="GET", path="/api/v1")
        @example(method="GET", path="/health/ready")
        @example(method="GET", path="/metrics")
        @example(method="GET", path="/openapi/anything")
        @example(method="GET", path="/openapi/anything/below")
        def check(method: str, path: str) -> None:
            taken = bool(router.matches(method, path))
            assert taken == any(method == verb and fits(template, path) for verb, template in served), (method, path)

        check()

    async def test_go_to_the_word_where_a_parameter_would_fit_too(self, app: RunningApp) -> None:
        router = KongRouter(document_of(app))
        for method, path, name in (
            ("POST", "/api/v1/routes/dry-run", "busbar.routes.dry-run"),
            ("GET", "/api/v1/events/stream", "busbar.events.stream"),
            ("GET", "/api/v1/events/01a20000", "busbar.events.~event_id"),
        ):
            (match,) = router.matches(method, path)
            assert match.route["name"] == name

    async def test_ask_for_a_token_on_all_but_the_anonymous_ones(self, app: RunningApp) -> None:
        router = KongRouter(document_of(app))
        without = {
            str(each) for each in served_outside(app) if not router.matches(each.method, each.path()[1:])[0].needs_token
        }
        assert without == (OPEN | SIGNED) - INSIDE_ONLY - ALWAYS_404

    async def test_are_tagged_open_where_they_take_no_token(self, app: RunningApp) -> None:
        services = document_of(app)["services"]
        tagged = {each["name"] for each in services if "open" in each["tags"]}
        assert tagged == {each["name"] for each in services if "jwt" not in [one["name"] for one in each["plugins"]]}

    async def test_show_health_only_when_asked_and_metrics_never(self, app: RunningApp) -> None:
        router = KongRouter(document_of(app, with_health=True))
        for path, count in (("/health/live", 1), ("/health/ready", 1), ("/metrics", 0)):
            assert len(router.matches("GET", path)) == count, path

    async def test_pass_the_address_on_as_it_came(self, app: RunningApp) -> None:
        routes = [route for service in document_of(app)["services"] for route in service["routes"]]
        assert {route["strip_path"] for route in routes} == {False}
        assert {tuple(route["protocols"]) for route in routes} == {("https",)}

    async def test_do_not_hold_the_event_stream_back(self, app: RunningApp) -> None:
        routes = [route for service in document_of(app)["services"] for route in service["routes"]]
        unbuffered = [route["name"] for route in routes if route.get("response_buffering") is False]
        assert unbuffered == ["busbar.events.stream"]

    async def test_have_names_of_their_own(self, app: RunningApp) -> None:
        services = document_of(app, with_health=True)["services"]
        names = [each["name"] for each in services]
        names += [f"route {route['name']}" for each in services for route in each["routes"]]
        assert sorted(names) == sorted(set(names))
        assert [name for name in names if not re.fullmatch(r"(route )?busbar(\.[a-z0-9~_-]+)+", name)] == []


class TestWhatIsLeftOut:
    async def test_is_exactly_what_is_for_the_inside_or_not_there(self, app: RunningApp) -> None:
        written = {f"{method} {route.template}" for route in exposed(app.platform) for method in route.methods}
        assert {str(each) for each in operations(app)} - written == INSIDE_ONLY | ALWAYS_404
        assert written <= {str(each) for each in operations(app)}

    def test_is_any_address_that_opens_a_whole_tree(self) -> None:
        @get(["/files/{name:path}", "/files/{name:str}"])
        async def read() -> None: ...

        routes = gateway_routes(Litestar([read], openapi_config=None))
        assert [route.template for route in routes] == ["/files/{name}"]
        assert [bool(re.match(routes[0].pattern, path)) for path in ("/files/a", "/files/a/b")] == [True, False]

    def test_is_nothing_that_cannot_be_written_in_silence(self) -> None:
        @get("/files/a b")
        async def read() -> None: ...

        (route,) = gateway_routes(Litestar([read], openapi_config=None))
        with pytest.raises(RuleViolated, match="'a b'"):
            assert route.pattern


class TestModules:
    async def test_are_left_out_unless_wanted(self, app: RunningApp) -> None:
        groups = {route.group for route in exposed(app.platform, modules=["pm"])}
        assert "pm" in groups
        assert {"mm", "fi"} & groups == set()
        assert {"tickets", "auth", "openapi", "well-known"} <= groups

    async def test_are_all_there_when_none_is_named(self, app: RunningApp) -> None:
        assert {"pm", "mm", "fi"} <= {route.group for route in exposed(app.platform)}

    async def test_that_are_not_installed_are_named(self, app: RunningApp) -> None:
        with pytest.raises(NotFound, match="no module wm here; there are fi, mm, pm"):
            exposed(app.platform, modules=["pm", "wm"])


def _bare(path: str) -> str:
    return path.removeprefix("~").removesuffix("/?$").replace("\\", "")
