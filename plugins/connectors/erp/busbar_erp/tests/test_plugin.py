"""What the plugin declares, what its settings take, and whether its quality file tells the truth."""

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
import pytest

from busbar.sdk import DeliveryClass, Endpoint, Secret, SecretBag, utc_now
from busbar_erp import plugin
from busbar_erp.inbound import NotificationData, RequisitionData
from busbar_erp.settings import SECRETS, ErpSettings
from busbar_erp.tests.conftest import new_session

PACKAGE = Path(plugin.__file__).parent
README = PACKAGE.parent / "README.md"
QUALITY: dict[str, dict[str, str]] = tomllib.loads((PACKAGE / "quality.toml").read_text())["rules"]
GOOD = {"base_url": "https://s4.example.com:44300", "username": "BUSBAR", "plant": "1010", "purchasing_group": "001"}
PURE = ("client.py", "auth.py", "answers.py", "values.py", "model.py", "multipart.py")


def settings(**given: Any) -> ErpSettings:
    """Settings as the core reads them from what somebody entered."""
    return msgspec.convert({**GOOD, **given}, ErpSettings)


class TestDeclaration:
    def test_is_found_by_its_entry_point(self) -> None:
        [found] = [one for one in entry_points(group="busbar.plugins") if one.name == "erp"]
        assert found.load() is plugin
        assert plugin.busbar_plugin().name == "erp"

    def test_offers_one_connector_that_looks_before_it_creates(self) -> None:
        [connector] = plugin.busbar_connectors()
        assert (connector.kind, connector.delivery_class) == ("erp", DeliveryClass.B)
        assert (connector.default_pattern, connector.secrets) == ("MM_*", SECRETS)
        assert connector.poll is not None
        assert connector.receive is not None

    async def test_its_simulator_says_how_it_is_reached(self, tmp_path: Path) -> None:
        [connector] = plugin.busbar_connectors()
        assert connector.simulator is not None
        running = await connector.simulator("127.0.0.1", 0, tmp_path / "erp.jsonl")
        try:
            async with new_session() as session:
                endpoint = Endpoint(
                    endpoint_id="erp-simulator",
                    name="Simulator",
                    sites=(),
                    settings=msgspec.convert(running.endpoint_settings, ErpSettings),
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
            if "tests" not in path.parts:
                assert set(imported.findall(path.read_text())) <= {"busbar.sdk"}, path

    def test_client_and_simulator_import_nothing_of_busbar(self) -> None:
        for path in (*(PACKAGE / name for name in PURE), *(PACKAGE / "simulator").glob("*.py")):
            assert not re.search(r"^\s*(?:from|import) busbar[. ]", path.read_text(), re.MULTILINE), path


class TestSettings:
    def test_address_user_plant_and_purchasing_group_are_enough(self) -> None:
        made = settings()
        assert (made.auth, made.language, made.reference_prefix, made.poll_s) == ("basic", "EN", "BB", 60)

    def test_become_the_schema_of_a_form(self) -> None:
        schema = msgspec.json.schema(ErpSettings)
        assert set(schema["$defs"]["ErpSettings"]["required"]) == set(GOOD)

    @pytest.mark.parametrize(
        "bad",
        [
            {"base_url": "s4.example.com"},
            {"base_url": "https://s4.example.com/sap/opu"},
            {"base_url": "https://user:word@s4.example.com"},
            {"username": ""},
            {"plant": "10100"},
            {"plant": ""},
            {"plant": "1'10"},
            {"purchasing_group": "0001"},
            {"sap_client": "1"},
            {"language": "english"},
            {"time_zone": "Mars/Olympus"},
            {"time_zone": "../etc/passwd"},
            {"auth": "oauth"},
            {"auth": "kerberos"},
            {"reference_prefix": "BUSBAR"},
            {"storage_locations": {"Main warehouse": "00001"}},
            {"cost_centers": {"north": "12345678901"}},
            {"units": {"piece": "PIECE"}},
            {"poll_s": -1},
            {"timeout_s": 0},
            {"asset_as": "asset"},
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
        missing = [name for name in (*ErpSettings.__struct_fields__, *SECRETS) if f"`{name}`" not in text]
        assert missing == []

    def test_shows_every_field_of_a_webhook(self) -> None:
        text = README.read_text()
        fields = (*NotificationData.__struct_fields__, *RequisitionData.__struct_fields__)
        assert [name for name in fields if name not in text] == []

    def test_says_what_mock_sap_cannot_show(self) -> None:
        assert "mock-sap" in README.read_text()
