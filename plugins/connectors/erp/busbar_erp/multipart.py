"""The body of an OData `$batch`: multipart/mixed, with HTTP requests or answers inside (RFC 2046, RFC 7230)."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus

import msgspec
from multidict import CIMultiDict

PARTS_MAX = 1_000

_BOUNDARY = re.compile(r'boundary="?([^";\s]{1,70})"?', re.IGNORECASE)


class Malformed(Exception):
    """The bytes are no such body; the message says what is wrong."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a multipart body."""

    headers: Mapping[str, str]
    """Names are compared without regard to letter case."""
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "")


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request inside a part."""

    method: str
    target: str
    """Path and query, relative to the service."""
    headers: Mapping[str, str] = {}
    body: bytes = b""


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer inside a part."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


def boundary_of(content_type: str) -> str:
    """The boundary that a Content-Type names. Raises Malformed."""
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/mixed") or found is None:
        raise Malformed(f"{content_type[:100]!r} is no multipart/mixed with a boundary.")
    return found[1]


def split(body: bytes, boundary: str) -> list[Part]:
    """The parts between the boundaries. Raises Malformed."""
    pieces = re.split(rb"(?:\A|\r?\n)--" + re.escape(boundary.encode()) + rb"(--)?[ \t]*(?:\r?\n|\Z)", body)
    # What `re.split` gives in turn: text, whether the boundary before the next text was the last one.
    texts, ends = pieces[2::2], pieces[1::2]
    if b"--" not in ends or len(texts) > PARTS_MAX:
        raise Malformed("The multipart body does not end with its boundary, or has too many parts.")
    return [_part(text) for text, end in zip(texts, ends, strict=True) if end is None]


def join(parts: Iterable[tuple[Mapping[str, str], bytes]], boundary: str) -> bytes:
    """A multipart body of parts with these headers."""
    lines = [f"--{boundary}\r\n".encode() + _headers(headers) + b"\r\n" + body + b"\r\n" for headers, body in parts]
    return b"".join(lines) + f"--{boundary}--\r\n".encode()


def request_bytes(request: HttpRequest) -> bytes:
    """A request as it stands in a part."""
    return (
        f"{request.method} {request.target} HTTP/1.1\r\n".encode()
        + _headers(request.headers)
        + b"\r\n"
        + (request.body)
    )


def answer_bytes(answer: HttpAnswer) -> bytes:
    """An answer as it stands in a part."""
    phrase = HTTPStatus(answer.status).phrase
    headers = {**answer.headers, "Content-Length": str(len(answer.body))}
    return f"HTTP/1.1 {answer.status} {phrase}\r\n".encode() + _headers(headers) + b"\r\n" + answer.body


def read_request(body: bytes) -> HttpRequest:
    """The request in a part. Raises Malformed."""
    line, rest = _first_line(body)
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Malformed(f"{line[:100]!r} is no request line.")
    part = _part(rest)
    return HttpRequest(method=words[0], target=words[1], headers=part.headers, body=_sized(part))


def read_answer(body: bytes) -> HttpAnswer:
    """The answer in a part. Raises Malformed."""
    line, rest = _first_line(body)
    words = line.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not re.fullmatch(r"[1-5]\d\d", words[1]):
        raise Malformed(f"{line[:100]!r} is no status line.")
    part = _part(rest)
    return HttpAnswer(status=int(words[1]), headers=part.headers, body=_sized(part))


def _first_line(body: bytes) -> tuple[str, bytes]:
    line, _, rest = body.lstrip(b"\r\n").partition(b"\n")
    return line.decode("utf-8", "replace").rstrip("\r"), rest


def _part(text: bytes) -> Part:
    if text.startswith((b"\r\n", b"\n")):
        head, body = b"", text.split(b"\n", 1)[1]
    else:
        found = re.search(rb"\r?\n\r?\n", text)
        head, body = (text, b"") if found is None else (text[: found.start()], text[found.end() :])
    headers: CIMultiDict[str] = CIMultiDict()
    for line in head.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            raise Malformed(f"{line[:100]!r} is no header.")
        headers[name.strip()] = value.strip()
    return Part(headers=headers, body=body)


def _sized(part: Part) -> bytes:
    """The body as long as its Content-Length says, where it does: what follows is the frame's own line end."""
    size = part.headers.get("Content-Length", "")
    return part.body[: int(size)] if size.isdecimal() else part.body.rstrip(b"\r\n")


def _headers(headers: Mapping[str, str]) -> bytes:
    for name, value in headers.items():
        if "\n" in value or "\r" in value or "\n" in name:
            raise Malformed(f"The header {name!r} holds a line break.")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
