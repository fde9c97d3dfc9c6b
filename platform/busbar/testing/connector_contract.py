"""What every connector must hold, as tests that a connector's own test class inherits.

class TestContract(ConnectorContract):
    plugin = busbar_acme.plugin
    kind, delivery_class, default_pattern = "acme", DeliveryClass.B, "PM_*"
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import msgspec

from busbar.connectors.contract import Connector, DeliveryClass, Endpoint, SecretBag
from busbar.connectors.egress import Gate
from busbar.connectors.http import make_session
from busbar.connectors.secrets import Secret
from busbar.kit.clock import utc_now

_SDK_ONLY = re.compile(r"^\s*(?:from|import) (busbar(?:\.\w+)*)\b", re.MULTILINE)
REASON_WORDS_MIN = 5


class ConnectorContract:
    """To be inherited by a class whose name starts with Test."""

    plugin: ClassVar[ModuleType]
    """The plugin's module `plugin`."""
    kind: ClassVar[str]
    delivery_class: ClassVar[DeliveryClass]
    default_pattern: ClassVar[str]
    one_way: ClassVar[bool] = False
    """Whether nothing comes back from the remote, because it is only told."""
    independent: ClassVar[Sequence[str]] = ("client.py", "answers.py")
    """Files beside `simulator/` that know nothing of Busbar: whoever writes a client can use them as they are."""

    @property
    def _package(self) -> Path:
        assert self.plugin.__file__ is not None
        return Path(self.plugin.__file__).parent

    @property
    def _connector(self) -> Connector:
        (connector,) = self.plugin.busbar_connectors()
        assert isinstance(connector, Connector)
        return connector

    def test_is_found_by_its_entry_point(self) -> None:
        (found,) = [one for one in entry_points(group="busbar.plugins") if one.name == self.kind]
        assert found.load() is self.plugin
        assert self.plugin.busbar_plugin().name == self.kind

    def test_offers_one_connector_of_this_kind(self) -> None:
        connector = self._connector
        assert (connector.kind, connector.delivery_class) == (self.kind, self.delivery_class)
        assert connector.default_pattern == self.default_pattern
        heard = connector.receive is not None or connector.poll is not None
        assert heard is not self.one_way, "either something comes back from the remote, or it is one_way"

    async def test_its_simulator_says_how_it_is_reached(self, tmp_path: Path) -> None:
        connector = self._connector
        assert connector.simulator is not None
        running = await connector.simulator("127.0.0.1", 0, tmp_path / f"{self.kind}.jsonl")
        try:
            async with make_session(Gate(allow=(), allow_loopback=True)) as session:
                endpoint = Endpoint(
                    endpoint_id=f"{self.kind}-simulator",
                    name="Simulator",
                    sites=(),
                    settings=msgspec.convert(running.endpoint_settings, connector.settings),
                    secrets=SecretBag({name: Secret(text) for name, text in running.endpoint_secrets.items()}),
                    http=session,
                    clock=utc_now,
                )
                report = await connector.test_connection(endpoint)
                assert report.ok, report.detail
        finally:
            await running.stop()

    def test_imports_of_busbar_only_what_plugins_are_promised(self) -> None:
        beyond = {
            path.relative_to(self._package): names
            for path in self._package.rglob("*.py")
            if "tests" not in path.parts and (names := set(_SDK_ONLY.findall(path.read_text("utf-8"))) - {"busbar.sdk"})
        }
        assert beyond == {}

    def test_its_client_and_simulator_import_nothing_of_busbar(self) -> None:
        files = [*(self._package / name for name in self.independent), *(self._package / "simulator").glob("*.py")]
        assert [path.name for path in files if _SDK_ONLY.search(path.read_text("utf-8"))] == []

    def test_its_settings_become_the_schema_of_a_form_in_which_each_field_is_told(self) -> None:
        connector = self._connector
        schema = msgspec.json.schema(connector.settings)
        assert connector.settings.__name__ in schema["$defs"]
        readme = (self._package.parent / "README.md").read_text("utf-8")
        names = (*connector.settings.__struct_fields__, *connector.secrets)
        assert [name for name in names if f"`{name}`" not in readme] == [], "the README lacks settings"

    def test_each_rule_of_its_quality_file_is_held_by_tests_or_exempt_with_a_reason(self) -> None:
        rules = tomllib.loads((self._package / "quality.toml").read_text("utf-8"))["rules"]
        assert rules
        assert [fault for name, rule in rules.items() for fault in self._faults(name, rule)] == []

    def _faults(self, name: str, rule: dict[str, str]) -> Iterator[str]:
        if rule["status"] == "exempt":
            if rule.keys() != {"status", "reason"} or len(rule["reason"].split()) < REASON_WORDS_MIN:
                yield f"{name} is exempt without a reason"
            return
        file, _, test_class = rule.get("held_by", "").partition("::")
        path = self._package / "tests" / file
        if (
            rule["status"] != "done"
            or not path.is_file()
            or not re.search(rf"^class {test_class}\b", path.read_text("utf-8"), re.MULTILINE)
        ):
            yield f"{name} is held by no test"
