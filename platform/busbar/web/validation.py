"""Decodes request bodies strictly, and names every bad field of a body that is refused, not only the first (SPEC).

msgspec stops at the first bad field (LESSONS H12). The fast path decodes once; only a body that was refused is walked
a second time, field by field.
"""

import re
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

import msgspec
from litestar import Request
from litestar.datastructures.state import State
from litestar.types import Empty

from busbar.errors import BadFormat, FieldError, InvalidPayload, MissingField, UnsupportedMediaType
from busbar.web.amounts import amount_errors
from busbar.web.limits import CallerLeft
from busbar.web.text import readable

T = TypeVar("T")

ERRORS_MAX: Final = 100
"""So many bad fields are named; a body of a million bad rows gets an answer of bounded size."""

BODY: Final = "body"
"""The field named when the body as a whole is to blame."""

_MISSING: Final = "This field is missing."
_JSON_MEDIA_TYPE: Final = re.compile(r"application/(?:json|[\w.+-]+\+json)\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)


class StrictRequest(Request[Any, Any, State]):
    """Reads a JSON body straight into the type that the handler declares: `Litestar(request_class=StrictRequest)`.

    Litestar by itself converts leniently, so that the text "5" passes for a number; the published document says
    otherwise (SPEC R5.6).
    """

    async def json(self) -> Any:
        """The body as the handler's `data` type.

        Raises:
            InvalidPayload: VAL_001 or VAL_002, with every bad field.
            BadFormat: it is not JSON.
            UnsupportedMediaType: its content type is not JSON.
        """
        if self._json is not Empty:
            return self._json
        content_type = next((value for name, value in self.scope["headers"] if name == b"content-type"), None)
        if content_type is not None and not _JSON_MEDIA_TYPE.fullmatch(content_type.decode("latin-1").strip()):
            raise UnsupportedMediaType("This address reads application/json, nothing else.")
        field = self.route_handler.parsed_data_field
        self._json = decode_body(await self.body(), object if field is None else field.annotation)
        return self._json

    async def body(self) -> bytes:
        """The whole body; its size and time were limited by the wrapper already (`limited`).

        Raises:
            CallerLeft: the connection was closed before the body was complete.
        """
        if self._body is Empty:
            if (body := self._connection_state.body) is Empty:
                pieces: list[bytes] = []
                more = True
                while more:
                    event = await self.receive()
                    if event["type"] != "http.request":
                        raise CallerLeft("The connection was closed before the body was complete.")
                    pieces.append(event["body"])
                    more = event["more_body"]
                body = self._connection_state.body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._body = body
        return self._body


def decode_body(body: bytes, type_: Any) -> Any:
    """`body` as an instance of `type_` (anything that msgspec decodes).

    Raises:
        InvalidPayload: naming every bad field; its subclass MissingField when fields are missing and none is wrong.
        BadFormat: the body is not JSON.
    """
    try:
        value = _decoder(type_).decode(body)
    except (msgspec.ValidationError, RecursionError):
        value = _explained(body, type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadFormat(f"The body is not valid JSON: {readable(str(error))}.") from None
    errors = amount_errors(value, type_)
    if errors:
        raise _as_error(errors[:ERRORS_MAX])
    return value


def collect_errors(value: Any, type_: Any, *, path: str = "") -> list[FieldError]:
    """Every bad field of a decoded JSON `value` that should be a `type_`; empty when it is one.

    `path` is put before the names, in the form `steps[2].customers`.
    """
    errors: list[FieldError] = []
    _walk(value, type_, path, errors)
    return errors[:ERRORS_MAX]


@lru_cache(maxsize=1_000)
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_)


def _explained(body: bytes, type_: Any) -> Any:
    """The second look at a body that was refused: every bad field, or the value if it was only written unusually.

    Raises:
        InvalidPayload: naming every bad field.
        BadFormat: the body is not JSON.
    """
    try:
        value = _whole_floats_as_integers(msgspec.json.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFormat(f"The body is not valid JSON: {readable(str(error))}.") from None
    errors = collect_errors(value, type_)
    if errors:
        raise _as_error(errors)
    return msgspec.convert(value, type_)


def _whole_floats_as_integers(value: Any) -> Any:
    """To JSON Schema 5.0 is an integer, to msgspec it is not; beyond 2**53 a float no longer says which integer."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole_floats_as_integers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole_floats_as_integers(item) for item in value]
    return value


def _as_error(errors: list[FieldError]) -> InvalidPayload:
    names = ", ".join(each.field for each in errors[:10]) + (", …" if len(errors) > 10 else "")
    if all(each.message == _MISSING for each in errors):
        return MissingField(f"Missing: {names}.", errors=errors)
    return InvalidPayload(f"Not accepted: {names}.", errors=errors)


def _walk(value: Any, hint: Any, path: str, errors: list[FieldError]) -> None:
    if len(errors) >= ERRORS_MAX:
        return
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    origin = get_origin(bare)
    if origin in (Union, UnionType):
        bare = _member_for(value, get_args(bare))
        origin = get_origin(bare)
    before = len(errors)
    if _is_struct(origin or bare) and isinstance(value, dict):
        _walk_struct(value, bare, path, errors)
    elif isinstance(value, list) and _is_collection(bare):
        _walk_items(value, get_args(bare)[0], path, errors)
    elif origin is dict and isinstance(value, dict):
        for key, item in value.items():
            _walk(item, get_args(bare)[1], f"{path}.{key}" if path else key, errors)
    if len(errors) == before:
        # No part is bad by itself. The whole still may be: its length, its own rule in `__post_init__`.
        _check_whole(value, hint, path, errors)


def _walk_struct(value: dict[str, Any], struct: Any, path: str, errors: list[FieldError]) -> None:
    prefix = f"{path}." if path else ""
    config = (get_origin(struct) or struct).__struct_config__
    known = {config.tag_field} if config.tag_field else set()
    for field in msgspec.structs.fields(struct):
        known.add(field.encode_name)
        if field.encode_name in value:
            _walk(value[field.encode_name], field.type, prefix + field.encode_name, errors)
        elif field.required:
            errors.append(FieldError(field=prefix + field.encode_name, message=_MISSING))
    if config.forbid_unknown_fields:
        unknown = [name for name in value if name not in known]
        errors.extend(FieldError(field=prefix + name, message="There is no such field.") for name in unknown)


def _walk_items(values: list[Any], hint: Any, path: str, errors: list[FieldError]) -> None:
    for index, item in enumerate(values):
        _walk(item, hint, f"{path}[{index}]", errors)


def _member_for(value: Any, members: tuple[Any, ...]) -> Any:
    """The member of a union against which the value should be explained; the union itself where none stands out."""
    real = [member for member in members if member not in (type(None), msgspec.UnsetType)]
    if len(real) == 1:
        member = real[0]
        return get_args(member)[0] if get_origin(member) is Annotated else member
    if isinstance(value, dict):
        for member in real:
            config = getattr(member, "__struct_config__", None)
            if config is not None and config.tag_field and value.get(config.tag_field) == config.tag:
                return member
    return Union[members]  # noqa: UP007 - the members are known only at run time


def _is_collection(candidate: Any) -> bool:
    """Whether it is a list, a set, or a tuple of any length, of items of one type."""
    origin = get_origin(candidate)
    return origin in (list, set, frozenset) or (origin is tuple and get_args(candidate)[-1] is Ellipsis)


def _is_struct(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, msgspec.Struct)


def _check_whole(value: Any, hint: Any, path: str, errors: list[FieldError]) -> None:
    try:
        converted = msgspec.convert(value, hint)
    except (msgspec.ValidationError, RecursionError) as error:
        errors.append(FieldError(field=path or BODY, message=readable(str(error)) + "."))
        return
    errors.extend(amount_errors(converted, hint, path=path))
