"""Webhook signatures against the published vector, an HMAC computed apart, and a corpus of forgeries."""

import base64
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busbar.connectors.secrets import Secret
from busbar.connectors.signature import BadSignature, BadSigningSecret, new_signing_secret, sign, verify
from busbar.errors import TooLarge

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
BODY = '{"number": "INC0010001", "short_description": "Trafo Süd: Überlast ⚡"}'.encode()
Lines = list[tuple[str, str]]


def secret_of(key: bytes) -> Secret:
    return Secret("whsec_" + base64.b64encode(key).decode())


def signature_of(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Step by step from the text of the standard, sharing nothing with the code under test."""
    mac = hmac.new(key, digestmod="sha256")
    for part in (message_id.encode(), b".", timestamp.encode(), b".", body):
        mac.update(part)
    return "v1," + base64.b64encode(mac.digest()).decode()


def seconds(offset_s: int = 0) -> str:
    return str(int(NOW.timestamp()) + offset_s)


def lines(
    *, key: bytes = KEY, message_id: str = "msg_1", timestamp: str | None = None, body: bytes = BODY, extra: str = ""
) -> Lines:
    at = seconds() if timestamp is None else timestamp
    signature = signature_of(key, message_id, at, body)
    return [("Webhook-Id", message_id), ("Webhook-Timestamp", at), ("Webhook-Signature", extra + signature)]


def replaced(name: str, value: str) -> Lines:
    return [(n, value if n == name else v) for n, v in lines()]


def without(name: str) -> Lines:
    return [(n, v) for n, v in lines() if n != name]


def twice(name: str) -> Lines:
    return lines() + [(n, v) for n, v in lines() if n == name]


def check(headers: Lines, *, body: bytes = BODY, secrets: tuple[Secret, ...] = (secret_of(KEY),)) -> str:
    return verify(secrets=secrets, headers=headers, body=body, now=NOW).message_id


SIGNATURE = lines()[2][1]
FORGED: dict[str, Callable[[], Lines]] = {
    "no headers": list,
    "id missing": lambda: without("Webhook-Id"),
    "timestamp missing": lambda: without("Webhook-Timestamp"),
    "signature missing": lambda: without("Webhook-Signature"),
    "id twice": lambda: twice("Webhook-Id"),
    "timestamp twice": lambda: twice("Webhook-Timestamp"),
    "signature twice": lambda: twice("Webhook-Signature"),
    "id twice in other case": lambda: [*lines(), ("WEBHOOK-ID", "msg_1")],
    "id empty": lambda: lines(message_id=""),
    "id with a full stop": lambda: lines(message_id="msg.1"),
    "id with a line break": lambda: lines(message_id="msg\n1"),
    "id with a trailing line break": lambda: lines(message_id="msg_1\n"),
    "id with a NUL": lambda: lines(message_id="msg\x001"),
    "id beyond ASCII": lambda: lines(message_id="msg_é"),
    "id too long": lambda: lines(message_id="m" * 256),
    "id of another message": lambda: replaced("Webhook-Id", "msg_2"),
    "signature empty": lambda: replaced("Webhook-Signature", ""),
    "version v0": lambda: replaced("Webhook-Signature", SIGNATURE.replace("v1,", "v0,")),
    "version V1": lambda: replaced("Webhook-Signature", SIGNATURE.replace("v1,", "V1,")),
    "version v1a": lambda: replaced("Webhook-Signature", SIGNATURE.replace("v1,", "v1a,")),
    "version with =": lambda: replaced("Webhook-Signature", SIGNATURE.replace("v1,", "v1=")),
    "no version": lambda: replaced("Webhook-Signature", SIGNATURE.removeprefix("v1,")),
    "only the version": lambda: replaced("Webhook-Signature", "v1,"),
    "truncated base64": lambda: replaced("Webhook-Signature", SIGNATURE[:-3]),
    "truncated by four": lambda: replaced("Webhook-Signature", SIGNATURE[:-4]),
    "one byte only": lambda: replaced("Webhook-Signature", "v1,AA=="),
    "signature beyond ASCII": lambda: replaced("Webhook-Signature", "v1,é" + SIGNATURE[4:]),
    "signature in hexadecimal": lambda: replaced("Webhook-Signature", "v1," + base64.b64decode(SIGNATURE[3:]).hex()),
    "33 signatures": lambda: lines(extra="v1,AAAA " * 32),
    "20 wrong signatures": lambda: replaced("Webhook-Signature", " ".join(["v1,AAAA"] * 20)),
    "another endpoint's secret": lambda: lines(key=OTHER_KEY),
    "empty key": lambda: lines(key=b""),
    "six minutes old": lambda: lines(timestamp=seconds(-360)),
    "six minutes ahead": lambda: lines(timestamp=seconds(360)),
    "301 seconds old": lambda: lines(timestamp=seconds(-301)),
    "301 seconds ahead": lambda: lines(timestamp=seconds(301)),
    "milliseconds": lambda: lines(timestamp=seconds() + "000"),
    "timestamp as a fraction": lambda: lines(timestamp=seconds() + ".5"),
    "timestamp negative": lambda: lines(timestamp="-" + seconds()),
    "timestamp with a plus": lambda: lines(timestamp="+" + seconds()),
    "timestamp with a leading zero": lambda: lines(timestamp="0" + seconds()),
    "timestamp with a blank": lambda: lines(timestamp=" " + seconds()),
    "timestamp with an underscore": lambda: lines(timestamp=seconds()[:4] + "_" + seconds()[4:]),
    "timestamp in other digits": lambda: lines(timestamp=seconds().replace("1", "١")),
    "timestamp of a thousand digits": lambda: lines(timestamp="9" * 1_000),
    "timestamp empty": lambda: lines(timestamp=""),
    "timestamp as a date": lambda: lines(timestamp=NOW.isoformat()),
    "timestamp moved after signing": lambda: replaced("Webhook-Timestamp", seconds(-10)),
}


class TestForgeries:
    @pytest.mark.parametrize("case", FORGED)
    def test_are_refused(self, case: str) -> None:
        with pytest.raises(BadSignature):
            check(FORGED[case]())

    def test_the_same_id_with_another_body_is_refused(self) -> None:
        with pytest.raises(BadSignature):
            check(lines(), body=b'{"number": "INC0010002"}')

    def test_the_same_json_written_anew_is_refused(self) -> None:
        with pytest.raises(BadSignature):
            check(lines(), body=json.dumps(json.loads(BODY)).encode())

    def test_a_body_with_one_blank_more_is_refused(self) -> None:
        with pytest.raises(BadSignature):
            check(lines(), body=BODY + b" ")

    def test_parts_cannot_be_moved_across_the_full_stops(self) -> None:
        genuine = lines(message_id="a", body=f"{seconds(1)}.rest".encode())
        moved = [("Webhook-Id", f"a.{seconds()}"), ("Webhook-Timestamp", seconds(1)), genuine[2]]
        assert check(genuine, body=f"{seconds(1)}.rest".encode()) == "a"
        with pytest.raises(BadSignature):
            check(moved, body=b"rest")

    def test_a_body_over_the_limit_is_refused_before_it_is_hashed(self) -> None:
        with pytest.raises(TooLarge):
            check(lines(), body=b"x" * 1_048_577)

    def test_the_refusal_shows_no_secret(self) -> None:
        with pytest.raises(BadSignature) as refusal:
            check(lines(key=OTHER_KEY))
        assert "whsec" not in refusal.value.detail
        assert refusal.value.status == 401


class TestGenuineMessages:
    def test_the_published_vector_is_reproduced_and_verified(self) -> None:
        at = datetime.fromtimestamp(1614265330, UTC)
        secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        body = b'{"test": 2432232314}'
        headers = sign(secrets=[secret], message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", at=at, body=body)
        assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        message = verify(secrets=[secret], headers=headers.items(), body=body, now=at)
        assert (message.message_id, message.sent_at) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", at)

    @pytest.mark.parametrize("body", [b"", b"{}", BODY, b"\xff\x00\xfe", b"x" * 1_048_576])
    def test_any_bytes_can_be_the_body(self, body: bytes) -> None:
        assert check(lines(body=body), body=body) == "msg_1"

    @pytest.mark.parametrize("offset_s", [-300, -299, 0, 299, 300])
    def test_five_minutes_either_way_are_tolerated(self, offset_s: int) -> None:
        assert check(lines(timestamp=seconds(offset_s))) == "msg_1"

    def test_one_good_signature_among_twenty_is_enough(self) -> None:
        assert check(lines(extra="v1,AAAA v1a,zz v2,x " * 6 + "v1,AAAA ")) == "msg_1"

    def test_a_key_without_the_prefix_is_the_same_key(self) -> None:
        assert check(lines(), secrets=(Secret(base64.b64encode(KEY).decode()),)) == "msg_1"

    @given(st.binary(max_size=300), st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True), st.integers(0, 2**33))
    def test_what_is_signed_is_what_the_standard_says(self, body: bytes, message_id: str, at_s: int) -> None:
        at = datetime.fromtimestamp(at_s, UTC)
        headers = sign(secrets=[secret_of(KEY)], message_id=message_id, at=at, body=body)
        assert headers["webhook-signature"] == signature_of(KEY, message_id, str(at_s), body)


class TestChangingTheSecret:
    def test_both_secrets_pass_during_the_overlap(self) -> None:
        both = (secret_of(KEY), secret_of(OTHER_KEY))
        assert check(lines(key=KEY), secrets=both) == "msg_1"
        assert check(lines(key=OTHER_KEY), secrets=both) == "msg_1"

    def test_the_old_secret_fails_afterwards(self) -> None:
        with pytest.raises(BadSignature):
            check(lines(key=KEY), secrets=(secret_of(OTHER_KEY),))

    def test_a_receiver_with_either_secret_verifies_what_is_sent(self) -> None:
        both = (secret_of(KEY), secret_of(OTHER_KEY))
        headers = sign(secrets=both, message_id="msg_1", at=NOW, body=BODY)
        for one in both:
            assert check(list(headers.items()), secrets=(one,)) == "msg_1"

    def test_each_retry_has_its_own_timestamp_and_the_same_id(self) -> None:
        secret = new_signing_secret()
        first = sign(secrets=[secret], message_id="msg_1", at=NOW - timedelta(hours=1), body=BODY)
        again = sign(secrets=[secret], message_id="msg_1", at=NOW, body=BODY)
        assert first["webhook-id"] == again["webhook-id"]
        assert first["webhook-signature"] != again["webhook-signature"]
        assert check(list(again.items()), secrets=(secret,)) == "msg_1"


class TestSigningSecrets:
    def test_a_new_one_is_different_each_time(self) -> None:
        assert new_signing_secret() != new_signing_secret()

    @pytest.mark.parametrize(
        "text", ["", "whsec_", "whsec_%%%", "whsec_é", "whsec_" + "QUFB" * 7, "whsec_" + "QUFB" * 22]
    )
    def test_weak_or_broken_ones_are_refused(self, text: str) -> None:
        with pytest.raises(BadSigningSecret):
            sign(secrets=[Secret(text)], message_id="msg_1", at=NOW, body=BODY)

    def test_none_at_all_is_refused(self) -> None:
        with pytest.raises(BadSigningSecret):
            check(lines(), secrets=())

    @pytest.mark.parametrize("message_id", ["", "a.b", "a b", "a\nb", "é"])
    def test_an_ambiguous_id_is_not_signed(self, message_id: str) -> None:
        with pytest.raises(ValueError, match="ambiguity"):
            sign(secrets=[new_signing_secret()], message_id=message_id, at=NOW, body=BODY)
