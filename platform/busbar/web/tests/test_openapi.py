"""The published document tells what is really accepted and answered (SPEC R5.6)."""

from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate

from busbar.web.tests.small_app import SmallApp

DOCUMENT: dict[str, Any] = msgspec.json.decode(
    msgspec.json.encode(SmallApp().litestar.openapi_schema.to_schema()), type=dict[str, Any]
)
OPERATIONS = [
    (path, method, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]
# Left out: PATCH, for a generated If-Match names no version; /held and /fault, which wait and fail on purpose; and
# /anything, for JSON Schema cannot say that control characters are refused in keys and values of any kind.
published = (
    schemathesis.openapi.from_asgi("/schema/openapi.json", SmallApp().edge)
    .include(path_regex="^/(ping|assets|many-assets|health)")
    .exclude(method="PATCH")
)


class TestPublishedDocument:
    def test_is_valid(self) -> None:
        validate(DOCUMENT)

    def test_shows_every_bound(self) -> None:
        asset = DOCUMENT["components"]["schemas"]["NewAsset"]
        assert asset["additionalProperties"] is False
        assert asset["required"] == ["asset_id", "cost", "name"]
        assert asset["description"] == "An asset to be created."
        properties = asset["properties"]
        assert properties["name"]["maxLength"] == 120
        assert properties["name"]["pattern"].startswith("^[^")
        assert properties["tags"]["maxItems"] == 5
        assert properties["tags"]["items"]["minLength"] == 1
        assert properties["customers"] == {"type": "integer", "minimum": 0, "maximum": 2_147_483_647, "default": 0}
        assert properties["cost"]["pattern"].startswith("^(?!")
        assert properties["location"]["anyOf"][0] == {"$ref": "#/components/schemas/Location"}

    def test_describes_pages_by_their_items(self) -> None:
        (page,) = [schema for name, schema in DOCUMENT["components"]["schemas"].items() if name.startswith("Page")]
        assert page["description"] == "One page of a list."
        assert page["properties"]["items"]["items"] == {"$ref": "#/components/schemas/NewAsset"}

    @pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
    def test_names_each_error_that_an_operation_may_answer(self, path: str, method: str, operation) -> None:
        for status in (
            "400",
            "401",
            "403",
            "404",
            "405",
            "409",
            "412",
            "413",
            "415",
            "422",
            "428",
            "429",
            "500",
            "503",
        ):
            content = operation["responses"][status]["content"]
            assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/ProblemDetails"}

    @pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
    def test_shows_no_parameter_as_nullable(self, path: str, method: str, operation) -> None:
        for parameter in operation.get("parameters", ()):
            assert "null" not in str(parameter["schema"].get("type"))
            assert "oneOf" not in parameter["schema"]


@published.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_requests_made_from_the_document_are_answered_as_it_says(case) -> None:
    case.call_and_validate()
