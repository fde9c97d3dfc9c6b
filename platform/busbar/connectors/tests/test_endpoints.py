"""Endpoints over HTTP: who may do what, what is refused, and that secrets stay inside."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from busbar.connectors.breaker import BreakerState
from busbar.connectors.desk import EndpointDesk
from busbar.connectors.routes import EndpointChange, NewEndpoint
from busbar.connectors.signature import new_signing_secret
from busbar.connectors.tests.support import ACME, CANARY, Remote, add_deliveries, make_desk
from busbar.connectors.tests.web import Site, serving
from busbar.db import execute, fetch, fetchval


@pytest.fixture
async def site(desk: EndpointDesk) -> AsyncIterator[Site]:
    async with serving(desk) as running:
        await running.sign_in("boss")
        yield running


def entry(remote: Remote, **changes: Any) -> dict[str, Any]:
    """A request for a new endpoint."""
    made: dict[str, Any] = {
        "endpoint_id": "acme-2",
        "connector": "acme",
        "name": "Second Acme",
        "sites": ["north"],
        "settings": {"base_url": remote.url},
        "secrets": {"token": CANARY},
    }
    return made | changes


def bad_fields(body: dict[str, Any]) -> list[str]:
    return sorted(error["field"] for error in body["errors"])


class TestConnectors:
    async def test_are_listed_with_the_form_of_their_settings(self, site: Site) -> None:
        (acme,) = (await site.client.get("/connectors")).json()
        assert acme["kind"] == "acme"
        assert acme["delivery_class"] == "A"
        assert acme["secrets"] == ["token", "webhook_secret"]
        assert acme["receives"]
        assert acme["settings_schema"]["type"] == "object"
        assert acme["settings_schema"]["required"] == ["base_url"]
        assert acme["settings_schema"]["properties"]["batch"]["default"] == 1


class TestMakingAnEndpoint:
    async def test_answers_with_everything_but_the_secrets(self, site: Site, remote: Remote) -> None:
        answer = await site.client.post("/endpoints", json=entry(remote))
        assert answer.status_code == 201
        assert answer.headers["etag"] == '"v1"'
        made = answer.json()
        assert made["secrets"] == ["token"]
        assert made["settings"] == {"base_url": remote.url, "project": "ops", "batch": 1}
        assert made["breaker"] == {"phase": "closed", "reason": None, "until": None, "failures": 0}
        assert (await site.client.get("/endpoints/acme-2")).json() == made
        listed = (await site.client.get("/endpoints", params={"sort": "-endpoint_id", "limit": 1})).json()
        assert listed["items"] == [made]
        assert listed["total"] == 2
        assert listed["next"]

    async def test_is_refused_with_every_bad_field_named(self, site: Site) -> None:
        bad = {
            "endpoint_id": "acme-2",
            "connector": "acme",
            "name": "Second",
            "settings": {"base_url": "http://127.0.0.1:80", "project": 7, "batch": "many", "colour": "red"},
            "secrets": {"token": "", "pin": "1234", "webhook_secret": "whsec_short"},
        }
        answer = await site.client.post("/endpoints", json=bad)
        assert answer.status_code == 400
        assert answer.json()["code"] == "VAL_001"
        assert bad_fields(answer.json()) == [
            "secrets.pin",
            "secrets.token",
            "secrets.webhook_secret",
            "settings.batch",
            "settings.colour",
            "settings.project",
        ]

    async def test_is_refused_when_the_gate_does_not_let_it_go_there(self, site: Site, remote: Remote) -> None:
        for url in (
            "http://10.1.2.3/",
            "https://example.org",
            "http://169.254.169.254/",
            "ftp://127.0.0.1",
            "file:///",
        ):
            answer = await site.client.post("/endpoints", json=entry(remote, settings={"base_url": url}))
            assert answer.status_code == 400, url
            assert bad_fields(answer.json()) == ["settings.base_url"]

    async def test_is_refused_when_the_id_is_taken_or_connector_or_site_are_unknown(
        self, site: Site, remote: Remote
    ) -> None:
        assert (await site.client.post("/endpoints", json=entry(remote, endpoint_id="acme-1"))).status_code == 409
        answer = await site.client.post("/endpoints", json=entry(remote, connector="erp"))
        assert bad_fields(answer.json()) == ["connector"]
        answer = await site.client.post("/endpoints", json=entry(remote, sites=["north", "atlantis"]))
        assert bad_fields(answer.json()) == ["sites"]
        assert await fetchval("select count(*) from core.endpoint") == 1

    async def test_is_in_the_trail_without_secrets(self, site: Site, remote: Remote) -> None:
        await site.client.post("/endpoints", json=entry(remote))
        await site.client.patch("/endpoints/acme-2", json={"secrets": {"token": CANARY + "2"}, "name": "New"})
        await site.client.post("/endpoints/acme-2/resume")
        await site.client.delete("/endpoints/acme-2")
        rows = await fetch(
            "select action, actor_name, site_id, details from core.audit where object_id = 'acme-2' order by audit_id"
        )
        assert [row["action"] for row in rows] == [
            "endpoint.create",
            "endpoint.change",
            "endpoint.resume",
            "endpoint.change",
        ]
        assert {(row["actor_name"], row["site_id"]) for row in rows} == {("boss", "north")}
        assert msgspec.json.decode(rows[1]["details"])["secrets_set"] == ["token"]
        assert CANARY not in "".join(row["details"] for row in rows)


class TestChangingAnEndpoint:
    async def test_keeps_the_secrets_that_are_not_sent(self, site: Site, desk: EndpointDesk, remote: Remote) -> None:
        secret = new_signing_secret().reveal()
        answer = await site.client.patch("/endpoints/acme-1", json={"secrets": {"webhook_secret": secret}})
        assert answer.json()["secrets"] == ["token", "webhook_secret"]
        assert (await site.client.post("/endpoints/acme-1/test")).json()["ok"]
        answer = await site.client.patch("/endpoints/acme-1", json={"secrets": {"token": None}})
        assert answer.json()["secrets"] == ["webhook_secret"]
        assert not (await site.client.post("/endpoints/acme-1/test")).json()["ok"]

    async def test_is_refused_on_a_stale_version(self, site: Site) -> None:
        changed = await site.client.patch("/endpoints/acme-1", json={"name": "A"}, headers={"If-Match": '"v1"'})
        assert changed.headers["etag"] == '"v2"'
        stale = await site.client.patch("/endpoints/acme-1", json={"name": "B"}, headers={"If-Match": '"v1"'})
        assert stale.status_code == 412
        stale = await site.client.delete("/endpoints/acme-1", headers={"If-Match": '"v1"'})
        assert stale.status_code == 412
        current = (await site.client.get("/endpoints/acme-1")).json()
        assert (current["name"], current["active"]) == ("A", True)

    @pytest.mark.parametrize(
        ("change", "resets"),
        [
            ({"settings": {"base_url": "http://127.0.0.1:1"}}, True),
            ({"secrets": {"token": "new"}}, True),
            ({"name": "Another name"}, False),
        ],
    )
    async def test_ends_a_pause_when_settings_or_secrets_are_new(
        self, site: Site, change: dict[str, Any], resets: bool
    ) -> None:
        state = BreakerState(phase="open", reason="auth_expired", generation=4)
        await execute("update core.endpoint set breaker = $1::jsonb", msgspec.json.encode(state).decode())
        answer = (await site.client.patch("/endpoints/acme-1", json=change)).json()
        assert answer["breaker"]["phase"] == ("closed" if resets else "open")

    async def test_names_bad_settings_and_changes_nothing(self, site: Site) -> None:
        answer = await site.client.patch("/endpoints/acme-1", json={"name": "X", "settings": {"batch": "many"}})
        assert bad_fields(answer.json()) == ["settings.base_url", "settings.batch"]
        assert (await site.client.get("/endpoints/acme-1")).json()["name"] == "Acme"

    async def test_switches_it_off_and_on_again(self, site: Site) -> None:
        assert (await site.client.delete("/endpoints/acme-1")).status_code == 204
        assert not (await site.client.get("/endpoints/acme-1")).json()["active"]
        assert (await site.client.patch("/endpoints/acme-1", json={"active": True})).json()["active"]

    async def test_that_resumes_makes_waiting_deliveries_due(self, site: Site) -> None:
        await add_deliveries("T-1")
        await execute("update core.delivery set state = 'retrying', next_attempt_at = now() + interval '5 minutes'")
        assert (await site.client.post("/endpoints/acme-1/resume")).status_code == 200
        assert await fetchval("select next_attempt_at <= now() from core.delivery")


class TestTheRunner:
    async def test_is_not_camel_without_a_broker_and_the_answer_names_the_setting(
        self, site: Site, remote: Remote
    ) -> None:
        made = await site.client.post("/endpoints", json=entry(remote, runner="camel"))
        changed = await site.client.patch("/endpoints/acme-1", json={"runner": "camel"})
        for answer in (made, changed):
            assert (answer.status_code, answer.json()["code"]) == (400, "VAL_001")
            assert bad_fields(answer.json()) == ["runner"]
            assert "set AMQP_URL and start Busbar again" in answer.json()["detail"]
        assert (await site.client.get("/endpoints/acme-1")).json()["runner"] == "busbar"
        assert (await site.client.get("/endpoints/acme-2")).status_code == 404

    async def test_is_not_camel_for_a_connector_that_cannot_say_what_it_would_send(
        self, desk: EndpointDesk, remote: Remote
    ) -> None:
        silent = make_desk(connector=msgspec.structs.replace(ACME, compose=None), brokered=True)
        async with serving(silent) as site:
            await site.sign_in("boss")
            answer = (await site.client.post("/endpoints", json=entry(remote, runner="camel"))).json()
        await silent.close()
        assert bad_fields(answer) == ["runner"]
        assert "The connector acme cannot say what it would send" in answer["detail"]

    async def test_may_be_camel_and_busbar_again_and_a_new_one_ends_a_pause(
        self, site: Site, desk: EndpointDesk
    ) -> None:
        desk.brokered = True
        state = BreakerState(phase="open", reason="auth_expired", generation=4)
        await execute("update core.endpoint set breaker = $1::jsonb", msgspec.json.encode(state).decode())
        answer = (await site.client.patch("/endpoints/acme-1", json={"runner": "camel"})).json()
        assert (answer["runner"], answer["breaker"]["phase"], answer["fault"]) == ("camel", "closed", None)
        desk.brokered = False  # as after a start without AMQP_URL
        await desk.refresh()
        shown = (await site.client.get("/endpoints/acme-1")).json()
        assert shown["fault"].startswith("Camel gets its deliveries over RabbitMQ, and Busbar has none: set AMQP_URL")
        answer = (await site.client.patch("/endpoints/acme-1", json={"runner": "busbar"})).json()
        assert (answer["runner"], answer["fault"]) == ("busbar", None)

    async def test_shows_in_the_connection_test(self, site: Site, desk: EndpointDesk) -> None:
        desk.brokered = True
        await site.client.patch("/endpoints/acme-1", json={"runner": "camel"})
        report = (await site.client.post("/endpoints/acme-1/test")).json()
        assert report["ok"]
        assert report["detail"].startswith("Camel delivers to this endpoint, by the address and credentials of its own")
        assert report["detail"].endswith("It answers.")


class TestTheConnectionTest:
    async def test_says_what_is_wrong_without_the_secret(self, site: Site, remote: Remote) -> None:
        assert (await site.client.post("/endpoints/acme-1/test")).json()["ok"]
        remote.token = "another"
        refused = (await site.client.post("/endpoints/acme-1/test")).json()
        assert refused["detail"] == "It refuses the token [redacted]."
        await remote.stop()
        gone = (await site.client.post("/endpoints/acme-1/test")).json()
        assert (gone["ok"], "No connection" in gone["detail"]) == (False, True)


class TestWhoMayDoWhat:
    async def test_nobody_without_a_token(self, site: Site, remote: Remote) -> None:
        del site.client.headers["Authorization"]
        assert (await site.client.get("/endpoints")).status_code == 401
        assert (await site.client.get("/connectors")).status_code == 401
        assert (await site.client.post("/endpoints", json=entry(remote))).status_code == 401

    async def test_a_reader_changes_nothing(self, site: Site, remote: Remote) -> None:
        await site.sign_in("reader", role="Reader")
        assert (await site.client.get("/endpoints/acme-1")).status_code == 200
        refused = [
            await site.client.post("/endpoints", json=entry(remote)),
            await site.client.patch("/endpoints/acme-1", json={"name": "X"}),
            await site.client.delete("/endpoints/acme-1"),
            await site.client.post("/endpoints/acme-1/test"),
            await site.client.post("/endpoints/acme-1/resume"),
        ]
        assert [answer.status_code for answer in refused] == [403] * 5

    async def test_sites_do_not_leak_into_each_other(self, site: Site, remote: Remote) -> None:
        await site.client.post("/endpoints", json=entry(remote))
        await site.sign_in("southerner", role="Integration_Operator", sites=("south",))
        listed = (await site.client.get("/endpoints")).json()
        assert [item["endpoint_id"] for item in listed["items"]] == ["acme-1"]
        assert (await site.client.get("/endpoints/acme-2")).status_code == 404
        assert (await site.client.patch("/endpoints/acme-2", json={"name": "X"})).status_code == 404
        assert (await site.client.post("/endpoints/acme-2/test")).status_code == 404
        assert (await site.client.get("/endpoints/acme-2/inbound")).status_code == 404
        # The endpoint of all sites is seen, and changed by none but those who work for all.
        assert (await site.client.patch("/endpoints/acme-1", json={"name": "X"})).status_code == 403
        assert (await site.client.post("/endpoints/acme-1/resume")).status_code == 403
        third = entry(remote, endpoint_id="acme-3")
        assert (await site.client.post("/endpoints", json=third)).status_code == 403
        assert (await site.client.post("/endpoints", json=third | {"sites": []})).status_code == 403
        assert (await site.client.post("/endpoints", json=third | {"sites": ["south"]})).status_code == 201
        assert (await site.client.patch("/endpoints/acme-3", json={"sites": []})).status_code == 403
        assert (await site.client.patch("/endpoints/acme-3", json={"sites": ["north"]})).status_code == 403


class TestSecrets:
    async def test_appear_in_no_answer_log_line_row_or_repr(
        self, site: Site, desk: EndpointDesk, remote: Remote
    ) -> None:
        answers = []
        with capture_logs() as lines:
            answers.append(await site.client.post("/endpoints", json=entry(remote)))
            answers.append(await site.client.post("/endpoints", json=entry(remote)))
            answers.append(await site.client.post("/endpoints", json=entry(remote, endpoint_id="x", settings={})))
            answers.append(await site.client.post("/endpoints", json=entry(remote, secrets={"token": [CANARY]})))
            answers.append(await site.client.post("/endpoints", json=entry(remote, secrets={"pin": CANARY})))
            answers.append(await site.client.post("/endpoints", json=entry(remote, secrets={"webhook_secret": CANARY})))
            answers.append(await site.client.patch("/endpoints/acme-2", json={"secrets": {"token": CANARY}}))
            remote.token = "another"
            answers.append(await site.client.post("/endpoints/acme-2/test"))
            answers.append(await site.client.get("/endpoints/acme-2"))
            answers.append(await site.client.get("/endpoints"))
        await desk.refresh()
        endpoint = desk.get("acme-2")
        assert endpoint is not None
        async with endpoint.in_use() as seen:
            shown = [repr(seen), str(seen.secrets), repr(endpoint.secrets["token"])]
        new = msgspec.convert(entry(remote), NewEndpoint)
        change = EndpointChange(secrets={"token": CANARY})
        rows = await fetchval("select string_agg(e::text, '') from core.endpoint e")
        rows += await fetchval("select string_agg(a::text, '') from core.audit a")
        texts = [answer.text for answer in answers]
        for place in (*texts, *map(repr, lines), *shown, repr(new), repr(change), rows):
            assert CANARY not in place
            assert "no one may ever" not in place
        assert [answer.status_code for answer in answers] == [201, 409, 400, 400, 400, 400, 200, 200, 200, 200]

    async def test_of_another_key_ring_switch_the_endpoint_off_and_say_so(self, site: Site, desk: EndpointDesk) -> None:
        await execute(
            'update core.endpoint set version = version + 1, secrets = \'{"token": "busbar1:0123456789abcdef:AAAA"}\''
        )
        await desk.refresh()
        answer = (await site.client.get("/endpoints/acme-1")).json()
        assert "token" in answer["fault"]
        assert desk.lane("acme-1").free(0) == 0
        assert (await site.client.post("/endpoints/acme-1/test")).json()["ok"] is False


class TestAQuarantinedPlugin:
    async def test_shows_at_its_connector_and_endpoints(self, desk: EndpointDesk) -> None:
        other = make_desk(quarantined=lambda name: True)
        async with serving(other) as site:
            await site.sign_in("boss")
            assert (await site.client.get("/connectors")).json()[0]["quarantined"]
            assert "quarantined" in (await site.client.get("/endpoints/acme-1")).json()["fault"]
        await other.close()
