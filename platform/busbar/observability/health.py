"""Whether this process lives, and whether it should be sent requests: named checks, and the phases of its life."""

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

log = structlog.get_logger()

TIMEOUT_S: Final = 2.0
CACHE_S: Final = 1.0
"""Answers are used again for so long: load balancers ask often, and checks may query the database."""

Check = Callable[[], Awaitable[str | None]]
"""Returns None or a remark when all is well, raises when it is not; the text of the exception is for the operator."""


class Phase(enum.StrEnum):
    """Where the process is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


class Lifecycle:
    """The phase of this process. Draining: not ready any more, so that balancers look elsewhere, yet still answering;
    stopped: refuses new requests while those in flight finish (LESSONS H5).
    """

    def __init__(self, phase: Phase = Phase.SERVING) -> None:
        self.phase = phase

    def start(self) -> None:
        """Refuse requests until `serve` is called."""
        self.phase = Phase.STARTING

    def serve(self) -> None:
        """Everything that is needed is there."""
        self.phase = Phase.SERVING

    def drain(self) -> None:
        """Say not ready, and answer on."""
        if self.phase is not Phase.STOPPED:
            log.info("draining")
            self.phase = Phase.DRAINING

    def stop(self) -> None:
        """Refuse what comes from now on."""
        self.phase = Phase.STOPPED

    @property
    def accepts_requests(self) -> bool:
        """Whether requests other than for health and metrics are let in."""
        return self.phase in (Phase.SERVING, Phase.DRAINING)


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found."""

    name: str
    healthy: bool
    required: bool
    """Whether readiness depends on it; one that is not required only informs."""
    message: str | None = None
    duration_ms: float


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the process."""

    status: str
    """`ok`, `degraded` (something that is not required fails) or `unavailable`."""
    phase: str
    checks: tuple[CheckResult, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether it should get requests."""
        return self.status != "unavailable"


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    check: Check
    timeout_s: float
    required: bool


class Health:
    """The checks of this process: readiness asks what it needs, liveness only what a restart would cure."""

    def __init__(self, lifecycle: Lifecycle | None = None, *, cache_s: float = CACHE_S) -> None:
        self.lifecycle = lifecycle or Lifecycle()
        self._cache_s = cache_s
        self._ready: dict[str, _Named] = {}
        self._live: dict[str, _Named] = {}
        self._lock = asyncio.Lock()
        self._cached: tuple[float, tuple[CheckResult, ...]] | None = None

    def add_readiness_check(
        self, name: str, check: Check, *, timeout_s: float = TIMEOUT_S, required: bool = True
    ) -> None:
        """Ask `check` at each readiness request; when it raises or takes too long, this process is not ready.

        With `required=False` a failure is shown and changes nothing: a remote system that is down is no reason to
        take the platform away from its users.
        """
        self._ready[name] = _Named(name=name, check=check, timeout_s=timeout_s, required=required)
        self._cached = None

    def add_liveness_check(self, name: str, check: Check, *, timeout_s: float = TIMEOUT_S) -> None:
        """Ask `check` at each liveness request: a watchdog over a task that a restart would bring back."""
        self._live[name] = _Named(name=name, check=check, timeout_s=timeout_s, required=True)

    async def liveness(self) -> HealthReport:
        """Whether the process should go on living."""
        return self._report(await _run_all(list(self._live.values())), serving=True)

    async def readiness(self) -> HealthReport:
        """Whether the process should be sent requests; while draining it should not."""
        return self._report(await self._ready_results(), serving=self.lifecycle.phase is Phase.SERVING)

    async def _ready_results(self) -> tuple[CheckResult, ...]:
        async with self._lock:
            if self._cached is None or self._cached[0] < time.monotonic():
                results = await _run_all(list(self._ready.values()))
                self._cached = (time.monotonic() + self._cache_s, results)
            return self._cached[1]

    def _report(self, results: tuple[CheckResult, ...], *, serving: bool) -> HealthReport:
        failing = [each for each in results if not each.healthy]
        if not serving or any(each.required for each in failing):
            status = "unavailable"
        else:
            status = "degraded" if failing else "ok"
        return HealthReport(status=status, phase=self.lifecycle.phase.value, checks=results)


async def _run_all(checks: list[_Named]) -> tuple[CheckResult, ...]:
    return tuple(await asyncio.gather(*(_run(each) for each in checks)))


async def _run(named: _Named) -> CheckResult:
    started_s = time.perf_counter()
    healthy, message = True, None
    try:
        async with asyncio.timeout(named.timeout_s):
            message = await named.check()
    except TimeoutError:
        healthy, message = False, f"No answer within {named.timeout_s:g} s."
    except Exception as error:  # noqa: BLE001 - a check may raise anything; that is its way to say no
        # The route is open to anyone: the cause, which may name hosts and users, goes to the log only.
        healthy, message = False, f"Failed ({type(error).__name__}); see the log."
        log.warning("health_check_failed", check=named.name, cause=f"{type(error).__name__}: {error}")
    return CheckResult(
        name=named.name,
        healthy=healthy,
        required=named.required,
        message=message,
        duration_ms=round((time.perf_counter() - started_s) * 1000, 2),
    )
