"""The page of `busbar.sdk`: every name a plugin may import, by subject, with its documentation."""

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from busbar import sdk
from busbar.cli.source import Definition, find_definition

SUBJECTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Declaring", ("busbar.hookspecs", "busbar.db.migrations", "busbar.auth.permissions")),
    ("Who acts", ("busbar.auth.actor", "busbar.auth.people")),
    ("Reading and writing", ("busbar.db", "busbar.audit")),
    ("Events", ("busbar.events",)),
    ("Jobs", ("busbar.bus.jobs",)),
    ("Tickets", ("busbar.tickets",)),
    ("Sites", ("busbar.sites",)),
    ("Routes", ("busbar.web", "busbar.auth.guards")),
    ("Connectors", ("busbar.connectors",)),
    ("Importing files", ("busbar.imports",)),
    ("Errors", ("busbar.errors",)),
    ("Time and ids", ("busbar.kit",)),
)
"""Headings of the page, and where the names below each come from; the first that fits takes a name."""


def sdk_page() -> str:
    """The page."""
    parts = ["# What a plugin may import", "", _docstring(inspect.getdoc(sdk) or ""), ""]
    for subject, names in by_subject().items():
        parts += [f"## {subject}", ""]
        for name, definition in names:
            parts += [*_entry(name, definition), ""]
    return "\n".join([*parts, "Made from the code by `make docs`; edit the docstrings, not this page.", ""])


def by_subject() -> dict[str, list[tuple[str, Definition]]]:
    """Every name of the sdk below its heading.

    Raises:
        LookupError: a name comes from a place that no heading names.
    """
    found: dict[str, list[tuple[str, Definition]]] = {subject: [] for subject, _ in SUBJECTS}
    origins = _origins()
    for name in sdk.__all__:
        module, original = origins[name]
        found[_subject(name, module)].append((name, find_definition(module, original)))
    return {subject: names for subject, names in found.items() if names}


def _subject(name: str, module: str) -> str:
    for subject, places in SUBJECTS:
        if any(module == place or module.startswith(f"{place}.") for place in places):
            return subject
    raise LookupError(f"{name} of busbar.sdk comes from {module}, which reference_sdk.SUBJECTS does not name")


def _origins() -> dict[str, tuple[str, str]]:
    spec = importlib.util.find_spec(sdk.__name__)
    assert spec is not None and spec.origin is not None, "busbar.sdk has been imported"
    found: dict[str, tuple[str, str]] = {}
    for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return found


def _entry(name: str, definition: Definition) -> Iterator[str]:
    yield f"### `{name}`"
    yield ""
    yield "```python"
    yield definition.signature
    yield "```"
    if definition.doc:
        yield ""
        yield _docstring(definition.doc)
    described = [field for field in definition.fields if not field.name.startswith("_")]
    if described:
        yield ""
        for field in described:
            default = "" if field.default is None else f" = {field.default}"
            spelled = " ".join(f"{field.name}: {field.annotation}{default}".split())
            yield f"- `{spelled}`" + (f": {' '.join(field.doc.split())}" if field.doc else "")
    for member in definition.members:
        yield ""
        yield f"`{member.signature.removeprefix('def ')}`: {_docstring(member.doc)}"


def _docstring(text: str) -> str:
    """A docstring as Markdown: the lines below `Raises:` become a list."""
    lines: list[str] = []
    listed = False
    for line in text.strip().splitlines():
        if line.strip() == "Raises:":
            listed = True
            lines += ["Raises:", ""]
        elif listed and (match := re.fullmatch(r"    (\w+(?:, \w+)*): (.+)", line)):
            names = ", ".join(f"`{name}`" for name in match[1].split(", "))
            lines.append(f"- {names}: {match[2]}")
        elif listed and line.startswith("     "):
            lines.append(f"  {line.strip()}")
        else:
            listed = listed and not line.strip()
            lines.append(line)
    return "\n".join(lines)
