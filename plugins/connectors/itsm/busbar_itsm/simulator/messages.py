"""Requests and answers as the API's handlers see them, and the error bodies of the real API."""

from collections.abc import Mapping
from typing import Any

import msgspec

JSON_TYPE = "application/json;charset=UTF-8"


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request: a whole HTTP request, or one part of a batch."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names are compared without regard to letter case."""
    body: bytes
    base_url: str
    """Scheme and host that the caller used; links in the answer start with it."""
    user: str


class ApiResponse(msgspec.Struct, frozen=True, kw_only=True):
    """One answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}


class ApiError(Exception):
    """An answer that is an error document of the Table API."""

    def __init__(
        self, status: int, message: str, detail: str | None = None, *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        document = {"error": {"message": message, "detail": detail}, "status": "failure"}
        self.response = answer(status, document, headers=headers)


def answer(status: int, document: Any, *, headers: dict[str, str] | None = None) -> ApiResponse:
    """A JSON answer."""
    return ApiResponse(
        status=status, body=msgspec.json.encode(document), headers={"Content-Type": JSON_TYPE, **(headers or {})}
    )


def unauthorized() -> ApiError:
    """The 401 of the real API."""
    return ApiError(
        401,
        "User Not Authenticated",
        "Required to provide Auth information",
        headers={"WWW-Authenticate": 'Basic realm="Service-now"'},
    )


def not_found() -> ApiError:
    """The 404 of the real API, for a record that is not there or hidden by an access rule."""
    return ApiError(404, "No Record found", "Record doesn't exist or ACL restricts the record retrieval")
