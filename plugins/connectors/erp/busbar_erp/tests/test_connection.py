"""The connection test: one sentence that names what is wrong, and never an exception."""

import pytest

from busbar_erp.connection import test_connection as report_on
from busbar_erp.tests.conftest import Office


class TestGoodConnection:
    async def test_says_who_can_read_what(self, office: Office) -> None:
        report = await report_on(office.endpoint)
        assert report.ok
        assert report.detail.startswith("BUSBAR can read 6 of 6 services at http://127.0.0.1:")
        assert report.latency_ms is not None

    async def test_changes_nothing(self, office: Office) -> None:
        await report_on(office.endpoint)
        assert office.simulator.effects == []

    async def test_names_cost_centers_that_sap_does_not_have(self, office: Office) -> None:
        office.configure(cost_centers={"north": "CC-100", "south": "CC-300"})
        assert "SAP has no cost center CC-300: correct the settings." in (await report_on(office.endpoint)).detail

    async def test_warns_of_an_address_without_tls(self, office: Office) -> None:
        assert "not https" in (await report_on(office.endpoint)).detail


class TestBadConnection:
    @pytest.mark.parametrize(
        ("kind", "sentence"),
        [
            ("unauthorized", "Enter new credentials for SAP"),
            ("rate_limit", "no more requests"),
            ("server_error", "no usable answer"),
            ("busy", "No dialog work process available"),
            ("wrong_body", "Log on to your SAP system"),
            ("down", "no usable answer"),
        ],
    )
    async def test_names_what_is_wrong(self, office: Office, kind: str, sentence: str) -> None:
        office.simulator.misbehave(kind)
        report = await report_on(office.endpoint)
        assert not report.ok
        assert sentence in report.detail

    async def test_names_a_missing_secret(self, office: Office) -> None:
        office.secrets.clear()
        assert (await report_on(office.endpoint)).detail == "The endpoint SAP has no password; enter it."

    async def test_names_a_system_that_is_none(self, office: Office) -> None:
        office.configure(base_url=f"{office.simulator.url}/wrong")
        report = await report_on(office.endpoint)
        assert (report.ok, "404" in report.detail) == (False, True)
