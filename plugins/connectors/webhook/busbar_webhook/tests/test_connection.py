"""The connection test: a signed ping, one sentence about what is wrong, and never an exception."""

import pytest
from standardwebhooks import Webhook

from busbar.sdk import new_signing_secret
from busbar_webhook.connection import test_connection as report_on
from busbar_webhook.simulator import Simulator
from busbar_webhook.tests.conftest import Remote, Sender


class TestGoodConnection:
    async def test_says_that_the_receiver_took_a_signed_ping_and_refused_a_forged_one(self, sender: Sender) -> None:
        report = await report_on(sender.endpoint)
        assert report.ok
        assert report.detail == (
            "The receiver took a signed ping and answered 204. The address is not https: messages travel unprotected."
        )
        assert report.latency_ms is not None

    async def test_changes_nothing(self, sender: Sender, receiver: Simulator) -> None:
        await report_on(sender.endpoint)
        assert receiver.messages() == []

    @pytest.mark.parametrize("payload", ["standard", "cloudevent"])
    async def test_sends_a_message_like_others(self, to_remote: Sender, remote: Remote, payload: str) -> None:
        to_remote.configure(payload=payload)
        await report_on(to_remote.endpoint)
        headers, body = remote.requests[0]
        document = Webhook(to_remote.secrets["webhook_secret"]).verify(body, headers)
        assert document["type"] == "busbar.ping"
        assert document["data"] == {"endpoint": "control-room"}
        assert ("specversion" in document) == (payload == "cloudevent")

    async def test_warns_of_a_receiver_that_does_not_verify(self, to_remote: Sender) -> None:
        report = await report_on(to_remote.endpoint)
        assert report.ok
        assert "let it verify signatures, or anybody can write to it" in report.detail


class TestBadConnection:
    @pytest.mark.parametrize(
        ("kind", "sentence"),
        [
            ("unauthorized", "does not accept the signature"),
            ("server_error", "The receiver answered 503."),
            ("refused", "refused the message with 422"),
            ("gone", "410 Gone"),
            ("redirect", "a redirect, which is not followed"),
            ("rate_limit", "429"),
            ("down", "The connection broke"),
        ],
    )
    async def test_names_what_is_wrong(self, sender: Sender, receiver: Simulator, kind: str, sentence: str) -> None:
        receiver.misbehave(kind)
        report = await report_on(sender.endpoint)
        assert not report.ok
        assert sentence in report.detail

    async def test_names_a_wrong_secret(self, sender: Sender) -> None:
        sender.secrets["webhook_secret"] = new_signing_secret().reveal()
        report = await report_on(sender.endpoint)
        assert not report.ok
        assert report.detail.endswith('Enter the secrets that it has. It said: {"error":"no signature matches"}')

    async def test_names_a_missing_secret(self, sender: Sender) -> None:
        sender.secrets = {}
        assert (await report_on(sender.endpoint)).detail == "The endpoint Control room has no webhook_secret; enter it."
