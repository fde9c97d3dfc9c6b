"""The gate for published schemas: what it lets through, and the sentence for what it does not."""

import json
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from busbar.events.compatibility import (
    Incompatible,
    breaking_changes,
    incompatibilities,
    not_published,
    publish_schemas,
)
from busbar.events.registry import EventRegistry, EventType


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part."""

    name: str
    next: "Part | None" = None


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """As it was published."""

    n: int
    state: Literal["on", "off"]
    note: str | None = None
    parts: tuple[Part, ...] = ()


def registry_of(data: type[msgspec.Struct], *, version: int = 1) -> EventRegistry:
    registry = EventRegistry()
    registry.register(EventType(name="TST_FACT", module="tst", data=data, version=version))
    return registry


def changed(name: str = "After", drop: tuple[str, ...] = (), **fields: object) -> type[msgspec.Struct]:
    """The Struct `Before` without the fields of `drop` and with others: a type, or a pair of type and default."""
    kept: dict[str, object] = {
        "n": int,
        "state": Literal["on", "off"],
        "note": (str | None, None),
        "parts": (tuple[Part, ...], ()),
    }
    kept = {field: hint for field, hint in kept.items() if field not in drop} | fields
    columns = [(field, *hint) if type(hint) is tuple else (field, hint) for field, hint in kept.items()]
    made = msgspec.defstruct(name, columns, frozen=True, kw_only=True)  # type: ignore[arg-type]
    made.__doc__ = "As it is now."
    return made


@pytest.fixture
def published(tmp_path: Path) -> Path:
    publish_schemas(registry_of(Before), tmp_path)
    return tmp_path


class TestIncompatibilities:
    def test_are_none_for_what_is_published(self, published: Path) -> None:
        assert incompatibilities(registry_of(Before), published) == []
        assert not_published(registry_of(Before), published) == []

    def test_are_none_when_an_optional_field_comes_or_words_change(self, published: Path) -> None:
        now = registry_of(changed(extra=(int | None, None)))
        assert incompatibilities(now, published) == []
        assert not_published(now, published) == ["TST_FACT.v1.json is not up to date."]

    @pytest.mark.parametrize(
        ("now", "sentence"),
        [
            (changed(drop=("n",)), "the field n is gone"),
            (changed(n=str), "n was integer and would be string"),
            (changed(n=int | None), "n was integer and would be integer or null"),
            (changed(extra=int), "the field extra is new and required, which older events do not fulfil"),
            (changed(note=str | None), "the field note was optional and would be required, which older events"),
            (changed(n=(int, 0)), "the field n was always there and would be optional"),
            (changed(state=Literal["on"]), "state was the value 'off' or the value 'on' and would be the value 'on'"),
            (changed(parts=(tuple[int, ...], ())), "an item of parts was object and would be integer"),
        ],
    )
    def test_name_the_change_and_the_cure(self, published: Path, now: type[msgspec.Struct], sentence: str) -> None:
        (told,) = incompatibilities(registry_of(now), published)
        assert told.startswith(f"TST_FACT: {sentence}")
        assert told.endswith("; raise its version to 2.")

    def test_are_none_when_the_version_rises_with_the_change(self, published: Path) -> None:
        assert incompatibilities(registry_of(changed(n=str), version=2), published) == []

    def test_tell_of_a_version_that_falls(self, published: Path) -> None:
        publish_schemas(registry_of(changed(n=str), version=2), published)
        assert incompatibilities(registry_of(Before), published) == [
            "TST_FACT is declared as version 1, but version 2 is published."
        ]

    def test_tell_of_a_type_that_is_gone(self, published: Path) -> None:
        assert incompatibilities(EventRegistry(), published) == [
            "TST_FACT is published and no plugin declares it any more."
        ]

    def test_are_found_inside_of_structs_that_contain_themselves(self) -> None:
        before = registry_of(Before).get("TST_FACT").json_schema()
        now = json.loads(json.dumps(before))
        del now["$defs"]["Part"]["properties"]["name"]
        assert breaking_changes(before, now) == ["the field an item of parts.name is gone"]


class TestPublishSchemas:
    def test_keeps_the_files_of_former_versions(self, published: Path) -> None:
        written = publish_schemas(registry_of(changed(n=str), version=2), published)
        assert [path.name for path in written] == ["TST_FACT.v2.json"]
        assert sorted(path.name for path in published.iterdir()) == ["TST_FACT.v1.json", "TST_FACT.v2.json"]

    def test_writes_nothing_when_a_change_is_incompatible(self, published: Path) -> None:
        before = (published / "TST_FACT.v1.json").read_bytes()
        with pytest.raises(Incompatible, match="n was integer and would be string"):
            publish_schemas(registry_of(changed(n=str)), published)
        assert (published / "TST_FACT.v1.json").read_bytes() == before

    def test_writes_nothing_when_nothing_changed(self, published: Path) -> None:
        assert publish_schemas(registry_of(Before), published) == []
