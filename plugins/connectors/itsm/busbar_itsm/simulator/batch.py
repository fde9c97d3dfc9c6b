"""The Batch API: several Table API requests in one, each answered by itself."""

import base64
import binascii
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

import msgspec
from multidict import CIMultiDict

from busbar_itsm.simulator.messages import ApiError
from connector_simulation import ApiRequest, ApiResponse, answer

REQUESTS_MAX = 1000
PATHS = ("/api/now/batch", "/api/now/v1/batch")


class Header(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: str


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a batch; `body` is base64."""

    id: str | int
    method: str
    url: str
    headers: tuple[Header, ...] = ()
    body: str = ""
    exclude_response_headers: bool = False


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    batch_request_id: str | int = ""
    rest_requests: tuple[BatchItem, ...]


def handle(request: ApiRequest, handle_one: Callable[[ApiRequest], ApiResponse]) -> ApiResponse:
    """Answer a batch; `handle_one` answers each of its requests, with the user of the whole."""
    if request.method != "POST":
        return ApiError(405, "Method not supported", f"{request.method} is not supported here").response
    try:
        batch = msgspec.json.decode(request.body, type=Batch)
    except (ValueError, RecursionError) as error:
        return ApiError(400, "Exception while reading request", str(error)).response
    served = [_serve(item, request, handle_one) for item in batch.rest_requests[:REQUESTS_MAX]]
    return answer(
        200,
        {
            "batch_request_id": str(batch.batch_request_id),
            "serviced_requests": served,
            "unserviced_requests": [item.id for item in batch.rest_requests[REQUESTS_MAX:]],
        },
    )


def _serve(item: BatchItem, outer: ApiRequest, handle_one: Callable[[ApiRequest], ApiResponse]) -> dict[str, object]:
    headers = CIMultiDict({header.name: header.value for header in item.headers})
    for name in ("Accept", "Content-Type", "X-Correlation-ID"):
        # What a part does not say, the batch says for it.
        if name not in headers and name in outer.headers:
            headers[name] = outer.headers[name]
    address = urlsplit(item.url)
    try:
        body = base64.b64decode(item.body, validate=True)
    except binascii.Error:
        response = ApiError(400, "Exception while reading request", "body is not base64").response
    else:
        response = handle_one(
            ApiRequest(
                method=item.method,
                path=address.path,
                query=dict(parse_qsl(address.query, keep_blank_values=True)),
                headers=headers,
                body=body,
                base_url=outer.base_url,
                user=outer.user,
            )
        )
    answered: dict[str, object] = {
        "id": item.id,
        "body": base64.b64encode(response.body).decode(),
        "status_code": response.status,
        "status_text": HTTPStatus(response.status).phrase,
        "execution_time": 1,
    }
    if not item.exclude_response_headers:
        answered["headers"] = [{"name": name, "value": value} for name, value in response.headers.items()]
    return answered
