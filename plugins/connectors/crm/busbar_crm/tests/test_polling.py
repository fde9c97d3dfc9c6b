"""What the service team changed is found by asking, once each, in order, and without what Busbar did itself."""

import pytest

from busbar.sdk import Permanent, RateLimited, RemoteChange, Retryable
from busbar_crm import polling
from busbar_crm.polling import LOOK_BACK_S, poll
from busbar_crm.tests.conftest import ServiceOffice
from busbar_crm.tests.golden import TICKET, golden, later, ticket_update

CREATED = golden("ticket_created")
BY = "Service Agent in Salesforce"


class Look:
    """What the core does with a poll: it keeps the cursor, and takes each change once by its marker."""

    def __init__(self, office: ServiceOffice) -> None:
        self._office = office
        self._cursor: str | None = None
        self._taken: set[tuple[str, str | None]] = set()

    async def again(self) -> list[tuple[str | None, str | None]]:
        """Status and comment of what is new."""
        polled = await poll(self._office.endpoint, self._cursor)
        self._cursor = polled.cursor
        return [(change.status, change.comment) for change in polled.changes if self._is_new(change)]

    def _is_new(self, change: RemoteChange) -> bool:
        assert change.ticket_id == TICKET
        assert change.marker
        key = (change.remote_id, change.marker)
        if key in self._taken:
            return False
        self._taken.add(key)
        return True


@pytest.fixture
async def look(office: ServiceOffice) -> Look:
    """A Case that is there, and a first poll that has set the cursor."""
    await office.deliver(CREATED)
    looking = Look(office)
    assert await looking.again() == []
    office.clock.move(30)
    return looking


class TestPoll:
    async def test_finds_changes_of_status_and_comments_in_order(self, office: ServiceOffice, look: Look) -> None:
        office.simulator.change(external_id=TICKET, fields={"Status": "Working"})
        office.clock.move(1)
        office.simulator.change(external_id=TICKET, comment="Ask the plant first")
        office.clock.move(1)
        office.simulator.change(external_id=TICKET, fields={"Status": "Closed"})
        assert await look.again() == [
            ("In_Progress", None),
            (None, f"{BY}: Ask the plant first"),
            ("Closed", None),
        ]

    async def test_takes_each_change_once(self, office: ServiceOffice, look: Look) -> None:
        office.simulator.change(external_id=TICKET, fields={"Status": "Working"}, comment="On it")
        assert len(await look.again()) == 2
        for _ in range(3):
            office.clock.move(60)
            assert await look.again() == []

    async def test_two_changes_in_one_second_are_two(self, office: ServiceOffice, look: Look) -> None:
        office.simulator.change(external_id=TICKET, fields={"Status": "Working"})
        assert await look.again() == [("In_Progress", None)]
        office.simulator.change(external_id=TICKET, fields={"Status": "Closed"})
        assert await look.again() == [("Closed", None)]

    async def test_a_change_that_shows_up_late_is_found(self, office: ServiceOffice, look: Look) -> None:
        # Its transaction began before the last poll and ended after it.
        began = office.clock.now
        office.clock.move(60)
        assert await look.again() == []
        office.clock.move(30)
        now, office.clock.now = office.clock.now, began
        office.simulator.change(external_id=TICKET, fields={"Status": "Working"})
        office.clock.now = now
        assert await look.again() == [("In_Progress", None)]

    async def test_a_change_that_busbar_wrote_over_is_found_all_the_same(
        self, office: ServiceOffice, look: Look
    ) -> None:
        office.simulator.change(external_id=TICKET, fields={"Status": "Closed"})
        office.clock.move(1)
        await office.deliver(ticket_update(2, "Assigned", comment="Please look"))
        assert await look.again() == [("Closed", None)]

    async def test_what_busbar_did_is_no_change(self, office: ServiceOffice, look: Look) -> None:
        await office.deliver(ticket_update(2, "In_Progress", comment="Told by Busbar"))
        await office.deliver(golden("approval_completed"))
        assert await look.again() == []

    async def test_what_others_did_to_cases_that_are_no_tickets_is_left_alone(
        self, office: ServiceOffice, look: Look
    ) -> None:
        await office.deliver(golden("commitment_changed"))
        office.simulator.change(external_id="BUDGET-CC-4100", fields={"Status": "Closed"}, comment="Fine")
        assert await look.again() == []

    async def test_a_status_that_no_ticket_has_comes_as_a_comment(self, office: ServiceOffice, look: Look) -> None:
        office.simulator.change(external_id=TICKET, fields={"Status": "Escalated"})
        assert await look.again() == [(None, f"{BY}: The Case was set to Escalated.")]

    async def test_the_first_poll_starts_from_now(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        office.simulator.change(external_id=TICKET, fields={"Status": "Closed"})
        office.clock.move(LOOK_BACK_S + 1)
        assert await Look(office).again() == []


class TestBacklog:
    async def test_a_long_absence_is_made_up_for_in_parts(
        self, office: ServiceOffice, look: Look, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(polling, "CHANGES_MAX", 3)
        for n in range(8):
            office.clock.move(1)
            office.simulator.change(external_id=TICKET, comment=f"Comment {n}")
        office.clock.move(3600)
        said = []
        for _ in range(6):
            said += [comment for _, comment in await look.again()]
        assert said == [f"{BY}: Comment {n}" for n in range(8)]

    async def test_more_changes_in_one_second_than_can_be_told_are_an_error_and_not_lost(
        self, office: ServiceOffice, look: Look, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(polling, "CHANGES_MAX", 3)
        for n in range(8):
            office.simulator.change(external_id=TICKET, comment=f"Comment {n}")
        office.clock.move(3600)
        await look.again()
        with pytest.raises(Retryable, match="More than 3 changes were made at"):
            await look.again()


class TestTrouble:
    async def test_an_outage_leaves_the_cursor_where_it_was(self, office: ServiceOffice, look: Look) -> None:
        office.simulator.change(external_id=TICKET, fields={"Status": "Working"})
        office.simulator.misbehave("server_error", count=1)
        with pytest.raises(Retryable):
            await look.again()
        assert await look.again() == [("In_Progress", None)]

    async def test_a_poll_takes_no_more_of_the_quota_than_is_busbars(self, office: ServiceOffice, look: Look) -> None:
        office.simulator.set_quota(6)
        await look.again()
        with pytest.raises(RateLimited, match="Busbar leaves them to others"):
            await look.again()

    async def test_a_cursor_that_is_none_is_refused(self, office: ServiceOffice) -> None:
        with pytest.raises(Permanent, match="is no time"):
            await poll(office.endpoint, "yesterday")

    async def test_a_comment_with_busbars_last_line_is_busbars_whoever_wrote_it(
        self, office: ServiceOffice, look: Look
    ) -> None:
        # Another integration user of Busbar's, before the client app was changed.
        await office.deliver(later(golden("approval_requested"), seconds=1))
        [row] = office.simulator.api.records.tables["CaseComment"].values()
        row["CreatedById"] = "005BB0000000009YAA"
        assert await look.again() == []
