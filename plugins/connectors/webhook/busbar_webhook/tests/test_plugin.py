"""The contract of connectors, and what the settings take."""

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook

from busbar.sdk import DeliveryClass
from busbar.testing.connector_contract import ConnectorContract
from busbar_webhook import plugin
from busbar_webhook.__main__ import main
from busbar_webhook.schedule import DAYS_S, retry_waits
from busbar_webhook.settings import WebhookSettings

GOOD = {"url": "https://control-room.example.org/hooks/busbar?source=north"}


def settings(**given: Any) -> WebhookSettings:
    """Settings as the core reads them from what somebody entered."""
    return msgspec.convert({**GOOD, **given}, WebhookSettings)


class TestContract(ConnectorContract):
    plugin = plugin
    kind, delivery_class, default_pattern = "webhook", DeliveryClass.C, "*"
    one_way = True
    independent = ()


class TestSettings:
    def test_an_address_is_enough(self) -> None:
        made = settings()
        assert (made.payload, made.retries, made.receiver_deduplicates) == ("standard", "minutes", False)

    @pytest.mark.parametrize("url", ["https://example.org", "http://10.1.2.3:8080/", "https://example.org?key=1"])
    def test_take_any_address_of_the_web(self, url: str) -> None:
        assert settings(url=url).url == url

    @pytest.mark.parametrize(
        "bad",
        [
            {"url": "control-room.example.org"},
            {"url": "ftp://example.org/"},
            {"url": "https://anna:word@example.org/"},
            {"url": "https://example.org/#part"},
            {"url": "https://example.org/a b"},
            {"payload": "xml"},
            {"retries": "never"},
            {"timeout_s": 0},
            {"timeout_s": 25},
        ],
        ids=str,
    )
    def test_refuse_what_could_not_work(self, bad: dict[str, Any]) -> None:
        with pytest.raises(msgspec.ValidationError):
            settings(**bad)


class TestSchedule:
    def test_over_days_is_the_one_of_the_standard(self) -> None:
        waits = retry_waits(settings(retries="days"))
        assert waits == DAYS_S
        assert len(waits) + 1 == 10
        assert sum(waits) == (75 * 60 + 35) * 60 + 5

    def test_over_minutes_is_busbars_own(self) -> None:
        assert retry_waits(settings()) == ()


class TestNewSecret:
    def test_is_made_by_a_command_and_fits_the_reference_library(self) -> None:
        made = subprocess.run([sys.executable, "-m", "busbar_webhook"], capture_output=True, text=True, check=True)
        secret, *rest = made.stdout.splitlines()
        assert rest == []
        assert secret.startswith("whsec_")
        Webhook(secret)

    def test_differs_each_time(self, capsys: pytest.CaptureFixture[str]) -> None:
        main()
        main()
        first, second = capsys.readouterr().out.splitlines()
        assert first != second
