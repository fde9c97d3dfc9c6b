"""A small application with one route for each thing that can happen, behind the real wrapper."""

import asyncio
from typing import Annotated, Any

import asyncpg
import msgspec
from litestar import Litestar, Request, Response, get, patch, post
from litestar.params import FromPath, JSONBody, Parameter

from busbar.errors import Conflict, ForbiddenTransition, RuleViolated, TooManyRequests
from busbar.observability.correlation import correlation_id, traceparent
from busbar.observability.health import Health
from busbar.observability.requests import RequestMetrics
from busbar.web.access import ANYONE, needs
from busbar.web.asgi import Edge
from busbar.web.conditional import IfMatchHeader, parse_if_match, versioned
from busbar.web.limits import Limits
from busbar.web.openapi import ProblemDocumentation, StructSchemas
from busbar.web.operations import operations_routes
from busbar.web.pagination import CursorParameter, LimitParameter, Page, SearchParameter, SortParameter
from busbar.web.problems import EXCEPTION_HANDLERS
from busbar.web.text import Identifier, Latitude, Longitude, LongText, Moment, Name, PositiveMoney, WholeNumber
from busbar.web.validation import StrictRequest


class Location(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where something stands (WGS 84)."""

    lat: Latitude
    lon: Longitude


class NewAsset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An asset to be created."""

    asset_id: Identifier
    name: Name
    cost: PositiveMoney
    location: Location | None = None
    note: LongText = ""
    customers: WholeNumber = 0
    tags: Annotated[tuple[Name, ...], msgspec.Meta(max_length=5)] = ()
    stations: Annotated[tuple[Location, ...], msgspec.Meta(max_length=5)] = ()
    built_at: Moment | None = None


class Gates:
    """Events by which a test holds requests back."""

    def __init__(self) -> None:
        self.inside = asyncio.Event()
        self.go_on = asyncio.Event()


class SmallApp:
    """The application and what a test needs to steer it."""

    def __init__(self, *, requests_max: int = 256, limits: Limits | None = None) -> None:
        self.gates = Gates()
        self.health = Health()
        self.metrics = RequestMetrics()
        self.litestar = Litestar(
            [*_routes(self.gates), *operations_routes(self.health)],
            exception_handlers=EXCEPTION_HANDLERS,
            request_class=StrictRequest,
            plugins=[StructSchemas(), ProblemDocumentation()],
            request_max_body_size=None,
            logging_config=None,
        )
        self.edge = Edge(
            self.litestar,
            lifecycle=self.health.lifecycle,
            limits=limits or Limits(body_bytes_max=100_000),
            metrics=self.metrics,
            requests_max=requests_max,
        )


FAULTS: dict[str, Exception] = {
    "crash": RuntimeError("secret internals"),
    "conflict": Conflict("It is there already."),
    "transition": ForbiddenTransition("Open cannot become Closed."),
    "rule": RuleViolated("Nothing is left to issue."),
    "busy": TooManyRequests("Slow down.", retry_after_s=7),
    "timeout": TimeoutError(),
    "refused": ConnectionRefusedError("db:5432"),
    "duplicate": asyncpg.UniqueViolationError("duplicate key value violates unique constraint asset_pkey"),
    "dangling": asyncpg.ForeignKeyViolationError("violates foreign key constraint"),
    "check": asyncpg.CheckViolationError("violates check constraint"),
    "out-of-range": asyncpg.NumericValueOutOfRangeError("integer out of range"),
    "argument": asyncpg.DataError("invalid input for query argument $1"),
    "statement-timeout": asyncpg.QueryCanceledError("canceling statement due to statement timeout"),
    "lock-timeout": asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
    "too-many": asyncpg.TooManyConnectionsError("sorry, too many clients already"),
    "deadlock": asyncpg.DeadlockDetectedError("deadlock detected"),
    "connection-lost": asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    "shutdown": asyncpg.AdminShutdownError("terminating connection due to administrator command"),
    "closed": asyncpg.InterfaceError("connection is closed"),
    "misuse": asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
    "syntax": asyncpg.PostgresSyntaxError("syntax error at or near selct"),
}


def _routes(gates: Gates) -> list[Any]:
    @get("/ping", opt=ANYONE)
    async def ping() -> dict[str, str | None]:
        return {"correlation_id": correlation_id(), "traceparent": traceparent()}

    @post("/assets", opt=needs("pm.write"))
    async def create(data: JSONBody[NewAsset]) -> NewAsset:
        return data

    @post("/many-assets", opt=needs("pm.write"))
    async def create_many(data: JSONBody[list[NewAsset]]) -> int:
        return len(data)

    @post("/anything", opt=needs("pm.write"))
    async def anything(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
        return data

    @get("/assets", opt=needs("pm.read"))
    async def listed(
        cursor: CursorParameter = None,
        sort: SortParameter = None,
        search: SearchParameter = None,
        limit: LimitParameter = 50,
    ) -> Page[NewAsset]:
        return Page(items=(), total=limit)

    @get("/assets/{asset_id:str}", opt=needs("pm.read"))
    async def one(asset_id: Annotated[str, Parameter(max_length=60)]) -> Response[dict[str, str]]:
        return versioned({"asset_id": asset_id}, 3)

    @patch("/assets/{asset_id:str}", opt=needs("pm.write"))
    async def change(asset_id: FromPath[str], if_match: IfMatchHeader = None) -> Response[dict[str, str]]:
        parse_if_match(if_match).require(3)
        return versioned({"asset_id": asset_id}, 4)

    @get("/fault/{kind:str}", opt=ANYONE)
    async def fault(kind: FromPath[str]) -> None:
        raise FAULTS[kind]

    @get("/held", opt=ANYONE)
    async def held() -> str:
        gates.inside.set()
        await gates.go_on.wait()
        return "done"

    @post("/raw", opt=ANYONE)
    async def raw(request: Request[Any, Any, Any]) -> int:
        return len(await request.body())

    return [ping, create, create_many, anything, listed, one, change, fault, held, raw]
