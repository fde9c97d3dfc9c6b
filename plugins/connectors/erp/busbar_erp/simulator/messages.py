"""SAP Gateway's error documents, and the headers of its answers."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from connector_simulation import ApiResponse, Refusal, answer

VERSION_HEADERS = {"DataServiceVersion": "2.0"}


class ODataError(Refusal):
    """An answer that is SAP's error document.

    `details` are (code, text, name of the field) of what else is wrong. The message class and number, such as M7/021,
    are the code, as in a real system's errors of the application.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Sequence[tuple[str, str, str]] = (),
        headers: Mapping[str, str] | None = None,
        now: datetime | None = None,
    ) -> None:
        transaction = secrets.token_hex(16).upper()
        document: dict[str, Any] = {
            "error": {
                "code": code,
                "message": {"lang": "en", "value": message},
                "innererror": {
                    "application": {
                        "component_id": "",
                        "service_namespace": "/SAP/",
                        "service_id": "",
                        "service_version": "0001",
                    },
                    "transactionid": transaction,
                    "timestamp": now.strftime("%Y%m%d%H%M%S.0000000") if now else "",
                    "Error_Resolution": {"SAP_Transaction": "", "SAP_Note": ""},
                    "errordetails": [
                        {"code": one, "message": text, "propertyref": field, "severity": "error", "target": field}
                        for one, text, field in details
                    ],
                },
            }
        }
        super().__init__(message, answer(status, document, headers={**VERSION_HEADERS, **(headers or {})}))


def not_found(what: str) -> ODataError:
    """The 404 of an entity that is not there."""
    return ODataError(404, "/IWBEP/CX_MGW_BUSI_EXCEPTION", f"Resource not found for {what}.")


def bad_request(message: str) -> ODataError:
    """The 400 of a request that the gateway cannot read."""
    return ODataError(400, "/IWBEP/CX_MGW_TECH_EXCEPTION", message)


def not_allowed(method: str, what: str) -> ODataError:
    """The 405 of what an entity set does not offer."""
    return ODataError(405, "/IWBEP/CX_MGW_TECH_EXCEPTION", f"Method {method} is not allowed for {what}.")


def unauthorized() -> ApiResponse:
    """The 401, with the page that SAP sends."""
    return ApiResponse(
        status=401,
        body=b"<html><head><title>Logon failed</title></head><body><h1>Anmeldung fehlgeschlagen</h1></body></html>",
        headers={"Content-Type": "text/html", "WWW-Authenticate": 'Basic realm="SAP NetWeaver Application Server"'},
    )


def token_required() -> ApiResponse:
    """The 403 of a write without a valid CSRF token and its cookie."""
    return ApiResponse(
        status=403,
        body=b"CSRF token validation failed",
        headers={"Content-Type": "text/plain;charset=utf-8", "x-csrf-token": "Required"},
    )


def locked() -> ODataError:
    """The 423 of a document that somebody has open."""
    return ODataError(423, "MEPO/043", "The document is currently being edited by user BUYER01.")


def stale() -> ODataError:
    """The 412 of a change to a version that is no longer the latest."""
    return ODataError(412, "/IWBEP/CX_MGW_BUSI_EXCEPTION", "Precondition failed: the entity was changed meanwhile.")


def busy(delay_s: float) -> ODataError:
    """The 503 when all work processes are taken."""
    return ODataError(
        503, "/IWFND/CM_MGW/000", "No dialog work process available.", headers={"Retry-After": str(int(delay_s))}
    )
