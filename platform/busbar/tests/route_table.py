"""The live route table, as tests walk it: each operation with what it declares, and a way to call it."""

import re
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from litestar.routes import HTTPRoute

from busbar.app import create_litestar
from busbar.testing.app import Client, RunningApp
from busbar.web.access import declared_access

SOME_UUID = "01a20000-0000-7000-8000-000000000000"
STREAM = "/api/v1/events/stream"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one address."""

    method: str
    template: str
    """Such as `/api/v1/tickets/{ticket_id}`."""
    access: str | None
    kinds: dict[str, str]
    """The type of each parameter in the path."""

    def __str__(self) -> str:
        return f"{self.method} {self.template}"

    def path(self, **values: Any) -> str:
        """The address with these parameters; the others name things that there are not."""
        nothing = {"uuid": SOME_UUID, "int": "4711"}
        filled = re.sub(
            r"\{(\w+)\}",
            lambda found: str(values.get(found[1], nothing.get(self.kinds.get(found[1], ""), "none"))),
            self.template,
        )
        return f"/{filled}"


def operations(app: RunningApp) -> list[Operation]:
    """Everything that is served but the framework's answers to OPTIONS."""
    if app not in _walked:
        _walked[app] = sorted(_walk(app), key=lambda each: (each.template, each.method))
    return _walked[app]


_walked: WeakKeyDictionary[RunningApp, list[Operation]] = WeakKeyDictionary()


def _walk(app: RunningApp) -> Iterator[Operation]:
    for route in create_litestar(app.platform).routes:
        assert isinstance(route, HTTPRoute), route
        kinds = {name: parameter.type.__name__.lower() for name, parameter in route.path_parameters.items()}
        for handler in route.route_handlers:
            for method in handler.http_methods - {"OPTIONS"}:
                access = declared_access(handler)
                yield Operation(method=str(method), template=route.path_format, access=access, kinds=kinds)


async def status_of(client: Client, operation: Operation, **values: Any) -> tuple[int, bytes]:
    """Call it with an empty body; the status and the content, which of a stream is not waited for."""
    path = operation.path(**values)
    if operation.template == STREAM:
        async with client.stream(path) as answer:
            return answer.status, b"" if answer.status == 200 else await answer.read()
    answer = await client.send(operation.method, path, None if operation.method == "GET" else {})
    return answer.status, answer.content
