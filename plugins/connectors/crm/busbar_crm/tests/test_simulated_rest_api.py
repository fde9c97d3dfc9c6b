"""What the simulated REST API does where clients do not look: its rules, its refusals, its ids."""

from typing import Any

import aiohttp
import pytest

from busbar_crm.client import SalesforceClient
from busbar_crm.simulator import Simulator
from busbar_crm.simulator.records import CASE_NUMBER_FIRST
from busbar_crm.tests.conftest import MovableClock

ROOT = "/services/data/v64.0"


class Caller:
    """Calls the API with a session of its own; `status` and the decoded body come back."""

    def __init__(self, session: aiohttp.ClientSession, simulator: Simulator) -> None:
        self._session = session
        self._simulator = simulator
        self._token = simulator.accounts.new_session()

    async def __call__(self, method: str, path: str, body: Any = None, **params: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self._token}"}
        url = self._simulator.url + (path if path.startswith("/") else f"{ROOT}/{path}")
        async with self._session.request(method, url, json=body, headers=headers, params=params) as answer:
            is_json = (answer.headers.get("Content-Type") or "").startswith("application/json")
            return answer.status, await answer.json() if is_json else await answer.text()

    async def query(self, soql: str) -> list[Any]:
        """The records that a query finds, without their attributes."""
        status, answer = await self("GET", "query", q=soql)
        assert status == 200, answer
        return [{name: value for name, value in one.items() if name != "attributes"} for one in answer["records"]]


@pytest.fixture
def call(session: aiohttp.ClientSession, simulator: Simulator) -> Caller:
    return Caller(session, simulator)


async def made(call: Caller, **fields: Any) -> str:
    status, answer = await call("POST", "sobjects/Case", fields)
    assert status == 201, answer
    return str(answer["id"])


class TestRecords:
    async def test_ids_have_18_characters_and_are_found_by_15(self, call: Caller) -> None:
        record_id = await made(call)
        assert (len(record_id), record_id[:3]) == (18, "500")
        status, row = await call("GET", f"sobjects/Case/{record_id[:15]}")
        assert (status, row["Id"], row["CaseNumber"]) == (200, record_id, f"{CASE_NUMBER_FIRST:08d}")

    async def test_system_fields_are_set_by_the_organization(self, call: Caller, clock: MovableClock) -> None:
        record_id = await made(call, Subject="a")
        clock.move(60)
        await call("PATCH", f"sobjects/Case/{record_id}", {"Status": "Closed"})
        _, row = await call("GET", f"sobjects/Case/{record_id}")
        times = {name: row[name] for name in ("CreatedDate", "SystemModstamp", "ClosedDate")}
        assert times == {
            "CreatedDate": "2026-11-23T09:20:00.000+0000",
            "SystemModstamp": "2026-11-23T09:21:00.000+0000",
            "ClosedDate": "2026-11-23T09:21:00.000+0000",
        }
        await call("PATCH", f"sobjects/Case/{record_id}", {"Status": "Working"})
        _, row = await call("GET", f"sobjects/Case/{record_id}")
        assert (row["IsClosed"], row["ClosedDate"]) == (False, None)

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"Nothing": 1}, "INVALID_FIELD"),
            ({"CaseNumber": "1"}, "INVALID_FIELD_FOR_INSERT_UPDATE"),
            ({"Status": "Lost"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"),
            ({"Subject": "x" * 256}, "STRING_TOO_LONG"),
            ({"Subject": {"a": 1}}, "JSON_PARSER_ERROR"),
            ({"ParentId": "500BB0000000099AAA"}, "MALFORMED_ID"),
        ],
    )
    async def test_refuses_what_a_case_cannot_hold(
        self, call: Caller, simulator: Simulator, fields: dict[str, Any], code: str
    ) -> None:
        status, errors = await call("POST", "sobjects/Case", fields)
        assert (status, errors[0]["errorCode"]) == (400, code)
        assert simulator.effects == []

    async def test_a_comment_needs_its_case_and_is_counted_in_bytes(self, call: Caller) -> None:
        record_id = await made(call)
        path = "sobjects/CaseComment"
        assert (await call("POST", path, {"CommentBody": "x"}))[1][0]["errorCode"] == "REQUIRED_FIELD_MISSING"
        assert (await call("POST", path, {"ParentId": record_id, "CommentBody": "ä" * 2000}))[0] == 201
        status, errors = await call("POST", path, {"ParentId": record_id, "CommentBody": "ä" * 2001})
        assert (status, errors[0]["errorCode"]) == (400, "STRING_TOO_LONG")

    async def test_the_external_id_stands_in_the_address_and_not_in_the_body(self, call: Caller) -> None:
        status, errors = await call("PATCH", "sobjects/Case/Busbar_Id__c/T1", {"Busbar_Id__c": "T1"})
        assert (status, errors[0]["errorCode"]) == (400, "INVALID_FIELD")

    async def test_external_ids_are_compared_without_regard_to_letter_case(self, call: Caller) -> None:
        assert (await call("PATCH", "sobjects/Case/Busbar_Id__c/Tkt", {}))[0] == 201
        assert (await call("PATCH", "sobjects/Case/busbar_id__c/TKT", {}))[0] == 200

    async def test_deleting_a_case_takes_its_comments_along(self, call: Caller) -> None:
        record_id = await made(call)
        await call("POST", "sobjects/CaseComment", {"ParentId": record_id, "CommentBody": "x"})
        assert (await call("DELETE", f"sobjects/Case/{record_id}"))[0] == 204
        assert await call.query("SELECT Id FROM CaseComment") == []

    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "sobjects/Nothing/1", 404, "NOT_FOUND"),
            ("GET", "sobjects/Case/none", 404, "NOT_FOUND"),
            ("GET", "sobjects/Case/Subject/x", 404, "NOT_FOUND"),
            ("PUT", "sobjects/Case/Busbar_Id__c/T1", 404, "NOT_FOUND"),
            ("POST", "query", 405, "METHOD_NOT_ALLOWED"),
            ("GET", "query/01gBB-2000", 400, "INVALID_QUERY_LOCATOR"),
            ("POST", "sobjects/User", 403, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"),
            ("GET", "/services/data/v20.0/limits", 410, "UNSUPPORTED_API_VERSION"),
            ("GET", "/services/data/v99.0/limits", 404, "NOT_FOUND"),
            ("GET", "/somewhere", 404, "NOT_FOUND"),
        ],
    )
    async def test_errors_are_arrays_with_codes(
        self, call: Caller, method: str, path: str, status: int, code: str
    ) -> None:
        body = {} if method in ("POST", "PUT") else None
        answered, errors = await call(method, path, body)
        assert (answered, errors[0]["errorCode"]) == (status, code)

    async def test_only_json_is_read(self, session: aiohttp.ClientSession, simulator: Simulator) -> None:
        headers = {"Authorization": f"Bearer {simulator.accounts.new_session()}"}
        async with session.post(f"{simulator.url}{ROOT}/sobjects/Case", data="x=1", headers=headers) as answer:
            assert answer.status == 415


class TestQueries:
    @pytest.mark.parametrize(
        ("condition", "subjects"),
        [
            ("Subject = 'ALPHA'", ["alpha"]),
            ("Subject != 'alpha' AND Subject != null", ["beta", "gam_a"]),
            ("Subject LIKE '%a' AND NOT Subject LIKE 'b%'", ["alpha", "gam_a"]),
            ("Subject IN ('beta', 'other') OR Priority = 'Low'", ["alpha", "beta"]),
            ("Subject NOT IN ('beta', 'alpha') AND (IsClosed = false)", ["gam_a", None]),
            ("Subject = null", [None]),
            ("CreatedDate > 2026-11-23T09:20:00Z", []),
            ("CreatedDate <= 2026-11-23T10:20:00.000+0100 AND Subject > 'b'", ["beta", "gam_a"]),
            ("Owner.Username LIKE 'busbar%' AND Subject < 'b'", ["alpha"]),
        ],
    )
    async def test_conditions(self, call: Caller, condition: str, subjects: list[str | None]) -> None:
        for subject, priority in (("alpha", "Low"), ("beta", "High"), ("gam_a", "High"), ("", "High")):
            await made(call, Subject=subject, Priority=priority)
        found = await call.query(f"SELECT Subject FROM Case WHERE {condition} ORDER BY CaseNumber")
        assert [record["Subject"] for record in found] == subjects

    async def test_order_limit_and_offset(self, call: Caller) -> None:
        for subject in ("b", "a", "c", ""):
            await made(call, Subject=subject)
        found = await call.query("select subject from case order by Subject asc limit 2 offset 1")
        assert found == [{"Subject": "a"}, {"Subject": "b"}]

    @pytest.mark.parametrize(
        ("soql", "code"),
        [
            ("", "MALFORMED_QUERY"),
            ("SELECT Id", "MALFORMED_QUERY"),
            ("SELECT Id FROM Case WHERE", "MALFORMED_QUERY"),
            ("SELECT Id FROM Case WHERE Subject LIKE", "MALFORMED_QUERY"),
            ("SELECT Id FROM Case WHERE Subject = alpha", "MALFORMED_QUERY"),
            ("SELECT Id FROM Case LIMIT x", "MALFORMED_QUERY"),
            ("SELECT Id FROM Case; DROP", "MALFORMED_QUERY"),
            ("SELECT Id FROM Nothing", "INVALID_TYPE"),
            ("SELECT Nothing FROM Case", "INVALID_FIELD"),
            ("SELECT Nobody.Name FROM Case", "INVALID_FIELD"),
            ("SELECT Id FROM Case WHERE Description LIKE '%x%'", "INVALID_FIELD"),
            ("SELECT Id FROM Case WHERE CreatedDate > 'yesterday'", "INVALID_FIELD"),
        ],
    )
    async def test_what_is_not_understood_is_refused_and_never_skipped(
        self, call: Caller, soql: str, code: str
    ) -> None:
        status, errors = await call("GET", "query", q=soql)
        assert (status, errors[0]["errorCode"]) == (400, code)

    async def test_the_history_of_status_names_who_and_what(self, call: Caller, simulator: Simulator) -> None:
        record_id = await made(call, Subject="a")
        await call("PATCH", f"sobjects/Case/{record_id}", {"Subject": "b"})
        simulator.change(id=record_id, fields={"Status": "Working"})
        found = await call.query("SELECT Field, OldValue, NewValue, CreatedBy.Name, Case.Subject FROM CaseHistory")
        for record in found:
            del record["CreatedBy"]["attributes"], record["Case"]["attributes"]
        assert found == [
            {
                "Field": "Status",
                "OldValue": "New",
                "NewValue": "Working",
                "CreatedBy": {"Name": "Service Agent"},
                "Case": {"Subject": "b"},
            }
        ]


class TestComposite:
    def part(self, reference: str, key: str, **body: str) -> dict[str, Any]:
        return {
            "method": "PATCH",
            "url": f"{ROOT}/sobjects/Case/Busbar_Id__c/{key}",
            "referenceId": reference,
            "body": body,
        }

    async def test_without_all_or_none_each_part_stands_for_itself(self, call: Caller, simulator: Simulator) -> None:
        parts = [self.part("a", "T1"), self.part("b", "T2", Status="Lost"), self.part("c", "T3")]
        status, answer = await call("POST", "composite", {"compositeRequest": parts})
        statuses = [part["httpStatusCode"] for part in answer["compositeResponse"]]
        assert (status, statuses) == (200, [201, 400, 201])
        assert [row["Busbar_Id__c"] for row in simulator.cases()] == ["T1", "T3"]

    async def test_with_it_one_failure_undoes_all_and_ids_are_given_anew(
        self, call: Caller, simulator: Simulator
    ) -> None:
        parts = [self.part("a", "T1"), self.part("b", "T2", Status="Lost"), self.part("c", "T3")]
        _, answer = await call("POST", "composite", {"allOrNone": True, "compositeRequest": parts})
        codes = [part["body"][0]["errorCode"] for part in answer["compositeResponse"]]
        assert codes == ["PROCESSING_HALTED", "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "PROCESSING_HALTED"]
        assert (simulator.cases(), simulator.effects) == ([], [])
        await made(call, Busbar_Id__c="T1")
        assert simulator.cases("T1")[0]["CaseNumber"] == f"{CASE_NUMBER_FIRST:08d}"

    async def test_several_records_are_a_300_of_their_part(self, call: Caller) -> None:
        for _ in range(2):
            await made(call, Busbar_Id__c="T1")
        _, answer = await call("POST", "composite", {"compositeRequest": [self.part("a", "T1", Subject="x")]})
        [part] = answer["compositeResponse"]
        assert (part["httpStatusCode"], len(part["body"])) == (300, 2)

    async def test_a_reference_that_leads_nowhere_fails_its_part(self, call: Caller) -> None:
        _, answer = await call("POST", "composite", {"compositeRequest": [self.part("a", "T1", Subject="@{b.id}")]})
        [part] = answer["compositeResponse"]
        assert (part["httpStatusCode"], part["body"][0]["errorCode"]) == (400, "PROCESSING_HALTED")

    @pytest.mark.parametrize("count", [0, 26])
    async def test_it_has_1_to_25_parts(self, call: Caller, count: int) -> None:
        parts = [self.part(f"p{n}", f"T{n}") for n in range(count)]
        status, errors = await call("POST", "composite", {"compositeRequest": parts})
        assert (status, errors[0]["errorCode"]) == (400, "INVALID_INPUT")

    async def test_it_counts_as_one_request_of_the_quota(self, call: Caller, simulator: Simulator) -> None:
        await call("POST", "composite", {"compositeRequest": [self.part(f"p{n}", f"T{n}") for n in range(25)]})
        assert (simulator.api.quota.used, len(simulator.effects)) == (1, 25)


class TestCollections:
    async def test_creates_changes_and_deletes_up_to_200(self, call: Caller, simulator: Simulator) -> None:
        records = [{"attributes": {"type": "Case"}, "Subject": f"S{n}"} for n in range(200)]
        _, created = await call("POST", "composite/sobjects", {"records": records})
        ids = [result["id"] for result in created]
        changes = [{"attributes": {"type": "Case"}, "id": one, "Status": "Closed"} for one in ids]
        _, changed = await call("PATCH", "composite/sobjects", {"records": changes})
        assert all(result["success"] for result in changed)
        assert {row["Status"] for row in simulator.cases()} == {"Closed"}
        _, deleted = await call("DELETE", "composite/sobjects", ids=",".join(ids))
        assert all(result["success"] for result in deleted)
        assert simulator.cases() == []

    async def test_201_are_too_many(self, call: Caller) -> None:
        records = [{"attributes": {"type": "Case"}}] * 201
        status, errors = await call("POST", "composite/sobjects", {"records": records})
        assert (status, errors[0]["errorCode"]) == (400, "INVALID_BATCH_SIZE")

    async def test_each_record_needs_its_type(self, call: Caller) -> None:
        _, [result] = await call("POST", "composite/sobjects", {"records": [{"Subject": "a"}]})
        assert (result["success"], result["errors"][0]["statusCode"]) == (False, "INVALID_TYPE")


class TestQuota:
    async def test_what_was_used_comes_back_after_24_hours(
        self, client: SalesforceClient, call: Caller, simulator: Simulator, clock: MovableClock
    ) -> None:
        simulator.set_quota(2)
        for _ in range(2):
            assert (await call("GET", "limits"))[0] == 200
        status, errors = await call("GET", "limits")
        assert (status, errors[0]["errorCode"]) == (403, "REQUEST_LIMIT_EXCEEDED")
        clock.move(24 * 3600)
        assert (await client.limits())["DailyApiRequests"] == {"Max": 2, "Remaining": 1}
