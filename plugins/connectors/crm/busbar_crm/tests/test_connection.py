"""The connection test: one sentence that names what is wrong, and never an exception."""

import pytest

from busbar_crm.connection import test_connection as report_on
from busbar_crm.tests.conftest import ServiceOffice
from busbar_crm.tests.golden import golden


class TestGoodConnection:
    async def test_says_who_can_read_what_and_what_is_left_of_the_quota(self, office: ServiceOffice) -> None:
        await office.deliver(golden("ticket_created"))
        report = await report_on(office.endpoint)
        assert report.ok
        assert report.detail == (
            f"Busbar can read Cases at {office.simulator.url} as user 005BB0000000001YAA. "
            "99996 of 100000 API requests of 24 hours are left. "
            "The address is not https: credentials and records travel unprotected."
        )
        assert report.latency_ms is not None

    async def test_changes_nothing(self, office: ServiceOffice) -> None:
        await report_on(office.endpoint)
        assert office.simulator.effects == []

    async def test_polling_needs_the_history_of_status(self, office: ServiceOffice) -> None:
        office.configure(poll_s=60)
        assert "history tracking" not in (await report_on(office.endpoint)).detail
        office.simulator.api.records.tables["FieldDefinition"]["Case.Status"]["IsFieldHistoryTracked"] = False
        assert "Turn on field history tracking for Status of Case" in (await report_on(office.endpoint)).detail


class TestBadConnection:
    @pytest.mark.parametrize(
        ("kind", "sentence"),
        [
            ("unauthorized", "Enter new credentials for Service team"),
            ("rate_limit", "quota is used up"),
            ("server_error", "no usable answer"),
            ("wrong_body", "Scheduled Maintenance"),
            ("down", "no usable answer"),
        ],
    )
    async def test_names_what_is_wrong(self, office: ServiceOffice, kind: str, sentence: str) -> None:
        office.simulator.misbehave(kind, path_contains="/services/data")
        report = await report_on(office.endpoint)
        assert not report.ok
        assert sentence in report.detail

    async def test_names_an_api_version_that_there_is_not(self, office: ServiceOffice) -> None:
        office.configure(api_version="v99.0")
        report = await report_on(office.endpoint)
        assert (report.ok, report.detail[:24]) == (False, "Salesforce refused: 404:")

    async def test_names_the_fields_that_are_missing(self, office: ServiceOffice) -> None:
        office.configure(marker_field="Marker__c")
        report = await report_on(office.endpoint)
        assert not report.ok
        assert "No such column 'Marker__c'" in report.detail
        assert "let the integration user read and write them" in report.detail

    async def test_names_a_missing_secret(self, office: ServiceOffice) -> None:
        office.secrets.clear()
        report = await report_on(office.endpoint)
        assert report.detail == "The endpoint Service team has no client_secret; enter it."
