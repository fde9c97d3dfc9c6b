"""Keeps secrets out of log lines: by the names of fields, and by the shapes that secrets have in texts (promise 12)."""

import re
from typing import Any, Final

REDACTED: Final = "[redacted]"

_SECRET_NAME: Final = re.compile(
    r"passw(or)?d|passphrase|secret|token|authorization|credential|api[_-]?key|private[_-]?key|cookie|signature|\bpin\b"
    r"|^jwt$|^otp$|^dsn$",
    re.IGNORECASE,
)
_JWT: Final = re.compile(r"eyJ[\w-]{5,}\.[\w-]+\.[\w-]*")
_CREDENTIALS: Final = re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE)
_USERINFO: Final = re.compile(r"(://[^/@\s:]*:)[^/@\s]+@")

_names: dict[str, bool] = {}
_NAMES_MAX: Final = 5_000


def is_secret_name(name: str) -> bool:
    """Whether a field of this name is never shown, for example `refresh_token` or `Authorization`."""
    known = _names.get(name)
    if known is None:
        known = _SECRET_NAME.search(name) is not None
        if len(_names) < _NAMES_MAX:
            _names[name] = known
    return known


def redacted_text(text: str) -> str:
    """The text without tokens, Authorization values and passwords in URLs."""
    if "eyJ" in text:
        text = _JWT.sub(REDACTED, text)
    if "earer" in text or "asic" in text or "EARER" in text or "ASIC" in text:
        text = _CREDENTIALS.sub(rf"\1 {REDACTED}", text)
    if "://" in text and "@" in text:
        text = _USERINFO.sub(rf"\1{REDACTED}@", text)
    return text


def redacted(value: Any, *, depth_max: int = 8, items_max: int = 200) -> Any:
    """A copy of plain data with secrets replaced; deeper or longer than the limits is summed up."""
    if isinstance(value, str):
        return redacted_text(value)
    if isinstance(value, dict):
        if depth_max <= 0:
            return "{…}"
        kept = {
            key: REDACTED
            if isinstance(key, str) and is_secret_name(key)
            else redacted(item, depth_max=depth_max - 1, items_max=items_max)
            for key, item in list(value.items())[:items_max]
        }
        if len(value) > items_max:
            kept["…"] = f"{len(value) - items_max} more"
        return kept
    if isinstance(value, (list, tuple, set, frozenset)):
        if depth_max <= 0:
            return "[…]"
        listed = list(value)
        kept_items = [redacted(item, depth_max=depth_max - 1, items_max=items_max) for item in listed[:items_max]]
        return [*kept_items, f"… {len(listed) - items_max} more"] if len(listed) > items_max else kept_items
    return value
