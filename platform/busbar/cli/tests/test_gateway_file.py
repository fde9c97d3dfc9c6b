"""Kong's file: the one that is checked in, its limits and keys, and the addresses that it sends requests to."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from busbar.auth.limits import SOURCE_FAILURES_MAX, SOURCE_WINDOW
from busbar.cli.gateway_file import READ_TIMEOUT_MS, GatewayKeys, GatewaySettings, kong_document
from busbar.cli.gateway_yaml import yaml_text
from busbar.cli.kong import kong_text
from busbar.cli.session import operator
from busbar.errors import InvalidPayload
from busbar.events.stream import HEARTBEAT_S
from busbar.testing.app import KEY, RunningApp
from busbar.tests.test_house import ROOT
from busbar.web.limits import Limits

CHECKED_IN = ROOT / "ops" / "kong" / "kong.yml"
NO_KEYS = GatewayKeys(jwks=(), token_life_s_max=630)


def loaded(app: RunningApp, settings: GatewaySettings | None = None) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(kong_text(app.platform, settings=settings or GatewaySettings()))
    return document


def configs(document: dict[str, Any], plugin: str) -> dict[str, dict[str, Any]]:
    """The configuration of a plugin at each place where it stands; the place `*` is everywhere."""
    places = [("*", document), *((each["name"], each) for each in document["services"])]
    places += [(route["name"], route) for each in document["services"] for route in each["routes"]]
    return {name: one["config"] for name, place in places for one in place.get("plugins", ()) if one["name"] == plugin}


def document_for(*upstreams: str, **settings: Any) -> dict[str, Any]:
    return kong_document((), keys=NO_KEYS, settings=GatewaySettings(upstreams=upstreams, **settings))


class TestTheFileThatIsCheckedIn:
    async def test_is_what_the_command_writes_but_for_the_keys(self, app: RunningApp) -> None:
        written = kong_text(app.platform, settings=GatewaySettings(), with_keys=False)
        assert CHECKED_IN.read_text("utf-8") == written, "busbar kong --without-keys --output ops/kong/kong.yml"

    async def test_lets_no_token_through(self) -> None:
        assert yaml.safe_load(CHECKED_IN.read_text("utf-8"))["consumers"][0]["jwt_secrets"] == []


class TestTheFile:
    async def test_is_the_same_text_each_time(self, app: RunningApp) -> None:
        texts = {kong_text(app.platform, settings=GatewaySettings()) for _ in range(3)}
        assert len(texts) == 1

    async def test_gives_the_correlation_id_a_caller_can_ask_for(self, app: RunningApp) -> None:
        assert configs(loaded(app), "correlation-id") == {
            "*": {"header_name": "X-Correlation-ID", "generator": "uuid", "echo_downstream": True}
        }

    async def test_counts_for_prometheus(self, app: RunningApp) -> None:
        assert configs(loaded(app), "prometheus")["*"]["status_code_metrics"] is True

    async def test_opens_nothing_to_other_origins(self, app: RunningApp) -> None:
        assert configs(loaded(app), "cors") == {}

    async def test_limits_bodies_as_the_application_does(self, app: RunningApp) -> None:
        sizes = {
            place: (config["allowed_payload_size"], config["size_unit"])
            for place, config in configs(loaded(app), "request-size-limiting").items()
        }
        assert sizes.pop("*") == (Limits().body_bytes_max, "bytes")
        assert sizes
        assert {size for size, _ in sizes.values()} == {Limits().upload_bytes_max}
        assert all(place.startswith("busbar.imports") for place in sizes)

    async def test_limits_callers_by_their_token_or_else_by_their_address(self, app: RunningApp) -> None:
        limits = configs(loaded(app, GatewaySettings(requests_per_minute=77)), "rate-limiting")
        by_token = {"minute": 77, "policy": "local", "limit_by": "header", "header_name": "authorization"}
        assert limits["busbar.tickets"] == by_token | {"fault_tolerant": True}
        assert limits["busbar.inbound.open"]["limit_by"] == "ip"
        assert {each["name"] for each in loaded(app)["services"]} <= set(limits)

    async def test_leaves_no_caller_enough_sign_ins_to_shut_everybody_out(self, app: RunningApp) -> None:
        limit = configs(loaded(app), "rate-limiting")["busbar.auth.login.open"]
        assert limit["limit_by"] == "ip"
        assert limit["minute"] * SOURCE_WINDOW.total_seconds() / 60 < SOURCE_FAILURES_MAX

    async def test_waits_longer_than_the_event_stream_is_silent(self) -> None:
        assert READ_TIMEOUT_MS / 1000 >= 2 * HEARTBEAT_S

    async def test_may_take_plain_http_where_something_before_it_has_tls(self, app: RunningApp) -> None:
        document = loaded(app, GatewaySettings(plain_http=True))
        assert {tuple(route["protocols"]) for each in document["services"] for route in each["routes"]} == {
            ("http", "https")
        }


class TestKeys:
    async def test_of_the_file_verify_our_tokens_also_while_they_are_changed(self, app: RunningApp) -> None:
        before = (await app.sign_in("admin")).token
        kid = await app.platform.auth.rotate_keys(operator())
        after = (await app.sign_in("admin")).token
        credentials = {each["key"]: each for each in loaded(app)["consumers"][0]["jwt_secrets"]}
        assert len(credentials) == 2
        assert kid in credentials
        for token in (before, after):
            assert token is not None
            header = jwt.get_unverified_header(token)
            credential = credentials[header["kid"]]
            assert credential["algorithm"] == header["alg"]
            claims = jwt.decode(
                token, credential["rsa_public_key"], algorithms=[credential["algorithm"]], audience="busbar-api"
            )
            # Kong looks for the key's id among the claims first.
            assert "kid" not in claims
            assert claims["exp"] - claims["iat"] <= configs(loaded(app), "jwt")["busbar.tickets"]["maximum_expiration"]

    async def test_are_public_halves_only(self, app: RunningApp) -> None:
        text = kong_text(app.platform, settings=GatewaySettings())
        assert "PUBLIC KEY" in text
        assert "PRIVATE" not in text
        assert "secret:" not in text

    async def test_are_looked_for_in_the_header_and_told_apart_by_their_id(self, app: RunningApp) -> None:
        for config in configs(loaded(app), "jwt").values():
            assert (config["header_names"], config["uri_param_names"], config["cookie_names"]) == (
                ["authorization"], [], []
            )  # fmt: skip
            assert (config["key_claim_name"], config["claims_to_verify"]) == ("kid", ["exp"])


class TestUpstreams:
    def test_are_asked_whether_they_are_ready(self) -> None:
        (upstream,) = document_for("http://10.0.0.2:8000", "http://10.0.0.1:8000")["upstreams"]
        assert [each["target"] for each in upstream["targets"]] == ["10.0.0.1:8000", "10.0.0.2:8000"]
        assert upstream["healthchecks"]["active"]["http_path"] == "/health/ready"
        assert 503 in upstream["healthchecks"]["active"]["unhealthy"]["http_statuses"]

    @pytest.mark.parametrize(
        ("url", "target"),
        [
            ("http://platform:8000", "platform:8000"),
            ("http://busbar.svc", "busbar.svc:80"),
            ("http://[::1]:8000/", "[::1]:8000"),
            ("https://busbar.example.org", "busbar.example.org:443"),
        ],
    )
    def test_may_be_inside_or_have_tls(self, url: str, target: str) -> None:
        assert document_for(url)["upstreams"][0]["targets"][0]["target"] == target

    @pytest.mark.parametrize("url", ["http://busbar.example.org:8000", "http://203.0.113.9.nip.io", "http://8.8.8.8"])
    def test_outside_need_tls(self, url: str) -> None:
        with pytest.raises(InvalidPayload, match="needs https"):
            document_for(url)

    @pytest.mark.parametrize(
        "url", ["", "platform:8000", "ftp://platform", "http://", "http://a:b@platform", "http://p/api", "http://p:x"]
    )
    def test_that_are_no_addresses_are_refused(self, url: str) -> None:
        with pytest.raises(InvalidPayload, match="The upstream"):
            document_for(url)

    def test_of_two_schemes_are_refused(self) -> None:
        with pytest.raises(InvalidPayload, match="same scheme"):
            document_for("http://platform:8000", "https://busbar.example.org")

    async def test_with_tls_are_verified(self, app: RunningApp) -> None:
        services = loaded(app, GatewaySettings(upstreams=("https://busbar.example.org",)))["services"]
        assert {(each["protocol"], each["tls_verify"]) for each in services} == {("https", True)}


class TestYaml:
    @given(key=st.from_regex(r"[a-z_]{1,8}", fullmatch=True), value=st.booleans() | st.text("ab'\":#~\\- &*"))
    def test_is_read_back_as_it_was(self, key: str, value: Any) -> None:
        document = {"each": [{f"key_{key}": value}], "other": [value]}
        assert yaml.safe_load(yaml_text(document)) == document

    def test_has_blocks_lists_and_texts_of_several_lines(self) -> None:
        document = {"a": [{"b": [], "c": {"d": "x\ny\n", "e": [1, "two"]}}, {"f": True}], "g": {}, "h": "no"}
        assert yaml.safe_load(yaml_text(document)) == document

    @pytest.mark.parametrize("key", ["a: b", "no", "null", "", "1a"])
    def test_has_no_keys_that_would_need_quotes(self, key: str) -> None:
        with pytest.raises(ValueError, match="no key"):
            yaml_text({key: "c"})


class TestTheCommand:
    async def test_replaces_the_file_as_a_whole(self, app: RunningApp, tmp_path: Path) -> None:
        output = tmp_path / "kong.yml"
        output.write_text("old")
        asked = ["--module", "pm", "--upstream", "http://platform:8000", "--logins-per-minute", "9", "--output", output]
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "busbar", "kong", *asked],
            env={
                **os.environ,
                "DATABASE_URL": app.platform.dsn,
                "BUSBAR_HOME": str(tmp_path),
                "BUSBAR_SECRET_KEY": KEY,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr
        assert f"Written: {output}" in ended.stderr
        document = yaml.safe_load(output.read_text("utf-8"))
        published = await app.anonymous.get("//.well-known/jwks.json")
        assert [each["key"] for each in document["consumers"][0]["jwt_secrets"]] == sorted(
            each["kid"] for each in published["keys"]
        )
        assert not {"mm", "fi"} & {tag for each in document["services"] for tag in each["tags"]}
        assert document["upstreams"][0]["targets"][0]["target"] == "platform:8000"
        assert configs(document, "rate-limiting")["busbar.auth.login.open"]["minute"] == 9
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".kong")] == []
