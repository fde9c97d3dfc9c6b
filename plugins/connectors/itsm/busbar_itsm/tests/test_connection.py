"""The connection test: one sentence that names what is wrong, and never an exception."""

import pytest

from busbar_itsm.connection import test_connection as report_on
from busbar_itsm.tests.conftest import ServiceOffice
from busbar_itsm.tests.golden import golden

CREATED = golden("incident_ticket_created")


class TestGoodConnection:
    async def test_says_who_can_read_what(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        report = await report_on(office.endpoint)
        assert report.ok
        assert report.detail.startswith("busbar.integration can read the table incident at http://127.0.0.1:")
        assert report.latency_ms is not None

    async def test_changes_nothing(self, office: ServiceOffice) -> None:
        await report_on(office.endpoint)
        assert office.simulator.effects == []

    async def test_warns_that_an_empty_table_may_be_a_hidden_one(self, office: ServiceOffice) -> None:
        assert "or an access rule hides its records" in (await report_on(office.endpoint)).detail

    async def test_warns_of_an_address_without_tls(self, office: ServiceOffice) -> None:
        assert "not https" in (await report_on(office.endpoint)).detail


class TestBadConnection:
    @pytest.mark.parametrize(
        ("kind", "sentence"),
        [
            ("unauthorized", "Enter new credentials for Service desk"),
            ("rate_limit", "quota is used up"),
            ("server_error", "no usable answer"),
            ("wrong_body", "hibernating"),
            ("down", "no usable answer"),
        ],
    )
    async def test_names_what_is_wrong(self, office: ServiceOffice, kind: str, sentence: str) -> None:
        office.simulator.misbehave(kind)
        report = await report_on(office.endpoint)
        assert not report.ok
        assert sentence in report.detail

    async def test_names_a_table_that_does_not_exist(self, office: ServiceOffice) -> None:
        office.configure(table="u_nothing")
        assert (await report_on(office.endpoint)).detail == "ServiceNow refused: 400: Invalid table u_nothing"

    async def test_notices_that_searches_cannot_be_relied_on(self, office: ServiceOffice) -> None:
        office.configure(table="sys_user")
        report = await report_on(office.endpoint)
        assert not report.ok
        assert "Let the integration user read correlation_id" in report.detail

    async def test_names_the_fields_that_are_hidden(self, office: ServiceOffice) -> None:
        # A table with one of the two stands for a table of which an access rule hides the other.
        office.simulator.api.write("POST", "cmdb_ci", None, {"name": "x"}, user="admin", request_correlation_id="")
        office.configure(table="cmdb_ci")
        report = await report_on(office.endpoint)
        assert (report.ok, report.detail) == (
            False,
            "busbar.integration cannot read correlation_display; let it read and write them.",
        )

    async def test_names_a_missing_secret(self, office: ServiceOffice) -> None:
        office.secrets.clear()
        assert (await report_on(office.endpoint)).detail == "The endpoint Service desk has no password; enter it."
