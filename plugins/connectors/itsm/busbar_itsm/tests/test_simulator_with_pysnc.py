"""The simulator as pysnc sees it, ServiceNow's own Python client, which insists on https and was not written by us."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pysnc
import pytest
from pysnc.auth import ServiceNowClientCredentialsFlow

from busbar_itsm.simulator import Simulator

Result = TypeVar("Result")


class Pysnc:
    """Runs blocking pysnc code in a thread, against the TLS port."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def run(self, work: Callable[[pysnc.ServiceNowClient], Result]) -> Result:
        credentials = self._simulator.credentials

        def connect_and_work() -> Result:
            client = pysnc.ServiceNowClient(
                self._simulator.tls_url,
                (credentials.username, credentials.password),
                verify=str(self._simulator.ca_file),
                auto_retry=False,
            )
            with client.session:
                return work(client)

        return await asyncio.to_thread(connect_and_work)


@pytest.fixture
def snc(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Pysnc:
    # Set on the machine, these win over the certificate that is given to pysnc.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    return Pysnc(simulator)


def insert(client: pysnc.ServiceNowClient, **fields: str) -> str:
    record = client.GlideRecord("incident")
    record.initialize()
    for name, value in fields.items():
        record.set_value(name, value)
    sys_id = record.insert()
    assert sys_id is not None
    return str(sys_id)


class TestPysnc:
    async def test_creates_reads_changes_and_deletes(self, snc: Pysnc, simulator: Simulator) -> None:
        def work(client: pysnc.ServiceNowClient) -> None:
            sys_id = insert(client, short_description="Feeder 12 tripped", impact="1", urgency="1")
            record = client.GlideRecord("incident")
            assert record.get(sys_id)
            assert record.get_value("priority") == "1"
            assert record.get_display_value("priority") == "1 - Critical"
            assert record.get_display_value("opened_by") == "Busbar Integration"
            record.set_value("state", "2")
            assert record.update() is not None
            assert record.get_display_value("state") == "In Progress"
            assert record.delete()
            assert not client.GlideRecord("incident").get(sys_id)

        await snc.run(work)
        assert [effect.method for effect in simulator.effects] == ["POST", "PATCH", "DELETE"]

    async def test_pages_through_everything_that_a_query_finds(self, snc: Pysnc, simulator: Simulator) -> None:
        def work(client: pysnc.ServiceNowClient) -> list[str]:
            for n in range(25):
                insert(client, short_description=f"Outage {n:02}", impact="1" if n % 5 else "3")
            records = client.GlideRecord("incident", batch_size=4)
            records.add_query("short_description", "STARTSWITH", "Outage")
            records.add_query("impact", "1")
            records.order_by_desc("short_description")
            records.query()
            assert records.get_row_count() == 20
            return [str(record.short_description) for record in records]

        assert await snc.run(work) == [f"Outage {n:02}" for n in reversed(range(25)) if n % 5]
        assert simulator.requests == 25 + 5

    async def test_alternatives_and_empty_fields_can_be_asked_for(self, snc: Pysnc) -> None:
        def work(client: pysnc.ServiceNowClient) -> list[str]:
            for name in ("T1", "T2", "T3"):
                insert(client, correlation_id=name)
            insert(client, short_description="no correlation id")
            records = client.GlideRecord("incident")
            records.add_query("correlation_id", "T1").add_or_condition("correlation_id", "T3")
            records.order_by("correlation_id")
            records.query()
            found = [str(record.correlation_id) for record in records]
            without = client.GlideRecord("incident")
            without.add_null_query("correlation_id")
            without.query()
            return found + [str(record.short_description) for record in without]

        assert await snc.run(work) == ["T1", "T3", "no correlation id"]

    async def test_changes_and_deletes_many_in_one_batch(self, snc: Pysnc, simulator: Simulator) -> None:
        def work(client: pysnc.ServiceNowClient) -> None:
            for n in range(6):
                insert(client, correlation_id=f"T{n}")
            records = client.GlideRecord("incident")
            records.query()
            for record in records:
                record.set_value("urgency", "1")
            records.rewind()
            assert records.update_multiple()
            again = client.GlideRecord("incident")
            again.add_query("urgency", "1")
            again.query()
            assert again.get_row_count() == 6
            assert again.delete_multiple()

        await snc.run(work)
        assert simulator.requests == 6 + 4
        assert [effect.method for effect in simulator.effects] == ["POST"] * 6 + ["PATCH"] * 6 + ["DELETE"] * 6

    async def test_a_batch_answers_each_request_by_itself(self, snc: Pysnc, simulator: Simulator) -> None:
        def work(client: pysnc.ServiceNowClient) -> list[int]:
            sys_id = insert(client, short_description="there")
            statuses: list[int] = []
            records = client.GlideRecord("incident")
            for wanted in (sys_id, "0" * 32):
                client.batch_api.get(records, wanted, lambda response: statuses.append(response.status_code))
            client.batch_api.execute()
            return statuses

        assert await snc.run(work) == [200, 404]

    async def test_a_broken_rule_and_wrong_credentials_raise_its_own_errors(
        self, snc: Pysnc, simulator: Simulator
    ) -> None:
        def resolve_without_code(client: pysnc.ServiceNowClient) -> None:
            sys_id = insert(client)
            record = client.GlideRecord("incident")
            record.get(sys_id)
            record.set_value("state", "6")
            record.update()

        with pytest.raises(pysnc.exceptions.RoleException, match="Resolution code"):
            await snc.run(resolve_without_code)
        simulator.misbehave("unauthorized", count=1)
        with pytest.raises(pysnc.exceptions.AuthenticationException, match="User Not Authenticated"):
            await snc.run(lambda client: client.GlideRecord("incident").query())

    async def test_gets_a_token_by_client_credentials(
        self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # pysnc fetches the token with the default trust store, which requests reads from this variable.
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(simulator.ca_file))
        credentials = simulator.credentials

        def work() -> str:
            flow = ServiceNowClientCredentialsFlow(credentials.client_id, credentials.client_secret)
            client = pysnc.ServiceNowClient(simulator.tls_url, flow, auto_retry=False)
            with client.session:
                return insert(client, short_description="by OAuth")

        sys_id = await asyncio.to_thread(work)
        assert [row["sys_id"] for row in simulator.incidents()] == [sys_id]
