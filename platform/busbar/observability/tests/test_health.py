"""Liveness, readiness and the phases of the process."""

import asyncio

import pytest

from busbar.observability.health import Health, Lifecycle, Phase


async def well() -> str | None:
    return "8 of 10 connections free"


async def broken() -> str | None:
    raise ConnectionRefusedError("password of busbar at db:5432 refused")


async def hanging() -> str | None:
    await asyncio.Event().wait()
    return None


class TestReadiness:
    async def test_is_given_when_every_check_is_well(self) -> None:
        health = Health()
        health.add_readiness_check("database", well)
        report = await health.readiness()
        assert (report.status, report.healthy) == ("ok", True)
        assert report.checks[0].message == "8 of 10 connections free"

    @pytest.mark.parametrize("check", [broken, hanging])
    async def test_is_refused_when_a_required_check_fails_or_hangs(self, check) -> None:
        health = Health()
        health.add_readiness_check("database", check, timeout_s=0.05)
        assert not (await health.readiness()).healthy

    async def test_does_not_tell_strangers_the_cause(self) -> None:
        health = Health()
        health.add_readiness_check("database", broken)
        assert "password" not in str(await health.readiness())

    async def test_only_mentions_what_is_not_required(self) -> None:
        health = Health()
        health.add_readiness_check("servicenow", broken, required=False)
        report = await health.readiness()
        assert (report.status, report.healthy) == ("degraded", True)

    @pytest.mark.parametrize("phase", [Phase.STARTING, Phase.DRAINING, Phase.STOPPED])
    async def test_is_refused_outside_the_serving_phase(self, phase: Phase) -> None:
        assert not (await Health(Lifecycle(phase)).readiness()).healthy

    async def test_asks_once_for_many_askers(self) -> None:
        calls = 0

        async def counting() -> str | None:
            nonlocal calls
            calls += 1
            return None

        health = Health()
        health.add_readiness_check("database", counting)
        await asyncio.gather(*(health.readiness() for _ in range(50)))
        assert calls == 1


class TestLiveness:
    async def test_does_not_depend_on_what_a_restart_would_not_cure(self) -> None:
        health = Health(Lifecycle(Phase.DRAINING))
        health.add_readiness_check("database", broken)
        assert (await health.liveness()).healthy

    async def test_is_lost_when_a_watchdog_says_so(self) -> None:
        health = Health()
        health.add_liveness_check("relay", broken)
        assert not (await health.liveness()).healthy


class TestLifecycle:
    def test_a_draining_process_still_answers(self) -> None:
        lifecycle = Lifecycle()
        lifecycle.drain()
        assert lifecycle.accepts_requests
        lifecycle.stop()
        assert not lifecycle.accepts_requests

    def test_a_stopped_process_does_not_come_back_by_draining(self) -> None:
        lifecycle = Lifecycle(Phase.STOPPED)
        lifecycle.drain()
        assert lifecycle.phase is Phase.STOPPED
