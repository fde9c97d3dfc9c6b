"""Trouble with SAP or the way to it: what is tried again, what waits, what a person must mend."""

import socket
from datetime import timedelta

import pytest

from busbar.sdk import AuthExpired, Permanent, RateLimited, Retryable
from busbar_erp.tests.conftest import Office
from busbar_erp.tests.golden import incident_opened, requisition_approved, stock_changed, ticket_update

APPROVED = requisition_approved()


class TestOutage:
    @pytest.mark.parametrize("kind", ["server_error", "down", "wrong_body"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_is_retried_and_ends_in_one_document(self, office: Office, kind: str, method: str) -> None:
        office.simulator.misbehave(kind, method=method, status=500)
        with pytest.raises(Retryable, match="no usable answer") as caught:
            await office.deliver(APPROVED)
        # Only a request that writes can have left something behind.
        assert caught.value.uncertain == (method == "POST")
        office.simulator.behave()
        await office.deliver(APPROVED, number=2)
        assert office.writes() == ["POST A_PurchaseRequisitionHeader"]

    async def test_busy_work_processes_name_the_wait_and_leave_nothing_uncertain(self, office: Office) -> None:
        office.simulator.misbehave("busy", delay_s=17, method="POST", count=1)
        with pytest.raises(Retryable, match="No dialog work process available") as caught:
            await office.deliver(APPROVED)
        assert (caught.value.after_s, caught.value.uncertain) == (17.0, False)

    async def test_a_posting_without_an_answer_is_given_time_to_end_before_the_next_look(self, office: Office) -> None:
        office.configure(timeout_s=0.3)
        office.simulator.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable) as caught:
            await office.deliver(APPROVED)
        assert (caught.value.after_s, caught.value.uncertain) == (0.6, True)

    async def test_a_locked_document_is_tried_again(self, office: Office) -> None:
        await office.deliver(incident_opened())
        office.simulator.misbehave("locked", method="PATCH", count=1)
        update = ticket_update(2, "Assigned", "assign", comment="Crew 4")
        with pytest.raises(Retryable, match="423: MEPO/043: The document is currently being edited") as caught:
            await office.deliver(update)
        assert (caught.value.after_s, caught.value.uncertain) == (5.0, False)
        await office.deliver(update, number=2)
        assert office.notification()["MaintNotifLongTextForEdit"].count("Crew 4") == 1

    async def test_no_connection_leaves_nothing_uncertain(self, office: Office) -> None:
        with socket.socket() as reserved:
            # Bound and not listening: connecting is refused.
            reserved.bind(("127.0.0.1", 0))
            office.configure(base_url=f"http://127.0.0.1:{reserved.getsockname()[1]}")
            with pytest.raises(Retryable, match="No connection") as caught:
                await office.deliver(APPROVED)
        assert not caught.value.uncertain


class TestSession:
    async def test_an_expired_session_is_renewed_once_on_the_way(self, office: Office) -> None:
        await office.deliver(APPROVED)
        office.simulator.misbehave("csrf_expired", count=1, method="POST")
        await office.deliver(stock_changed("receipt", "1"))
        assert office.writes()[-1] == "POST A_MaterialDocumentHeader"

    async def test_a_system_that_takes_no_token_is_tried_later(self, office: Office) -> None:
        office.simulator.misbehave("csrf_expired", method="POST")
        with pytest.raises(Retryable, match="refuses each CSRF token") as caught:
            await office.deliver(APPROVED)
        assert not caught.value.uncertain
        assert office.simulator.effects == []

    async def test_one_token_serves_many_deliveries(self, office: Office) -> None:
        await office.deliver(APPROVED)
        before = office.simulator.requests
        await office.deliver(stock_changed("receipt", "1"))
        # A look and a posting; no token in between.
        assert office.simulator.requests == before + 2


class TestQuota:
    async def test_a_gateways_limit_pauses_until_it_ends(self, office: Office) -> None:
        office.simulator.misbehave("rate_limit", delay_s=30, count=1)
        with pytest.raises(RateLimited) as caught:
            await office.deliver(APPROVED)
        assert caught.value.until == office.clock.now + timedelta(seconds=30)


class TestCredentials:
    async def test_a_rejected_password_says_what_to_do(self, office: Office) -> None:
        office.secrets["password"] = "wrong"
        with pytest.raises(AuthExpired, match="Enter new credentials for SAP") as caught:
            await office.deliver(APPROVED)
        assert "wrong" not in caught.value.detail

    async def test_a_missing_password_is_told_without_asking_the_system(self, office: Office) -> None:
        office.secrets.clear()
        with pytest.raises(AuthExpired, match="has no password"):
            await office.deliver(APPROVED)
        assert office.simulator.requests == 0

    async def test_credentials_that_expire_between_look_and_creation_leave_no_document(self, office: Office) -> None:
        office.simulator.misbehave("unauthorized", method="POST")
        with pytest.raises(AuthExpired):
            await office.deliver(APPROVED)
        office.simulator.behave()
        await office.deliver(APPROVED, number=2)
        assert len(office.simulator.effects) == 1

    async def test_oauth_tokens_serve_many_deliveries_and_are_replaced_when_revoked(self, office: Office) -> None:
        office.configure(auth="oauth", client_id=office.simulator.credentials.client_id)
        office.secrets = {"client_secret": office.simulator.credentials.client_secret}
        await office.deliver(APPROVED)
        office.simulator.accounts.revoke_tokens()
        await office.deliver(stock_changed("receipt", "1"))
        assert len(office.simulator.effects) == 2

    async def test_a_wrong_client_secret_says_what_to_do(self, office: Office) -> None:
        office.configure(auth="oauth", client_id=office.simulator.credentials.client_id)
        office.secrets = {"client_secret": "wrong"}
        with pytest.raises(AuthExpired, match="access_denied"):
            await office.deliver(APPROVED)


class TestRefusal:
    async def test_a_rule_of_sap_is_permanent_and_quoted_with_its_field(self, office: Office) -> None:
        with pytest.raises(Permanent, match=r"ME/064: Enter a cost center\.; CostCenter Enter a cost center\."):
            await office.deliver(APPROVED, document={"CostCenter": None})
