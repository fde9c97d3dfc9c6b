"""The contract of connectors, what the settings take, and whether the documents show what is sent."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from busbar.sdk import DeliveryClass
from busbar.testing.connector_contract import ConnectorContract
from busbar_itsm import plugin
from busbar_itsm.inbound import _Data
from busbar_itsm.settings import ItsmSettings

PACKAGE = Path(plugin.__file__).parent
README = PACKAGE.parent / "README.md"
GOOD = {"base_url": "https://dev12345.service-now.com", "username": "busbar.integration"}


def settings(**given: Any) -> ItsmSettings:
    """Settings as the core reads them from what somebody entered."""
    return msgspec.convert({**GOOD, **given}, ItsmSettings)


class TestContract(ConnectorContract):
    plugin = plugin
    kind, delivery_class, default_pattern = "itsm", DeliveryClass.B, "PM_*"


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


class TestReadme:
    def test_its_business_rule_sends_every_field_that_is_read(self) -> None:
        [script] = re.findall(r"```javascript\n(.*?)```", README.read_text(), re.DOTALL)
        missing = [name for name in _Data.__struct_fields__ if not re.search(rf"\b{name}\b", script)]
        assert missing == []
