"""The files of ops/mulesoft, read for tests."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from busbar.tests.test_house import ROOT

HOME = ROOT / "ops" / "mulesoft"
FLOWS = HOME / "src" / "main" / "mule" / "busbar.xml"
RESOURCES = HOME / "src" / "main" / "resources"
SCHEMA = "http://www.mulesoft.org/schema/mule/"

Element = ElementTree.Element


def flows() -> Element:
    """The root of the flow file."""
    return ElementTree.parse(FLOWS).getroot()  # noqa: S314 - a file of ours


def pom() -> Element:
    """The root of the pom."""
    return ElementTree.parse(HOME / "pom.xml").getroot()  # noqa: S314 - a file of ours


def namespaces() -> dict[str, str]:
    """The prefixes that the flow file declares, and their namespaces."""
    starts = ElementTree.iterparse(FLOWS, events=["start-ns"])  # noqa: S314 - a file of ours
    return {prefix: address for _, (prefix, address) in starts}


def name_of(element: Element) -> str:
    """Such as `amqp:listener`, or `flow` for one of the core's."""
    address, _, local = element.tag.removeprefix("{").partition("}")
    word = address.removeprefix(SCHEMA).removesuffix("/core")
    return local if word == "core" else f"{word}:{local}"


def find(name: str) -> list[Element]:
    """All elements of that name."""
    return [element for element in flows().iter() if name_of(element) == name]


def expressions() -> Iterator[str]:
    """All DataWeave that stands in the flow file itself, between #[ and ]."""
    for element in flows().iter():
        for text in (*element.attrib.values(), element.text or ""):
            if (text := text.strip()).startswith("#["):
                assert text.endswith("]"), text
                yield text[2:-1]


def script(name: str) -> str:
    """A DataWeave file."""
    return (RESOURCES / "dwl" / f"{name}.dwl").read_text("utf-8")


def properties(path: Path) -> dict[str, str]:
    """A properties file."""
    lines = [line for line in path.read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def asked_for() -> set[str]:
    """The properties that flows and scripts ask for, as they write them: `busbar.api.host`, `secure::…`."""
    texts = [FLOWS.read_text("utf-8"), *(path.read_text("utf-8") for path in RESOURCES.rglob("*.dwl"))]
    return {
        name
        for text in texts
        for name in re.findall(r'\$\{([^}]+)\}|Mule::p\("([^"]+)"\)', text)
        for name in name
        if name
    }
