"""The simulator by itself: shapes of answers, its rules, its control API, and its memory over a restart."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from busbar_erp.auth import BasicAuth, CsrfToken
from busbar_erp.client import ODataClient
from busbar_erp.model import MATERIAL_DOCUMENTS, NOTIFICATIONS, ORDERS, REQUISITIONS, ROOT, STOCK
from busbar_erp.simulator import Credentials, Options, Simulator, run_simulator
from busbar_erp.simulator.movements import stock_of
from busbar_erp.tests.conftest import MovableClock, new_session

SET = f"{ROOT}/{NOTIFICATIONS}/MaintenanceNotification"
GOODS = {"Material": "M-1", "Plant": "1010", "StorageLocation": "0001", "EntryUnit": "EA"}


class Raw:
    """Requests as they go over the wire."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self._simulator = simulator
        self._session = session
        credentials = simulator.credentials
        self.headers = {"Authorization": aiohttp.encode_basic_auth(credentials.username, credentials.password)}

    async def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers in lower case, and the JSON document, or an empty one."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        async with self._session.request(
            method, self._simulator.url + path, json=body, headers={**self.headers, **named}
        ) as response:
            text = await response.text()
            answered = {name.lower(): value for name, value in response.headers.items()}
            return response.status, answered, json.loads(text) if text.startswith("{") else {}

    async def with_token(self) -> "Raw":
        """Fetch a token, for the writes that follow."""
        _, headers, _ = await self.send("GET", f"{ROOT}/{NOTIFICATIONS}/", x_csrf_token="Fetch")
        self.headers["X-CSRF-Token"] = headers["x-csrf-token"]
        return self


@pytest.fixture
async def raw(simulator: Simulator, session: aiohttp.ClientSession) -> AsyncIterator[Raw]:
    yield Raw(simulator, session)


class TestGoldenShapes:
    async def test_a_creation_answers_with_location_etag_and_metadata(self, raw: Raw, simulator: Simulator) -> None:
        await raw.with_token()
        status, headers, document = await raw.send("POST", SET, {"NotificationType": "M2", "NotificationText": "Leak"})
        uri = f"{simulator.url}{SET}('10000001')"
        etag = "W/\"datetimeoffset'2026-11-28T09:30:00.000000Z'\""
        assert (status, headers["location"], headers["etag"], headers["dataserviceversion"]) == (201, uri, etag, "2.0")
        shown = document["d"]
        assert shown["__metadata"] == {
            "id": uri,
            "uri": uri,
            "type": "API_MAINTNOTIFICATION.MaintenanceNotificationType",
            "etag": etag,
        }
        assert shown["to_Item"] == {"__deferred": {"uri": f"{uri}/to_Item"}}
        assert shown["LastChangeDateTime"] == "/Date(1795858200000)/"

    async def test_an_error_has_saps_document(self, raw: Raw) -> None:
        await raw.with_token()
        status, _, document = await raw.send("POST", SET, {"NotificationType": "M2", "NotificationText": "x" * 41})
        error = document["error"]
        assert (status, error["code"]) == (400, "/IWBEP/CX_MGW_BUSI_EXCEPTION")
        assert error["message"] == {
            "lang": "en",
            "value": "Property 'NotificationText' has value with length 41; at most 40 are allowed.",
        }
        [detail] = error["innererror"]["errordetails"]
        assert (detail["propertyref"], detail["severity"]) == ("NotificationText", "error")
        assert re.fullmatch("[0-9A-F]{32}", error["innererror"]["transactionid"])

    async def test_a_write_without_token_or_cookie_is_forbidden(self, raw: Raw, simulator: Simulator) -> None:
        status, headers, _ = await raw.send("POST", SET, {})
        assert (status, headers["x-csrf-token"]) == (403, "Required")
        await raw.with_token()
        async with new_session() as without_cookie:
            other = Raw(simulator, without_cookie)
            other.headers = dict(raw.headers)
            assert (await other.send("POST", SET, {}))[0] == 403
        assert simulator.effects == []

    async def test_who_does_not_log_on_gets_a_page(self, raw: Raw) -> None:
        raw.headers.clear()
        status, headers, _ = await raw.send("GET", SET)
        assert (status, headers["content-type"]) == (401, "text/html")

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", f"{ROOT}/API_NOTHING/X", 403),
            ("GET", f"{ROOT}/{NOTIFICATIONS}/Nothing", 404),
            ("GET", f"{SET}('1')", 404),
            ("GET", f"{SET}(1", 404),
            ("GET", f"{SET}?$filter=Colour%20eq%20'red'", 400),
            ("GET", f"{SET}?$filter=NotificationText%20is%20'x'", 400),
            ("GET", f"{SET}?$filter=NotificationText%20eq", 400),
            ("GET", f"{SET}?$filter=LastChangeDateTime%20gt%20'yesterday'", 400),
            ("GET", f"{SET}?$orderby=Colour", 400),
            ("GET", f"{SET}?$top=many", 400),
            ("GET", f"{SET}?$select=Colour", 200),
            ("DELETE", f"{SET}('1')", 405),
            ("POST", f"{ROOT}/{STOCK}/A_MaterialStock", 405),
            ("POST", f"{ROOT}/{MATERIAL_DOCUMENTS}/A_MaterialDocumentItem", 405),
            ("GET", f"{ROOT}/{NOTIFICATIONS}/CompleteMaintNotification", 405),
            ("POST", f"{ROOT}/{NOTIFICATIONS}/CompleteMaintNotification", 400),
            ("POST", f"{ROOT}/{NOTIFICATIONS}/$batch", 400),
        ],
    )
    async def test_what_there_is_not_is_refused(self, raw: Raw, method: str, path: str, status: int) -> None:
        await raw.with_token()
        assert (await raw.send(method, path))[0] == status


class TestFilter:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("MaintNotifExtReferenceNumber eq 'B''1'", ["First"]),
            ("MaintNotifExtReferenceNumber eq 'B''1' and NotificationText eq 'Second'", []),
            ("MaintNotifExtReferenceNumber eq 'B''1' or NotificationText eq 'Second'", ["First", "Second"]),
            ("MaintNotifExtReferenceNumber eq 'this or that'", ["Third"]),
            ("'B2' eq MaintNotifExtReferenceNumber", ["Second"]),
            ("not (MaintNotifExtReferenceNumber eq 'B2') and MaintPriority ne '4'", ["First"]),
            ("LastChangeDateTime ge datetimeoffset'2026-11-28T09:31:00Z'", ["Second", "Third"]),
            ("(MaintPriority eq '1' or MaintPriority eq '4') and endswith(NotificationText,'rd')", ["Third"]),
            ("startswith(NotificationText,'Sec') eq true", ["Second"]),
            ("MaintenanceObjectIsDown eq false and MalfunctionStartTime eq null", None),
        ],
    )
    async def test_finds_the_same_with_and_without_an_index(
        self, client: ODataClient, raw: Raw, clock: MovableClock, text: str, found: list[str] | None
    ) -> None:
        rows = [("First", "B'1", "1"), ("Second", "B2", "2"), ("Third", "this or that", "4")]
        for words, reference, priority in rows:
            body = {"NotificationType": "M2", "NotificationText": words, "MaintPriority": priority}
            body["MaintNotifExtReferenceNumber"] = reference
            await client.create(NOTIFICATIONS, "MaintenanceNotification", body)
            clock.move(60)
        status, _, document = await raw.send("GET", f"{SET}?$filter={quote(text)}")
        if found is None:
            assert status == 400
        else:
            assert [row["NotificationText"] for row in document["d"]["results"]] == found


class TestRules:
    @pytest.mark.parametrize(
        ("service", "entity_set", "body", "code"),
        [
            (NOTIFICATIONS, "MaintenanceNotification", {"NotificationText": "x"}, "00/055"),
            (ORDERS, "MaintenanceOrder", {"MaintenanceOrderType": "PM01"}, "00/055"),
            (REQUISITIONS, "A_PurchaseRequisitionHeader", {"PurchaseRequisitionType": "NB"}, "ME/083"),
            (
                MATERIAL_DOCUMENTS,
                "A_MaterialDocumentHeader",
                {
                    "PostingDate": date(2026, 11, 28),
                    "GoodsMovementCode": "01",
                    "to_MaterialDocumentItem": [
                        {**GOODS, "GoodsMovementType": "201", "QuantityInEntryUnit": Decimal(1)}
                    ],
                },
                "M7/026",
            ),
        ],
        ids=["notification", "order", "requisition", "movement"],
    )
    async def test_mandatory_fields_and_fitting_codes(
        self, client: ODataClient, simulator: Simulator, service: str, entity_set: str, body: dict[str, Any], code: str
    ) -> None:
        with pytest.raises(Exception, match=code):
            await client.create(service, entity_set, body)
        assert (simulator.effects, simulator.rows(entity_set)) == ([], [])

    async def test_read_only_fields_are_refused_or_in_requisitions_ignored(
        self, raw: Raw, simulator: Simulator
    ) -> None:
        await raw.with_token()
        made = {"NotificationType": "M2", "NotificationText": "Leak"}
        assert (await raw.send("POST", SET, {**made, "NotifProcessingPhase": "4"}))[0] == 400
        await raw.send("POST", SET, made)
        change = (await raw.send("PATCH", f"{SET}('10000001')", {"NotificationType": "M1"}, If_Match="*"))[0]
        assert change == 400
        item = {"Material": "M", "RequestedQuantity": "1", "Plant": "1", "PurchasingGroup": "1", "BaseUnit": "EA"}
        item["LastChangeDateTime"] = "/Date(0)/"
        body = {"PurchaseRequisitionType": "NB", "to_PurchaseReqnItem": [item]}
        assert (await raw.send("POST", f"{ROOT}/{REQUISITIONS}/A_PurchaseRequisitionHeader", body))[0] == 201
        [row] = simulator.rows("A_PurchaseRequisitionItem")
        assert row["LastChangeDateTime"] == datetime(2026, 11, 28, 9, 30, tzinfo=UTC)

    async def test_a_validation_only_stores_nothing(self, client: ODataClient, simulator: Simulator) -> None:
        item = {
            "Material": "M",
            "RequestedQuantity": Decimal(1),
            "Plant": "1",
            "PurchasingGroup": "1",
            "BaseUnit": "EA",
        }
        body = {"PurchaseRequisitionType": "NB", "PurReqnDoOnlyValidation": True, "to_PurchaseReqnItem": [item]}
        await client.create(REQUISITIONS, "A_PurchaseRequisitionHeader", body)
        assert (simulator.effects, simulator.rows("A_PurchaseRequisitionHeader")) == ([], [])

    async def test_a_document_cannot_be_changed_and_is_cancelled_once(
        self, client: ODataClient, raw: Raw, simulator: Simulator
    ) -> None:
        line = {**GOODS, "GoodsMovementType": "501", "QuantityInEntryUnit": Decimal(4)}
        body = {"PostingDate": date(2026, 11, 28), "GoodsMovementCode": "05", "to_MaterialDocumentItem": [line]}
        made = await client.create(MATERIAL_DOCUMENTS, "A_MaterialDocumentHeader", body)
        key = {name: made[name] for name in ("MaterialDocumentYear", "MaterialDocument")}
        assert stock_of(simulator.api.store, "M-1", "1010", "0001") == 4
        await client.call(MATERIAL_DOCUMENTS, "Cancel", key)
        assert stock_of(simulator.api.store, "M-1", "1010", "0001") == 0
        with pytest.raises(Exception, match=r"M7/318.*reversed already"):
            await client.call(MATERIAL_DOCUMENTS, "Cancel", key)
        await raw.with_token()
        predicate = "MaterialDocumentYear='2026',MaterialDocument='4900000001'"
        path = f"{ROOT}/{MATERIAL_DOCUMENTS}/A_MaterialDocumentHeader({predicate})"
        assert (await raw.send("PATCH", path, {"MaterialDocumentHeaderText": "x"}, If_Match="*"))[0] == 405

    async def test_an_issue_needs_a_released_order(self, client: ODataClient) -> None:
        line = {**GOODS, "GoodsMovementType": "261", "QuantityInEntryUnit": Decimal(1), "ManufacturingOrder": "4000001"}
        body = {"PostingDate": date(2026, 11, 28), "GoodsMovementCode": "03", "to_MaterialDocumentItem": [line]}
        order = {"MaintenanceOrderType": "PM01", "MaintenanceOrderDesc": "x", "MaintenancePlanningPlant": "1010"}
        await client.create(ORDERS, "MaintenanceOrder", order)
        with pytest.raises(Exception, match="M7/051"):
            await client.create(MATERIAL_DOCUMENTS, "A_MaterialDocumentHeader", body)
        await client.call(ORDERS, "ReleaseMaintenanceOrder", {"MaintenanceOrder": "4000001"})
        await client.create(MATERIAL_DOCUMENTS, "A_MaterialDocumentHeader", body)
        with pytest.raises(Exception, match="IW/079"):
            await client.call(ORDERS, "ReleaseMaintenanceOrder", {"MaintenanceOrder": "4000001"})


class TestControl:
    async def test_records_are_found_by_reference_and_changed_by_users(self, client: ODataClient, raw: Raw) -> None:
        body = {"NotificationType": "M2", "NotificationText": "Leak", "MaintNotifExtReferenceNumber": "BB1"}
        await client.create(NOTIFICATIONS, "MaintenanceNotification", body, headers={"X-Correlation-ID": "c-1"})
        change = {"reference": "BB1", "fields": {"NotifProcessingPhase": "4"}, "user": "PLANNER02"}
        status, _, changed = await raw.send("POST", "/_simulator/change", change)
        assert (status, changed["result"]["NotifProcessingPhase"]) == (200, "4")
        _, _, found = await raw.send("GET", "/_simulator/records?entity_set=MaintenanceNotification&reference=BB1")
        assert (found["count"], found["records"][0]["NotifProcessingPhase"]) == (1, "4")
        _, _, counts = await raw.send("GET", "/_simulator/records")
        assert counts["counts"]["MaintenanceNotification"] == 1
        _, _, effects = await raw.send("GET", "/_simulator/effects?reference=BB1")
        told = [(one["method"], one["user"], one["request_correlation_id"]) for one in effects["effects"]]
        assert told == [("POST", "BUSBAR", "c-1"), ("CHANGE", "PLANNER02", "")]

    @pytest.mark.parametrize(
        "change",
        [
            {"reference": "BB9", "fields": {}},
            {"entity_set": "Nothing", "key": {}, "fields": {}},
            {"entity_set": "MaintenanceNotification", "key": {"MaintenanceNotification": "1"}, "fields": {}},
            {"fields": {}, "colour": "red"},
        ],
    )
    async def test_a_change_of_what_there_is_not_is_refused(self, raw: Raw, change: dict[str, Any]) -> None:
        assert (await raw.send("POST", "/_simulator/change", change))[0] in (400, 404)

    async def test_a_reset_forgets_everything(self, client: ODataClient, raw: Raw, simulator: Simulator) -> None:
        await client.create(
            NOTIFICATIONS, "MaintenanceNotification", {"NotificationType": "M2", "NotificationText": "x"}
        )
        await raw.send("POST", "/_simulator/reset")
        assert (simulator.effects, simulator.rows("MaintenanceNotification")) == ([], [])
        made = await client.create(
            NOTIFICATIONS, "MaintenanceNotification", {"NotificationType": "M2", "NotificationText": "x"}
        )
        assert made["MaintenanceNotification"] == "10000001"


class TestRestart:
    async def test_everything_is_there_again_number_for_number(self, tmp_path: Path, clock: MovableClock) -> None:
        options = Options(state_file=tmp_path / "erp.jsonl", credentials=Credentials(), tls_port=None)
        async with run_simulator(options, clock=clock) as first, new_session() as session:
            client = client_of(first, session)
            await tell_a_story(client, first)
            before, counted = picture(first), len(first.effects)
        clock.move(3600)
        async with run_simulator(options, clock=clock) as second, new_session() as session:
            assert (picture(second), len(second.effects)) == (before, counted)
            client = client_of(second, session)
            made = await client.create(
                NOTIFICATIONS, "MaintenanceNotification", {"NotificationType": "M2", "NotificationText": "After"}
            )
            assert made["MaintenanceNotification"] == "10000002"

    async def test_a_line_that_was_cut_off_by_a_kill_is_dropped(self, tmp_path: Path, clock: MovableClock) -> None:
        options = Options(state_file=tmp_path / "erp.jsonl", credentials=Credentials(), tls_port=None)
        async with run_simulator(options, clock=clock) as first, new_session() as session:
            await tell_a_story(client_of(first, session), first)
            counted = len(first.effects)
        with options.state_file.open("ab") as file:  # type: ignore[union-attr]
            file.write(b'{"n": 99, "time"')
        async with run_simulator(options, clock=clock) as second:
            assert len(second.effects) == counted


def client_of(simulator: Simulator, session: aiohttp.ClientSession) -> ODataClient:
    auth = BasicAuth(simulator.credentials.username, simulator.credentials.password)
    return ODataClient(session, simulator.url, auth, csrf=CsrfToken())


async def tell_a_story(client: ODataClient, simulator: Simulator) -> None:
    """Something of every kind of write."""
    made = await client.create(
        NOTIFICATIONS, "MaintenanceNotification", {"NotificationType": "M2", "NotificationText": "Leak"}
    )
    key = {"MaintenanceNotification": made["MaintenanceNotification"]}
    await client.update(NOTIFICATIONS, "MaintenanceNotification", key, {"NotificationText": "Big leak"}, etag="*")
    order = {
        "MaintenanceOrderType": "PM01",
        "MaintenanceOrderDesc": "Mend",
        "MaintenancePlanningPlant": "1010",
        **key,
        "to_MaintenanceOrderOperation": [{"OperationDescription": "Mend"}],
    }
    number = (await client.create(ORDERS, "MaintenanceOrder", order))["MaintenanceOrder"]
    await client.call(ORDERS, "ReleaseMaintenanceOrder", {"MaintenanceOrder": number})
    line = {**GOODS, "GoodsMovementType": "261", "QuantityInEntryUnit": Decimal("1.5"), "ManufacturingOrder": number}
    body = {"PostingDate": date(2026, 11, 28), "GoodsMovementCode": "03", "to_MaterialDocumentItem": [line]}
    document = await client.create(MATERIAL_DOCUMENTS, "A_MaterialDocumentHeader", body)
    posted = {name: document[name] for name in ("MaterialDocumentYear", "MaterialDocument")}
    await client.call(MATERIAL_DOCUMENTS, "Cancel", posted)
    simulator.change("MaintenanceNotification", key, NotifProcessingPhase="4")


def picture(simulator: Simulator) -> dict[str, list[dict[str, Any]]]:
    """All records."""
    names = ("MaintenanceNotification", "MaintenanceOrder", "MaintenanceOrderOperation")
    names += ("A_MaterialDocumentHeader", "A_MaterialDocumentItem", "A_MatlStkInAcctMod")
    return {name: simulator.rows(name) for name in names}
