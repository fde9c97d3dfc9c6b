"""Requests and answers as the handlers of a simulated API see them."""

from collections.abc import Mapping
from typing import Any

import msgspec

JSON_TYPE = "application/json;charset=UTF-8"


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request: a whole HTTP request, or one part of a batch."""

    method: str
    path: str
    """Decoded, without the query."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names are compared without regard to letter case."""
    body: bytes
    base_url: str
    """Scheme and host that the caller used; links in the answer start with it."""
    target: str = ""
    """Path and query as they were sent, still encoded; "" in a part of a batch."""
    user: str = ""
    """Who it was found to come from."""


class ApiResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}
    cookies: tuple[str, ...] = ()
    """Values of Set-Cookie headers, which alone may come several times."""


class Refusal(Exception):
    """An answer that is an error: raised by a handler, sent as it is."""

    def __init__(self, message: str, response: ApiResponse) -> None:
        super().__init__(message)
        self.response = response


def answer(status: int, document: Any, *, headers: Mapping[str, str] | None = None) -> ApiResponse:
    """A JSON answer."""
    return ApiResponse(
        status=status, body=msgspec.json.encode(document), headers={"Content-Type": JSON_TYPE, **(headers or {})}
    )
