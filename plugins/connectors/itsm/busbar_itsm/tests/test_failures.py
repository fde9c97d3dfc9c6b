"""What a delivery says when the instance misbehaves, and that trying again leaves exactly one record."""

import socket
from datetime import timedelta

import aiohttp
import pytest

from busbar.sdk import AuthExpired, Permanent, RateLimited, Retryable
from busbar_itsm.tests.conftest import ServiceOffice
from busbar_itsm.tests.golden import TICKET, changed, golden, ticket_update

CREATED = golden("incident_ticket_created")
ASSIGNED = golden("ticket_assigned")


class TestLostAnswer:
    async def test_a_creation_whose_answer_was_lost_is_found_and_not_repeated(self, office: ServiceOffice) -> None:
        office.configure(timeout_s=0.2)
        office.simulator.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable) as caught:
            await office.deliver(CREATED)
        assert caught.value.uncertain
        receipt = await office.deliver(CREATED, number=2)
        assert receipt.duplicate
        assert receipt.remote_id == office.incident()["sys_id"]
        assert len(office.simulator.effects) == 1

    async def test_even_an_attempt_that_calls_itself_the_first_opens_no_second_record(
        self, office: ServiceOffice
    ) -> None:
        office.configure(timeout_s=0.2)
        office.simulator.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable):
            await office.deliver(CREATED)
        assert (await office.deliver(CREATED, number=1)).duplicate
        assert len(office.simulator.incidents(TICKET)) == 1

    async def test_an_update_whose_answer_was_lost_writes_its_note_once(self, office: ServiceOffice) -> None:
        remote_id = (await office.deliver(CREATED)).remote_id
        office.configure(timeout_s=0.2)
        office.simulator.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable) as caught:
            await office.deliver(ASSIGNED, remote_id=remote_id)
        assert caught.value.uncertain
        assert (await office.deliver(ASSIGNED, remote_id=remote_id, number=2)).duplicate
        assert len(office.notes()) == 1


class TestOutage:
    @pytest.mark.parametrize("kind", ["server_error", "down", "wrong_body"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_is_retried_and_ends_in_one_record(self, office: ServiceOffice, kind: str, method: str) -> None:
        office.simulator.misbehave(kind, method=method)
        with pytest.raises(Retryable, match="no usable answer") as caught:
            await office.deliver(CREATED)
        # Only a request that writes can have left something behind.
        assert caught.value.uncertain == (method == "POST")
        office.simulator.behave()
        await office.deliver(CREATED, number=2)
        assert office.incident()["state"] == "1"

    async def test_a_slow_answer_is_given_up_after_the_timeout(self, office: ServiceOffice) -> None:
        office.configure(timeout_s=0.1)
        office.simulator.misbehave("slow", delay_s=30, count=1)
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

    async def test_a_record_deleted_between_look_and_change_is_looked_for_again(self, office: ServiceOffice) -> None:
        gone = (await office.deliver(CREATED)).remote_id

        async def delete_before_the_change(
            session: object, context: object, start: aiohttp.TraceRequestStartParams
        ) -> None:
            if start.method == "PATCH":
                office.simulator.api.write(
                    "DELETE", "incident", gone, {}, user="service.desk", request_correlation_id=""
                )

        tracing = aiohttp.TraceConfig()
        tracing.on_request_start.append(delete_before_the_change)
        async with aiohttp.ClientSession(trace_configs=[tracing]) as office.session:
            with pytest.raises(Retryable, match="deleted just now"):
                await office.deliver(ASSIGNED, remote_id=gone)
            receipt = await office.deliver(ASSIGNED, remote_id=gone, number=2)
        assert receipt.remote_id == office.incident()["sys_id"] != gone


class TestQuota:
    async def test_names_the_moment_when_it_comes_back(self, office: ServiceOffice) -> None:
        office.simulator.misbehave("rate_limit", delay_s=17, count=1)
        with pytest.raises(RateLimited, match="quota is used up") as caught:
            await office.deliver(CREATED)
        assert caught.value.until == office.clock.now + timedelta(seconds=17)

    async def test_a_backlog_under_an_hourly_quota_loses_and_doubles_nothing(self, office: ServiceOffice) -> None:
        office.simulator.set_rate_limit(5, window_s=3600)
        backlog = [changed(CREATED, ticket_id=f"TKT-PM-20261123-{n:04d}") for n in range(1, 8)]
        waits = 0
        for event in backlog:
            try:
                await office.deliver(event)
            except RateLimited as limited:
                waits += 1
                office.clock.now = limited.until
                await office.deliver(event, number=2)
        # Two requests a ticket, so every third one is stopped between its look and its creation.
        assert waits == 3
        assert len(office.simulator.incidents()) == len(backlog)
        assert office.simulator.api.records.rows("incident").shared_values("correlation_id") == 0


class TestCredentials:
    async def test_a_rejected_password_says_what_to_do(self, office: ServiceOffice) -> None:
        office.secrets["password"] = "wrong"
        with pytest.raises(AuthExpired, match="Enter new credentials for Service desk") as caught:
            await office.deliver(CREATED)
        assert "wrong" not in caught.value.detail

    async def test_a_missing_password_is_told_without_asking_the_instance(self, office: ServiceOffice) -> None:
        office.secrets.clear()
        with pytest.raises(AuthExpired, match="has no password"):
            await office.deliver(CREATED)
        assert office.simulator.requests == 0

    async def test_credentials_that_expire_between_look_and_creation_leave_no_record(
        self, office: ServiceOffice
    ) -> None:
        office.simulator.misbehave("unauthorized", method="POST")
        with pytest.raises(AuthExpired):
            await office.deliver(CREATED)
        office.simulator.behave()
        await office.deliver(CREATED, number=2)
        assert len(office.simulator.effects) == 1

    async def test_one_oauth_token_serves_many_deliveries(self, office: ServiceOffice) -> None:
        office.configure(auth="oauth", client_id=office.simulator.credentials.client_id)
        office.secrets = {"client_secret": office.simulator.credentials.client_secret}
        await office.deliver(CREATED)
        await office.deliver(ASSIGNED)
        assert office.simulator.requests == 4 + 1

    async def test_a_revoked_token_is_replaced_on_the_way(self, office: ServiceOffice) -> None:
        office.configure(auth="oauth", client_id=office.simulator.credentials.client_id)
        office.secrets = {"client_secret": office.simulator.credentials.client_secret}
        await office.deliver(CREATED)
        office.simulator.accounts.revoke_tokens()
        await office.deliver(ASSIGNED)
        assert office.incident()["state"] == "2"

    async def test_a_new_client_secret_is_used_at_once(self, office: ServiceOffice) -> None:
        office.configure(auth="oauth", client_id=office.simulator.credentials.client_id)
        office.secrets = {"client_secret": "wrong"}
        with pytest.raises(AuthExpired, match="access_denied"):
            await office.deliver(CREATED)
        office.secrets = {"client_secret": office.simulator.credentials.client_secret}
        await office.deliver(CREATED)
        assert office.incident()["state"] == "1"


class TestRefusal:
    async def test_a_broken_rule_of_the_instance_is_permanent_and_quoted(self, office: ServiceOffice) -> None:
        await office.deliver(CREATED)
        with pytest.raises(Permanent, match="Resolution code"):
            await office.deliver(ticket_update(4, "Closed"), document={"close_code": ""})

    async def test_a_dropped_search_condition_is_permanent_with_the_cure(self, office: ServiceOffice) -> None:
        # The table has no such fields, so the condition is dropped, as on a real instance.
        await office.deliver(CREATED)
        office.configure(table="sys_user")
        with pytest.raises(Permanent, match=r"glide\.invalid_query\.returns_no_rows"):
            await office.deliver(CREATED)
        assert len(office.simulator.effects) == 1

    async def test_a_marker_that_was_not_kept_is_told_and_then_stops_what_could_double(
        self, office: ServiceOffice
    ) -> None:
        # This table has no correlation_display: as if an access rule kept us from the field.
        office.configure(table="cmdb_ci")
        receipt = await office.deliver(CREATED)
        assert receipt.detail is not None
        assert receipt.detail.endswith("did not keep correlation_display: let the integration user write it.")
        with pytest.raises(Permanent, match="read and write that field"):
            await office.deliver(ASSIGNED)
