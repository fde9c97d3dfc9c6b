"""Materials over HTTP: they come back as they were given, change, and go if nothing refers to them (SPEC R3.1)."""

from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from busbar.testing.app import Client, RunningApp
from busbar_mm.tests.work import add, check_books, ledger, material, new_id, posted, requisitions

AMOUNTS = st.decimals(min_value=0, max_value=Decimal("99999999.999"), places=3)
PRICES = st.none() | st.decimals(min_value=0, max_value=Decimal("9999.9999"), places=4)
LINES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=100)
NAMES = LINES.filter(lambda text: text[0] != " ")
DECIMAL_FIELDS = ("quantity", "reorder_level", "reorder_buffer", "unit_price")


def same(given: dict[str, Any], found: dict[str, Any]) -> bool:
    def value(body: dict[str, Any], name: str) -> Any:
        return Decimal(body[name]) if name in DECIMAL_FIELDS and body[name] is not None else body[name]

    return all(value(given, name) == value(found, name) for name in given)


class TestAMaterial:
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        body=st.fixed_dictionaries(
            {
                "description": LINES,
                "unit_of_measure": st.sampled_from(["EA", "m", "kg", "L", "m²"]),
                "quantity": AMOUNTS.map(str),
                "reorder_level": AMOUNTS.map(str),
                "storage_location": NAMES,
            },
            optional={
                "reorder_buffer": AMOUNTS.map(str),
                "unit_price": PRICES.map(lambda price: None if price is None else str(price)),
                "cost_center_id": st.sampled_from([None, "CC-1", "4100"]),
                "currency": st.sampled_from(["EUR", "USD", "CHF"]),
            },
        )
    )
    async def test_comes_back_as_it_was_given(self, store: Client, body: dict[str, Any]) -> None:
        """Property 5."""
        body = {"material_id": new_id(), **body}
        assert same(body, await store.post("/mm/materials", body))
        found = await material(store, body["material_id"])
        assert same(body, found)
        assert (found["site"], found["version"]) == ("a", 1)
        await check_books(body["material_id"])
        lines = await ledger(store, body["material_id"])
        assert [Decimal(line["quantity_change"]) for line in lines] == [q for q in [Decimal(body["quantity"])] if q]

    async def test_is_refused_with_every_bad_field_named(self, store: Client) -> None:
        body = {"material_id": "x y", "description": "x" * 251, "unit_of_measure": "", "quantity": "-1"}
        answer = await store.send("POST", "/mm/materials", body | {"reorder_level": "1.0001", "currency": "eur"})
        assert (answer.status, answer.body["code"]) == (400, "VAL_001")
        fields = {error["field"] for error in answer.body["errors"]}
        assert fields == {*body, "reorder_level", "currency"}

    async def test_whose_id_is_taken_is_a_conflict_at_any_site(self, app: RunningApp, store: Client) -> None:
        material_id = await add(store, quantity="3")
        body = {"material_id": material_id, "description": "?", "unit_of_measure": "EA", "quantity": "5"}
        for client in (store, await app.client("Store_Manager", "b")):
            answer = await client.send("POST", "/mm/materials", body)
            assert (answer.status, answer.body["code"]) == (409, "RES_002")
        assert len(await ledger(store, material_id)) == 1

    async def test_is_changed_in_what_is_named_and_only_from_the_version_seen(self, store: Client) -> None:
        material_id = await add(store, quantity="3", unit_price="2", cost_center_id="CC-1")
        path = f"/mm/materials/{material_id}"
        changed = await store.patch(path, {"description": "New", "cost_center_id": None, "storage_location": "SHELF"})
        assert (changed["description"], changed["cost_center_id"], changed["version"]) == ("New", None, 2)
        assert (changed["unit_price"], changed["storage_location"]) == ("2.0000", "SHELF")
        stale = await store.send("PATCH", path, {"description": "Newer"}, headers={"If-Match": '"v1"'})
        assert stale.status == 412
        assert (await store.send("PATCH", path, {"quantity": "7"})).status == 400
        await posted(store, material_id, "1", "receipt")
        assert (await material(store, material_id))["version"] == 2, "a posting is no change of the material"

    async def test_keeps_its_unit_and_currency_once_it_has_a_ledger(self, store: Client) -> None:
        material_id = await add(store)
        assert (await store.patch(f"/mm/materials/{material_id}", {"unit_of_measure": "m"}))["unit_of_measure"] == "m"
        await posted(store, material_id, "1", "receipt")
        for change in ({"unit_of_measure": "kg"}, {"currency": "USD"}):
            answer = await store.send("PATCH", f"/mm/materials/{material_id}", change)
            assert (answer.status, answer.body["code"]) == (422, "BUS_002")

    async def test_is_deleted_only_if_nothing_refers_to_it(self, store: Client) -> None:
        unused, used = await add(store), await add(store, quantity="1")
        assert (await store.send("DELETE", f"/mm/materials/{unused}")).status == 204
        assert (await store.send("GET", f"/mm/materials/{unused}")).status == 404
        answer = await store.send("DELETE", f"/mm/materials/{used}")
        assert (answer.status, answer.body["code"]) == (422, "BUS_002")

    async def test_level_and_buffer_may_not_ask_for_more_than_can_be_written(self, store: Client) -> None:
        body = {"material_id": new_id(), "description": "?", "unit_of_measure": "EA"}
        body |= {"reorder_level": "999999999999.999", "reorder_buffer": "0.001"}
        answer = await store.send("POST", "/mm/materials", body)
        assert [error["field"] for error in answer.body["errors"]] == ["reorder_buffer"]

    async def test_is_unknown_to_another_site(self, app: RunningApp, store: Client) -> None:
        material_id = await add(store, quantity="3")
        other = await app.client("Store_Manager", "b")
        for path in ("", "/transactions", "/stock", "/reservations"):
            assert (await other.send("GET", f"/mm/materials/{material_id}{path}")).status == 404
        assert (await other.send("PATCH", f"/mm/materials/{material_id}", {"description": "Mine"})).status == 404
        assert (await other.send("DELETE", f"/mm/materials/{material_id}")).status == 404
        assert (await other.get("/mm/materials"))["total"] == 0
        assert material_id not in [each["material_id"] for each in (await other.get("/mm/stock-transactions"))["items"]]


class TestTheList:
    async def test_finds_what_is_below_its_level_and_by_words(self, store: Client) -> None:
        low = await add(store, quantity="1", reorder_level="2", description="Rare zweizeiler clamp")
        high = await add(store, quantity="2", reorder_level="2", description="Zweizeiler joint")
        page = await store.get("/mm/materials?text=zweizeiler&sort=-quantity")
        assert [each["material_id"] for each in page["items"]] == [high, low]
        page = await store.get("/mm/materials?text=zweizeiler&below_level=true")
        assert [each["material_id"] for each in page["items"]] == [low]
        assert len(await requisitions(store, low)) == 1

    async def test_of_locations_has_those_made_by_hand(self, store: Client) -> None:
        body = {"storage_location": "HALL B / 3", "title": "Hall B, third rack"}
        assert (await store.send("POST", "/mm/storage-locations", body)).status == 204
        assert (await store.send("POST", "/mm/storage-locations", body)).status == 409
        page = await store.get("/mm/storage-locations?limit=200")
        assert ("HALL B / 3", "Hall B, third rack") in [(i["storage_location"], i["title"]) for i in page["items"]]


class TestPermissions:
    async def test_an_operator_of_the_integration_reads_and_does_not_write(self, app: RunningApp) -> None:
        operator = await app.client("Integration_Operator", "a")
        assert (await operator.get("/mm/materials"))["total"] >= 0
        body = {"material_id": new_id(), "description": "?", "unit_of_measure": "EA"}
        answer = await operator.send("POST", "/mm/materials", body)
        assert (answer.status, answer.body["code"]) == (403, "AUTH_003")
