"""The simulated Table API as any HTTP client sees it: shapes, queries, paging, rules, statuses."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from busbar_itsm.simulator import Simulator
from busbar_itsm.tests.conftest import MovableClock

GOLDEN = msgspec.json.decode((Path(__file__).parent / "fixtures" / "incident_examples.json").read_bytes())
TABLE = "/api/now/table/incident"


@pytest.fixture
async def http(simulator: Simulator) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with the simulator's address and credentials."""
    credentials = simulator.credentials
    authorization = aiohttp.encode_basic_auth(credentials.username, credentials.password)
    headers = {"Accept": "application/json", "Authorization": authorization}
    async with aiohttp.ClientSession(simulator.url, headers=headers) as opened:
        yield opened


async def create(http: aiohttp.ClientSession, path: str = TABLE, **fields: Any) -> dict[str, Any]:
    async with http.post(path, json=fields) as response:
        assert response.status == 201, await response.text()
        return (await response.json())["result"]


async def change(http: aiohttp.ClientSession, sys_id: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    async with http.patch(f"{TABLE}/{sys_id}", json=fields) as response:
        return response.status, await response.json()


async def listed(http: aiohttp.ClientSession, query: str, **params: str) -> list[str]:
    """The short descriptions of what a query finds."""
    async with http.get(TABLE, params={"sysparm_query": query, **params}) as response:
        assert response.status == 200
        return [record["short_description"] for record in (await response.json())["result"]]


def shape(record: dict[str, Any]) -> dict[str, str]:
    """Each field and the type of its value; an empty reference may be "" or a link."""
    return {name: "text or link" if isinstance(value, dict) else type(value).__name__ for name, value in record.items()}


class TestGoldenShapes:
    async def test_a_created_incident_looks_like_the_documented_one(self, http: aiohttp.ClientSession) -> None:
        golden = GOLDEN["POST /now/table/{tableName} #0"]["result"]
        created = await create(
            http,
            short_description=golden["short_description"],
            assignment_group="287ebd7da9fe198100f92cc8d1d2154e",
            urgency=2,
            impact="2",
        )
        assert set(created) == set(golden) | {"hold_reason"}
        assert {name: kind for name, kind in shape(created).items() if name in golden} == shape(golden)
        instance_specific = {"number", "sys_id", "opened_by"} | {
            name for name in golden if name.endswith(("_on", "_at", "_by"))
        }
        for name in set(golden) - instance_specific - {"assignment_group", "sys_domain"}:
            assert created[name] == golden[name], name
        assert created["assignment_group"]["value"] == golden["assignment_group"]["value"]
        assert created["assignment_group"]["link"].endswith(
            "/api/now/table/sys_user_group/" + "287ebd7da9fe198100f92cc8d1d2154e"
        )

    @pytest.mark.parametrize(
        "example", ["GET /now/table/{tableName}/{sys_id} #0", "PATCH /now/table/{tableName}/{sys_id} #0"]
    )
    async def test_every_documented_field_reads_as_text_or_link(
        self, http: aiohttp.ClientSession, example: str
    ) -> None:
        golden = GOLDEN[example]["result"]
        sent = {name: value["value"] if isinstance(value, dict) else value for name, value in golden.items()}
        created = await create(http, **sent)
        assert {name: kind for name, kind in shape(created).items() if name in golden} == shape(golden)
        system_set = {"priority", "incident_state", "active", "reopen_count"}
        settable = {name for name in golden if not name.startswith("sys_") and name not in system_set}
        for name in settable:
            expected = sent[name]
            found = created[name]["value"] if isinstance(created[name], dict) else created[name]
            if expected or name not in ("opened_at", "opened_by"):
                assert found == expected, name

    async def test_times_and_numbers_are_strings_as_the_api_writes_them(self, http: aiohttp.ClientSession) -> None:
        created = await create(http, short_description="Feeder 12 tripped", knowledge=True, order=7)
        assert created["sys_created_on"] == created["opened_at"] == "2026-11-23 09:20:00"
        assert (created["knowledge"], created["order"], created["sys_mod_count"]) == ("true", "7", "0")
        assert [(await create(http))["number"] for _ in range(2)] == ["INC0010002", "INC0010003"]


class TestWrites:
    async def test_answers_with_the_location_of_the_new_record(
        self, http: aiohttp.ClientSession, simulator: Simulator
    ) -> None:
        async with http.post("/api/now/v2/table/incident", json={"short_description": "x"}) as response:
            sys_id = (await response.json())["result"]["sys_id"]
            assert response.headers["Location"] == f"{simulator.url}/api/now/v2/table/incident/{sys_id}"
        async with http.get(response.headers["Location"]) as read:
            assert read.status == 200

    async def test_sends_no_body_when_asked_not_to(self, http: aiohttp.ClientSession) -> None:
        async with http.post(TABLE, json={}, headers={"X-no-response-body": "true"}) as response:
            assert (response.status, await response.read()) == (201, b"")
            assert "Location" in response.headers

    async def test_drops_unknown_and_system_fields_without_a_word(self, http: aiohttp.ClientSession) -> None:
        created = await create(http, u_unknown="x", sys_id="f" * 32, sys_mod_count="9", correlation_id="c" * 101)
        assert "u_unknown" not in created
        assert created["sys_id"] != "f" * 32
        assert created["sys_mod_count"] == "0"
        assert created["correlation_id"] == "c" * 100

    async def test_an_empty_text_clears_a_field_but_not_a_choice(self, http: aiohttp.ClientSession) -> None:
        created = await create(http, description="long story", impact="1")
        _, answer = await change(http, created["sys_id"], description="", impact="")
        assert (answer["result"]["description"], answer["result"]["impact"]) == ("", "1")

    async def test_a_change_counts_and_dates_the_record_unless_nothing_changed(
        self, http: aiohttp.ClientSession, clock: MovableClock
    ) -> None:
        created = await create(http, short_description="a")
        clock.move(60)
        _, same = await change(http, created["sys_id"], short_description="a")
        assert (same["result"]["sys_mod_count"], same["result"]["sys_updated_on"]) == ("0", "2026-11-23 09:20:00")
        _, other = await change(http, created["sys_id"], short_description="b")
        assert (other["result"]["sys_mod_count"], other["result"]["sys_updated_on"]) == ("1", "2026-11-23 09:21:00")

    async def test_put_changes_only_what_is_sent_and_delete_removes(self, http: aiohttp.ClientSession) -> None:
        created = await create(http, short_description="a", description="kept")
        async with http.put(f"{TABLE}/{created['sys_id']}", json={"short_description": "b"}) as response:
            assert (await response.json())["result"]["description"] == "kept"
        async with http.delete(f"{TABLE}/{created['sys_id']}") as response:
            assert response.status == 204
        async with http.delete(f"{TABLE}/{created['sys_id']}") as response:
            assert response.status == 404
        assert await listed(http, "") == []

    async def test_a_comment_is_kept_in_the_journal_and_shown_as_display_value(
        self, http: aiohttp.ClientSession
    ) -> None:
        created = await create(http, comments="Crew is on the way")
        assert created["comments"] == ""
        async with http.get(f"{TABLE}/{created['sys_id']}", params={"sysparm_display_value": "true"}) as response:
            shown = (await response.json())["result"]["comments"]
        assert shown == "2026-11-23 09:20:00 - busbar.integration (Additional comments)\nCrew is on the way\n\n"
        query = {"sysparm_query": f"element_id={created['sys_id']}^element=comments", "sysparm_fields": "value"}
        async with http.get("/api/now/table/sys_journal_field", params=query) as response:
            assert (await response.json())["result"] == [{"value": "Crew is on the way"}]


class TestIncidentRules:
    @pytest.mark.parametrize(
        ("impact", "urgency", "priority"),
        [(1, 1, 1), (1, 2, 2), (1, 3, 3), (2, 1, 2), (2, 2, 3), (2, 3, 4), (3, 1, 3), (3, 2, 4), (3, 3, 5)],
    )
    async def test_priority_follows_impact_and_urgency_whatever_is_sent(
        self, http: aiohttp.ClientSession, impact: int, urgency: int, priority: int
    ) -> None:
        created = await create(http, impact=impact, urgency=urgency, priority="1" if priority != 1 else "5")
        assert created["priority"] == str(priority)

    async def test_on_hold_needs_a_reason_and_awaiting_caller_a_comment(self, http: aiohttp.ClientSession) -> None:
        created = await create(http, state="2")
        status, answer = await change(http, created["sys_id"], state="3")
        assert (status, answer["error"]["message"]) == (403, "Operation Failed")
        assert "On hold reason" in answer["error"]["detail"]
        status, answer = await change(http, created["sys_id"], state="3", hold_reason="1")
        assert status == 403
        assert "Additional comments" in answer["error"]["detail"]
        status, _ = await change(http, created["sys_id"], state="3", hold_reason="1", comments="Which feeder?")
        assert status == 200
        status, answer = await change(http, created["sys_id"], short_description="still on hold")
        assert (status, answer["result"]["hold_reason"]) == (200, "1")
        status, answer = await change(http, created["sys_id"], state="2")
        assert (status, answer["result"]["hold_reason"]) == (200, "")

    async def test_resolve_close_and_reopen_set_who_and_when(self, http: aiohttp.ClientSession) -> None:
        created = await create(http, state="2")
        status, _ = await change(http, created["sys_id"], state="6")
        assert status == 403
        solution = {"close_code": "Solution provided", "close_notes": "Fuse replaced"}
        _, answer = await change(http, created["sys_id"], state="6", **solution)
        resolved = answer["result"]
        assert (resolved["resolved_at"], resolved["active"]) == ("2026-11-23 09:20:00", "true")
        _, answer = await change(http, created["sys_id"], state="7")
        closed = answer["result"]
        assert (closed["incident_state"], closed["active"], closed["closed_at"]) == (
            "7",
            "false",
            "2026-11-23 09:20:00",
        )
        _, answer = await change(http, created["sys_id"], state="2")
        assert (answer["result"]["reopen_count"], answer["result"]["closed_at"]) == ("1", "")

    async def test_a_refused_write_leaves_no_trace(self, http: aiohttp.ClientSession, simulator: Simulator) -> None:
        created = await create(http, state="2")
        await change(http, created["sys_id"], state="6", short_description="half written")
        assert len(simulator.effects) == 1
        assert await listed(http, "short_descriptionLIKEhalf") == []


class TestQueries:
    @pytest.fixture(autouse=True)
    async def _three_incidents(self, http: aiohttp.ClientSession) -> None:
        await create(http, short_description="Feeder 12 tripped", correlation_id="T1", impact="1")
        await create(http, short_description="Transformer T7 hot", correlation_id="T2", impact="2", state="2")
        await create(http, short_description="Feeder 14 earth fault", correlation_id="T3", impact="1", state="2")

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("correlation_id=T2", "7"),
            ("correlation_id!=T2", "12 14"),
            ("short_descriptionLIKEeeder", "12 14"),
            ("short_descriptionLIKEFEEDER", ""),
            ("short_descriptionSTARTSWITHTrans", "7"),
            ("short_descriptionENDSWITHfault", "14"),
            ("correlation_idINT1,T3", "12 14"),
            ("impact=1^state=2", "14"),
            ("correlation_id=T1^ORcorrelation_id=T2", "12 7"),
            ("state=2^correlation_id=T1^ORcorrelation_id=T3", "14"),
            ("ORDERBYDESCcorrelation_id", "14 7 12"),
            ("ORDERBYDESCimpact^ORDERBYDESCcorrelation_id", "7 14 12"),
            ("impact=1^ORDERBYDESCshort_description", "14 12"),
            ("caller_idISEMPTY", "12 7 14"),
            ("caller_idISNOTEMPTY", ""),
            ("opened_by.user_name=busbar.integration^state=2", "7 14"),
            ("u_unknown=x", "12 7 14"),
            ("state=2^nonsense^u_unknown=x", "7 14"),
            ("u_unknown=x^ORcorrelation_id=T1", "12"),
            ("state=2^u_unknown=x^ORcorrelation_id=T1", ""),
            ("correlation_id=", ""),
        ],
    )
    async def test_finds(self, http: aiohttp.ClientSession, query: str, found: str) -> None:
        numbers = {"Feeder 12 tripped": "12", "Transformer T7 hot": "7", "Feeder 14 earth fault": "14"}
        assert " ".join(numbers[text] for text in await listed(http, query)) == found

    async def test_an_instance_may_be_set_to_return_no_rows_for_an_invalid_query(
        self, http: aiohttp.ClientSession, simulator: Simulator
    ) -> None:
        simulator.api.invalid_query_returns_no_rows = True
        assert await listed(http, "state=2^u_unknown=x") == []

    async def test_a_changed_value_is_found_by_the_new_one_only(self, http: aiohttp.ClientSession) -> None:
        async with http.get(TABLE, params={"sysparm_query": "correlation_id=T1"}) as response:
            sys_id = (await response.json())["result"][0]["sys_id"]
        await change(http, sys_id, correlation_id="T9")
        assert await listed(http, "correlation_id=T1") == []
        assert await listed(http, "correlation_id=T9") == ["Feeder 12 tripped"]

    async def test_pages_with_links_and_a_total(self, http: aiohttp.ClientSession) -> None:
        seen = []
        url: Any = f"{TABLE}?sysparm_query=ORDERBYcorrelation_id&sysparm_limit=2&sysparm_fields=correlation_id"
        while url:
            async with http.get(url) as response:
                assert response.headers["X-Total-Count"] == "3"
                seen.append([record["correlation_id"] for record in (await response.json())["result"]])
                url = response.links.get("next", {}).get("url")
        assert seen == [["T1", "T2"], ["T3"]]
        assert set(response.links) == {"first", "prev", "last"}

    async def test_leaves_out_headers_that_are_switched_off(self, http: aiohttp.ClientSession) -> None:
        params = {"sysparm_no_count": "true", "sysparm_suppress_pagination_header": "true"}
        async with http.get(TABLE, params=params) as response:
            assert not {"Link", "X-Total-Count"} & set(response.headers)

    async def test_v1_answers_404_for_an_empty_list_and_v2_does_not(self, http: aiohttp.ClientSession) -> None:
        for version, status in (("v1/", 404), ("v2/", 200), ("", 200)):
            url = f"/api/now/{version}table/incident"
            async with http.get(url, params={"sysparm_query": "correlation_id=none"}) as response:
                assert response.status == status, version


class TestLooks:
    async def test_shows_values_display_values_or_both(self, http: aiohttp.ClientSession, simulator: Simulator) -> None:
        created = await create(http, state="2")
        url = f"{TABLE}/{created['sys_id']}"
        user_id = created["opened_by"]["value"]
        link = f"{simulator.url}/api/now/table/sys_user/{user_id}"
        name = "Busbar Integration"
        for params, state, opened_by in (
            ({}, "2", {"link": link, "value": user_id}),
            ({"sysparm_exclude_reference_link": "true"}, "2", user_id),
            ({"sysparm_display_value": "true"}, "In Progress", {"display_value": name, "link": link}),
            (
                {"sysparm_display_value": "all"},
                {"display_value": "In Progress", "value": "2"},
                {"display_value": name, "link": link, "value": user_id},
            ),
            (
                {"sysparm_display_value": "all", "sysparm_exclude_reference_link": "true"},
                {"display_value": "In Progress", "value": "2"},
                {"display_value": name, "value": user_id},
            ),
        ):
            async with http.get(url, params={**params, "sysparm_fields": "state,opened_by,u_unknown"}) as response:
                assert (await response.json())["result"] == {"state": state, "opened_by": opened_by}
            async with http.get(url, params=params) as response:
                whole = (await response.json())["result"]
                assert (whole["state"], whole["opened_by"]) == (state, opened_by)

    async def test_walks_dots_into_references(self, http: aiohttp.ClientSession) -> None:
        created = await create(http)
        fields = {"sysparm_fields": "opened_by.name,caller_id.name,number"}
        async with http.get(f"{TABLE}/{created['sys_id']}", params=fields) as response:
            assert (await response.json())["result"] == {
                "opened_by.name": "Busbar Integration",
                "caller_id.name": "",
                "number": "INC0010001",
            }


class TestRefusals:
    async def test_without_credentials_it_answers_the_documented_401(self, simulator: Simulator) -> None:
        async with aiohttp.ClientSession() as anonymous, anonymous.get(simulator.url + TABLE) as response:
            assert response.status == 401
            assert await response.json() == {
                "error": {
                    "message": "User Not Authenticated",
                    "detail": "Required to provide Auth information",
                },
                "status": "failure",
            }

    @pytest.mark.parametrize(
        ("method", "path", "headers", "body", "status"),
        [
            ("GET", "/api/now/table/u_nothing", {}, b"", 400),
            ("GET", "/api/now/nothing", {}, b"", 400),
            ("GET", "/somewhere", {}, b"", 400),
            ("GET", f"{TABLE}/{'0' * 32}", {}, b"", 404),
            ("PATCH", f"{TABLE}/{'0' * 32}", {"Content-Type": "application/json"}, b"{}", 404),
            ("PATCH", TABLE, {"Content-Type": "application/json"}, b"{}", 405),
            ("POST", f"{TABLE}/{'0' * 32}", {"Content-Type": "application/json"}, b"{}", 405),
            ("GET", TABLE, {"Accept": "application/xml"}, b"", 406),
            ("GET", TABLE, {"Accept": ""}, b"", 400),
            ("POST", TABLE, {"Content-Type": "application/xml"}, b"<x/>", 415),
            ("POST", TABLE, {"Content-Type": ""}, b"{}", 400),
            ("POST", TABLE, {"Content-Type": "application/json"}, b"{", 400),
            ("POST", TABLE, {"Content-Type": "application/json"}, b"[" * 100_000, 400),
            ("POST", TABLE, {"Content-Type": "application/json"}, b'[{"short_description": "two"}]', 400),
            ("POST", "/api/now/batch", {"Content-Type": "application/json"}, b"{}", 400),
        ],
    )
    async def test_answers_an_error_document(
        self, http: aiohttp.ClientSession, method: str, path: str, headers: dict[str, str], body: bytes, status: int
    ) -> None:
        async with http.request(method, path, headers=headers, data=body or None) as response:
            assert response.status == status
            document = await response.json()
        assert document["status"] == "failure"
        assert document["error"]["message"]

    async def test_the_hourly_quota_denies_and_returns(
        self, http: aiohttp.ClientSession, simulator: Simulator, clock: MovableClock
    ) -> None:
        simulator.set_rate_limit(2)
        statuses = []
        for _ in range(3):
            async with http.get(TABLE) as response:
                statuses.append(response.status)
        assert statuses == [200, 200, 429]
        # The clock stands at 09:20, and the hour ends at 10:00.
        assert response.headers["Retry-After"] == "2400"
        assert response.headers["X-RateLimit-Limit"] == "2"
        assert int(response.headers["X-RateLimit-Reset"]) == int(clock.now.timestamp()) + 2400
        clock.move(2400)
        async with http.get(TABLE) as response:
            assert response.status == 200

    async def test_tokens_expire(self, simulator: Simulator, clock: MovableClock) -> None:
        form = {
            "grant_type": "client_credentials",
            "client_id": simulator.credentials.client_id,
            "client_secret": simulator.credentials.client_secret,
        }
        async with aiohttp.ClientSession(simulator.url) as session:
            async with session.post("/oauth_token.do", data=form) as response:
                token = await response.json()
            assert (token["token_type"], token["expires_in"]) == ("Bearer", 1799)
            bearer = {"Authorization": f"Bearer {token['access_token']}"}
            for seconds, status in ((1798, 200), (1, 401)):
                clock.move(seconds)
                async with session.get(TABLE, headers=bearer) as response:
                    assert response.status == status
