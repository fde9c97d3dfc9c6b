"""The reference pages, each made from what the code declares; `reference_sdk.py` makes that of the sdk."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from typing import Any

import msgspec
import typer.main

from busbar import hookspecs
from busbar.auth.permissions import CORE_PERMISSIONS, CORE_ROLES
from busbar.cli.app import cli
from busbar.cli.source import Field, fields_of, find_definition
from busbar.errors import BusbarError
from busbar.events.envelope import CloudEvent
from busbar.events.registry import EventRegistry, EventType
from busbar.host.loader import GROUP, Plugin
from busbar.settings import VARIABLES

_MADE = "Made from the code by `make docs`; edit the docstrings, not this page."
_NOT_OURS = ("tests", "testing", "__main__")
"""Modules that are not looked into: they raise nothing that a caller sees, or start something when imported."""


def index_page() -> str:
    """Where to find what."""
    rows = (
        ("settings.md", "every environment variable, and the settings of an endpoint by kind of connector"),
        ("commands.md", "every command of `busbar` with its options"),
        ("errors.md", "every problem that a caller may be told of, by code"),
        ("events.md", "every event with its fields; the JSON Schemas are in [events/](events/)"),
        ("permissions.md", "every permission, and the roles that have it from the start"),
        ("hooks.md", "what the core asks of a plugin"),
        ("sdk.md", "what a plugin may import"),
    )
    lines = [f"- [{name}]({name}): {text}" for name, text in rows]
    live = (
        "The HTTP API describes itself: `/openapi` of a running Busbar shows it, `busbar openapi` prints the document, "
        "and `busbar asyncapi` that of the events."
    )
    return _page("Reference", live, *lines)


def settings_page(loaded: Sequence[Plugin]) -> str:
    """The environment variables, and what an endpoint of each connector is configured with."""
    files = ", ".join(f"`{variable.file_name}`" for variable in VARIABLES if variable.secret)
    parts = [
        "Busbar reads its settings from the environment when it starts. A bad value is refused with a sentence that "
        "names the variable.",
        "",
        f"Secrets may come from files instead, as orchestrators hand them out: {files} each name a file that holds the "
        "value.",
        "",
        "| variable | meaning |",
        "|---|---|",
        *(f"| `{variable.name}` | {_cell(variable.meaning)} |" for variable in VARIABLES),
    ]
    for plugin in loaded:
        for connector in plugin.connectors:
            parts += ["", f"## Endpoints of kind `{connector.kind}`", "", f"{connector.title}. The member `settings`:"]
            parts += ["", *_field_table(fields_of(connector.settings))]
            names = ", ".join(f"`{name}`" for name in connector.secrets)
            if names:
                parts += ["", f"Secrets, which can be written and never read: {names}."]
    return _page("Settings", *parts)


def hooks_page() -> str:
    """Every hook, in the order of the file."""
    parts = [inspect.getdoc(hookspecs) or ""]
    for name, hook in vars(hookspecs).items():
        if name.startswith("busbar_"):
            returns = find_definition(hookspecs.__name__, name).signature.rpartition(" -> ")[2]
            parts += ["", f"## `{name}`", "", f"Returns `{returns}`.", "", inspect.getdoc(hook) or ""]
    return _page("Hooks", *parts)


def events_page(registry: EventRegistry) -> str:
    """The envelope, and every event type with the fields of its data."""
    parts = [
        "An event is written in the transaction of the change that it tells of, and leaves Busbar as a CloudEvents 1.0 "
        "document in JSON. Fields may be added; one that goes or changes its meaning raises `schemaversion`.",
        "",
        "| envelope | type |",
        "|---|---|",
        *(f"| `{field.name}` | `{_cell(field.annotation)}` |" for field in fields_of(CloudEvent)),
    ]
    inner: dict[str, type] = {}
    for event_type in registry:
        parts += ["", *_event(event_type)]
        inner |= _inner_structs(event_type.data)
    for name, cls in sorted(inner.items()):
        parts += ["", f"## {name}", "", _first(cls), "", *_field_table(fields_of(cls))]
    return _page("Events", *parts)


def _event(event_type: EventType) -> Iterator[str]:
    file = f"{event_type.name}.v{event_type.version}.json"
    yield f"## {event_type.name}"
    yield ""
    yield f"{event_type.description} Version {event_type.version}, [{file}](events/{file})."
    yield ""
    yield from _field_table(fields_of(event_type.data))


def _inner_structs(cls: type[msgspec.Struct]) -> dict[str, type]:
    """The Structs that the fields of `cls` hold, at any depth, by name."""
    found: dict[str, type] = {}

    def walk(info: Any) -> None:
        if isinstance(info, msgspec.inspect.StructType) and info.cls is not cls and info.cls.__name__ not in found:
            found[info.cls.__name__] = info.cls
            waiting.extend(field.type for field in info.fields)
        for attribute in ("type", "item_type", "key_type", "value_type"):
            if (inner := getattr(info, attribute, None)) is not None:
                waiting.append(inner)
        waiting.extend(getattr(info, "types", ()) or ())

    waiting = [field.type for field in msgspec.inspect.type_info(cls).fields]  # type: ignore[attr-defined]  # it is a struct
    while waiting:
        walk(waiting.pop())
    return found


def permissions_page(loaded: Sequence[Plugin]) -> str:
    """Permissions, and the roles that have them at first."""
    permissions = [*CORE_PERMISSIONS, *(each for plugin in loaded for each in plugin.permissions)]
    roles: dict[str, tuple[str, list[str]]] = {}
    for default in (*CORE_ROLES, *(each for plugin in loaded for each in plugin.roles)):
        _, names = roles.setdefault(default.role, (default.title, []))
        names += [name for name in default.permissions if name not in names]
    return _page(
        "Permissions",
        "A route without a declared permission is refused. Roles are data: an administrator may change them.",
        "",
        "| permission | lets somebody |",
        "|---|---|",
        *(f"| `{each.name}` | {_cell(each.title)} |" for each in permissions),
        "",
        "| role | title | permissions at first |",
        "|---|---|---|",
        *(
            f"| `{role}` | {title} | {', '.join(f'`{name}`' for name in sorted(names))} |"
            for role, (title, names) in sorted(roles.items())
        ),
    )


def errors_page() -> str:
    """Every problem with its code, status and meaning."""
    rows = [
        f"| `{error.code}` | {error.status} | {_cell(error.title)} | `{error.__name__}` | {_cell(_first(error))} |"
        for error in error_classes()
    ]
    return _page(
        "Errors",
        "The API answers an error with an `application/problem+json` document (RFC 9457) that has `code` and "
        "`correlation_id`, and `errors` with one entry for each bad field; a command prints the same sentence.",
        "",
        "| code | status | title | class | when |",
        "|---|---|---|---|---|",
        *rows,
    )


def error_classes() -> list[type[BusbarError]]:
    """The subclasses of `BusbarError` in the core and the installed plugins, by code; private ones are left out."""
    roots = {"busbar", *(point.module.split(".")[0] for point in entry_points(group=GROUP))}
    for root in sorted(roots):
        _import_all(root)
    found: set[type[BusbarError]] = set()
    waiting: list[type[BusbarError]] = [BusbarError]
    while waiting:
        for cls in waiting.pop().__subclasses__():
            if cls not in found:
                found.add(cls)
                waiting.append(cls)
    ours = [
        cls
        for cls in found
        if cls.__module__.split(".")[0] in roots
        and not cls.__name__.startswith("_")
        and not set(cls.__module__.split(".")) & set(_NOT_OURS)
    ]
    return sorted(ours, key=lambda cls: (cls.code, cls.status, cls.__name__))


def commands_page() -> str:
    """Every command with its arguments and options."""
    parts = ["What people should see goes to standard error, data to standard output; an error ends a command with 1."]
    for path, command in commands():
        parts += ["", f"## `busbar {' '.join(path)}`", "", command.help or ""]
        rows = [_parameter(parameter) for parameter in command.params]
        if rows:
            parts += ["", "| | default | meaning |", "|---|---|---|", *rows]
    return _page("Commands", *parts)


def commands() -> list[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words it is called by."""
    found: list[tuple[tuple[str, ...], Any]] = []

    def walk(path: tuple[str, ...], command: Any) -> None:
        inner = getattr(command, "commands", None)
        if inner is None:
            found.append((path, command))
            return
        for name, each in inner.items():
            walk((*path, name), each)

    walk((), typer.main.get_command(cli))
    return found


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        spelled = f"`{parameter.name.upper()}`"
    else:
        spelled = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    meaning = parameter.help or ""
    if parameter.envvar:
        meaning = f"{meaning} Also read from `{parameter.envvar}`.".strip()
    default = "required" if parameter.required else _default(parameter.default)
    return f"| {spelled} | {default} | {_cell(meaning)} |"


def _default(value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value}`"


def _field_table(fields: Sequence[Field]) -> Iterator[str]:
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    for field in fields:
        default = "" if field.default is None else f"`{_cell(field.default)}`"
        yield f"| `{field.name}` | `{_cell(field.annotation)}` | {default} | {_cell(field.doc)} |"


def _import_all(root: str) -> None:
    package = importlib.import_module(root)
    for module in pkgutil.walk_packages(package.__path__, f"{root}.", onerror=_raise):
        if not set(module.name.split(".")) & set(_NOT_OURS):
            importlib.import_module(module.name)


def _raise(name: str) -> None:
    raise ImportError(f"{name} cannot be imported")


def _first(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _page(title: str, *parts: str) -> str:
    body = "\n".join(parts).strip()
    return f"# {title}\n\n{body}\n\n{_MADE}\n"
