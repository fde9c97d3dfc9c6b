"""The OpenAPI document: valid, and with an example of every request that the published schema accepts."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from busbar.testing.app import RunningApp

MULTIPART = "/api/v1/imports"
"""A form with a file has no JSON example."""


@pytest.fixture
async def document(app: RunningApp) -> Any:
    return await app.anonymous.get("//openapi/openapi.json")


class TestDocument:
    async def test_is_valid_openapi_3_1(self, document: Any) -> None:
        assert document["openapi"].startswith("3.1")
        validate(document)

    async def test_every_request_body_has_an_example_that_fits_its_schema(self, document: Any) -> None:
        bodies = 0
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                content = operation.get("requestBody", {}).get("content", {}) if path != MULTIPART else {}
                if "application/json" not in content or "schema" not in content["application/json"]:
                    continue
                schema = _named(document, content["application/json"]["schema"])
                assert schema.get("examples"), f"{method.upper()} {path} has no example"
                validator = Draft202012Validator({**schema, "components": document["components"]})
                for example in schema["examples"]:
                    faults = [fault.message for fault in validator.iter_errors(example)]
                    assert not faults, f"{method.upper()} {path}: {faults}"
                bodies += 1
        assert bodies > 60


def _named(document: Any, schema: Any) -> Any:
    if "oneOf" in schema:  # an optional body
        schema = next(each for each in schema["oneOf"] if "$ref" in each)
    if "$ref" not in schema:
        return schema
    return document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
