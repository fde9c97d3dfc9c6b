"""The simulated receiver: held against the reference library, which signs what it takes and what it must refuse."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from standardwebhooks import Webhook

from busbar.kit.clock import utc_now
from busbar.sdk import Retryable, new_signing_secret
from busbar_webhook.simulator import Options, Simulator, run_simulator
from busbar_webhook.tests.conftest import MESSAGE_ID, TICKET, Sender

BODY = '{"type":"PM_TICKET_CREATED","subject":"TKT-1","data":{}}'


async def post(receiver: Simulator, *, secret: str | None = None, age_s: float = 0, **headers: str) -> int:
    """Send what the reference library has signed, with these headers changed; returns the status."""
    at = utc_now() - timedelta(seconds=age_s)
    signature = Webhook(secret or receiver.webhook_secret).sign("msg_1", at, BODY)
    sent = {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.post(receiver.address, data=BODY, headers=sent) as answer:
        return answer.status


async def control(receiver: Simulator, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session:
        url = f"{receiver.url}/_simulator/{path}"
        async with session.request(method, url, json=body) as answer:
            return answer.status, await answer.json(content_type=None)


class TestVerification:
    async def test_takes_what_the_reference_library_signed(self, receiver: Simulator) -> None:
        assert await post(receiver) == 200
        assert [one.webhook_id for one in receiver.messages("TKT-1")] == ["msg_1"]

    async def test_refuses_another_secret_an_old_message_and_a_changed_header(self, receiver: Simulator) -> None:
        assert await post(receiver, secret=new_signing_secret().reveal()) == 401
        assert await post(receiver, age_s=301) == 401
        assert await post(receiver, age_s=-301) == 401
        assert await post(receiver, webhook_id="msg_2") == 401
        assert await post(receiver, webhook_timestamp="soon") == 401
        assert await post(receiver, webhook_signature="") == 401
        assert receiver.messages() == []

    async def test_takes_one_good_signature_among_several(self, receiver: Simulator) -> None:
        at = utc_now()
        good = Webhook(receiver.webhook_secret).sign("msg_1", at, BODY)
        assert await post(receiver, webhook_signature=f"v1a,AAAA v1,AAAA {good}") == 200


class TestMessages:
    async def test_are_taken_once_by_their_id(self, receiver: Simulator, sender: Sender) -> None:
        await sender.deliver()
        await sender.deliver(number=2)
        assert [one.webhook_id for one in receiver.messages(TICKET)] == [MESSAGE_ID]
        assert receiver.received(MESSAGE_ID) == 2
        _, records = await control(receiver, "GET", f"records?subject={TICKET}")
        assert records == {
            "count": 1,
            "messages": [{"webhook_id": MESSAGE_ID, "type": "PM_TICKET_CREATED", "subject": TICKET, "received": 2}],
        }

    async def test_are_taken_once_when_an_answer_was_lost(self, receiver: Simulator, sender: Sender) -> None:
        sender.configure(timeout_s=0.2)
        receiver.misbehave("timeout_after_effect", count=1)
        with pytest.raises(Retryable) as caught:
            await sender.deliver()
        assert caught.value.uncertain
        assert (await sender.deliver(number=2)).once
        assert len(receiver.messages()) == 1

    async def test_are_known_after_a_restart(self, session: aiohttp.ClientSession, tmp_path: Path) -> None:
        secret = new_signing_secret().reveal()
        for received in (1, 2):
            async with run_simulator(Options(state_file=tmp_path / "taken.jsonl", secret=secret)) as receiver:
                sender = Sender(receiver.address, session)
                sender.secrets = {"webhook_secret": secret}
                await sender.deliver()
                assert (len(receiver.messages()), receiver.received(MESSAGE_ID)) == (1, received)

    async def test_with_an_unreadable_body_are_refused(self, receiver: Simulator) -> None:
        at = utc_now()
        for body in ("no json", "[1]", "[" * 100_000):
            headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp()))}
            headers["webhook-signature"] = Webhook(receiver.webhook_secret).sign("msg_1", at, body)
            async with (
                aiohttp.ClientSession() as session,
                session.post(receiver.address, data=body, headers=headers) as answer,
            ):
                assert answer.status == 400
        assert receiver.messages() == []


class TestControl:
    async def test_lets_the_secret_be_changed_without_losing_a_message(
        self, receiver: Simulator, sender: Sender
    ) -> None:
        old, new = receiver.webhook_secret, new_signing_secret().reveal()
        for stored, accepted in ((old, [old]), (f"{new} {old}", [old]), (f"{new} {old}", [new]), (new, [new])):
            sender.secrets["webhook_secret"] = stored
            assert (await control(receiver, "POST", "secrets", {"secrets": accepted}))[0] == 200
            await sender.deliver()
        assert receiver.received(MESSAGE_ID) == 4

    async def test_refuses_bad_secrets_and_changes_by_users(self, receiver: Simulator) -> None:
        assert (await control(receiver, "POST", "secrets", {"secrets": []}))[0] == 400
        assert (await control(receiver, "POST", "secrets", {"secrets": ["whsec_AAAA"]}))[0] == 400
        assert (await control(receiver, "POST", "change", {}))[0] == 405

    async def test_tells_how_many_messages_came(self, receiver: Simulator, sender: Sender) -> None:
        await sender.deliver()
        _, status = await control(receiver, "GET", "status")
        assert (status["effects"], status["received"]) == (1, 1)

    async def test_a_page_with_a_good_status_is_a_taken_message(self, receiver: Simulator, sender: Sender) -> None:
        receiver.misbehave("wrong_body")
        await sender.deliver()
        assert len(receiver.messages()) == 1

    async def test_knows_one_address_only(self, receiver: Simulator) -> None:
        async with aiohttp.ClientSession() as session, session.get(receiver.address) as answer:
            assert answer.status == 404
