"""Cycle counts over HTTP: books are kept, what is found is entered, and differences become adjustments."""

from decimal import Decimal
from typing import Any

from busbar.testing.app import Client, RunningApp
from busbar_mm.tests.work import add, check_books, ledger, new_id, posted, quantity, written


async def shelf(store: Client, *quantities: str) -> tuple[str, list[str]]:
    """A location of its own with materials on it."""
    place = f"SHELF {new_id()}"
    return place, [await add(store, quantity=each, storage_location=place, unit_price="2") for each in quantities]


async def begin(store: Client, place: str, **more: Any) -> str:
    count = await store.post("/mm/stock-counts", {"storage_location": place, **more})
    return f"/mm/stock-counts/{count['count_id']}"


async def enter(store: Client, path: str, found: dict[str, str], status: int = 200) -> Any:
    lines = [{"material_id": material_id, "counted_quantity": each} for material_id, each in found.items()]
    return await store.patch(path, {"lines": lines}, status=status)


class TestACount:
    async def test_posts_the_differences_as_adjustments_with_the_reason(self, store: Client) -> None:
        place, (more, same, less) = await shelf(store, "5", "6", "7")
        path = await begin(store, place, description="Shelf by shelf")
        await enter(store, path, {more: "5.5", same: "6", less: "0"})
        count = await store.post(f"{path}/post", {"reason": "Yearly count"}, status=200)
        assert (count["status"], count["posted_by"]) == ("posted", "store_manager-a")
        assert [await quantity(store, each) for each in (more, same, less)] == [Decimal("5.5"), 6, 0]
        assert [line["transaction_id"] is not None for line in count["lines"]] == [True, False, True]
        line = (await ledger(store, less))[-1]
        assert (line["transaction_type"], line["note"], line["value_change"]) == (
            "adjustment",
            "Yearly count",
            "-14.00",
        )
        assert len(await ledger(store, same)) == 1
        for each in (more, same, less):
            await check_books(each)

    async def test_may_be_of_some_materials_and_of_one_that_is_not_there(self, store: Client) -> None:
        place, (one, _) = await shelf(store, "5", "6")
        elsewhere = await add(store, quantity="3")
        path = await begin(store, place, material_ids=[one, elsewhere])
        count = await store.get(path)
        assert {line["material_id"]: Decimal(line["book_quantity"]) for line in count["lines"]} == {
            one: 5,
            elsewhere: 0,
        }
        await enter(store, path, {one: "5", elsewhere: "1"})
        await store.post(f"{path}/post", status=200)
        assert await quantity(store, elsewhere) == 4

    async def test_is_not_posted_before_all_is_counted(self, store: Client) -> None:
        place, (one, two) = await shelf(store, "5", "6")
        path = await begin(store, place)
        await enter(store, path, {one: "4"})
        before = await written()
        answer = await store.send("POST", f"{path}/post")
        assert (answer.status, answer.body["code"]) == (422, "BUS_002")
        assert answer.body["detail"] == f"{two} are not counted yet."
        assert await written() == before

    async def test_whose_books_have_changed_is_counted_again(self, store: Client) -> None:
        place, (one, two) = await shelf(store, "5", "6")
        path = await begin(store, place)
        await enter(store, path, {one: "4", two: "6"})
        await posted(store, one, "-1", storage_location=place)
        stale = {line["material_id"]: line["is_stale"] for line in (await store.get(path))["lines"]}
        assert stale == {one: True, two: False}
        answer = await store.send("POST", f"{path}/post")
        assert answer.status == 422
        assert f"{one} have changed since the count began" in answer.body["detail"]
        count = await store.post(f"{path}/recount", status=200)
        lines = {line["material_id"]: line for line in count["lines"]}
        assert (Decimal(lines[one]["book_quantity"]), lines[one]["counted_quantity"]) == (4, None)
        assert Decimal(lines[two]["counted_quantity"]) == 6
        await enter(store, path, {one: "3"})
        await store.post(f"{path}/post", status=200)
        assert await quantity(store, one) == 3

    async def test_takes_only_what_is_part_of_it(self, store: Client) -> None:
        place, (one,) = await shelf(store, "5")
        path = await begin(store, place)
        problem = await enter(store, path, {one: "4", "SOMETHING-ELSE": "1"}, status=400)
        assert [error["field"] for error in problem["errors"]] == ["lines[1].material_id"]
        assert (await store.get(path))["lines"][0]["counted_quantity"] is None

    async def test_is_finished_only_once(self, store: Client) -> None:
        place, (one,) = await shelf(store, "5")
        path = await begin(store, place)
        assert (await store.send("DELETE", path)).status == 204
        assert (await store.get(path))["status"] == "cancelled"
        for method, verb, body in (("POST", "/post", None), ("POST", "/recount", None), ("DELETE", "", None)):
            answer = await store.send(method, f"{path}{verb}", body)
            assert (answer.status, answer.body["code"]) == (422, "BUS_002")
        await enter(store, path, {one: "4"}, status=422)

    async def test_of_nothing_or_of_anothers_material_is_refused(self, app: RunningApp, store: Client) -> None:
        foreign = await add(await app.client("Store_Manager", "b"), quantity="1")
        nothing = await store.send("POST", "/mm/stock-counts", {"storage_location": "NOWHERE"})
        assert (nothing.status, nothing.body["code"]) == (422, "BUS_002")
        body = {"storage_location": "MAIN", "material_ids": [foreign]}
        answer = await store.send("POST", "/mm/stock-counts", body)
        assert [error["field"] for error in answer.body["errors"]] == ["material_ids[0]"]

    async def test_is_listed_and_unknown_to_another_site(self, app: RunningApp, store: Client) -> None:
        place, _ = await shelf(store, "5")
        path = await begin(store, place)
        page = await store.get("/mm/stock-counts?status=open&limit=200")
        assert path.rpartition("/")[2] in [each["count_id"] for each in page["items"]]
        other = await app.client("Store_Manager", "b")
        assert (await other.send("GET", path)).status == 404
        assert (await other.send("POST", f"{path}/post")).status == 404
