"""`$batch`: reads one by one, change sets all or nothing."""

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from multidict import CIMultiDict

from busbar_erp.model import ROOT
from busbar_erp.multipart import HttpAnswer, Malformed, Part, answer_bytes, boundary_of, join, read_request, split
from busbar_erp.simulator.messages import VERSION_HEADERS, bad_request
from busbar_erp.simulator.odata_api import ODataApi
from connector_simulation import ApiRequest, ApiResponse

SEGMENT = "/$batch"
_FRAME = {"Content-Type": "application/http", "Content-Transfer-Encoding": "binary"}


def handle(request: ApiRequest, api: ODataApi) -> ApiResponse:
    """Answer a batch."""
    try:
        parts = split(request.body, boundary_of(request.headers.get("Content-Type", "")))
        answers = [_answered(part, request, api) for part in parts]
    except Malformed as error:
        return bad_request(str(error)).response
    boundary = f"batch_{secrets.token_hex(8)}"
    headers = {**VERSION_HEADERS, "Content-Type": f"multipart/mixed; boundary={boundary}"}
    return ApiResponse(status=202, body=join(answers, boundary), headers=headers)


def _answered(part: Part, outer: ApiRequest, api: ODataApi) -> tuple[Mapping[str, str], bytes]:
    if not part.content_type.lower().startswith("multipart/mixed"):
        request = _request(part, outer)
        if request.method != "GET":
            raise Malformed("A change must stand in a change set.")
        return _FRAME, _bytes(api.handle(request))
    inner = [_request(one, outer) for one in split(part.body, boundary_of(part.content_type))]
    if any(one.method == "GET" for one in inner):
        raise Malformed("A change set must not hold reads.")
    answers = api.all_or_nothing(inner)
    if len(answers) == 1 and answers[0].status >= 300:
        return _FRAME, _bytes(answers[0])
    boundary = f"changeset_{secrets.token_hex(8)}"
    frame = {"Content-Type": f"multipart/mixed; boundary={boundary}"}
    return frame, join([(_FRAME, _bytes(answer)) for answer in answers], boundary)


def _request(part: Part, outer: ApiRequest) -> ApiRequest:
    """A part as a request of its own; what its headers do not say, the batch says for it."""
    inner = read_request(part.body)
    headers: CIMultiDict[str] = CIMultiDict(inner.headers)
    if "X-Correlation-ID" not in headers and "X-Correlation-ID" in outer.headers:
        headers["X-Correlation-ID"] = outer.headers["X-Correlation-ID"]
    address = urlsplit(inner.target)
    service = outer.path.removesuffix(SEGMENT)
    path = unquote(address.path)
    return msgspec.structs.replace(
        outer,
        method=inner.method,
        path=path if path.startswith(ROOT) else f"{service}/{path.lstrip('/')}",
        query=dict(parse_qsl(address.query, keep_blank_values=True)),
        headers=headers,
        body=inner.body,
        target="",
    )


def _bytes(response: ApiResponse) -> bytes:
    return answer_bytes(HttpAnswer(status=response.status, headers=response.headers, body=response.body))
