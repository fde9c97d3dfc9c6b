"""Refuses hostile requests before anything decodes them: size, time, nesting, encoding, control characters (H1).

The checks of the body run when the application first reads it, so a request that is refused earlier (unknown address,
no token) costs no reading at all.
"""

import asyncio
import re
from collections.abc import Iterable
from typing import Final

import msgspec
from litestar.types import Receive
from litestar.types.asgi_types import HTTPReceiveMessage, HTTPRequestEvent

from busbar.errors import BadFormat, TooLarge, UnsupportedMediaType


class SlowBody(BadFormat):
    """The body did not arrive within the time limit."""

    status, title = 408, "Too slow"


class CallerLeft(BadFormat):
    """The caller closed the connection before the body was complete; nobody reads the answer, the log names it 499."""

    status, title = 499, "Caller left"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may cost."""

    body_bytes_max: int = 1024 * 1024
    upload_bytes_max: int = 50 * 1024 * 1024
    """For the addresses in `upload_prefixes`."""
    upload_prefixes: tuple[str, ...] = ("/api/v1/imports",)
    body_seconds_max: float = 30.0
    """Within which the whole body has arrived; four times as long for uploads."""
    depth_max: int = 32
    """Arrays and objects inside each other."""
    target_bytes_max: int = 8_000
    """Path and query together."""


_OPENING: Final = (b"[", b"{")
# Possessive and with an optional end: linear in the length, also for texts that never end.
_STRINGS: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACES_AS_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
# Escapes of C0 controls other than tab, line feed and carriage return, and of DEL; after an even number of backslashes.
_ESCAPED_CONTROL: Final = re.compile(
    rb"(?<!\\)(?:\\\\)*+\\(?:[bf]|u00(?:0[0-8bBcCeEfF]|1[0-9a-fA-F]|7[fF]))",
)
_ENCODED_NUL: Final = b"%00"


def check_target(raw_path: bytes, query: bytes, limits: Limits) -> None:
    """Refuse a path or query that is too long or holds a NUL.

    Raises:
        BadFormat: saying which.
    """
    if len(raw_path) + len(query) > limits.target_bytes_max:
        raise BadFormat(f"The address and its query are longer than {limits.target_bytes_max} bytes.")
    if _ENCODED_NUL in raw_path or _ENCODED_NUL in query or b"\x00" in raw_path or b"\x00" in query:
        raise BadFormat("The address or its query holds a NUL character.")


def check_headers(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a header with a NUL.

    Raises:
        BadFormat: naming the header.
    """
    for name, value in headers:
        if b"\x00" in value:
            raise BadFormat(f"The header {name.decode('latin-1')} holds a NUL character.")


def check_json(body: bytes, *, depth_max: int) -> None:
    """Refuse a JSON text that is harmful or cannot be decoded, at a small part of the cost of decoding it.

    Raises:
        BadFormat: it is not UTF-8, holds control characters, or is nested deeper than `depth_max`.
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            raise BadFormat("The body is not valid UTF-8.") from None
    if b"\x00" in body:
        raise BadFormat("The body holds a NUL character.")
    if b"\\" in body and _ESCAPED_CONTROL.search(body):
        raise BadFormat("The body holds a control character other than tab and line breaks.")
    if sum(map(body.count, _OPENING)) > depth_max and _is_deeper(body, depth_max):
        raise BadFormat(f"The body is nested more than {depth_max} levels deep.")


def _is_deeper(body: bytes, depth_max: int) -> bool:
    """Peels the innermost pairs of brackets, one level in each round, until none are left or there were too many."""
    brackets = _STRINGS.sub(b"", body).translate(_BRACES_AS_BRACKETS, _NO_BRACKET)
    for level in range(depth_max + 1):
        peeled = brackets.replace(b"[]", b"")
        if len(peeled) == len(brackets):
            # What is left is unbalanced: malformed, and still not to be handed to a recursive decoder when deep.
            return level + brackets.count(b"[") > depth_max
        brackets = peeled
    return True


def limited(receive: Receive, *, path: str, headers: Iterable[tuple[bytes, bytes]], limits: Limits) -> Receive:
    """A `receive` that gives the body in one piece, checked, or raises what the caller is to be told.

    Bodies that are not JSON are handed on piece by piece, with their size and time limited.
    """
    content_length = content_type = content_encoding = b""
    for name, value in headers:
        if name == b"content-length":
            content_length = value
        elif name == b"content-type":
            content_type = value
        elif name == b"content-encoding":
            content_encoding = value
    is_upload = path.startswith(limits.upload_prefixes)
    reader = _BodyReader(
        receive,
        bytes_max=limits.upload_bytes_max if is_upload else limits.body_bytes_max,
        seconds_max=limits.body_seconds_max * (4 if is_upload else 1),
        depth_max=limits.depth_max,
        announced=content_length,
        encoding=content_encoding,
    )
    whole = not content_type or b"json" in content_type.lower()
    return reader.receive_whole if whole else reader.receive_piece


class _BodyReader:
    """The body of one request."""

    def __init__(
        self,
        receive: Receive,
        *,
        bytes_max: int,
        seconds_max: float,
        depth_max: int,
        announced: bytes,
        encoding: bytes,
    ) -> None:
        self._receive = receive
        self._bytes_max = bytes_max
        self._seconds_max = seconds_max
        self._depth_max = depth_max
        self._announced = announced
        self._encoding = encoding
        self._bytes_read = 0
        self._complete = False
        self._deadline_s: float | None = None

    async def receive_whole(self) -> HTTPReceiveMessage:
        """The whole body as one message; afterwards what the server says, which is that the caller has gone."""
        if self._complete:
            return await self._receive()  # type: ignore[return-value]  # the server says only that the caller has gone
        self._check_announced()
        pieces: list[bytes] = []
        while not self._complete:
            pieces.append((await self._next())["body"])
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        check_json(body, depth_max=self._depth_max)
        return {"type": "http.request", "body": body, "more_body": False}

    async def receive_piece(self) -> HTTPReceiveMessage:
        """The next piece of the body."""
        if self._complete:
            return await self._receive()  # type: ignore[return-value]  # the server says only that the caller has gone
        if self._bytes_read == 0:
            self._check_announced()
        return await self._next()

    def _check_announced(self) -> None:
        if self._encoding not in (b"", b"identity"):
            raise UnsupportedMediaType("Bodies with a Content-Encoding are not read; send it as it is.")
        if self._announced:
            try:
                announced = int(self._announced)
            except ValueError:
                raise BadFormat("The Content-Length is not a number.") from None
            if announced > self._bytes_max:
                self._refuse_size()

    async def _next(self) -> HTTPRequestEvent:
        loop = asyncio.get_running_loop()
        if self._deadline_s is None:
            self._deadline_s = loop.time() + self._seconds_max
        try:
            async with asyncio.timeout_at(self._deadline_s):
                message = await self._receive()
        except TimeoutError:
            raise SlowBody(
                f"The body did not arrive within {self._seconds_max:g} s.", headers={"Connection": "close"}
            ) from None
        if message["type"] != "http.request":
            self._complete = True
            raise CallerLeft("The connection was closed before the body was complete.")
        # Servers may leave both members out (ASGI HTTP specification, "Request").
        body, more_body = message.get("body", b""), message.get("more_body", False)
        self._bytes_read += len(body)
        if self._bytes_read > self._bytes_max:
            self._refuse_size()
        self._complete = not more_body
        return {"type": "http.request", "body": body, "more_body": more_body}

    def _refuse_size(self) -> None:
        # The rest is not read: the connection ends with the answer.
        raise TooLarge(
            f"The body is larger than {self._bytes_max} bytes, which is the most this address takes.",
            headers={"Connection": "close"},
        )
