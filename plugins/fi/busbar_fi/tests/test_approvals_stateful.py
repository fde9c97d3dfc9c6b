"""Approval requests against a simple model: whatever people try, in whatever order, the API agrees with it."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from busbar.testing.app import Client
from busbar_fi.tests.asking import PATH, ask, decide, delegate
from busbar_fi.tests.conftest import PEOPLE, Office
from busbar_fi.tests.desk import add_center, told

APPROVERS = ["anna", "bea", "carl", "oskar", "olga"]
ENTRIES = [*APPROVERS, "role:Finance_Approver", "role:Finance_Officer"]
WHO = st.sampled_from(APPROVERS)


class Expected:
    """What the model believes of a request."""

    def __init__(self, opened: dict[str, Any], requester: str, hierarchy: list[str]) -> None:
        self.opened, self.requester, self.hierarchy = opened, requester, hierarchy
        self.level, self.status = 1, "pending"
        self.eyes: set[str] = set()

    def in_whose_name(self, who: str, delegators: set[str]) -> str | None:
        """The person for whom `who` may decide now, if there is one; the own name goes before others'."""
        if self.status != "pending" or who == self.requester or who in self.eyes:
            return None
        wanted = self.hierarchy[self.level - 1]
        for person in (who, *sorted(delegators)):
            means = wanted in (person, f"role:{PEOPLE[person][0]}")
            if means and person != self.requester and person not in self.eyes:
                return person
        return None


class Approvals(RuleBasedStateMachine):
    """Runs its steps on the loop of the test that started it, in which the platform lives."""

    loop: asyncio.AbstractEventLoop
    office: Office
    center: str

    requests = Bundle("requests")
    delegations = Bundle("delegations")

    def __init__(self) -> None:
        super().__init__()
        self.expected: list[Expected] = []
        self.standing: dict[str, tuple[str, str]] = {}

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def client(self, who: str) -> Client:
        client: Client = self.run(self.office.client(who))
        return client

    def delegators_of(self, who: str) -> set[str]:
        return {giver for giver, taker in self.standing.values() if taker == who}

    @rule(
        target=requests,
        requester=st.sampled_from(["olga", "oskar"]),
        hierarchy=st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=3, unique=True),
    )
    def request(self, requester: str, hierarchy: list[str]) -> Expected:
        hierarchy = [entry for entry in hierarchy if entry != requester] or ["anna"]
        opened = self.run(ask(self.client(requester), self.center, *hierarchy))
        self.expected.append(Expected(opened, requester, hierarchy))
        return self.expected[-1]

    @rule(request=requests, who=WHO, verb=st.sampled_from(["approve", "approve", "approve", "reject"]))
    def decide(self, request: Expected, who: str, verb: str) -> None:
        name = request.in_whose_name(who, self.delegators_of(who))
        answer = self.run(decide(self.client(who), request.opened, verb))
        assert answer.status == (200 if name else answer.status), answer
        if name is None:
            assert answer.status in (403, 422), answer
            return
        request.eyes |= {who, name}
        level = answer.body["levels"][request.level - 1]
        assert (level["decided_by"], level["on_behalf_of"]) == (who, None if name == who else name)
        if verb == "reject":
            request.status = "rejected"
        elif request.level == len(request.hierarchy):
            request.status = "approved"
        else:
            request.level += 1

    @rule(request=requests, who=WHO)
    def withdraw(self, request: Expected, who: str) -> None:
        may = who == request.requester and request.status == "pending"
        answer = self.run(self.client(who).send("DELETE", f"{PATH}/{request.opened['approval_id']}"))
        assert (answer.status == 204) is may, answer
        if may:
            request.status = "withdrawn"

    @rule(target=delegations, giver=WHO, taker=WHO)
    def delegate(self, giver: str, taker: str) -> str:
        if giver == taker:
            return ""
        given: str = self.run(delegate(self.client(giver), taker))
        self.standing[given] = (giver, taker)
        return given

    @rule(given=delegations)
    def revoke(self, given: str) -> None:
        if given in self.standing:
            giver, _ = self.standing.pop(given)
            assert self.run(self.client(giver).send("DELETE", f"/fi/delegations/{given}")).status == 204

    @invariant()
    def the_api_agrees(self) -> None:
        tickets = {"pending": {"Open", "Assigned", "In_Progress"}, "approved": {"Closed"}}
        for request in self.expected[-3:]:
            read = self.run(self.client("olga").get(f"{PATH}/{request.opened['approval_id']}"))
            assert (read["status"], read["level"]) == (request.status, request.level)
            ticket = self.run(self.client("olga").get(f"/tickets/{request.opened['ticket_id']}"))
            assert ticket["status"] in tickets.get(request.status, {"Cancelled"})
            completed = self.run(told("FI_APPROVAL_COMPLETED", request.opened["ticket_id"]))
            assert [each["decision"] for each in completed] == ([] if request.status == "pending" else [request.status])

    @invariant()
    def inboxes_have_what_may_be_decided(self) -> None:
        for who in APPROVERS[:3] if self.expected else ():
            page = self.run(self.client(who).get(f"{PATH}?mine=true&limit=200"))
            listed = {item["approval_id"] for item in page["items"]}
            for request in self.expected:
                may = request.in_whose_name(who, self.delegators_of(who)) is not None
                assert (request.opened["approval_id"] in listed) is may

    def teardown(self) -> None:
        for given, (giver, _) in self.standing.items():
            self.run(self.client(giver).send("DELETE", f"/fi/delegations/{given}"))


class TestApprovals:
    @pytest.mark.slow
    async def test_behave_as_the_model_whatever_people_try(self, office: Office, olga: Client) -> None:
        Approvals.loop, Approvals.office = asyncio.get_running_loop(), office
        Approvals.center = await add_center(olga)
        checks = settings(
            max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        )
        await asyncio.to_thread(run_state_machine_as_test, Approvals, settings=checks)
