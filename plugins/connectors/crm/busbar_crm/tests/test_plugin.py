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
from busbar_crm import plugin
from busbar_crm.inbound import _Data
from busbar_crm.settings import SECRETS, CrmSettings

PACKAGE = Path(plugin.__file__).parent
README = PACKAGE.parent / "README.md"
TRIGGER = PACKAGE.parents[3] / "docs" / "how-to" / "connect-salesforce.md"
QUALITY: dict[str, dict[str, str]] = tomllib.loads((PACKAGE / "quality.toml").read_text())["rules"]
GOOD = {"base_url": "https://utility.my.salesforce.com", "client_id": "3MVG9"}


def settings(**given: Any) -> CrmSettings:
    """Settings as the core reads them from what somebody entered."""
    return msgspec.convert({**GOOD, **given}, CrmSettings)


class TestDeclaration:
    def test_is_found_by_its_entry_point(self) -> None:
        [found] = [one for one in entry_points(group="busbar.plugins") if one.name == "crm"]
        assert found.load() is plugin
        assert plugin.busbar_plugin().name == "crm"

    def test_offers_one_connector_whose_remote_honours_our_key(self) -> None:
        [connector] = plugin.busbar_connectors()
        assert (connector.kind, connector.delivery_class) == ("crm", DeliveryClass.A)
        assert (connector.default_pattern, connector.secrets) == ("FI_*", SECRETS)

    async def test_its_simulator_says_how_it_is_reached(self, tmp_path: Path) -> None:
        [connector] = plugin.busbar_connectors()
        assert connector.simulator is not None
        running = await connector.simulator("127.0.0.1", 0, tmp_path / "crm.jsonl")
        try:
            async with aiohttp.ClientSession() as session:
                endpoint = Endpoint(
                    endpoint_id="crm-simulator",
                    name="Simulator",
                    sites=(),
                    settings=msgspec.convert(running.endpoint_settings, CrmSettings),
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
        client = [PACKAGE / name for name in ("client.py", "answers.py", "oauth.py")]
        for path in (*client, *(PACKAGE / "simulator").glob("*.py")):
            assert "busbar.sdk" not in path.read_text(), path


class TestSettings:
    def test_address_and_client_are_enough(self) -> None:
        assert (settings().auth, settings().external_id_field, settings().poll_s) == (
            "client_credentials",
            "Busbar_Id__c",
            0,
        )

    def test_become_the_schema_of_a_form(self) -> None:
        schema = msgspec.json.schema(CrmSettings)
        assert set(schema["$defs"]["CrmSettings"]["required"]) == {"base_url", "client_id"}

    @pytest.mark.parametrize(
        "bad",
        [
            {"base_url": "utility.my.salesforce.com"},
            {"base_url": "https://utility.my.salesforce.com/services"},
            {"base_url": "https://user:word@utility.my.salesforce.com"},
            {"client_id": ""},
            {"auth": "password"},
            {"auth": "jwt_bearer"},
            {"api_version": "v45.0"},
            {"api_version": "64"},
            {"external_id_field": "CaseNumber"},
            {"external_id_field": "A__c", "marker_field": "a__c"},
            {"owner_id": "fiona"},
            {"status_closed": ""},
            {"quota_percent_max": 0},
            {"poll_s": -1},
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


class TestDocuments:
    def test_the_readme_shows_every_setting_and_secret(self) -> None:
        text = README.read_text()
        missing = [name for name in (*CrmSettings.__struct_fields__, *SECRETS) if f"`{name}`" not in text]
        assert missing == []

    def test_the_trigger_sends_every_field_that_is_read(self) -> None:
        script = "".join(re.findall(r"```java\n(.*?)```", TRIGGER.read_text(), re.DOTALL))
        missing = [name for name in _Data.__struct_fields__ if f"'{name}'" not in script]
        assert missing == []
