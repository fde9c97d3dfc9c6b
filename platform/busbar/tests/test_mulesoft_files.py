"""The Mule application holds together: names, references, properties, scripts and paths, as far as files can tell."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
from openapi_spec_validator import validate

from busbar.bus.broker_users import peer_user
from busbar.bus.topology import EVENTS
from busbar.events.asyncapi import asyncapi_document
from busbar.events.registry import REGISTRY
from busbar.events.tests.test_asyncapi import errors_of
from busbar.testing.app import RunningApp
from busbar.tests.mule_files import (
    FLOWS,
    HOME,
    RESOURCES,
    SCHEMA,
    asked_for,
    expressions,
    find,
    flows,
    name_of,
    namespaces,
    pom,
    properties,
)
from busbar.tests.route_table import operations
from busbar.tests.test_house import ROOT

PLAIN = RESOURCES / "busbar.properties"
SECURE = RESOURCES / "busbar.secure.properties"
AT_THE_START = "secure.key"
"""Given on the command line."""
PLUGIN_OF = {
    "amqp": "mule-amqp-connector",
    "http": "mule-http-connector",
    "os": "mule-objectstore-connector",
    "secure-properties": "mule-secure-configuration-property-module",
}
"""Where the elements of a namespace come from; the others are in the runtime."""
IN_THE_RUNTIME = {"", "doc", "ee", "tls", "xsi"}
# What the reference pages of the connectors list, for the elements that are used here.
ATTRIBUTES = {
    "amqp:config": "name createFallbackQueue createFallbackExchange encoding contentType",
    "amqp:connection": "host port virtualHost username password useTls useSNI useSasl heartbeatTimeout",
    "amqp:quality-of-service-config": "prefetchSize prefetchCount",
    "amqp:listener": "config-ref queueName ackMode numberOfConsumers consumerTag recoverStrategy inboundContentType",
    "amqp:fallback-queue-definition": "removalStrategy exchangeToBind bindingRoutingKey",
    "amqp:ack": "ackId",
    "amqp:reject": "ackId requeue",
    "redelivery-policy": "maxRedeliveryCount useSecureHash messageDigestAlgorithm idExpression objectStore",
    "idempotent-message-validator": "idExpression valueExpression storePrefix objectStore",
    "os:object-store": "name persistent maxEntries entryTtl entryTtlUnit expirationInterval expirationIntervalUnit",
    "os:store": "key objectStore failIfPresent failOnNullValue",
    "os:retrieve": "key objectStore target targetValue",
    "os:remove": "key objectStore",
    "os:clear": "objectStore",
    "http:listener": "config-ref path allowedMethods outputMimeType",
    "http:request": "config-ref method path",
    "until-successful": "maxRetries millisBetweenRetries",
    "on-error-continue": "type when enableNotifications logException",
    "on-error-propagate": "type when enableNotifications logException",
    "ee:set-payload": "resource",
    "ee:set-variable": "variableName resource",
}
ARTIFACT = {
    "type": "object",
    "required": ["minMuleVersion", "secureProperties"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "minMuleVersion": {"type": "string", "pattern": r"^4\.\d+\.\d+$"},
        "requiredProduct": {"enum": ["MULE", "MULE_EE"]},
        "secureProperties": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    },
}


class TestFlowFile:
    def test_declares_the_namespaces_that_it_uses_and_where_their_schemas_are(self) -> None:
        text = FLOWS.read_text("utf-8")
        declared = namespaces()
        used = {prefix for prefix in declared if prefix and re.search(rf"[<\s/]{prefix}:\w", text)} | {""}
        assert set(declared) == used
        located = (flows().get("{http://www.w3.org/2001/XMLSchema-instance}schemaLocation") or "").split()
        pairs = dict(zip(located[::2], located[1::2], strict=True))
        assert set(pairs) == {address for prefix, address in declared.items() if prefix not in ("xsi", "doc")}
        for address, schema in pairs.items():
            word = address.removeprefix(SCHEMA)
            name = {"core": "mule", "ee/core": "mule-ee"}.get(word, f"mule-{word}")
            assert schema == f"{address}/current/{name}.xsd"

    def test_every_connector_is_a_dependency(self) -> None:
        needed = {PLUGIN_OF[prefix] for prefix in namespaces() if prefix not in IN_THE_RUNTIME}
        tag = "{http://maven.apache.org/POM/4.0.0}"
        dependencies = list(pom().iter(f"{tag}dependency"))
        assert {each.findtext(f"{tag}artifactId") for each in dependencies} == needed
        assert {each.findtext(f"{tag}classifier") for each in dependencies} == {"mule-plugin"}

    def test_every_reference_leads_somewhere(self) -> None:
        named = {element.get("name"): name_of(element) for element in flows() if element.get("name")}
        for element in flows().iter():
            for attribute, kinds in (
                ("config-ref", {"amqp:config", "http:request-config", "http:listener-config"}),
                ("objectStore", {"os:object-store"}),
            ):
                if (target := element.get(attribute)) is not None:
                    assert named.get(target) in kinds, f"{name_of(element)} {attribute}={target}"
                    assert attribute == "objectStore" or named[target].split(":")[0] == name_of(element).split(":")[0]
        for reference in find("flow-ref"):
            assert named.get(reference.get("name")) in ("flow", "sub-flow"), reference.attrib

    def test_everything_that_is_named_is_used(self) -> None:
        text = FLOWS.read_text("utf-8")
        for element in flows():
            name = element.get("name")
            if name and name_of(element) not in ("flow", "secure-properties:config"):
                assert text.count(f'"{name}"') > 1, name

    def test_attributes_are_those_that_the_connectors_document(self) -> None:
        seen = set()
        for element in flows().iter():
            if (known := ATTRIBUTES.get(name_of(element))) is not None:
                seen.add(name_of(element))
                plain = {name for name in element.attrib if not name.startswith("{")}
                assert plain <= set(known.split()), f"{name_of(element)}: {plain - set(known.split())}"
        assert seen == set(ATTRIBUTES)

    def test_sources_come_first_and_error_handlers_last(self) -> None:
        for element in flows().iter():
            names = [name_of(child) for child in element]
            assert "error-handler" not in names[:-1], names
            assert not {"amqp:listener", "http:listener"} & set(names[1:]), names

    def test_scripts_are_there_and_used(self) -> None:
        wanted = {element.get("resource") for element in flows().iter() if element.get("resource")}
        assert wanted == {str(path.relative_to(RESOURCES)) for path in RESOURCES.rglob("*.dwl")}

    def test_every_message_is_acknowledged_or_put_back_whatever_happens(self) -> None:
        (flow,) = [each for each in find("flow") if each.get("name") == "events-of-busbar"]
        (listener,) = find("amqp:listener")
        assert (listener.get("ackMode"), listener.get("numberOfConsumers")) == ("MANUAL", "1")
        assert name_of(list(flow)[-2]) == "amqp:ack"
        handlers = list(list(flow)[-1])
        assert [handler.get("type") for handler in handlers][-1] == "ANY"
        for handler in handlers:
            assert name_of(list(handler)[-1]) in ("amqp:ack", "amqp:reject"), handler.attrib


class TestProperties:
    def test_that_are_asked_for_are_there_and_the_others_are_not(self) -> None:
        given = set(properties(PLAIN)) | {f"secure::{name}" for name in properties(SECURE)} | {AT_THE_START}
        assert asked_for() == given

    def test_that_are_secret_are_encrypted_and_hidden_in_the_console(self) -> None:
        assert all(value.startswith("![") and value.endswith("]") for value in properties(SECURE).values())
        artifact = json.loads((HOME / "mule-artifact.json").read_text("utf-8"))
        assert set(artifact["secureProperties"]) == set(properties(SECURE)) | {AT_THE_START}

    def test_no_password_stands_in_the_flow_file(self) -> None:
        passwords = [
            value for element in flows().iter() for name, value in element.attrib.items() if "password" in name.lower()
        ]
        assert passwords
        assert [value for value in passwords if not re.fullmatch(r"\$\{secure::[a-z.]+\}", value)] == []

    def test_name_a_user_and_a_queue_that_the_broker_grants(self) -> None:
        given = properties(PLAIN)
        user = peer_user(given["busbar.amqp.username"], "x" * 32)
        assert re.fullmatch(user.configure, given["busbar.amqp.queue"])
        (definition,) = find("amqp:fallback-queue-definition")
        assert definition.get("exchangeToBind") == EVENTS
        assert re.fullmatch(user.read, EVENTS)


class TestPaths:
    async def test_that_are_called_are_served(self, app: RunningApp) -> None:
        (config,) = find("http:request-config")
        served = {str(each) for each in operations(app)}
        called = {f"{each.get('method')} {config.get('basePath')}{each.get('path')}" for each in find("http:request")}
        assert called == {"POST /api/v1/auth/login", "POST /api/v1/pm/incidents"}
        assert called <= served


class TestContracts:
    """The two documents that `busbar openapi` and `busbar asyncapi` print, with everything that is installed."""

    async def test_openapi_is_valid_and_has_what_the_flows_call(self, app: RunningApp) -> None:
        document = await app.anonymous.get("//openapi/openapi.json")
        validate(document)
        assert {"/api/v1/auth/login", "/api/v1/pm/incidents"} <= set(document["paths"])

    async def test_asyncapi_is_valid_and_has_the_events_of_every_module(self, app: RunningApp) -> None:
        document = asyncapi_document(REGISTRY, "1.0.0")
        assert errors_of(document) == []
        assert {f"{{site}}.{module}" for module in app.platform.catalog.modules} <= {
            channel["address"].rpartition(".")[0] for channel in document["channels"].values()
        }


class TestArtifact:
    def test_is_what_the_runtime_reads(self) -> None:
        jsonschema.validate(json.loads((HOME / "mule-artifact.json").read_text("utf-8")), ARTIFACT)

    def test_says_that_the_enterprise_runtime_is_needed_as_flows_use_it(self) -> None:
        artifact = json.loads((HOME / "mule-artifact.json").read_text("utf-8"))
        assert any(name.startswith("ee:") for name in map(name_of, flows().iter()))
        assert artifact["requiredProduct"] == "MULE_EE"
        assert list(expressions())


@pytest.mark.slow
class TestMaven:
    """Maven itself reads the pom; the plugin that builds it comes from MuleSoft's repositories, with an account."""

    @staticmethod
    def told(folder: Path) -> set[str]:
        subprocess.run([ROOT / "ops" / "need.sh", "mvn"], check=True)
        command = ["mvn", "--offline", "--batch-mode", "--file", str(folder / "pom.xml"), "validate"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return {line.split(": ")[0] for line in re.findall(r"^\[ERROR\]     (.+)$", ended.stdout, re.MULTILINE)}

    def test_finds_no_fault_but_that_the_plugin_is_not_here(self) -> None:
        assert self.told(HOME) <= {"Unresolveable build extension", "Unknown packaging"}

    def test_would_tell_of_a_fault(self, tmp_path: Path) -> None:
        shutil.copy(HOME / "pom.xml", tmp_path)
        text = (tmp_path / "pom.xml").read_text("utf-8")
        (tmp_path / "pom.xml").write_text(text.replace("<dependencies>", "<dependancies/><dependencies>"), "utf-8")
        assert "Malformed POM" in " ".join(self.told(tmp_path))
