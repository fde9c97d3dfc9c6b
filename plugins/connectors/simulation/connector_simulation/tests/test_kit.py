"""A simulator of the smallest kind, a notebook, shows what every simulator has from the kit."""

import argparse
import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connector_simulation import (
    KINDS,
    ApiRequest,
    ApiResponse,
    Effect,
    EffectLog,
    Misbehaviour,
    Options,
    Refusal,
    SimulatorServer,
    answer,
    running,
    started,
)
from connector_simulation.process import options_of, parser_of, serve


class Note(Effect, frozen=True, kw_only=True):
    """One note that was written."""

    page: str


class Notebook(SimulatorServer[Note]):
    """POST /api/<page> writes a page; GET reads it."""

    NAME = "Notebook"
    KINDS: Mapping[str, float] = {**KINDS, "out_of_ink": 0.0}
    API_PATH = "/api/"

    def __init__(self, options: Options) -> None:
        super().__init__(options, Note)
        self.control.handlers["POST", "tear"] = self._tear
        self.start_anew()

    def respond(self, request: ApiRequest) -> ApiResponse:
        page = request.path.removeprefix("/api/")
        if request.method == "POST":
            self._write("POST", page, request.body.decode())
            return ApiResponse(status=204, cookies=("a=1", "b=2"))
        return answer(200, self.pages[page]) if page in self.pages else answer(404, None)

    def respond_badly(self, request: ApiRequest, trouble: Misbehaviour) -> ApiResponse:
        return answer(trouble.status, trouble.kind)

    def restore(self, effect: Note) -> None:
        self.pages[effect.page] = str(effect.fields["text"])

    def start_anew(self) -> None:
        self.pages: dict[str, str] = {}

    def records(self, request: ApiRequest) -> Any:
        return self.pages

    def change_by_user(self, request: ApiRequest) -> Any:
        change = json.loads(request.body)
        if not change["text"]:
            raise Refusal("empty", answer(409, "A page needs a text"))
        self._write("CHANGE", change["page"], change["text"])
        return {}

    @property
    def endpoint_settings(self) -> dict[str, str]:
        return {"url": self.url}

    @property
    def endpoint_secrets(self) -> dict[str, str]:
        return {"webhook_secret": self.webhook_secret}

    def _write(self, method: str, page: str, text: str) -> None:
        self.pages[page] = text
        note = Note(n=self.effect_log.next_n, time=self._clock(), method=method, page=page, fields={"text": text})
        self.effect_log.append(note)

    def _tear(self, request: ApiRequest) -> Any:
        self.start_anew()
        return {"torn": True}


@pytest.fixture
async def notebook() -> AsyncIterator[Notebook]:
    async with running(Notebook(Options())) as simulator:
        yield simulator


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


class TestServer:
    async def test_answers_on_http_and_on_tls_with_a_certificate_that_can_be_checked(
        self, notebook: Notebook, session: aiohttp.ClientSession
    ) -> None:
        async with session.post(f"{notebook.url}/api/one", data=b"hello") as written:
            assert (written.status, written.headers.getall("Set-Cookie")) == (204, ["a=1", "b=2"])
        trusting = ssl.create_default_context(cafile=notebook.ca_file)
        async with session.get(f"{notebook.tls_url}/api/one", ssl=trusting) as read:
            assert await read.json() == "hello"
        assert notebook.requests == 2

    async def test_knows_the_kinds_of_trouble_that_a_simulator_adds(
        self, notebook: Notebook, session: aiohttp.ClientSession
    ) -> None:
        notebook.misbehave("out_of_ink", count=1)
        async with session.post(f"{notebook.url}/api/one", data=b"hello") as refused:
            assert (refused.status, await refused.json()) == (503, "out_of_ink")
        with pytest.raises(ValueError, match="out_of_ink, not 'gremlins'"):
            notebook.misbehave("gremlins")

    async def test_a_lost_answer_has_its_effect_and_a_cut_connection_has_none(
        self, notebook: Notebook, session: aiohttp.ClientSession
    ) -> None:
        notebook.misbehave("timeout_after_effect", count=1, delay_s=0.0)
        notebook.misbehave("down", count=1)
        for page in ("one", "two"):
            with pytest.raises(aiohttp.ClientError):
                await session.post(f"{notebook.url}/api/{page}", data=b"hello")
        assert [effect.page for effect in notebook.effects] == ["one"]

    async def test_a_slow_answer_does_not_outlive_the_simulator(self, session: aiohttp.ClientSession) -> None:
        simulator = await started(Notebook(Options(tls_port=None)))
        simulator.misbehave("slow", delay_s=60)
        asked = asyncio.create_task(session.get(f"{simulator.url}/api/one"))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(simulator.stop(), 5)
        await asyncio.gather(asked, return_exceptions=True)


class TestControl:
    async def test_a_simulators_own_calls_stand_beside_the_common_ones(
        self, notebook: Notebook, session: aiohttp.ClientSession
    ) -> None:
        control = f"{notebook.url}/_simulator"
        async with session.post(f"{control}/change", json={"page": "one", "text": "hello"}) as changed:
            assert changed.status == 200
        async with session.get(f"{control}/effects?page=one") as found:
            assert (await found.json())["effects"][0]["method"] == "CHANGE"
        async with session.post(f"{control}/change", json={"page": "one", "text": ""}) as refused:
            assert (refused.status, await refused.json()) == (409, "A page needs a text")
        async with session.post(f"{control}/tear") as torn:
            assert await torn.json() == {"torn": True}
        async with session.get(f"{control}/records") as left:
            assert await left.json() == {}
        assert notebook.requests == 0

    async def test_says_what_there_is_to_ask(self, notebook: Notebook, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{notebook.url}/_simulator/nothing") as unknown:
            assert "POST /_simulator/tear" in (await unknown.json())["error"]["detail"]
        async with session.get(f"{notebook.url}/_simulator/effects?colour=red") as refused:
            assert (refused.status, (await refused.json())["error"]["message"]) == (
                400,
                "effects are found by method, page, request_correlation_id, user, not by colour",
            )


class TestEffectLog:
    def test_effects_that_belong_together_are_in_the_file_together(self, tmp_path: Path) -> None:
        path = tmp_path / "log.jsonl"
        log = EffectLog(Note, path)
        log.open()
        at = datetime(2026, 11, 23, tzinfo=UTC)
        notes = [Note(n=n, time=at, method="POST", page=str(n), fields={}) for n in (1, 2)]
        log.append(*notes)
        log.close()
        again = EffectLog(Note, path)
        assert again.open() == notes
        assert again.next_n == 3
        again.close()


def main() -> None:
    """Run the notebook as a process."""

    def make(arguments: argparse.Namespace) -> Notebook:
        return Notebook(Options(**options_of(arguments)))

    serve(parser_of("notebook", "A notebook.", port=0, tls_port=0), make, lambda simulator: {"kind": "notebook"})


class TestProcess:
    async def test_says_that_it_is_ready_and_is_there_again_after_a_kill(
        self, tmp_path: Path, session: aiohttp.ClientSession
    ) -> None:
        arguments = ["-m", __name__, "--state-file", str(tmp_path / "log.jsonl")]
        for text in (None, "hello"):
            process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
            assert process.stdout is not None
            ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
            assert ready["kind"] == "notebook"
            async with session.get(f"{ready['url']}/api/one") as read:
                assert await read.json() == text
            async with session.post(f"{ready['url']}/api/one", data=b"hello") as written:
                assert written.status == 204
            process.kill()
            await process.wait()

    async def test_names_what_is_wrong_with_its_arguments(self) -> None:
        arguments = ["-m", __name__, "--webhook-url", "http://127.0.0.1:9/", "--webhook-secret", "plain"]
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=asyncio.subprocess.PIPE)
        _, told = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 2
        assert b"secret is whsec_ and the base64 of 24 to 64 bytes" in told


if __name__ == "__main__":
    main()
