"""Replays of many: counted first, sent some a second, whoever does it, once each, with their outcome to be seen."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from busbar.auth.actor import Actor
from busbar.db import execute, fetch, fetchval
from busbar.events import ledger
from busbar.events.ledger import Outcome
from busbar.events.replays import STEP_S, run_replays, take_step
from busbar.events.tests.facts import a_relay, a_subscription, an_actor, tell
from busbar.events.tests.served import Api
from busbar.kit.clock import utc_now

LANE = "tst.reader"
ASKED = {"reason": "the remote is back", "dry_run": False}


async def dead_ones(count: int, *, site: str = "north") -> None:
    """So many dead letters, the oldest first."""
    for n in range(count):
        await tell(n, subject=f"{site}-{n}", site=site)
    await a_relay(a_subscription(LANE)).move_batch()
    held = await ledger.claim({LANE: count}, worker=1)
    assert len(held) == count
    await ledger.settle([(each, Outcome(state="dead", detail="poison")) for each in held])


async def states() -> list[str]:
    return [row["state"] for row in await fetch("select state from core.delivery order by delivery_id")]


async def begin(api: Api, **asked: Any) -> dict[str, Any]:
    answer = await api.post("/deliveries/replay", ASKED | asked)
    replay: dict[str, Any] = answer["replay"]
    return replay


def later(steps: int = 1) -> datetime:
    return utc_now() + timedelta(seconds=steps * STEP_S)


class TestADryRun:
    async def test_only_counts_what_the_filter_finds(self, api: Api) -> None:
        await dead_ones(3)
        await dead_ones(1, site="south")
        answer = await api.post("/deliveries/replay", {"reason": "how many?", "site": "north"})
        assert answer == {"matching": 3, "replay": None}
        assert await fetchval("select count(*) from core.replay") == 0


class TestAReplay:
    async def test_sends_again_what_the_filter_finds_and_each_with_its_reason_in_the_trail(self, api: Api) -> None:
        await dead_ones(1, site="south")
        await dead_ones(3)
        replay = await begin(api, site="north")
        assert (replay["state"], replay["matching"], replay["replayed"]) == ("running", 3, 0)
        assert await take_step(later()) == 3
        assert await states() == ["dead", "pending", "pending", "pending"]
        trail = await fetch(
            "select action, comment, new_status, details->>'replay_id' as replay from core.audit "
            "where object_kind = 'delivery'"
        )
        expected = ("delivery.replay", "the remote is back", "pending", replay["replay_id"])
        assert [tuple(row) for row in trail] == [expected] * 3
        assert (await api.get(f"/deliveries/replays/{replay['replay_id']}"))["state"] == "done"

    async def test_takes_no_more_a_second_than_asked(self, api: Api) -> None:
        await dead_ones(5)
        replay = await begin(api, per_second=2)
        now = later()
        assert [await take_step(now) for _ in range(3)] == [2, None, None]
        assert await states() == ["pending", "pending", "dead", "dead", "dead"]
        assert await take_step(now + timedelta(seconds=STEP_S)) == 2
        assert await take_step(now + timedelta(seconds=2 * STEP_S)) == 1
        assert await take_step(now + timedelta(seconds=3 * STEP_S)) is None
        shown = await api.get(f"/deliveries/replays/{replay['replay_id']}")
        assert (shown["state"], shown["replayed"]) == ("done", 5)

    async def test_sends_nothing_twice_that_fails_again_and_nothing_that_came_later(self, api: Api) -> None:
        await dead_ones(2)
        replay = await begin(api, per_second=1)
        assert await take_step(later()) == 1
        (held,) = await ledger.claim({LANE: 1}, worker=1)
        await ledger.settle([(held, Outcome(state="dead", detail="poison again"))])
        await dead_ones(1, site="south")
        assert [await take_step(later(n)) for n in (2, 3, 4)] == [1, 0, None]
        assert await states() == ["dead", "pending", "dead"]
        shown = await api.get(f"/deliveries/replays/{replay['replay_id']}")
        assert (shown["replayed"], shown["delivered"], shown["dead"]) == (2, 0, 1)

    async def test_shows_what_became_of_each(self, api: Api) -> None:
        await dead_ones(2)
        replay = await begin(api)
        await take_step(later())
        held = await ledger.claim({LANE: 2}, worker=1)
        await ledger.settle([(held[0], Outcome(state="delivered")), (held[1], Outcome(state="dead", detail="poison"))])
        shown = await api.get(f"/deliveries/replays/{replay['replay_id']}")
        assert (shown["delivered"], shown["dead"]) == (1, 1)
        page = await api.get(f"/deliveries?replay={replay['replay_id']}")
        assert [each["state"] for each in page["items"]] == ["dead", "delivered"]

    async def test_goes_on_in_another_process_where_one_has_ended(self, api: Api) -> None:
        await dead_ones(3)
        await begin(api, per_second=2)
        assert await take_step(later()) == 2
        running = asyncio.ensure_future(run_replays(lambda: later(2)))
        try:
            async with asyncio.timeout(30):
                while "dead" in await states():
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def test_is_with_one_process_at_a_time(self, api: Api) -> None:
        await dead_ones(20)
        await begin(api, per_second=5)
        taken = await asyncio.gather(*(take_step(later()) for _ in range(4)))
        assert sorted(taken, key=lambda count: count or 0) == [None, None, None, 5]

    async def test_can_be_stopped(self, api: Api) -> None:
        await dead_ones(3)
        replay = await begin(api, per_second=1)
        await take_step(later())
        stop = f"/deliveries/replays/{replay['replay_id']}/stop"
        assert (await api.post(stop, {}))["state"] == "stopped"
        assert await take_step(later(5)) is None
        assert await states() == ["pending", "dead", "dead"]
        assert (await api.post(stop, {}, status=422))["code"] == "BUS_002"

    async def test_leaves_to_the_desk_what_never_could_be_worked_out(self, api: Api) -> None:
        await dead_ones(1)
        await execute("update core.delivery set attempts = 0")
        assert await api.post("/deliveries/replay", ASKED) == {"matching": 0, "replay": None}

    async def test_reaches_no_further_than_whoever_asked(self, api: Api) -> None:
        await dead_ones(1, site="south")
        api.signed.actor = an_actor(sites=("north",))
        assert await api.post("/deliveries/replay", ASKED) == {"matching": 0, "replay": None}
        await dead_ones(1)
        await begin(api)
        assert await take_step(later()) == 1
        assert await states() == ["dead", "pending"]

    async def test_is_shown_to_its_owner_and_to_who_works_for_all_sites(self, api: Api) -> None:
        await dead_ones(1)
        replay = await begin(api)
        assert [each["replay_id"] for each in (await api.get("/deliveries/replays"))["items"]] == [replay["replay_id"]]
        stranger = Actor(user_id="u-2", username="kim", sites=("north",), permissions=frozenset({"*"}))
        api.signed.actor = stranger
        assert (await api.get("/deliveries/replays"))["items"] == []
        await api.get(f"/deliveries/replays/{replay['replay_id']}", status=404)
        await api.post(f"/deliveries/replays/{replay['replay_id']}/stop", {}, status=404)

    async def test_refuses_a_pace_that_is_none(self, api: Api) -> None:
        for per_second in (0, 1_001):
            await api.post("/deliveries/replay", ASKED | {"per_second": per_second}, status=400)
