"""What each answer of a receiver means, however hostile it is."""

import asyncio
import resource
import socket
import time
from datetime import datetime, timedelta

import pytest
from aiohttp import web

from busbar.kit.clock import utc_now
from busbar.sdk import AuthExpired, DeliveryError, EgressRefused, Permanent, RateLimited, Retryable
from busbar_webhook import delivery
from busbar_webhook.tests.conftest import MESSAGE_ID, Remote, Sender


async def failure(sender: Sender) -> DeliveryError:
    """How an attempt that fails ends."""
    with pytest.raises(DeliveryError) as caught:
        await sender.deliver()
    return caught.value


class TestStatus:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    async def test_of_2xx_is_the_only_success(self, to_remote: Sender, remote: Remote, status: int) -> None:
        remote.say(status)
        receipt = await to_remote.deliver()
        assert (receipt.remote_id, receipt.detail) == (MESSAGE_ID, f"The receiver answered {status}.")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_of_3xx_is_not_followed(self, to_remote: Sender, remote: Remote, status: int) -> None:
        remote.say(status, Location=remote.url)
        ended = await failure(to_remote)
        assert isinstance(ended, Permanent)
        assert "Enter the final address" in ended.detail
        assert len(remote.requests) == 1

    @pytest.mark.parametrize("status", [300, 304, 400, 403, 405, 406, 413, 415, 422, 451])
    async def test_of_a_refusal_goes_to_the_dead_letters_with_what_was_said(
        self, to_remote: Sender, remote: Remote, status: int
    ) -> None:
        remote.say(status, "" if status == 304 else "no such\n customer")
        ended = await failure(to_remote)
        assert isinstance(ended, Permanent)
        said = "" if status == 304 else " It said: no such customer"
        assert ended.detail == f"The receiver refused the message with {status}.{said}"

    @pytest.mark.parametrize("status", [404, 408, 409, 425, 500, 501, 502, 503, 504, 507, 599])
    async def test_of_trouble_is_tried_again(self, to_remote: Sender, remote: Remote, status: int) -> None:
        remote.say(status)
        ended = await failure(to_remote)
        assert isinstance(ended, Retryable)
        # What a gateway or a failing receiver answers may hide that the message was taken.
        assert ended.uncertain == (status == 408 or (status >= 500 and status != 503))

    async def test_410_stops_the_endpoint_and_says_what_to_do(self, to_remote: Sender, remote: Remote) -> None:
        remote.say(410)
        ended = await failure(to_remote)
        assert isinstance(ended, AuthExpired)
        assert "Switch the endpoint off, or enter the receiver's new address." in ended.detail

    async def test_401_asks_for_the_right_secrets(self, to_remote: Sender, remote: Remote) -> None:
        remote.say(401, "bad signature")
        ended = await failure(to_remote)
        assert isinstance(ended, AuthExpired)
        assert ended.detail.endswith("Enter the secrets that it has. It said: bad signature")


class TestRetryAfter:
    async def test_of_429_pauses_the_endpoint(self, to_remote: Sender, remote: Remote) -> None:
        remote.say(429, Retry_After="120")
        ended = await failure(to_remote)
        assert isinstance(ended, RateLimited)
        assert timedelta(seconds=100) < ended.until - utc_now() <= timedelta(seconds=120)

    async def test_of_429_without_it_is_a_minute(self, to_remote: Sender, remote: Remote) -> None:
        remote.say(429)
        ended = await failure(to_remote)
        assert isinstance(ended, RateLimited)
        assert timedelta(seconds=40) < ended.until - utc_now() <= timedelta(seconds=60)

    @pytest.mark.parametrize(
        ("told", "after_s"), [("30", 30), ("Mon, 23 Nov 2026 09:21:00 GMT", 60), ("99999999", 86_400), ("soon", None)]
    )
    async def test_of_503_is_the_shortest_wait(
        self, to_remote: Sender, remote: Remote, told: str, after_s: float | None
    ) -> None:
        now = datetime.fromisoformat("2026-11-23T09:20:00Z")
        to_remote.clock = lambda: now
        remote.say(503, Retry_After=told)
        ended = await failure(to_remote)
        assert isinstance(ended, Retryable)
        assert (ended.after_s, ended.uncertain) == (after_s, False)


class TestHostileAnswers:
    @pytest.mark.parametrize("status", [200, 400])
    async def test_a_body_of_a_gigabyte_is_cut(
        self, to_remote: Sender, remote: Remote, monkeypatch: pytest.MonkeyPatch, status: int
    ) -> None:
        # The time is not what cuts it here.
        monkeypatch.setattr(delivery, "ANSWER_S_MAX", 60)
        sent = 0

        async def endless(request: web.BaseRequest) -> web.StreamResponse:
            nonlocal sent
            response = web.StreamResponse(status=status, headers={"Content-Length": str(1 << 30)})
            await response.prepare(request)
            chunk = b"x" * 65_536
            while sent < 1 << 30:
                await response.write(chunk)
                sent += len(chunk)
            return response

        remote.answer = endless
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if status == 200:
            assert (await to_remote.deliver()).remote_id == MESSAGE_ID
        else:
            ended = await failure(to_remote)
            assert isinstance(ended, Permanent)
            assert len(ended.detail) < 300
        # What the two ends of the connection buffer may be on its way; the rest is never asked for.
        assert sent < 32 << 20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 64 << 10

    async def test_a_body_that_trickles_holds_nothing_up(
        self, to_remote: Sender, remote: Remote, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "ANSWER_S_MAX", 0.1)

        async def trickle(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"x")
            await asyncio.sleep(30)
            return response

        remote.answer = trickle
        started_s = time.monotonic()
        assert (await to_remote.deliver()).detail == "The receiver answered 200."
        assert time.monotonic() - started_s < 10

    async def test_a_body_that_breaks_off_does_not_undo_the_status(self, to_remote: Sender, remote: Remote) -> None:
        async def cut(request: web.BaseRequest) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"x")
            assert request.transport is not None
            request.transport.abort()
            return response

        remote.answer = cut
        assert (await to_remote.deliver()).detail == "The receiver answered 200."

    async def test_what_is_no_text_is_not_shown(self, to_remote: Sender, remote: Remote) -> None:
        async def binary(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=400, body=b"\x00\x1b[31m\xff")

        remote.answer = binary
        assert (await failure(to_remote)).detail == "The receiver refused the message with 400."

    async def test_a_secret_that_is_told_back_is_not_shown(self, to_remote: Sender, remote: Remote) -> None:
        to_remote.secrets["authorization"] = "Bearer of-the-gateway"
        remote.say(400, "who is Bearer of-the-gateway?")
        ended = await failure(to_remote)
        # The platform writes it down like this.
        assert "of-the-gateway" not in to_remote.endpoint.secrets.redacted(ended.detail)


class TestNoAnswer:
    async def test_a_slow_receiver_is_given_up_and_may_have_it(self, to_remote: Sender, remote: Remote) -> None:
        async def slow(request: web.BaseRequest) -> web.StreamResponse:
            await asyncio.sleep(30)
            return web.Response()

        remote.answer = slow
        to_remote.configure(timeout_s=0.2)
        ended = await failure(to_remote)
        assert isinstance(ended, Retryable)
        assert (ended.detail, ended.uncertain) == ("The receiver did not answer within 0.2 s.", True)

    async def test_a_refused_connection_leaves_nothing_uncertain(self, to_remote: Sender) -> None:
        with socket.socket() as reserved:
            # Bound and not listening: connecting is refused.
            reserved.bind(("127.0.0.1", 0))
            to_remote.configure(url=f"http://127.0.0.1:{reserved.getsockname()[1]}/hooks")
            ended = await failure(to_remote)
        assert isinstance(ended, Retryable)
        assert not ended.uncertain

    async def test_a_lost_connection_leaves_it_uncertain(self, to_remote: Sender, remote: Remote) -> None:
        async def cut(request: web.BaseRequest) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        remote.answer = cut
        ended = await failure(to_remote)
        assert isinstance(ended, Retryable)
        assert ended.uncertain

    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254/latest/meta-data",
            "http://[::ffff:169.254.169.254]/",
            "http://0x7f.1.1.1.nip.example/",
            "https://10.0.0.5/hooks",
        ],
    )
    async def test_an_address_that_the_operator_has_not_allowed_is_never_connected_to(
        self, to_remote: Sender, url: str
    ) -> None:
        to_remote.configure(url=url)
        ended = await failure(to_remote)
        assert isinstance(ended, Retryable)
        assert isinstance(ended.__cause__, EgressRefused)
