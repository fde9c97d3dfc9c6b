"""The simulator as SAP's own client pyodata sees it, over TLS: it parses our $metadata, reads, writes and batches."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pyodata
import pytest
import requests
from pyodata.exceptions import HttpError
from pyodata.v2.model import PolicyFatal

from busbar_erp.model import (
    COST_CENTERS,
    MATERIAL_DOCUMENTS,
    NOTIFICATIONS,
    ORDERS,
    REQUISITIONS,
    ROOT,
    services,
)
from busbar_erp.simulator import Simulator

T = TypeVar("T")
ITEM = {
    "Material": "M-1",
    "RequestedQuantity": "2.000",
    "BaseUnit": "EA",
    "Plant": "1010",
    "PurchasingGroup": "001",
    "AccountAssignmentCategory": "K",
    "to_PurchaseReqnAcctAssgmt": [{"CostCenter": "CC-100"}],
}


class Foreigner:
    """A user of the simulator who knows nothing of us."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.session = requests.Session()
        # The environment may name a CA bundle, which would win over ours.
        self.session.trust_env = False
        self.session.auth = (simulator.credentials.username, simulator.credentials.password)
        self.session.verify = str(simulator.ca_file)

    def service(self, name: str) -> Any:
        """A client of a service; an error in its metadata is fatal."""
        url = f"{self.simulator.tls_url}{ROOT}/{name}/"
        token = self.session.get(url, headers={"x-csrf-token": "Fetch"}).headers["x-csrf-token"]
        self.session.headers["x-csrf-token"] = token
        config = pyodata.v2.model.Config(default_error_policy=PolicyFatal())
        return pyodata.Client(url, self.session, config=config)


@pytest.fixture
def foreigner(simulator: Simulator) -> Foreigner:
    return Foreigner(simulator)


async def apart(work: Callable[[], T]) -> T:
    """Do blocking work beside the simulator."""
    return await asyncio.to_thread(work)


class TestPyodata:
    @pytest.mark.parametrize("name", sorted(services()))
    async def test_parses_the_metadata_of_each_service(self, foreigner: Foreigner, name: str) -> None:
        schema = (await apart(lambda: foreigner.service(name))).schema
        ours = services()[name]
        assert {entity_set.name for entity_set in schema.entity_sets} == set(ours.sets)
        assert {function.name for function in schema.function_imports} == set(ours.functions)
        for entity_set in schema.entity_sets:
            kind, fields = entity_set.entity_type, ours.sets[entity_set.name].fields
            assert {prop.name for prop in kind.proprties()} == set(fields)
            assert {prop.name for prop in kind.key_proprties} == set(ours.sets[entity_set.name].keys)
            assert {nav.name for nav in kind.nav_proprties} == set(ours.sets[entity_set.name].navigations)

    async def test_creates_deep_reads_filters_and_counts(self, foreigner: Foreigner) -> None:
        def work() -> tuple[Any, ...]:
            service = foreigner.service(REQUISITIONS)
            sets = service.entity_sets
            item = {**ITEM, "PurReqnExternalReference": "BBO'NEIL"}
            request = sets.A_PurchaseRequisitionHeader.create_entity()
            made = request.set(PurchaseRequisitionType="NB", to_PurchaseReqnItem=[item, ITEM]).execute()
            items = sets.A_PurchaseRequisitionItem
            found = items.get_entities().filter("PurReqnExternalReference eq 'BBO''NEIL'").execute()
            query = items.get_entities().order_by("PurchaseRequisitionItem desc").top(1).count(inline=True)
            page = query.select("PurchaseRequisitionItem").execute()
            begins = items.get_entities().filter("startswith(PurReqnExternalReference,'BB') and not (IsDeleted eq 'X')")
            part = items.get_entities().filter("substringof('NEIL',PurReqnExternalReference) or Plant eq '9'").execute()
            read = sets.A_PurchaseRequisitionHeader.get_entity(made.PurchaseRequisition).expand("to_PurchaseReqnItem")
            below = read.execute().to_PurchaseReqnItem
            total = items.get_entities().count().execute()
            counts = (len(begins.execute()), len(part), page.total_count, total, len(below))
            return made, found, [row.PurchaseRequisitionItem for row in page], counts

        made, found, page, counts = await apart(work)
        assert made.PurchaseRequisition == "10000001"
        assert [row.PurchaseRequisitionItem for row in found] == ["00010"]
        assert str(found[0].RequestedQuantity) == "2.000"
        assert (page, counts) == (["00020"], (1, 1, 2, 2, 2))

    async def test_changes_by_version_and_calls_functions(self, foreigner: Foreigner) -> None:
        def work() -> tuple[Any, ...]:
            service = foreigner.service(NOTIFICATIONS)
            sets = service.entity_sets.MaintenanceNotification
            made = sets.create_entity().set(NotificationType="M2", NotificationText="Leak").execute()
            change = sets.update_entity(MaintenanceNotification=made.MaintenanceNotification)
            change.set(NotificationText="Big leak").add_headers({"If-Match": made.etag})
            change.execute()
            late = sets.update_entity(MaintenanceNotification=made.MaintenanceNotification).set(NotificationText="Late")
            late.add_headers({"If-Match": made.etag})
            with pytest.raises(HttpError) as stale:
                late.execute()
            number = made.MaintenanceNotification
            begun = service.functions.SetMaintNotifToInProcess.parameter("MaintenanceNotification", number).execute()
            done = service.functions.CompleteMaintNotification.parameter("MaintenanceNotification", number).execute()
            return begun, done, stale.value.response.status_code

        begun, done, status = await apart(work)
        assert (begun.NotifProcessingPhase, done.NotifProcessingPhase, status) == ("3", "4", 412)
        assert (done.NotificationText, done.LastChangeDateTime > begun.LastChangeDateTime) == ("Big leak", True)

    async def test_makes_an_order_with_operation_and_releases_it(self, foreigner: Foreigner) -> None:
        def work() -> Any:
            service = foreigner.service(ORDERS)
            sets = service.entity_sets
            operations = [{"OperationDescription": "Mend", "MaintOrdOperationWorkDuration": "1.5"}]
            order = sets.MaintenanceOrder.create_entity()
            order.set(
                MaintenanceOrderType="PM01",
                MaintenanceOrderDesc="Leak",
                MaintenancePlanningPlant="1010",
                to_MaintenanceOrderOperation=operations,
            )
            made = order.execute()
            number = made.MaintenanceOrder
            service.functions.ReleaseMaintenanceOrder.parameter("MaintenanceOrder", number).execute()
            return sets.MaintenanceOrder.get_entity(
                number
            ).execute(), sets.MaintenanceOrderOperation.get_entities().execute()

        order, operations = await apart(work)
        assert (order.SystemStatusText, [one.MaintenanceOrderOperation for one in operations]) == ("REL", ["0010"])

    async def test_posts_and_cancels_a_material_document(self, foreigner: Foreigner) -> None:
        def work() -> Any:
            service = foreigner.service(MATERIAL_DOCUMENTS)
            line = {"Material": "M-1", "Plant": "1010", "StorageLocation": "0001", "GoodsMovementType": "501"}
            line |= {"QuantityInEntryUnit": "3.000", "EntryUnit": "EA"}
            header = service.entity_sets.A_MaterialDocumentHeader.create_entity()
            header.set(PostingDate="/Date(1795824000000)/", GoodsMovementCode="05", to_MaterialDocumentItem=[line])
            made = header.execute()
            cancel = service.functions.Cancel.parameter("MaterialDocumentYear", made.MaterialDocumentYear)
            reversal = cancel.parameter("MaterialDocument", made.MaterialDocument).execute()
            return reversal, service.entity_sets.A_MaterialDocumentItem.get_entities().execute()

        reversal, items = await apart(work)
        assert reversal.MaterialDocument == "4900000002"
        assert [item.GoodsMovementType for item in items] == ["501", "502"]

    async def test_sends_change_sets_that_are_carried_out_whole_or_not_at_all(self, foreigner: Foreigner) -> None:
        def work() -> tuple[int, int]:
            service = foreigner.service(NOTIFICATIONS)
            sets = service.entity_sets.MaintenanceNotification
            status = []
            for second in ("", "Second"):
                batch, changes = service.create_batch(), service.create_changeset()
                changes.add_request(sets.create_entity().set(NotificationType="M2", NotificationText="First"))
                changes.add_request(sets.create_entity().set(NotificationType="M2", NotificationText=second))
                batch.add_request(changes)
                try:
                    batch.execute()
                    status.append(201)
                except HttpError:
                    status.append(400)
            return status[0], status[1]

        assert await apart(work) == (400, 201)
        assert [row["NotificationText"] for row in foreigner.simulator.rows("MaintenanceNotification")] == [
            "First",
            "Second",
        ]

    async def test_reads_cost_centers_by_their_three_part_key(self, foreigner: Foreigner) -> None:
        def work() -> list[str]:
            sets = foreigner.service(COST_CENTERS).entity_sets.A_CostCenter
            found = sets.get_entities().filter("ValidityEndDate gt datetime'2026-01-01T00:00:00'").execute()
            key = {name: getattr(found[0], name) for name in ("ControllingArea", "CostCenter", "ValidityEndDate")}
            return [row.CostCenter for row in found] + [sets.get_entity(**key).execute().CostCenterCurrency]

        assert await apart(work) == ["CC-100", "CC-200", "CC-BLOCKED", "EUR"]
