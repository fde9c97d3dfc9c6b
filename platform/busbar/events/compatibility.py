"""The gate that keeps published events readable: what consumers rely on may not change without a new schema version.

The published schemas lie in one folder, a file `<TYPE>.v<version>.json` each. Adding an optional field is compatible;
taking a field away, changing its type or whether it is always there is not.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from busbar.errors import BusbarError
from busbar.events.registry import EventRegistry, EventType

_FILE_NAME: Final = re.compile(r"([A-Z][A-Z0-9_]*)\.v([1-9][0-9]*)\.json")
_DESCRIBING: Final = frozenset({"title", "description", "examples", "$schema", "default"})
"""Members of a schema that change nothing for a consumer."""


class Incompatible(BusbarError):
    """A published event was changed in a way that its consumers cannot follow."""


def incompatibilities(registry: EventRegistry, published: Path) -> list[str]:
    """One sentence for each change that a consumer of the published schemas could not follow; best none."""
    stored = read_published(published)
    sentences = []
    for name in sorted({name for name, _ in stored}):
        if name not in registry:
            sentences.append(f"{name} is published and no plugin declares it any more.")
            continue
        declared = registry.get(name)
        latest = max(version for other, version in stored if other == name)
        if declared.version < latest:
            sentences.append(f"{name} is declared as version {declared.version}, but version {latest} is published.")
        elif declared.version == latest:
            sentences.extend(
                f"{name}: {change}; raise its version to {latest + 1}."
                for change in breaking_changes(stored[name, latest], declared.json_schema())
            )
    return sentences


def not_published(registry: EventRegistry, published: Path) -> list[str]:
    """One sentence for each declared schema that the folder lacks or has in an older, compatible form."""
    stored = read_published(published)
    sentences = []
    for declared in registry:
        schema = stored.get((declared.name, declared.version))
        if schema is None:
            sentences.append(f"{_file_name(declared)} is not published yet.")
        elif schema != declared.json_schema():
            sentences.append(f"{_file_name(declared)} is not up to date.")
    return sentences


def publish_schemas(registry: EventRegistry, published: Path) -> list[Path]:
    """Write the schemas that are new or changed; returns their files. Those of former versions stay.

    Raises:
        Incompatible: with all sentences of `incompatibilities`; nothing was written.
    """
    if sentences := incompatibilities(registry, published):
        raise Incompatible(" ".join(sentences))
    stored = read_published(published)
    written = []
    for declared in registry:
        schema = declared.json_schema()
        if stored.get((declared.name, declared.version)) != schema:
            published.mkdir(parents=True, exist_ok=True)
            path = published / _file_name(declared)
            path.write_bytes(msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2) + b"\n")
            written.append(path)
    return written


def read_published(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The published schemas by type and version; other files are not looked at."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        if match := _FILE_NAME.fullmatch(path.name):
            found[match[1], int(match[2])] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    return found


def breaking_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of the former JSON Schema a consumer can no longer rely on, and what older events would not fulfil."""
    return list(_compare(before, now, before, now, "the data", frozenset()))


def _compare(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    old_root: Mapping[str, Any],
    new_root: Mapping[str, Any],
    path: str,
    seen: frozenset[tuple[str, str]],
) -> Iterator[str]:
    pair = (str(old.get("$ref")), str(new.get("$ref")))
    if "$ref" in old or "$ref" in new:
        if pair in seen:
            return
        seen |= {pair}
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    old_kinds, new_kinds = _kinds(old), _kinds(new)
    if old_kinds != new_kinds:
        yield f"{path} was {_words(old_kinds)} and would be {_words(new_kinds)}"
        return
    yield from _compare_members(old, new, old_root, new_root, path, seen)
    for part, words in (("items", "an item of"), ("additionalProperties", "a value of")):
        was, is_now = old.get(part), new.get(part)
        if isinstance(was, dict) and isinstance(is_now, dict):
            yield from _compare(was, is_now, old_root, new_root, f"{words} {path}", seen)
    yield from _compare_choices(old, new, old_root, new_root, path, seen)


def _compare_members(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    old_root: Mapping[str, Any],
    new_root: Mapping[str, Any],
    path: str,
    seen: frozenset[tuple[str, str]],
) -> Iterator[str]:
    was, is_now = old.get("properties", {}), new.get("properties", {})
    for name, schema in was.items():
        field = name if path == "the data" else f"{path}.{name}"
        if name not in is_now:
            yield f"the field {field} is gone"
            continue
        if name in old.get("required", ()) and name not in new.get("required", ()):
            yield f"the field {field} was always there and would be optional"
        if name not in old.get("required", ()) and name in new.get("required", ()):
            yield f"the field {field} was optional and would be required, which older events do not fulfil"
        yield from _compare(schema, is_now[name], old_root, new_root, field, seen)
    for name in is_now:
        if name not in was and name in new.get("required", ()):
            field = name if path == "the data" else f"{path}.{name}"
            yield f"the field {field} is new and required, which older events do not fulfil"


def _compare_choices(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    old_root: Mapping[str, Any],
    new_root: Mapping[str, Any],
    path: str,
    seen: frozenset[tuple[str, str]],
) -> Iterator[str]:
    """Alternatives of the same kinds, one by one; objects are matched by their order."""
    was = [_resolved(each, old_root) for each in old.get("anyOf", ())]
    is_now = [_resolved(each, new_root) for each in new.get("anyOf", ())]
    objects_before = [each for each in was if "properties" in each]
    objects_now = [each for each in is_now if "properties" in each]
    for one, other in zip(objects_before, objects_now, strict=False):
        yield from _compare_members(one, other, old_root, new_root, path, seen)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target: Any = root
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return _resolved(target, root)


def _kinds(schema: Mapping[str, Any]) -> frozenset[str]:
    """The kinds of value that a schema allows, as far as a consumer must tell them apart."""
    if "anyOf" in schema:
        return frozenset().union(*(_kinds(each) for each in schema["anyOf"]))
    if "$ref" in schema:
        return frozenset({"object"})
    if "enum" in schema:
        return frozenset(f"the value {value!r}" for value in schema["enum"])
    if "const" in schema:
        return frozenset({f"the value {schema['const']!r}"})
    kinds = schema.get("type", "anything")
    names = [kinds] if isinstance(kinds, str) else kinds
    form = schema.get("format")
    return frozenset(f"{name} ({form})" if form and name == "string" else name for name in names)


def _words(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds))


def _file_name(declared: EventType) -> str:
    return f"{declared.name}.v{declared.version}.json"
