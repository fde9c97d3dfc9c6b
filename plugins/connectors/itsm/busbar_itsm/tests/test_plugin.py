"""What the plugin declares, what its settings take, and whether its quality file tells the truth."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from busbar.sdk import DeliveryClass, Endpoint, Secret, SecretBag, utc_now
from busbar_itsm import plugin
from busbar_itsm.inbound import _Data
from busbar_itsm.settings import SECRETS, ItsmSettings

PACKAGE = Path(plugin.__file__).parent
README = PACKAGE.parent / "README.md"
QUALITY: dict[str, dict[str, str]] = tomllib.loads((PACKAGE / "quality.toml").read_text())["rules"]
GOOD = {"base_url": "https://dev12345.service-now.com", "username": "busbar.integration"}


def settings(**given: Any) -> ItsmSettings:
    """Settings as the core reads them from what somebody entered."""
    return msgspec.convert({**GOOD, **given}, ItsmSettings)


class TestDeclaration:
    def test_is_found_by_its_entry_point(self) -> None:
        [found] = [one for one in entry_points(group="busbar.plugins") if one.name == "itsm"]
        assert found.load() is plugin
        assert plugin.busbar_plugin().name == "itsm"

    def test_offers_one_connector_that_looks_before_it_creates(self) -> None:
        [connector] = plugin.busbar_connectors()
        assert (connector.kind, connector.delivery_class) == ("itsm", DeliveryClass.B)
        assert (connector.default_pattern, connector.secrets) == ("PM_*", SECRETS)

    async def test_its_simulator_says_how_it_is_reached(self, tmp_path: Path) -> None:
        [connector] = plugin.busbar_connectors()
        assert connector.simulator is not None
        running = await connector.simulator("127.0.0.1", 0, tmp_path / "itsm.jsonl")
        try:
            async with aiohttp.ClientSession() as session:
                endpoint = Endpoint(
                    endpoint_id="itsm-simulator",
                    name="Simulator",
                    sites=(),
                    settings=msgspec.convert(running.endpoint_settings, ItsmSettings),
                    secrets=SecretBag({name: Secret(text) for name, text in running.endpoint_secrets.items()}),
                    http=session,
                    clock=utc_now,
                )
                assert (await connector.test_connection(endpoint)).ok
        finally:
            await running.stop()

    def test_imports_of_busbar_only_what_plugins_are_promised(self) -> None:
        imported = re.compile(r"^\s*(?:from|import) (busbar(?:\.\w+)*)\b", re.MULTILINE)
        for path in PACKAGE.rglob("*.py"):
            assert set(imported.findall(path.read_text())) <= {"busbar.sdk"}, path

    def test_client_and_simulator_import_nothing_of_busbar(self) -> None:
        for path in (PACKAGE / "client.py", PACKAGE / "answers.py", *(PACKAGE / "simulator").glob("*.py")):
            assert "busbar.sdk" not in path.read_text(), path


class TestSettings:
    def test_address_and_user_are_enough(self) -> None:
        assert (settings().table, settings().auth, settings().closed_as) == ("incident", "basic", "resolved")

    def test_become_the_schema_of_a_form(self) -> None:
        schema = msgspec.json.schema(ItsmSettings)
        assert set(schema["$defs"]["ItsmSettings"]["required"]) == {"base_url", "username"}

    @pytest.mark.parametrize(
        "bad",
        [
            {"base_url": "dev12345.service-now.com"},
            {"base_url": "https://dev12345.service-now.com/nav_to.do"},
            {"base_url": "https://user:word@dev12345.service-now.com"},
            {"username": ""},
            {"auth": "oauth"},
            {"auth": "kerberos"},
            {"table": "incident/../sys_user"},
            {"caller_id": "abel.tuter"},
            {"hold_reason": "1"},
            {"closed_as": "cancelled"},
            {"close_code": ""},
            {"timeout_s": 0},
        ],
        ids=str,
    )
    def test_refuse_what_could_not_work(self, bad: dict[str, Any]) -> None:
        with pytest.raises(msgspec.ValidationError):
            settings(**bad)


class TestQualityFile:
    @pytest.mark.parametrize("rule", QUALITY)
    def test_a_rule_is_done_and_held_by_tests_or_exempt_with_a_reason(self, rule: str) -> None:
        entry = QUALITY[rule]
        if entry["status"] == "exempt":
            assert entry.keys() == {"status", "reason"}
            assert len(entry["reason"].split()) >= 5
            return
        assert entry["status"] == "done"
        file, test_class = entry["held_by"].split("::")
        assert f"class {test_class}:" in (PACKAGE / "tests" / file).read_text()


class TestReadme:
    def test_shows_every_setting_and_secret(self) -> None:
        text = README.read_text()
        missing = [name for name in (*ItsmSettings.__struct_fields__, *SECRETS) if f"`{name}`" not in text]
        assert missing == []

    def test_its_business_rule_sends_every_field_that_is_read(self) -> None:
        [script] = re.findall(r"```javascript\n(.*?)```", README.read_text(), re.DOTALL)
        missing = [name for name in _Data.__struct_fields__ if not re.search(rf"\b{name}\b", script)]
        assert missing == []
