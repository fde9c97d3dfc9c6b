"""The contract of connectors, what the settings take, and whether the documents show what is sent."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from busbar.sdk import DeliveryClass
from busbar.testing.connector_contract import ConnectorContract
from busbar_erp import plugin
from busbar_erp.inbound import NotificationData, RequisitionData
from busbar_erp.settings import ErpSettings

PACKAGE = Path(plugin.__file__).parent
README = PACKAGE.parent / "README.md"
GOOD = {"base_url": "https://s4.example.com:44300", "username": "BUSBAR", "plant": "1010", "purchasing_group": "001"}


def settings(**given: Any) -> ErpSettings:
    """Settings as the core reads them from what somebody entered."""
    return msgspec.convert({**GOOD, **given}, ErpSettings)


class TestContract(ConnectorContract):
    plugin = plugin
    kind, delivery_class, default_pattern = "erp", DeliveryClass.B, "MM_*"
    independent = ("client.py", "auth.py", "answers.py", "values.py", "model.py", "multipart.py")


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


class TestReadme:
    def test_shows_every_field_of_a_webhook(self) -> None:
        text = README.read_text()
        fields = (*NotificationData.__struct_fields__, *RequisitionData.__struct_fields__)
        assert [name for name in fields if name not in text] == []

    def test_says_what_mock_sap_cannot_show(self) -> None:
        assert "mock-sap" in README.read_text()
