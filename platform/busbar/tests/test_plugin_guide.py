"""The plugin of docs/how-to/write-a-plugin.md is taken from the page, installed in a folder of its own, and called."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from busbar.host.loader import load
from busbar.testing.app import running_app
from busbar.testing.database import TestServer

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "write-a-plugin.md"


def block(language: str) -> str:
    """The only code block of that language on the page."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture
def meters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The page's plugin, imported from a new folder."""
    package = tmp_path / "busbar_meters"
    (package / "migrations").mkdir(parents=True)
    for folder in (package, package / "migrations"):
        (folder / "__init__.py").touch()
    (package / "migrations" / "meters_0001_tables.sql").write_text(block("sql"), "utf-8")
    (package / "plugin.py").write_text(block("python"), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("busbar_meters.plugin")
    for name in [name for name in sys.modules if name.split(".")[0] == "busbar_meters"]:
        del sys.modules[name]


class TestPluginOfThePage:
    async def test_takes_readings_refuses_bad_ones_and_tells_of_the_good_ones(
        self, postgres: TestServer, meters: ModuleType
    ) -> None:
        plugins = load([("meters", lambda: meters)])
        assert [plugin.fault for plugin in plugins] == [None]
        async with running_app(postgres, plugins=plugins) as app:
            assert [plugin.fault for plugin in app.platform.catalog] == [None]
            reader = await app.client("Meter_Reader", "a")

            await reader.post("/meters/readings", {"meter_id": "M-1", "site": "a", "kwh": 100})
            backwards = await reader.post("/meters/readings", {"meter_id": "M-1", "site": "a", "kwh": 99}, status=422)
            elsewhere = await reader.post("/meters/readings", {"meter_id": "M-1", "site": "b", "kwh": 101}, status=404)
            unreadable = await reader.post("/meters/readings", {"meter_id": "", "kwh": -1}, status=400)

            assert await reader.get("/meters/readings") == [{"meter_id": "M-1", "kwh": 100}]
            assert backwards["detail"] == "The meter M-1 showed 100 kWh before; it cannot show 99."
            assert elsewhere["code"] == "RES_001"
            assert {error["field"] for error in unreadable["errors"]} == {"meter_id", "site", "kwh"}
            await (await app.client("Integration_Operator", "a")).get("/meters/readings", status=403)
            events = await (await app.client()).get("/events")
            assert [(one["type"], one["subject"]) for one in events["items"]] == [("METERS_READING_TAKEN", "M-1")]

    def test_is_as_the_core_wants_plugins_and_says_so_of_its_package(self) -> None:
        assert 'meters = "busbar_meters.plugin"' in block("toml")
        assert "from busbar." not in re.sub(r"from busbar\.sdk import", "", block("python"))
