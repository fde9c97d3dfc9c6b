"""The simulator as simple-salesforce sees it, which insists on https and was not written by us."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import TypeVar

import pytest
import requests
import simple_salesforce as sf

from busbar_crm.simulator import Options, Simulator, run_simulator
from busbar_crm.simulator.accounts import INTEGRATION_USER_ID
from busbar_crm.simulator.objects import CASE
from busbar_crm.tests.conftest import MovableClock

Result = TypeVar("Result")


class Client:
    """Runs blocking simple-salesforce code in a thread, against the TLS port."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def run(self, work: Callable[[sf.Salesforce], Result], *, version: str = "64.0") -> Result:
        simulator = self._simulator

        def connect_and_work() -> Result:
            with requests.Session() as session:
                session.verify = str(simulator.ca_file)
                credentials = simulator.credentials
                form = {
                    "grant_type": "client_credentials",
                    "client_id": credentials.client_id,
                    "client_secret": credentials.client_secret,
                }
                token = session.post(f"{simulator.tls_url}/services/oauth2/token", data=form, timeout=10).json()
                client = sf.Salesforce(
                    instance_url=token["instance_url"],
                    session_id=token["access_token"],
                    session=session,
                    version=version,
                )
                return work(client)

        return await asyncio.to_thread(connect_and_work)


@pytest.fixture
async def simulator(clock: MovableClock) -> AsyncIterator[Simulator]:
    async with run_simulator(Options(), clock=clock) as running:
        yield running


@pytest.fixture
def salesforce(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Client:
    # Set on the machine, these win over the certificate that is given to requests.
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    return Client(simulator)


class TestSimpleSalesforce:
    async def test_creates_reads_changes_and_deletes(self, salesforce: Client, simulator: Simulator) -> None:
        def work(client: sf.Salesforce) -> None:
            made = client.Case.create({"Subject": "Feeder 12", "Priority": "High"})
            assert made["success"]
            read = client.Case.get(made["id"])
            assert (read["Subject"], read["Status"], read["CaseNumber"]) == ("Feeder 12", "New", "00001001")
            assert client.Case.update(made["id"], {"Status": "Closed"}) == 204
            assert client.Case.get(made["id"][:15])["IsClosed"] is True
            assert client.Case.delete(made["id"]) == 204
            with pytest.raises(sf.SalesforceResourceNotFound):
                client.Case.get(made["id"])

        await salesforce.run(work)
        assert [effect.method for effect in simulator.effects] == ["POST", "PATCH", "DELETE"]

    async def test_upserts_by_external_id(self, salesforce: Client, simulator: Simulator) -> None:
        def work(client: sf.Salesforce) -> list[int]:
            return [client.Case.upsert("Busbar_Id__c/T1", {"Subject": word}) for word in ("a", "b")]

        assert await salesforce.run(work) == [201, 200]
        assert await salesforce.run(work, version="45.0") == [204, 204]
        assert [row["Subject"] for row in simulator.cases("T1")] == ["b"]
        read = await salesforce.run(lambda client: client.Case.get_by_custom_id("Busbar_Id__c", "T1"))
        assert read["Subject"] == "b"

    async def test_several_records_with_one_external_id_are_a_300(
        self, salesforce: Client, simulator: Simulator
    ) -> None:
        ids = [
            simulator.api.records.insert(
                CASE, {"Busbar_Id__c": "T1"}, user=INTEGRATION_USER_ID, now=datetime.now(UTC)
            ).row["Id"]
            for _ in range(2)
        ]
        with pytest.raises(sf.SalesforceMoreThanOneRecord) as caught:
            await salesforce.run(lambda client: client.Case.upsert("Busbar_Id__c/T1", {"Subject": "x"}))
        assert caught.value.content == [f"/services/data/v64.0/sobjects/Case/{one}" for one in ids]

    async def test_pages_through_everything_that_a_query_finds(self, salesforce: Client) -> None:
        def work(client: sf.Salesforce) -> list[str]:
            for n in range(250):
                client.Case.create({"Subject": f"Outage {n:03}", "Priority": "High" if n % 5 else "Low"})
            small = {"Sforce-Query-Options": "batchSize=200"}
            found = client.query_all(
                "SELECT Subject, Owner.Name FROM Case "
                "WHERE Priority = 'High' OR Subject LIKE '%0' ORDER BY Subject DESC",
                headers=small,
            )
            assert found["records"][0]["Owner"]["Name"] == "Busbar Integration"
            return [record["Subject"] for record in found["records"]]

        wanted = [f"Outage {n:03}" for n in reversed(range(250)) if n % 5 or n % 10 == 0]
        assert len(wanted) > 200
        assert await salesforce.run(work) == wanted

    async def test_formatted_queries_find_what_they_ask_for(self, salesforce: Client) -> None:
        def work(client: sf.Salesforce) -> list[int]:
            client.Case.create({"Subject": "it's"})
            client.Case.create({"Subject": "its"})
            queries = (
                sf.format_soql("SELECT Id FROM Case WHERE Subject = {}", "it's"),
                sf.format_soql("SELECT Id FROM Case WHERE Subject IN {}", ["its", "other"]),
                sf.format_soql("SELECT Id FROM Case WHERE CreatedDate >= {}", datetime(2026, 11, 23, tzinfo=UTC)),
                "SELECT COUNT() FROM Case WHERE NOT (Subject = null)",
            )
            return [client.query(query)["totalSize"] for query in queries]

        assert await salesforce.run(work) == [1, 1, 2, 2]

    async def test_a_composite_request_refers_to_its_own_parts(self, salesforce: Client, simulator: Simulator) -> None:
        root = "/services/data/v64.0/sobjects"
        parts = [
            {"method": "PATCH", "url": f"{root}/Case/Busbar_Id__c/T1", "referenceId": "c", "body": {"Subject": "a"}},
            {
                "method": "POST",
                "url": f"{root}/CaseComment",
                "referenceId": "said",
                "body": {"ParentId": "@{c.id}", "CommentBody": "hello"},
            },
            {"method": "GET", "url": f"{root}/Case/@{{c.id}}?fields=Subject", "referenceId": "read"},
        ]

        def work(client: sf.Salesforce) -> list[int]:
            answer = client.restful("composite", method="POST", json={"allOrNone": True, "compositeRequest": parts})
            assert answer is not None
            assert answer["compositeResponse"][2]["body"]["Subject"] == "a"
            return [part["httpStatusCode"] for part in answer["compositeResponse"]]

        assert await salesforce.run(work) == [201, 201, 200]
        assert simulator.comments("T1") == ["hello"]

    async def test_a_collection_is_upserted_record_by_record(self, salesforce: Client, simulator: Simulator) -> None:
        def record(key: str, **fields: str) -> dict[str, object]:
            return {"attributes": {"type": "Case"}, "Busbar_Id__c": key, **fields}

        def work(client: sf.Salesforce, all_or_none: bool) -> list[bool]:
            records = [record("T1", Subject="a"), record("T2", Status="Lost"), record("T3")]
            answer = client.restful(
                "composite/sobjects/Case/Busbar_Id__c",
                method="PATCH",
                json={"allOrNone": all_or_none, "records": records},
            )
            assert answer is not None
            return [result["success"] for result in answer]

        assert await salesforce.run(lambda client: work(client, True)) == [False, False, False]
        assert simulator.cases() == []
        assert await salesforce.run(lambda client: work(client, False)) == [True, False, True]
        assert [row["Busbar_Id__c"] for row in simulator.cases()] == ["T1", "T3"]

    async def test_reads_the_quota_off_every_answer(self, salesforce: Client, simulator: Simulator) -> None:
        simulator.set_quota(500)

        def work(client: sf.Salesforce) -> tuple[object, object]:
            limits = client.limits()
            return client.api_usage["api-usage"], limits["DailyApiRequests"]

        usage, limits = await salesforce.run(work)
        assert usage == (1, 500)
        assert limits == {"Max": 500, "Remaining": 499}

    async def test_describes_its_objects(self, salesforce: Client) -> None:
        def work(client: sf.Salesforce) -> dict[str, bool]:
            everything = client.describe()
            assert everything is not None
            assert "Case" in [one["name"] for one in everything["sobjects"]]
            assert client.Case.metadata()["objectDescribe"]["keyPrefix"] == "500"
            return {field["name"]: field["externalId"] for field in client.Case.describe()["fields"]}

        fields = await salesforce.run(work)
        assert [name for name, is_external in fields.items() if is_external] == ["Busbar_Id__c"]

    async def test_each_refusal_raises_its_own_error(self, salesforce: Client, simulator: Simulator) -> None:
        with pytest.raises(sf.SalesforceMalformedRequest, match="No such column 'Nothing'"):
            await salesforce.run(lambda client: client.Case.create({"Nothing": "x"}))
        with pytest.raises(sf.SalesforceMalformedRequest, match="MALFORMED_QUERY"):
            await salesforce.run(lambda client: client.query("SELECT Id FROM Case GROUP BY Id"))
        with pytest.raises(sf.SalesforceGeneralError, match="410"):
            await salesforce.run(lambda client: client.limits(), version="20.0")
        simulator.misbehave("unauthorized", count=1)
        with pytest.raises(sf.SalesforceExpiredSession, match="INVALID_SESSION_ID"):
            await salesforce.run(lambda client: client.limits())
        simulator.set_quota(0)
        with pytest.raises(sf.SalesforceRefusedRequest, match="REQUEST_LIMIT_EXCEEDED"):
            await salesforce.run(lambda client: client.limits())
