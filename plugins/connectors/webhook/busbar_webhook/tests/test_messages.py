"""What is sent, held against the reference library of Standard Webhooks as an independent receiver."""

import json
from datetime import timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from busbar.kit.clock import utc_now
from busbar.sdk import AuthExpired, new_signing_secret
from busbar_webhook.tests.conftest import EVENT, MESSAGE_ID, TICKET, Remote, Sender


def verified(sender: Sender, remote: Remote, n: int = -1) -> Any:
    """The document of the n-th request, as a receiver with the reference library gets it."""
    headers, body = remote.requests[n]
    return Webhook(sender.secrets["webhook_secret"]).verify(body, headers)


class TestBody:
    async def test_is_what_the_standard_proposes(self, to_remote: Sender, remote: Remote) -> None:
        await to_remote.deliver()
        assert verified(to_remote, remote) == {
            "type": "PM_TICKET_CREATED",
            "timestamp": "2026-11-23T09:20:00.250000Z",
            "data": EVENT["data"],
            "id": EVENT["id"],
            "subject": TICKET,
            "site": "north",
            "correlation_id": "3f0c9c1e",
            "schema_version": 1,
        }
        assert remote.requests[0][0]["content-type"] == "application/json"

    async def test_can_be_the_cloud_event_instead(self, to_remote: Sender, remote: Remote) -> None:
        to_remote.configure(payload="cloudevent")
        await to_remote.deliver()
        assert verified(to_remote, remote) == EVENT
        assert remote.requests[0][0]["content-type"] == "application/cloudevents+json"

    @pytest.mark.parametrize("payload", ["standard", "cloudevent"])
    async def test_has_what_the_routes_mapping_made_in_place_of_the_data(
        self, to_remote: Sender, remote: Remote, payload: str
    ) -> None:
        to_remote.configure(payload=payload)
        await to_remote.deliver(document={"ticket": TICKET})
        document = verified(to_remote, remote)
        assert (document["data"], document["type"]) == ({"ticket": TICKET}, "PM_TICKET_CREATED")


class TestHeaders:
    async def test_carry_correlation_and_trace(self, to_remote: Sender, remote: Remote) -> None:
        await to_remote.deliver()
        headers, _ = remote.requests[0]
        assert headers["x-correlation-id"] == "3f0c9c1e"
        assert headers["traceparent"] == EVENT["traceparent"]
        assert "authorization" not in headers

    async def test_carry_what_a_gateway_in_between_wants(self, to_remote: Sender, remote: Remote) -> None:
        to_remote.secrets["authorization"] = "Bearer of-the-gateway"
        await to_remote.deliver()
        assert remote.requests[0][0]["authorization"] == "Bearer of-the-gateway"

    async def test_keep_the_id_and_the_bytes_over_attempts_and_renew_the_timestamp(
        self, to_remote: Sender, remote: Remote
    ) -> None:
        to_remote.clock = lambda: utc_now() - timedelta(seconds=60)
        first = await to_remote.deliver()
        to_remote.clock = utc_now
        second = await to_remote.deliver(number=2)
        (old, old_body), (new, new_body) = remote.requests
        assert first.remote_id == second.remote_id == old["webhook-id"] == new["webhook-id"] == MESSAGE_ID
        assert old_body == new_body
        assert 59 <= int(new["webhook-timestamp"]) - int(old["webhook-timestamp"]) <= 62
        assert old["webhook-signature"] != new["webhook-signature"]
        assert verified(to_remote, remote, 0) == verified(to_remote, remote, 1)

    async def test_tell_two_deliveries_of_one_event_apart(self, to_remote: Sender, remote: Remote) -> None:
        # Two routes to one receiver, with mappings of their own: the second must not be taken for a repetition.
        await to_remote.deliver()
        await to_remote.deliver(delivery_id="4712", document={"other": 1})
        assert len({headers["webhook-id"] for headers, _ in remote.requests}) == 2


class TestSignature:
    async def test_of_a_changed_body_is_refused_by_the_reference_library(
        self, to_remote: Sender, remote: Remote
    ) -> None:
        await to_remote.deliver()
        headers, body = remote.requests[0]
        with pytest.raises(WebhookVerificationError):
            Webhook(to_remote.secrets["webhook_secret"]).verify(body.replace(b"P1", b"P4"), headers)

    @pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
    async def test_covers_id_and_timestamp(self, to_remote: Sender, remote: Remote, name: str) -> None:
        await to_remote.deliver()
        headers, body = remote.requests[0]
        changed = {**headers, name: headers[name][:-1] + ("1" if headers[name][-1] != "1" else "2")}
        with pytest.raises(WebhookVerificationError):
            Webhook(to_remote.secrets["webhook_secret"]).verify(body, changed)

    @pytest.mark.parametrize("minutes", [-6, 6])
    async def test_of_another_time_is_refused_by_the_reference_library(
        self, to_remote: Sender, remote: Remote, minutes: int
    ) -> None:
        to_remote.clock = lambda: utc_now() + timedelta(minutes=minutes)
        await to_remote.deliver()
        with pytest.raises(WebhookVerificationError, match=r"too (old|new)"):
            verified(to_remote, remote)

    async def test_is_there_for_each_secret_while_one_is_being_changed(self, to_remote: Sender, remote: Remote) -> None:
        old, new = (new_signing_secret().reveal() for _ in range(2))
        for stored in (old, f"{new} {old}", new):
            to_remote.secrets["webhook_secret"] = stored
            await to_remote.deliver()
        taken = {
            name: [self.takes(secret, *request) for request in remote.requests]
            for name, secret in (("old", old), ("new", new))
        }
        # Whenever the receiver changes over between the first and the last step, it loses no message.
        assert taken == {"old": [True, True, False], "new": [False, True, True]}

    @staticmethod
    def takes(secret: str, headers: dict[str, str], body: bytes) -> bool:
        try:
            return Webhook(secret).verify(body, headers) == json.loads(body)
        except WebhookVerificationError:
            return False

    @pytest.mark.parametrize(
        ("stored", "sentence"),
        [
            (None, "The endpoint Control room has no webhook_secret; enter it."),
            ("whsec_AAAA", "The webhook_secret of Control room cannot be used: The signing secret has 3 bytes"),
        ],
    )
    async def test_needs_a_secret(self, to_remote: Sender, remote: Remote, stored: str | None, sentence: str) -> None:
        to_remote.secrets = {} if stored is None else {"webhook_secret": stored}
        with pytest.raises(AuthExpired) as caught:
            await to_remote.deliver()
        assert caught.value.detail.startswith(sentence)
        assert remote.requests == []
