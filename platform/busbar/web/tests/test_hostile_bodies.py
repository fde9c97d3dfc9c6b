"""No input gives a 5xx (promise 8): a corpus of hostile requests, sent to the small application."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from busbar.web.tests.small_app import SmallApp

GOOD = {"asset_id": "TR-1", "name": "Transformer 1", "cost": "1250.50"}


def good(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


CORPUS: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "only a brace": (b"{", 400),
    "trailing comma": (b'{"a": 1,}', 400),
    "two documents": (b"{}{}", 400),
    "single quotes": (b"{'a': 1}", 400),
    "not a number": (b'{"cost": NaN}', 400),
    "null": (b"null", 400),
    "a list": (b"[]", 400),
    "a text": (b'"x"', 400),
    "nested arrays": (b"[" * 100_001, 413),
    "nested arrays within the size": (b"[" * 50_000, 400),
    "nested and closed": (b"[" * 40_000 + b"]" * 40_000, 400),
    "nested objects": (b'{"a":' * 15_000, 400),
    "nested in a field": (good(note=None)[:-1] + b', "x": ' + b"[" * 40 + b"]" * 40 + b"}", 400),
    "raw NUL": (b'{"name": "a\x00b"}', 400),
    "escaped NUL": (good(name="a\x00b"), 400),
    "escaped bell": (good(name="a\x07b"), 400),
    "line feed in a name": (good(name="a\nb"), 400),
    "line feed at the end of a name": (good(name="a\n"), 400),
    "lone surrogate": (b'{"name": "\\ud800"}', 400),
    "invalid UTF-8": (b'{"name": "\xff\xfe"}', 400),
    "overlong UTF-8": (b'{"name": "\xc0\x80"}', 400),
    "byte order mark": (b"\xef\xbb\xbf" + good(), 400),
    "UTF-16": (good().decode().encode("utf-16"), 400),
    "huge integer": (good(customers=10**400), 400),
    "integer beyond the column": (good(customers=2**31), 400),
    "float for an integer": (good(customers=1.5), 400),
    "text for an integer": (good(customers="5"), 400),
    "boolean for an integer": (good(customers=True), 400),
    "NaN amount": (good(cost="NaN"), 400),
    "infinite amount": (good(cost="Infinity"), 400),
    "amount of a gigabyte": (good(cost="1e1000000000"), 400),
    "amount as number of a gigabyte": (b'{"cost": 1e1000000000}', 400),
    "too many decimals": (good(cost="0.001"), 400),
    "negative amount": (good(cost="-1"), 400),
    "latitude beyond the pole": (good(location={"lat": 91, "lon": 0}), 400),
    "infinite latitude": (b'{"location": {"lat": 1e999, "lon": 0}}', 400),
    "time without offset": (good(built_at="2026-01-01T00:00:00"), 400),
    "year 10000": (good(built_at="10000-01-01T00:00:00Z"), 400),
    "unknown field": (good(admin=True), 400),
    "prototype field": (good(__proto__={"admin": True}), 400),
    "text beyond its length": (good(name="x" * 121), 400),
    "too many tags": (good(tags=["x"] * 6), 400),
    "ten thousand bad fields": (good(**{f"x{number}": 1 for number in range(4_000)}), 400),
    "one byte too many": (b" " * 100_001, 413),
    "endless escapes": (b'"' + b'\\"' * 45_000, 400),
}


class TestHostileBodies:
    @pytest.mark.parametrize("name", CORPUS)
    async def test_are_refused_as_a_problem(self, client: httpx.AsyncClient, name: str) -> None:
        body, status = CORPUS[name]
        response = await client.post("/assets", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == status, response.text[:500]
        problem = response.json()
        assert problem["code"].startswith("VAL_00")
        assert len(response.content) < 50_000

    @pytest.mark.parametrize("name", [name for name, (_, status) in CORPUS.items() if status == 400])
    async def test_are_never_a_fault_of_ours_where_anything_goes(self, client: httpx.AsyncClient, name: str) -> None:
        response = await client.post("/anything", content=CORPUS[name][0], headers={"Content-Type": "application/json"})
        assert response.status_code in (201, 400)

    @given(st.binary(max_size=300))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    async def test_made_of_random_bytes_are_refused(self, client: httpx.AsyncClient, body: bytes) -> None:
        response = await client.post("/assets", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=30,
        )
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    async def test_made_of_random_json_are_taken_or_refused(self, client: httpx.AsyncClient, value: object) -> None:
        body = json.dumps(value).encode()
        for path in ("/assets", "/many-assets", "/anything"):
            response = await client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert response.status_code in (201, 400)

    async def test_a_good_one_passes(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/assets", content=good(note="two\nlines", customers=3, cost=1250.5))
        assert (response.status_code, response.json()["cost"]) == (201, "1250.5")

    async def test_a_text_that_only_looks_like_an_escape_passes(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/assets", content=good(name="C:\\u0000\\b"))
        assert response.status_code == 201
        assert response.json()["name"] == "C:\\u0000\\b"


class TestBodiesInPieces:
    async def test_are_limited_without_a_content_length(self, client: httpx.AsyncClient) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 10_000
                yield b" " * 10_000

        for path, content_type in (("/assets", "application/json"), ("/raw", "text/plain")):
            sent = 0
            response = await client.post(path, content=endless(), headers={"Content-Type": content_type})
            assert response.status_code == 413
            assert sent <= 120_000

    async def test_are_put_together(self, client: httpx.AsyncClient) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for byte in good():
                yield bytes([byte])

        response = await client.post("/assets", content=pieces(), headers={"Content-Type": "application/json"})
        assert response.status_code == 201


class TestHostileHeadersAndTargets:
    @pytest.mark.parametrize("target", ["/assets/a%00b", "/assets?text=a%00b", "/assets?cursor=%00", "/" + "x" * 9_000])
    async def test_with_a_nul_or_without_end_are_refused(self, client: httpx.AsyncClient, target: str) -> None:
        response = await client.get(target)
        assert (response.status_code, response.json()["code"]) == (400, "VAL_003")

    @pytest.mark.parametrize(
        "query",
        ["limit=0", "limit=201", "limit=x", "limit=1e9", "limit=" + "9" * 400, "sort=;drop", "cursor=!", "text=%07"],
    )
    async def test_bad_parameters_are_named(self, client: httpx.AsyncClient, query: str) -> None:
        response = await client.get(f"/assets?{query}")
        assert (response.status_code, response.json()["code"]) == (400, "VAL_001")
        assert [each["field"] for each in response.json()["errors"]] == [query.partition("=")[0]]

    @pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/x-msgpack", "jsonx", "é"])
    async def test_other_content_types_are_415(self, client: httpx.AsyncClient, content_type: str) -> None:
        headers = {b"Content-Type": content_type.encode("latin-1")}
        response = await client.post("/assets", content=good(), headers=headers)
        assert (response.status_code, response.json()["code"]) == (415, "VAL_003")

    @pytest.mark.parametrize(
        "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"]
    )
    async def test_json_by_any_name_is_read(self, client: httpx.AsyncClient, content_type: str) -> None:
        response = await client.post("/assets", content=good(), headers={"Content-Type": content_type})
        assert response.status_code == 201

    async def test_compressed_bodies_are_415(self, client: httpx.AsyncClient) -> None:
        response = await client.post("/assets", content=good(), headers={"Content-Encoding": "gzip"})
        assert response.status_code == 415

    async def test_hold_no_nul(self, small_app: SmallApp) -> None:
        messages = []

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message) -> None:
            messages.append(message)

        scope = {
            "type": "http", "method": "GET", "path": "/ping", "raw_path": b"/ping", "query_string": b"",
            "headers": [(b"x-note", b"a\x00b")], "client": None, "server": None, "scheme": "http",
        }  # fmt: skip
        await small_app.edge(scope, receive, send)  # type: ignore[arg-type]
        assert messages[0]["status"] == 400
