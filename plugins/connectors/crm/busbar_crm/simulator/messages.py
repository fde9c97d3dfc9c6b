"""The error documents of the real API: an array of errors, and the token endpoint's object."""

from collections.abc import Sequence

from connector_simulation import ApiResponse, Refusal, answer


class ApiError(Refusal):
    """An answer that is an array with one error, as the REST API gives it."""

    def __init__(self, status: int, code: str, message: str, *, fields: Sequence[str] | None = None) -> None:
        self.status = status
        self.document: list[dict[str, object]] = [{"message": message, "errorCode": code}]
        if fields is not None:
            self.document[0]["fields"] = list(fields)
        super().__init__(message, answer(status, self.document))


def expired_session() -> ApiError:
    """The 401 of the real API."""
    return ApiError(401, "INVALID_SESSION_ID", "Session expired or invalid")


def not_found(message: str = "The requested resource does not exist") -> ApiError:
    """The 404 of the real API."""
    return ApiError(404, "NOT_FOUND", message)


def oauth_error(status: int, error: str, description: str) -> ApiResponse:
    """A refusal of the token endpoint."""
    return answer(status, {"error": error, "error_description": description}, headers={"Cache-Control": "no-store"})
