"""The client against the simulator, and against answers that no good system gives."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime
from decimal import Decimal

import aiohttp
import pytest
from aiohttp import web

from busbar_erp import answers
from busbar_erp.auth import BasicAuth, CsrfToken
from busbar_erp.calls import condition, key_path
from busbar_erp.client import Change, ODataClient
from busbar_erp.model import COST_CENTERS, MATERIAL_DOCUMENTS, NOTIFICATIONS, REQUISITIONS, entity_set_of
from busbar_erp.simulator import Simulator
from busbar_erp.tests.conftest import MovableClock, new_session

NOTIFICATION = {"NotificationType": "M2", "NotificationText": "Leak"}
ITEM = {
    "Material": "M-1",
    "RequestedQuantity": Decimal(2),
    "BaseUnit": "EA",
    "Plant": "1010",
    "PurchasingGroup": "001",
    "DeliveryDate": date(2026, 12, 1),
}


async def make_notification(client: ODataClient, **fields: str) -> answers.Entity:
    return await client.create(NOTIFICATIONS, "MaintenanceNotification", {**NOTIFICATION, **fields})


def key_of(entity: answers.Entity) -> dict[str, str]:
    return {"MaintenanceNotification": entity["MaintenanceNotification"]}


class TestReading:
    async def test_finds_by_fields_and_conditions(self, client: ODataClient, clock: MovableClock) -> None:
        await make_notification(client, MaintNotifExtReferenceNumber="O'Neil & Co")
        clock.move(60)
        await make_notification(client, MaintNotifExtReferenceNumber="B+2")
        for reference in ("O'Neil & Co", "B+2"):
            [found] = await client.find(
                NOTIFICATIONS, "MaintenanceNotification", {"MaintNotifExtReferenceNumber": reference}
            )
            assert found["MaintNotifExtReferenceNumber"] == reference
        since = condition(
            NOTIFICATIONS, "MaintenanceNotification", "LastChangeDateTime", "gt", clock.now.replace(second=30)
        )
        assert await client.find(NOTIFICATIONS, "MaintenanceNotification", conditions=[since]) == []

    async def test_gets_one_with_what_is_below_it_or_none(self, client: ODataClient) -> None:
        body = {"PurchaseRequisitionType": "NB", "to_PurchaseReqnItem": [ITEM, {**ITEM, "Material": "M-2"}]}
        made = await client.create(REQUISITIONS, "A_PurchaseRequisitionHeader", body)
        key = {"PurchaseRequisition": made["PurchaseRequisition"]}
        found = await client.get(
            REQUISITIONS, "A_PurchaseRequisitionHeader", key, expand=["to_PurchaseReqnItem/to_PurchaseReqnAcctAssgmt"]
        )
        assert found is not None
        items = found["to_PurchaseReqnItem"]["results"]
        assert [item["PurchaseRequisitionItem"] for item in items] == ["00010", "00020"]
        assert await client.get(REQUISITIONS, "A_PurchaseRequisitionHeader", {"PurchaseRequisition": "1"}) is None

    def test_writes_keys_in_their_order(self) -> None:
        key = {"ValidityEndDate": datetime(9999, 12, 31, tzinfo=UTC), "CostCenter": "C C", "ControllingArea": "A000"}
        assert key_path(entity_set_of(COST_CENTERS, "A_CostCenter"), key) == (
            "A_CostCenter(ControllingArea='A000',CostCenter='C%20C',ValidityEndDate=datetime'9999-12-31T00%3A00%3A00')"
        )

    async def test_refuses_what_there_is_not_before_it_asks(self, client: ODataClient, simulator: Simulator) -> None:
        with pytest.raises(answers.Refused, match="has no field Colour"):
            await client.find(COST_CENTERS, "A_CostCenter", {"Colour": "red"})
        with pytest.raises(answers.Refused, match="The key of A_CostCenter is"):
            await client.get(COST_CENTERS, "A_CostCenter", {"CostCenter": "1"})
        assert simulator.requests == 0


class TestWriting:
    async def test_a_change_names_the_version_that_it_is_made_to(self, client: ODataClient) -> None:
        made = await make_notification(client)
        etag = answers.etag_of(made)
        arguments = (NOTIFICATIONS, "MaintenanceNotification", key_of(made))
        await client.update(*arguments, {"NotificationText": "Big leak"}, etag=etag)
        with pytest.raises(answers.Stale):
            await client.update(*arguments, {"NotificationText": "Late"}, etag=etag)
        with pytest.raises(answers.Refused, match="428"):
            await client.update(*arguments, {"NotificationText": "Blind"}, etag=None)
        found = await client.get(*arguments)
        assert found is not None
        assert found["NotificationText"] == "Big leak"

    async def test_a_change_set_is_carried_out_whole_or_not_at_all(
        self, client: ODataClient, simulator: Simulator
    ) -> None:
        body = {"PurchaseRequisitionType": "NB", "to_PurchaseReqnItem": [ITEM, ITEM]}
        await client.create(REQUISITIONS, "A_PurchaseRequisitionHeader", body)
        items = await client.find(REQUISITIONS, "A_PurchaseRequisitionItem")

        def changes(etag: str | None) -> list[Change]:
            keys = [{n: item[n] for n in ("PurchaseRequisition", "PurchaseRequisitionItem")} for item in items]
            etags = [answers.etag_of(items[0]), etag]
            return [
                Change(entity_set="A_PurchaseRequisitionItem", key=key, fields={"IsDeleted": "X"}, etag=one)
                for key, one in zip(keys, etags, strict=True)
            ]

        with pytest.raises(answers.Stale):
            await client.change_all(REQUISITIONS, changes('W/"old"'))
        assert [row["IsDeleted"] for row in simulator.rows("A_PurchaseRequisitionItem")] == ["", ""]
        assert len(simulator.effects) == 1
        await client.change_all(REQUISITIONS, changes(answers.etag_of(items[1])), headers={"X-Correlation-ID": "c-1"})
        assert [row["IsDeleted"] for row in simulator.rows("A_PurchaseRequisitionItem")] == ["X", "X"]
        assert [effect.request_correlation_id for effect in simulator.effects[1:]] == ["c-1", "c-1"]

    async def test_functions_give_back_what_they_changed(self, client: ODataClient) -> None:
        made = await make_notification(client)
        at = {"NotificationReferenceDate": date(2026, 11, 28)}
        done = await client.call(NOTIFICATIONS, "CompleteMaintNotification", {**key_of(made), **at})
        assert done["NotifProcessingPhase"] == "4"

    async def test_a_token_is_fetched_once_and_again_when_it_has_expired(
        self, client: ODataClient, simulator: Simulator
    ) -> None:
        await make_notification(client)
        await make_notification(client)
        assert simulator.requests == 3
        simulator.accounts.expire_sessions()
        await make_notification(client)
        # The refused one, the new token, and the one that was taken.
        assert simulator.requests == 6

    async def test_a_number_with_too_many_digits_never_leaves(self, client: ODataClient, simulator: Simulator) -> None:
        item = {**ITEM, "RequestedQuantity": Decimal("0.0005")}
        with pytest.raises(answers.Refused, match="RequestedQuantity takes 13 digits"):
            body = {"PurchaseRequisitionType": "NB", "to_PurchaseReqnItem": [item]}
            await client.create(REQUISITIONS, "A_PurchaseRequisitionHeader", body)
        assert simulator.requests == 0

    async def test_an_error_is_told_with_code_message_and_fields(self, client: ODataClient) -> None:
        with pytest.raises(answers.Refused) as caught:
            await client.create(MATERIAL_DOCUMENTS, "A_MaterialDocumentHeader", {"GoodsMovementCode": "01"})
        assert str(caught.value) == (
            "400: 00/055: Fill out all required entry fields.; PostingDate A_MaterialDocumentHeader: required."
        )
        assert caught.value.code == "00/055"


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@pytest.fixture
async def hostile() -> AsyncIterator[Callable[[Handler], Awaitable[ODataClient]]]:
    """A client of a server that answers as a handler says."""
    runners: list[web.ServerRunner] = []
    sessions: list[aiohttp.ClientSession] = []

    async def client_of(handler: Handler) -> ODataClient:
        runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sessions.append(new_session())
        address = "http://{}:{}".format(*runner.addresses[0][:2])
        return ODataClient(sessions[-1], address, BasicAuth("u", "p"), csrf=CsrfToken(), timeout_s=2)

    yield client_of
    for session in sessions:
        await session.close()
    for runner in runners:
        await runner.cleanup()


def always(status: int, body: str, **headers: str) -> Handler:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return web.Response(status=status, text=body, headers=named)

    return answer


FindWith = Callable[[Handler], Awaitable[ODataClient]]


class TestHostileAnswers:
    @pytest.mark.parametrize(
        ("status", "body", "sentence"),
        [
            (200, "<html>Log on</html>", "not JSON"),
            (200, "[]", "no member d"),
            (200, '{"d":{"x":1}}', "no list of entities"),
            (200, '{"d":{"results":[7]}}', "no list of entities"),
            (200, "[" * 100_000, "not JSON"),
            (200, "x" * 5_000_000, "longer than"),
            (302, "", "302"),
            (404, "<html>no service</html>", "404"),
            (500, '{"error":{"code":"C","message":{"value":"Dump"}}}', "500: C: Dump"),
        ],
        ids=["page", "array", "entity", "numbers", "deep", "long", "redirect", "no service", "dump"],
    )
    async def test_are_no_usable_answers(self, hostile: FindWith, status: int, body: str, sentence: str) -> None:
        client = await hostile(always(status, body, Location="http://elsewhere.example/"))
        with pytest.raises(answers.RemoteUnavailable, match=sentence):
            await client.find(COST_CENTERS, "A_CostCenter")

    async def test_a_service_that_gives_no_token_is_told(self, hostile: FindWith) -> None:
        client = await hostile(always(200, '{"d":{}}'))
        with pytest.raises(answers.RemoteUnavailable, match="gave no CSRF token") as caught:
            await make_notification(client)
        assert not caught.value.uncertain

    async def test_a_locked_material_told_with_400_is_tried_again(self, hostile: FindWith) -> None:
        body = '{"error":{"code":"M3/024","message":{"value":"Valuation data for material is locked by user X"}}}'
        client = await hostile(always(400, body, x_csrf_token="t"))
        with pytest.raises(answers.RemoteUnavailable, match="M3/024") as caught:
            await client.find(COST_CENTERS, "A_CostCenter")
        assert (caught.value.uncertain, caught.value.retry_after_s) == (False, 5.0)

    @pytest.mark.parametrize("message", ["null", "7", '"text"', '{"value":null}', "[]"])
    async def test_an_odd_error_document_is_still_told(self, hostile: FindWith, message: str) -> None:
        client = await hostile(always(400, f'{{"error":{{"code":"C","message":{message},"innererror":[]}}}}'))
        with pytest.raises(answers.Refused, match="400: C"):
            await client.find(COST_CENTERS, "A_CostCenter")

    async def test_a_batch_answer_that_cannot_be_read_leaves_it_uncertain(self, hostile: FindWith) -> None:
        client = await hostile(always(202, "--x\r\n", Content_Type="multipart/mixed; boundary=x", x_csrf_token="t"))
        change = Change(
            entity_set="A_PurchaseRequisitionItem",
            key={"PurchaseRequisition": "1", "PurchaseRequisitionItem": "10"},
            fields={"IsDeleted": "X"},
            etag=None,
        )
        with pytest.raises(answers.RemoteUnavailable, match="batch cannot be read") as caught:
            await client.change_all(REQUISITIONS, [change])
        assert caught.value.uncertain

    def test_a_wait_is_bounded(self) -> None:
        assert answers.retry_after_s("99999999999") == 24 * 3600
        assert answers.retry_after_s("soon") is None
        assert answers.retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 1.0
