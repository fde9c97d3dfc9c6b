"""decK and the rules beside it accept what `busbar kong` writes, and refuse what it must never write."""

import asyncio
import copy
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from busbar.cli.gateway_file import GatewaySettings
from busbar.cli.gateway_yaml import yaml_text
from busbar.cli.kong import kong_text
from busbar.testing.app import RunningApp
from busbar.tests.test_house import ROOT

CHECK = ROOT / "ops" / "kong" / "check.sh"

Document = dict[str, Any]


async def checked(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [str(CHECK), *map(str, files)]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=280)


def first_route(document: Document) -> Document:
    route: Document = document["services"][0]["routes"][0]
    return route


def jwt_of(document: Document) -> Document:
    plugin: Document = document["services"][0]["plugins"][0]
    assert plugin["name"] == "jwt"
    return plugin


def open_service(document: Document) -> Document:
    return next(each for each in document["services"] if "open" in each["tags"])


# What somebody might do to the file, by the rule that tells of it.
FAULTS: dict[str, Callable[[Document], Any]] = {
    "format-version": lambda document: document.update(_format_version="2.1"),
    "services-are-named-and-tagged": lambda document: document["services"][0].update(tags=[]),
    "services-ask-for-a-token": lambda document: document["services"][0]["plugins"].remove(jwt_of(document)),
    "services-limit-their-callers": lambda document: open_service(document)["plugins"].clear(),
    "tokens-come-in-the-header-only": lambda document: jwt_of(document)["config"].update(uri_param_names=["jwt"]),
    "routes-are-named-and-tagged": lambda document: first_route(document).update(methods=[]),
    "routes-match-whole-paths": lambda document: first_route(document).update(paths=["/api"]),
    "routes-keep-their-path": lambda document: first_route(document).update(strip_path=True),
    "no-plain-http-to-the-outside": lambda document: first_route(document)["protocols"].append("http"),
    "keys-are-public": lambda document: document["consumers"][0]["jwt_secrets"][0].update(algorithm="HS256"),
    "everywhere": lambda document: document["plugins"].pop(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("kong")


@pytest.mark.slow
class TestKongsTools:
    async def test_accept_what_is_written_with_keys_and_what_is_checked_in(self, app: RunningApp, folder: Path) -> None:
        written = folder / "kong.yml"
        written.write_text(kong_text(app.platform, settings=GatewaySettings()), "utf-8")
        ended = await checked(written, ROOT / "ops" / "kong" / "kong.yml")
        assert ended.returncode == 0, ended.stdout + ended.stderr

    async def test_tell_of_each_fault_by_its_rule(self, app: RunningApp, folder: Path) -> None:
        good = yaml.safe_load(kong_text(app.platform, settings=GatewaySettings()))
        rules = yaml.safe_load((ROOT / "ops" / "kong" / "lint.yml").read_text("utf-8"))["rules"]
        assert set(rules) == set(FAULTS)
        files = []
        for rule, spoil in FAULTS.items():
            document = copy.deepcopy(good)
            spoil(document)
            files.append(folder / f"{rule}.yml")
            files[-1].write_text(yaml_text(document), "utf-8")
        ended = await checked(*files)
        assert ended.returncode != 0
        for rule in FAULTS:
            told = ended.stdout.partition(f"/{rule}.yml\n")[2].partition("\n\n")[0]
            assert f" {rule} " in told, f"{rule} is not told of: {ended.stdout[-3000:]}{ended.stderr}"

    async def test_refuse_what_is_not_of_kongs_schema(self, app: RunningApp, folder: Path) -> None:
        spoiled = folder / "spoiled.yml"
        text = kong_text(app.platform, settings=GatewaySettings())
        spoiled.write_text(text.replace("strip_path: false", 'strip_path: "no"', 1), "utf-8")
        ended = await checked(spoiled)
        assert ended.returncode != 0
        assert "strip_path: Invalid type" in ended.stderr
