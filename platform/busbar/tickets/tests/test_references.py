"""What one module may know of another's ticket: by the site alone, and no more than that it is there."""

import pytest

from busbar.errors import NotFound
from busbar.tickets.references import TicketReference, ticket_reference
from busbar.tickets.tests.desk import Desk


class TestReference:
    async def test_is_given_to_whoever_works_at_the_site_whatever_their_module(self, desk: Desk) -> None:
        ticket_id = await desk.open(status="Assigned")
        officer = desk.context("fay", permissions=("oth.read",))
        stored = await desk.ticket(ticket_id)
        assert await ticket_reference(officer, ticket_id) == TicketReference(
            ticket_id=ticket_id,
            module="tst",
            ticket_type="Maintenance",
            status="Assigned",
            site_id="north",
            object_kind=None,
            object_id=None,
            correlation_id=stored["correlation_id"],
        )

    async def test_tells_nothing_but_that_it_is_there(self) -> None:
        assert not {"title", "description", "assignee", "created_by"} & set(TicketReference.__struct_fields__)

    async def test_of_another_site_is_answered_as_if_there_were_none(self, desk: Desk) -> None:
        ticket_id = await desk.open()
        stranger = desk.context("sam", permissions=("*",), site="south")
        for asked in (ticket_id, "TKT-TST-20010101-0001"):
            with pytest.raises(NotFound, match=f"There is no ticket {asked}"):
                await ticket_reference(stranger, asked)
