"""Approval requests over HTTP: levels in order, four eyes, delegation, and the ticket that follows."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from busbar.sdk import fetchval
from busbar.testing.app import Client
from busbar_fi.tests.asking import PATH, ask, decide, delegate, state_of
from busbar_fi.tests.conftest import Office
from busbar_fi.tests.desk import add_center, told


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def center(olga: Client) -> str:
    return await add_center(olga)


class People:
    def __init__(self, office: Office) -> None:
        self._office = office

    async def __call__(self, *names: str) -> list[Client]:
        return [await self._office.client(name) for name in names]


@pytest.fixture
def people(office: Office) -> People:
    return People(office)


class TestARequest:
    async def test_opens_a_finance_approval_ticket_and_is_told(self, olga: Client, center: str) -> None:
        opened = await ask(olga, center, "anna", "role:Finance_Officer")
        ticket = await olga.get(f"/tickets/{opened['ticket_id']}")
        assert (ticket["ticket_type"], ticket["priority"], ticket["object_id"]) == (
            "Finance_Approval",
            "P3",
            opened["approval_id"],
        )
        assert (ticket["status"], ticket["assignee"]) == ("Assigned", "anna")
        read = await olga.get(f"{PATH}/{opened['approval_id']}")
        assert (read["amount"], read["approval_hierarchy"]) == ("100.00", ["anna", "role:Finance_Officer"])
        (created,) = await told("FI_TICKET_CREATED", opened["ticket_id"])
        (requested,) = await told("FI_APPROVAL_REQUESTED", opened["ticket_id"])
        assert created["approval"] == requested["approval"]
        assert (requested["approval"]["requested_by"], requested["approval"]["level"]) == ("olga", 1)

    async def test_is_more_urgent_from_an_amount_on(self, olga: Client, center: str) -> None:
        for fields, priority in (
            ({"amount": "49999.99"}, "P3"),
            ({"amount": "50000.00"}, "P2"),
            ({"amount": "1.00", "priority": "P1"}, "P1"),
        ):
            opened = await ask(olga, center, "anna", **fields)
            assert (await olga.get(f"/tickets/{opened['ticket_id']}"))["priority"] == priority

    @pytest.mark.parametrize(
        ("hierarchy", "field"),
        [
            (["olga"], "approval_hierarchy[0]"),
            (["anna", "anna"], "approval_hierarchy[1]"),
            (["anna", "nobody"], "approval_hierarchy[1]"),
            (["role:Nothing"], "approval_hierarchy[0]"),
            ([], "approval_hierarchy"),
        ],
    )
    async def test_names_approvers_who_can_decide(
        self, olga: Client, center: str, hierarchy: list[str], field: str
    ) -> None:
        body = {"amount": "1.00", "justification": "x", "cost_center_id": center, "approval_hierarchy": hierarchy}
        answer = await olga.send("POST", PATH, body)
        assert (answer.status, [error["field"] for error in answer.body["errors"]]) == (400, [field])

    async def test_is_changed_by_its_requester_until_somebody_decides(
        self, olga: Client, center: str, people: People
    ) -> None:
        anna, oskar = await people("anna", "oskar")
        opened = await ask(olga, center, "anna", "bea")
        path = f"{PATH}/{opened['approval_id']}"
        assert (await olga.patch(path, {"amount": "90.00"}))["version"] == 2
        (changed,) = await told("FI_APPROVAL_CHANGED", opened["ticket_id"])
        assert changed["approval"]["amount"] == "90.00"
        await oskar.patch(path, {"amount": "1.00"}, status=403)
        assert (await decide(anna, opened, headers={"If-Match": '"v1"'})).status == 412
        assert (await decide(anna, opened, headers={"If-Match": '"v2"'})).status == 200
        await olga.patch(path, {"amount": "1.00"}, status=422)


class TestDecisions:
    async def test_go_level_by_level_and_close_the_ticket(self, olga: Client, center: str, people: People) -> None:
        anna, bea = await people("anna", "bea")
        opened = await ask(olga, center, "anna", "bea")
        early = await decide(bea, opened)
        assert (early.status, early.body["code"], "for anna" in early.body["detail"]) == (403, "AUTH_003", True)
        assert (await decide(anna, opened)).status == 200
        assert await state_of(olga, opened) == ("pending", 2, "Assigned")
        assert (await olga.get(f"/tickets/{opened['ticket_id']}"))["assignee"] == "bea"
        assert (await decide(bea, opened)).status == 200
        assert await state_of(olga, opened) == ("approved", 2, "Closed")
        (advanced,) = await told("FI_APPROVAL_ADVANCED", opened["ticket_id"])
        assert (advanced["decided_by"], advanced["approval"]["level"]) == ("anna", 2)
        (completed,) = await told("FI_APPROVAL_COMPLETED", opened["ticket_id"])
        assert (completed["decision"], completed["decided_by"], completed["approval"]["status"]) == (
            "approved",
            "bea",
            "approved",
        )
        read = await olga.get(f"{PATH}/{opened['approval_id']}")
        assert [(level["decision"], level["decided_by"]) for level in read["levels"]] == [
            ("approved", "anna"),
            ("approved", "bea"),
        ]

    async def test_end_with_a_rejection_and_cancel_the_ticket(self, olga: Client, center: str, people: People) -> None:
        (anna,) = await people("anna")
        opened = await ask(olga, center, "anna", "bea")
        assert (await anna.send("POST", f"{PATH}/{opened['approval_id']}/reject", {})).status == 400
        assert (await decide(anna, opened, "reject")).status == 200
        assert await state_of(olga, opened) == ("rejected", 1, "Cancelled")
        (completed,) = await told("FI_APPROVAL_COMPLETED", opened["ticket_id"])
        assert (completed["decision"], completed["comment"]) == ("rejected", "As discussed")

    async def test_are_made_once(self, olga: Client, center: str, people: People) -> None:
        (anna,) = await people("anna")
        opened = await ask(olga, center, "anna")
        answers = await asyncio.gather(*(decide(anna, opened, verb) for verb in ("approve", "reject") * 3))
        assert sorted(answer.status for answer in answers) == [200, 422, 422, 422, 422, 422]
        assert {answer.body["code"] for answer in answers if answer.status == 422} == {"BUS_002"}
        assert len(await told("FI_APPROVAL_COMPLETED", opened["ticket_id"])) == 1

    async def test_are_not_for_the_requester_by_role_either(self, olga: Client, center: str, people: People) -> None:
        (oskar,) = await people("oskar")
        opened = await ask(olga, center, "role:Finance_Officer")
        own = await decide(olga, opened)
        assert (own.status, own.body["code"]) == (422, "BUS_002")
        assert (await decide(oskar, opened)).status == 200

    async def test_of_two_levels_are_made_by_two_people(self, olga: Client, center: str, people: People) -> None:
        anna, bea = await people("anna", "bea")
        opened = await ask(olga, center, "anna", "role:Finance_Approver")
        assert (await decide(anna, opened)).status == 200
        again = await decide(anna, opened)
        assert (again.status, "another level" in again.body["detail"]) == (422, True)
        assert (await decide(bea, opened)).status == 200

    async def test_are_hidden_from_other_sites_and_from_those_without_the_right(
        self, olga: Client, center: str, people: People
    ) -> None:
        otto, ingo = await people("otto", "ingo")
        opened = await ask(olga, center, "role:Finance_Officer")
        assert (await decide(otto, opened)).status == 404
        assert (await decide(ingo, opened)).status == 403


class TestADelegation:
    async def test_lets_somebody_decide_and_the_trail_says_for_whom(
        self, olga: Client, center: str, people: People
    ) -> None:
        anna, bea = await people("anna", "bea")
        opened = await ask(olga, center, "anna")
        assert (await decide(bea, opened)).status == 403
        given = await delegate(anna, "bea")
        assert (await decide(bea, opened)).status == 200
        (completed,) = await told("FI_APPROVAL_COMPLETED", opened["ticket_id"])
        assert (completed["decided_by"], completed["on_behalf_of"]) == ("bea", "anna")
        sql = "select details ->> 'by' from core.audit where action = 'approval.approved' and object_id = $1"
        assert await fetchval(sql, opened["ticket_id"]) == "bea for anna"
        assert (await anna.send("DELETE", f"/fi/delegations/{given}")).status == 204
        assert (await decide(bea, await ask(olga, center, "anna"))).status == 403

    async def test_gives_no_second_pair_of_eyes(self, olga: Client, center: str, people: People) -> None:
        anna, bea, oskar = await people("anna", "bea", "oskar")
        given = [await delegate(anna, "bea"), await delegate(olga, "oskar")]
        both = await ask(olga, center, "anna", "bea")
        assert (await decide(bea, both)).status == 200
        assert (await decide(bea, both)).status == 422
        # oskar asks for himself what olga has to decide, and acts for her.
        assert (await decide(oskar, await ask(oskar, center, "olga"))).status == 422
        for client, delegation in ((anna, given[0]), (olga, given[1])):
            await client.send("DELETE", f"/fi/delegations/{delegation}")

    async def test_lends_no_right_that_the_giver_has_used_up_or_never_had(
        self, olga: Client, center: str, people: People
    ) -> None:
        anna, oskar = await people("anna", "oskar")
        given = [await delegate(anna, "oskar"), await delegate(olga, "anna")]
        # oskar has the second level's role through anna only, who decided the first one.
        used_up = await ask(olga, center, "anna", "role:Finance_Approver")
        assert (await decide(anna, used_up)).status == 200
        assert (await decide(oskar, used_up)).status == 403
        # anna has the level's role through olga only, who asks.
        never_had = await ask(olga, center, "role:Finance_Officer")
        assert (await decide(anna, never_had)).status == 403
        mine = await anna.get(f"{PATH}?mine=true&limit=200")
        assert never_had["approval_id"] not in {item["approval_id"] for item in mine["items"]}
        for client, delegation in ((anna, given[0]), (olga, given[1])):
            await client.send("DELETE", f"/fi/delegations/{delegation}")

    async def test_is_to_somebody_else_for_a_time(self, people: People) -> None:
        (anna,) = await people("anna")
        for body, field in (
            ({"delegate": "anna", "valid_until": "2099-01-01T00:00:00Z"}, "delegate"),
            ({"delegate": "nobody", "valid_until": "2026-12-31T00:00:00Z", "valid_from": "2026-12-30T00:00:00Z"}, "x"),
            ({"delegate": "bea", "valid_until": "2020-01-01T00:00:00Z"}, "valid_until"),
            ({"delegate": "bea", "valid_until": "2099-01-01T00:00:00Z"}, "valid_until"),
        ):
            answer = await anna.send("POST", "/fi/delegations", body)
            assert answer.status == 400, body
            assert field == "x" or answer.body["errors"][0]["field"] == field

    async def test_is_listed_for_those_it_concerns(self, people: People) -> None:
        anna, bea, carl, olga, admin = await people("anna", "bea", "carl", "olga", "admin")
        given = await delegate(anna, "bea")
        for client, sees in ((anna, True), (bea, True), (carl, False), (olga, False), (admin, True)):
            listed = [each["delegation_id"] for each in await client.get("/fi/delegations?current=true")]
            assert (given in listed) is sees
        assert (await carl.send("DELETE", f"/fi/delegations/{given}")).status == 404
        assert (await bea.send("DELETE", f"/fi/delegations/{given}")).status == 204


class TestTheInbox:
    async def mine(self, client: Client) -> list[str]:
        return [item["approval_id"] for item in (await client.get(f"{PATH}?mine=true&limit=200"))["items"]]

    async def test_has_what_one_may_decide_now_the_most_urgent_first(self, olga: Client, people: People) -> None:
        center = await add_center(olga)
        anna, bea, oskar = await people("anna", "bea", "oskar")
        late = await ask(olga, center, "anna", priority="P4")
        soon = await ask(olga, center, "anna", "bea", priority="P1")
        roles = await ask(olga, center, "role:Finance_Officer")
        at_annas = [each for each in await self.mine(anna) if each in (late["approval_id"], soon["approval_id"])]
        assert at_annas == [soon["approval_id"], late["approval_id"]]
        assert soon["approval_id"] not in await self.mine(bea)
        assert roles["approval_id"] in await self.mine(oskar)
        assert roles["approval_id"] not in await self.mine(olga)
        await decide(anna, soon)
        assert soon["approval_id"] not in await self.mine(anna)
        assert soon["approval_id"] in await self.mine(bea)

    async def test_has_what_waits_for_those_one_acts_for(self, olga: Client, people: People) -> None:
        center = await add_center(olga)
        anna, carl = await people("anna", "carl")
        opened = await ask(olga, center, "anna", "carl")
        given = await delegate(anna, "carl")
        assert opened["approval_id"] in await self.mine(carl)
        await decide(carl, opened)
        assert opened["approval_id"] not in await self.mine(carl)
        await anna.send("DELETE", f"/fi/delegations/{given}")


class TestTheTicket:
    async def test_is_cancelled_when_the_requester_withdraws(self, olga: Client, center: str, people: People) -> None:
        (oskar,) = await people("oskar")
        opened = await ask(olga, center, "anna")
        assert (await oskar.send("DELETE", f"{PATH}/{opened['approval_id']}")).status == 403
        assert (await olga.send("DELETE", f"{PATH}/{opened['approval_id']}")).status == 204
        assert await state_of(olga, opened) == ("withdrawn", 1, "Cancelled")
        assert (await olga.send("DELETE", f"{PATH}/{opened['approval_id']}")).status == 422

    async def test_cancelled_by_hand_withdraws_the_request(self, olga: Client, center: str, office: Office) -> None:
        opened = await ask(olga, center, "anna")
        await olga.post(f"/tickets/{opened['ticket_id']}/cancel", {"reason": "Not needed"}, status=200)
        assert (await decide(await office.client("anna"), opened)).status == 422
        await office.app.quiet()
        assert await state_of(olga, opened) == ("withdrawn", 1, "Cancelled")
        (completed,) = await told("FI_APPROVAL_COMPLETED", opened["ticket_id"])
        assert (completed["decision"], completed["decided_by"]) == ("withdrawn", "olga")

    async def test_closed_by_hand_decides_nothing_and_opens_again(
        self, olga: Client, center: str, office: Office
    ) -> None:
        opened = await ask(olga, center, "anna")
        for status in ("In_Progress", "Closed"):
            await olga.patch(f"/tickets/{opened['ticket_id']}/status", {"new_status": status})
        await office.app.quiet()
        assert await state_of(olga, opened) == ("pending", 1, "In_Progress")
        assert await told("FI_APPROVAL_COMPLETED", opened["ticket_id"]) == []
        assert (await decide(await office.client("anna"), opened, "reject")).status == 200
        assert await state_of(olga, opened) == ("rejected", 1, "Cancelled")


class TestRules:
    async def test_are_read_and_replaced_as_a_whole(self, olga: Client, people: People) -> None:
        (otto,) = await people("otto")
        assert (await olga.get("/fi/approval-rules?site=a"))["remind_after_h"] == 24
        body: dict[str, Any] = {
            "rules": [{"approvers": ["anna", "bea"]}, {"up_to": "500.00", "approvers": ["role:Finance_Officer"]}],
            "remind_after_h": 8,
        }
        answer = await olga.send("PUT", "/fi/approval-rules?site=a", body, headers={"If-Match": '"v0"'})
        assert (answer.status, answer.headers["ETag"]) == (200, '"v1"')
        assert [rule["up_to"] for rule in answer.body["rules"]] == ["500.00", None]
        stale = await olga.send("PUT", "/fi/approval-rules?site=a", body, headers={"If-Match": '"v0"'})
        assert stale.status == 412
        assert (await otto.send("PUT", "/fi/approval-rules?site=a", body)).status == 404

    @pytest.mark.parametrize(
        ("rules", "field"),
        [
            ([{"up_to": "5.00", "approvers": ["anna"]}], "rules"),
            ([{"approvers": ["anna"]}, {"approvers": ["bea"]}], "rules[1].up_to"),
            ([{"approvers": ["anna", "anna"]}], "rules[0].approvers"),
            ([{"approvers": ["nobody"]}], "rules[0].approvers[0]"),
        ],
    )
    async def test_that_leave_somebody_undecided_are_refused(
        self, olga: Client, rules: list[dict[str, Any]], field: str
    ) -> None:
        answer = await olga.send("PUT", "/fi/approval-rules?site=a", {"rules": rules})
        assert (answer.status, [error["field"] for error in answer.body["errors"]]) == (400, [field])
