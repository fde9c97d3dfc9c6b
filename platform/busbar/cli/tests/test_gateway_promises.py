"""No promise rests on Kong alone: what its file asks of Kong, the application does by itself."""

import re
from typing import Any

import pytest
import yaml

from busbar.auth.limits import SOURCE_FAILURES_MAX
from busbar.testing.app import RunningApp
from busbar.tests.test_docs import methods_by_class
from busbar.tests.test_house import ROOT
from busbar.web.limits import Limits

PAGE = ROOT / "docs" / "how-to" / "put-kong-in-front.md"
CORE = ROOT / "platform" / "busbar"


def promises() -> dict[str, str]:
    """The rows of the page's last table: the part of Kong, and the tests."""
    table = PAGE.read_text("utf-8").partition("## What Kong does, and Busbar does anyway")[2]
    return {
        part.strip("`"): tests for part, tests in re.findall(r"^\| ([\w` -]+) \| .+ \| (`.+) \|$", table, re.MULTILINE)
    }


class TestThePage:
    def test_has_a_row_for_every_plugin_that_the_file_uses(self) -> None:
        document: dict[str, Any] = yaml.safe_load((ROOT / "ops" / "kong" / "kong.yml").read_text("utf-8"))
        places = [document, *document["services"], *(one for each in document["services"] for one in each["routes"])]
        used = {plugin["name"] for place in places for plugin in place.get("plugins", ())}
        assert used | {"routes", "upstream"} == set(promises())

    @pytest.mark.parametrize(("part", "tests"), promises().items())
    def test_names_tests_that_are_there(self, part: str, tests: str) -> None:
        there: dict[str, set[str]] = {}
        for name in re.findall(r"`([^`]+)`", tests):
            if name.endswith(".py"):
                there = methods_by_class(CORE / name)
            else:
                assert there[name], f"{part}: {name}"


class TestWithoutKong:
    async def test_an_address_that_nobody_declared_is_not_found(self, app: RunningApp) -> None:
        admin = await app.client()
        for path in ("//", "//api/v1", "//api/v1/nothing", "//api/v1/tickets/x/y/z", "//admin"):
            assert (await admin.send("GET", path)).status == 404, path
        assert (await admin.send("PUT", "/tickets")).status == 405

    async def test_a_body_is_limited_also_where_it_is_not_announced(self, app: RunningApp) -> None:
        admin = await app.client()

        async def pieces() -> Any:
            for _ in range(Limits().body_bytes_max // 65_536 + 2):
                yield b" " * 65_536

        for data in (b" " * (Limits().body_bytes_max + 1), pieces()):
            answer = await admin.send("POST", "/sites", data=data, headers={"Content-Type": "application/json"})
            assert answer.status == 413, answer

    async def test_sign_ins_are_limited_whatever_the_caller_says_of_its_address(self, app: RunningApp) -> None:
        attempt = {"username": "nobody-of-that-name", "password": "wrong for certain"}
        statuses = []
        for number in range(SOURCE_FAILURES_MAX + 1):
            forged = {"X-Forwarded-For": f"192.0.2.{number}", "X-Real-IP": f"192.0.2.{number}", "Forwarded": "for=_x"}
            answer = await app.anonymous.send("POST", "/auth/login", attempt, headers=forged)
            statuses.append(answer.status)
        assert statuses[:-1] == [401] * SOURCE_FAILURES_MAX
        assert (statuses[-1], "Retry-After" in answer.headers) == (429, True)
