"""The contract of connectors, what the settings take, and whether the documents show what is sent."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from busbar.sdk import DeliveryClass
from busbar.testing.connector_contract import ConnectorContract
from busbar_crm import plugin
from busbar_crm.inbound import _Data
from busbar_crm.settings import CrmSettings

PACKAGE = Path(plugin.__file__).parent
README = PACKAGE.parent / "README.md"
TRIGGER = PACKAGE.parents[3] / "docs" / "how-to" / "connect-salesforce.md"
GOOD = {"base_url": "https://utility.my.salesforce.com", "client_id": "3MVG9"}


def settings(**given: Any) -> CrmSettings:
    """Settings as the core reads them from what somebody entered."""
    return msgspec.convert({**GOOD, **given}, CrmSettings)


class TestContract(ConnectorContract):
    plugin = plugin
    kind, delivery_class, default_pattern = "crm", DeliveryClass.A, "FI_*"
    independent = ("client.py", "answers.py", "oauth.py")


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


class TestDocuments:
    def test_the_trigger_sends_every_field_that_is_read(self) -> None:
        script = "".join(re.findall(r"```java\n(.*?)```", TRIGGER.read_text(), re.DOTALL))
        missing = [name for name in _Data.__struct_fields__ if f"'{name}'" not in script]
        assert missing == []
