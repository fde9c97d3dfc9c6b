"""What a delivery says when the organization misbehaves, and that trying again leaves exactly one Case."""

import socket
from datetime import timedelta

import pytest

from busbar.sdk import AuthExpired, Permanent, RateLimited, Retryable
from busbar_crm.answers import QUOTA_RETRY_S
from busbar_crm.simulator.objects import CASE
from busbar_crm.tests.conftest import ServiceOffice
from busbar_crm.tests.golden import TICKET, changed, golden

CREATED = golden("ticket_created")
UPDATED = golden("ticket_updated")
REQUESTED = golden("approval_requested")


class TestLostAnswer:
    async def test_a_creation_whose_answer_was_lost_is_one_case(self, office: ServiceOffice) -> None:
        office.configure(timeout_s=0.2)
        office.simulator.misbehave("timeout_after_effect", count=1, path_contains="/sobjects/")
        with pytest.raises(Retryable) as caught:
            await office.deliver(CREATED)
        assert caught.value.uncertain
        receipt = await office.deliver(CREATED, number=2)
        assert receipt.duplicate
        assert receipt.remote_id == office.case()["Id"]
        assert len(office.simulator.effects) == 1

    async def test_an_update_with_a_comment_whose_answer_was_lost_is_written_once(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        office.configure(timeout_s=0.2)
        office.simulator.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable) as caught:
            await office.deliver(UPDATED)
        assert caught.value.uncertain
        assert (await office.deliver(UPDATED, number=2)).duplicate
        assert len(office.comments()) == 1

    async def test_a_late_comment_whose_answer_was_lost_is_written_once(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(golden("approval_completed"))
        office.configure(timeout_s=0.2)
        office.simulator.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable):
            await office.deliver(REQUESTED)
        assert (await office.deliver(REQUESTED, number=2)).duplicate
        assert len(office.comments()) == 2

    async def test_two_writers_at_once_make_one_case(self, office: ServiceOffice) -> None:
        # The other one creates it between our look and our upsert.
        look = office.simulator.api.records.with_external_id
        answers = iter([[]])
        office.simulator.api.records.with_external_id = lambda *asked: next(answers, None) or look(*asked)
        await office.deliver(CREATED)
        answers = iter([[]])
        await office.deliver(UPDATED)
        assert office.case()["Status"] == "Working"


class TestOutage:
    @pytest.mark.parametrize("kind", ["server_error", "down", "wrong_body", "locked"])
    @pytest.mark.parametrize("method", ["GET", "PATCH"])
    async def test_is_retried_and_ends_in_one_case(self, office: ServiceOffice, kind: str, method: str) -> None:
        office.simulator.misbehave(kind, method=method)
        with pytest.raises(Retryable, match="no usable answer") as caught:
            await office.deliver(CREATED)
        # Only a request that writes can have left something behind, and a locked row has said that it did not.
        assert caught.value.uncertain == (method == "PATCH" and kind != "locked")
        office.simulator.behave()
        await office.deliver(CREATED, number=2)
        assert office.case()["Status"] == "New"

    async def test_a_slow_answer_is_given_up_after_the_timeout(self, office: ServiceOffice) -> None:
        office.configure(timeout_s=0.1)
        office.simulator.misbehave("slow", delay_s=30, count=1, method="GET")
        with pytest.raises(Retryable, match=r"0\.1 s") as caught:
            await office.deliver(CREATED)
        assert not caught.value.uncertain

    async def test_no_connection_leaves_nothing_uncertain(self, office: ServiceOffice) -> None:
        with socket.socket() as reserved:
            # Bound and not listening: connecting is refused.
            reserved.bind(("127.0.0.1", 0))
            office.configure(base_url=f"http://127.0.0.1:{reserved.getsockname()[1]}")
            with pytest.raises(Retryable, match="No connection") as caught:
                await office.deliver(CREATED)
        assert not caught.value.uncertain


class TestComposite:
    async def test_a_part_that_fails_leaves_nothing_and_is_named(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        office.simulator.misbehave("partial_failure", count=1, path_contains="/composite")
        with pytest.raises(Permanent, match="the simulator was told to refuse this"):
            await office.deliver(UPDATED)
        assert (office.case()["Status"], office.comments()) == ("New", [])
        assert len(office.simulator.effects) == 1

    async def test_tried_again_it_is_complete(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        office.simulator.misbehave("partial_failure", count=1, path_contains="/composite")
        with pytest.raises(Permanent):
            await office.deliver(UPDATED)
        await office.deliver(UPDATED, number=2)
        assert (office.case()["Status"], len(office.comments())) == ("Working", 1)


class TestQuota:
    async def test_a_403_is_known_for_a_used_up_quota(self, office: ServiceOffice) -> None:
        office.simulator.misbehave("rate_limit", count=1, path_contains="/services/data")
        with pytest.raises(RateLimited, match="TotalRequests Limit exceeded") as caught:
            await office.deliver(CREATED)
        assert caught.value.until == office.clock.now + timedelta(seconds=QUOTA_RETRY_S)

    async def test_a_backlog_under_a_daily_quota_loses_and_doubles_nothing(self, office: ServiceOffice) -> None:
        office.configure(quota_percent_max=100)
        office.simulator.set_quota(5)
        backlog = [changed(CREATED, ticket_id=f"TKT-FI-20261123-{n:04d}") for n in range(1, 8)]
        waits = 0
        for event in backlog:
            number, is_delivered = 1, False
            while not is_delivered:
                try:
                    await office.deliver(event, number=number)
                    is_delivered = True
                except RateLimited as limited:
                    waits, number = waits + 1, number + 1
                    office.clock.now = limited.until + timedelta(hours=6)
        assert waits > 2
        assert len(office.simulator.cases()) == len(backlog)
        assert office.simulator.api.records.shared_external_ids() == 0

    async def test_the_rest_of_the_quota_is_left_to_others(self, office: ServiceOffice) -> None:
        office.configure(quota_percent_max=50)
        office.simulator.set_quota(4)
        receipt = await office.deliver(CREATED)
        assert receipt.detail == (
            "A Case was opened. 2 of 4 API requests of 24 hours are used; Busbar waits before the next."
        )
        with pytest.raises(RateLimited, match=r"beyond 50 % Busbar leaves them to others") as caught:
            await office.deliver(UPDATED)
        assert office.simulator.api.quota.used == 2
        office.clock.now = caught.value.until
        office.simulator.set_quota(100)
        await office.deliver(UPDATED)
        assert office.case()["Status"] == "Working"


class TestCredentials:
    async def test_a_rejected_secret_says_what_to_do_without_showing_it(self, office: ServiceOffice) -> None:
        office.secrets["client_secret"] = "not-the-secret"
        with pytest.raises(AuthExpired, match="Enter new credentials for Service team") as caught:
            await office.deliver(CREATED)
        assert "invalid_client" in caught.value.detail
        assert "not-the-secret" not in caught.value.detail

    async def test_a_missing_secret_is_told_without_asking(self, office: ServiceOffice) -> None:
        office.secrets.clear()
        with pytest.raises(AuthExpired, match="has no client_secret"):
            await office.deliver(CREATED)
        assert office.simulator.requests == 0

    async def test_one_session_serves_many_deliveries(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        await office.deliver(UPDATED)
        assert office.simulator.requests == 1 + 4

    async def test_an_expired_session_is_replaced_on_the_way(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        office.simulator.accounts.end_sessions()
        await office.deliver(UPDATED)
        assert office.case()["Status"] == "Working"

    async def test_a_session_that_expires_between_look_and_write_leaves_one_case(self, office: ServiceOffice) -> None:
        office.simulator.misbehave("expired_session", count=1, method="PATCH")
        await office.deliver(CREATED)
        assert len(office.simulator.effects) == 1

    async def test_sessions_that_are_all_rejected_end_in_a_pause(self, office: ServiceOffice) -> None:
        office.simulator.misbehave("unauthorized")
        with pytest.raises(AuthExpired, match="rejects a new session too"):
            await office.deliver(CREATED)
        assert office.simulator.effects == []

    async def test_a_new_secret_is_used_at_once(self, office: ServiceOffice) -> None:
        right = office.secrets["client_secret"]
        office.secrets = {"client_secret": "wrong"}
        with pytest.raises(AuthExpired):
            await office.deliver(CREATED)
        office.secrets = {"client_secret": right}
        await office.deliver(CREATED)
        assert office.case()["Status"] == "New"


class TestJwtBearer:
    async def test_logs_in_with_an_assertion(self, office: ServiceOffice, keys: tuple[str, str]) -> None:
        office.use_jwt(keys[0])
        await office.deliver(CREATED)
        assert office.case()["Status"] == "New"

    async def test_an_assertion_for_another_audience_is_refused(
        self, office: ServiceOffice, keys: tuple[str, str]
    ) -> None:
        office.use_jwt(keys[0])
        office.configure(audience="https://elsewhere.example")
        with pytest.raises(AuthExpired, match="audience is invalid"):
            await office.deliver(CREATED)

    async def test_an_assertion_of_a_user_who_may_not_is_refused(
        self, office: ServiceOffice, keys: tuple[str, str]
    ) -> None:
        office.use_jwt(keys[0])
        office.configure(username="somebody.else@utility.example")
        with pytest.raises(AuthExpired, match="hasn't approved this consumer"):
            await office.deliver(CREATED)

    async def test_a_clock_that_is_wrong_is_refused(self, office: ServiceOffice, keys: tuple[str, str]) -> None:
        office.use_jwt(keys[0])
        simulated = office.clock.now
        office.simulator.accounts._clock = lambda: simulated + timedelta(minutes=10)
        with pytest.raises(AuthExpired, match="expired"):
            await office.deliver(CREATED)

    @pytest.mark.parametrize("key", ["no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"])
    async def test_a_key_that_is_none_says_so_and_is_not_shown(self, office: ServiceOffice, key: str) -> None:
        office.use_jwt(key)
        with pytest.raises(AuthExpired, match="no RSA private key in PEM form") as caught:
            await office.deliver(CREATED)
        assert "AAAA" not in caught.value.detail


class TestRefusal:
    async def test_two_cases_with_one_external_id_are_named_with_the_cure(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        office.simulator.api.write(
            "POST",
            CASE,
            None,
            {"Busbar_Id__c": TICKET},
            user=office.case()["OwnerId"],
            correlation_id="",
        )
        with pytest.raises(Permanent, match=r"2 Cases carry one external id: 500\w{15}, 500\w{15}\. Merge them"):
            await office.deliver(UPDATED)

    async def test_a_missing_external_id_field_is_named_with_the_cure(self, office: ServiceOffice) -> None:
        office.configure(external_id_field="Ticket__c")
        with pytest.raises(Permanent, match=r"Make the fields Ticket__c \(Text, External ID, Unique\)"):
            await office.deliver(CREATED)

    async def test_a_missing_marker_field_is_named_with_the_cure(self, office: ServiceOffice) -> None:
        office.configure(marker_field="Marker__c")
        with pytest.raises(Permanent, match=r"No such column 'Marker__c'.*Marker__c \(Text 255\)"):
            await office.deliver(CREATED)

    async def test_a_status_that_the_organization_does_not_have_is_named_with_the_cure(
        self, office: ServiceOffice
    ) -> None:
        office.configure(status_new="Fresh")
        with pytest.raises(Permanent, match=r"restricted picklist field: Fresh\. Name values of the organization's"):
            await office.deliver(CREATED)

    async def test_a_session_id_in_an_error_is_not_shown(self, office: ServiceOffice) -> None:
        token = office.simulator.accounts.new_session()
        with pytest.raises(Permanent) as caught:
            await office.deliver(changed(CREATED), document={"Type": token})
        assert "[session id]" in caught.value.detail
        assert token not in caught.value.detail
