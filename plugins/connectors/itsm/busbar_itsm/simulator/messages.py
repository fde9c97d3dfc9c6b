"""The error documents of the real Table API."""

from connector_simulation import Refusal, answer


class ApiError(Refusal):
    """An answer that is an error document of the Table API."""

    def __init__(
        self, status: int, message: str, detail: str | None = None, *, headers: dict[str, str] | None = None
    ) -> None:
        document = {"error": {"message": message, "detail": detail}, "status": "failure"}
        super().__init__(message, answer(status, document, headers=headers))


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
