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
                for change in breaking_changes(stored[name, latest], _schema_of(declared))
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
        elif schema != _schema_of(declared):
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
        schema = _schema_of(declared)
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
    return list(_Comparison(before, now).changes(before, now, ""))


class _Comparison:
    """Two schemas, walked side by side; each pair of shared definitions is looked at once."""

    def __init__(self, old_root: Mapping[str, Any], new_root: Mapping[str, Any]) -> None:
        self._old_root = old_root
        self._new_root = new_root
        self._seen: set[tuple[Any, Any]] = set()

    def changes(self, old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
        """The sentences for one place of the schemas; `path` is empty at the root."""
        if "$ref" in old or "$ref" in new:
            pair = (old.get("$ref"), new.get("$ref"))
            if pair in self._seen:
                return
            self._seen.add(pair)
        old, new = _resolved(old, self._old_root), _resolved(new, self._new_root)
        was, is_now = _kinds(old, self._old_root), _kinds(new, self._new_root)
        if was != is_now:
            yield f"{path or 'the data'} was {_words(was)} and would be {_words(is_now)}"
            return
        yield from self._members(old, new, path)
        for part, words in (("items", "an item of"), ("additionalProperties", "a value of")):
            if isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
                yield from self.changes(old[part], new[part], f"{words} {path}")
        yield from self._alternatives(old, new, path)

    def _members(self, old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
        was, is_now = old.get("properties", {}), new.get("properties", {})
        always_before, always_now = old.get("required", ()), new.get("required", ())
        for name, schema in was.items():
            field = f"{path}.{name}" if path else name
            if name not in is_now:
                yield f"the field {field} is gone"
                continue
            if name in always_before and name not in always_now:
                yield f"the field {field} was always there and would be optional"
            if name not in always_before and name in always_now:
                yield f"the field {field} was optional and would be required, which older events do not fulfil"
            yield from self.changes(schema, is_now[name], field)
        for name in is_now:
            if name not in was and name in always_now:
                field = f"{path}.{name}" if path else name
                yield f"the field {field} is new and required, which older events do not fulfil"

    def _alternatives(self, old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
        """The structs and arrays among alternatives of the same kinds, in their order."""
        was = [each for each in old.get("anyOf", ()) if "$ref" in each or "items" in each]
        is_now = [each for each in new.get("anyOf", ()) if "$ref" in each or "items" in each]
        for one, other in zip(was, is_now, strict=False):
            yield from self.changes(one, other, path)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target: Any = root
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return _resolved(target, root)


def _kinds(schema: Mapping[str, Any], root: Mapping[str, Any]) -> frozenset[str]:
    """The kinds of value that a schema allows, as far as a consumer must tell them apart."""
    schema = _resolved(schema, root)
    if "anyOf" in schema:
        return frozenset[str]().union(*(_kinds(each, root) for each in schema["anyOf"]))
    if "enum" in schema:
        return frozenset(f"the value {value!r}" for value in schema["enum"])
    if "const" in schema:
        return frozenset({f"the value {schema['const']!r}"})
    kinds = schema.get("type", "anything")
    names = [kinds] if isinstance(kinds, str) else kinds
    form = schema.get("format")
    return frozenset(f"{name} ({form})" if form and name == "string" else name for name in names)


def _schema_of(declared: EventType) -> dict[str, Any]:
    """The schema as it is after a way through a file: defaults that are tuples are lists there."""
    schema: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(declared.json_schema()))
    return schema


def _words(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds))


def _file_name(declared: EventType) -> str:
    return f"{declared.name}.v{declared.version}.json"
