"""Reads definitions and their documentation from source text, where no import can tell what was written."""

import ast
import importlib.util
import inspect
from functools import cache
from pathlib import Path

import msgspec

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field or class attribute with an annotation, as it is written."""

    name: str
    annotation: str
    default: str | None
    doc: str


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A public name: where it is defined, how it is used, what is said of it."""

    module: str
    kind: str
    """`function`, `class` or `value`."""
    signature: str
    doc: str
    fields: tuple[Field, ...] = ()
    members: tuple["Definition", ...] = ()
    """Public methods and properties of a class that have a docstring."""


def find_definition(module: str, name: str) -> Definition:
    """The definition of `name`, followed through modules that only import it.

    Raises:
        LookupError: the module neither defines nor imports it.
    """
    body = _tree(module).body
    for at, node in enumerate(body):
        if isinstance(node, (ast.ClassDef, *_FUNCTIONS)) and node.name == name:
            return _definition(module, node)
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in _targets(node):
            doc = _doc_after(body, at) or _described(node)
            return Definition(module=module, kind="value", signature=_line(node), doc=doc)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return find_definition(node.module, alias.name)
    raise LookupError(f"{module} neither defines nor imports {name}")


def fields_of(cls: type) -> tuple[Field, ...]:
    """The annotated fields of a class as they are written, those of its base classes first."""
    found: dict[str, Field] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] in {"builtins", "msgspec", "typing"}:
            continue
        for node in _tree(base.__module__).body:
            if isinstance(node, ast.ClassDef) and node.name == base.__name__:
                found |= {field.name: field for field in _fields(node)}
    return tuple(found.values())


@cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise LookupError(f"there is no source of {module}")
    return ast.parse(Path(spec.origin).read_text("utf-8"))


def _definition(module: str, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Definition:
    doc = inspect.cleandoc(ast.get_docstring(node) or "")
    if not isinstance(node, ast.ClassDef):
        return Definition(module=module, kind="function", signature=_call(node), doc=doc)
    methods = [each for each in node.body if isinstance(each, _FUNCTIONS)]
    return Definition(
        module=module,
        kind="class",
        signature=_class_line(node, methods),
        doc=doc,
        fields=tuple(_fields(node)),
        members=tuple(
            _definition(module, each) for each in methods if not each.name.startswith("_") and ast.get_docstring(each)
        ),
    )


def _class_line(node: ast.ClassDef, methods: list[ast.FunctionDef | ast.AsyncFunctionDef]) -> str:
    for method in methods:
        if method.name == "__init__":
            return f"class {node.name}({_arguments(method)})"
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    return f"class {node.name}({bases})" if bases else f"class {node.name}"


def _call(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if any(ast.unparse(each) == "property" for each in node.decorator_list):
        return f"{node.name} -> {_unparsed(node.returns)}"
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    if any("contextmanager" in ast.unparse(each) for each in node.decorator_list):
        word = "async with" if isinstance(node, ast.AsyncFunctionDef) else "with"
        return f"{word} {node.name}({_arguments(node)})"
    returns = f" -> {_unparsed(node.returns)}" if node.returns else ""
    return f"{word} {node.name}({_arguments(node)}){returns}"


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    text = ast.unparse(node.args)
    for own in ("self", "cls"):
        text = text.removeprefix(f"{own}, ") if text.startswith(f"{own}, ") else text
        text = "" if text == own else text
    return text


def _fields(node: ast.ClassDef) -> list[Field]:
    found = []
    for at, each in enumerate(node.body):
        if not isinstance(each, ast.AnnAssign) or not isinstance(each.target, ast.Name):
            continue
        if each.target.id.startswith("_"):
            continue
        found.append(
            Field(
                name=each.target.id,
                annotation=_annotation(each.annotation),
                default=None if each.value is None else _unparsed(each.value),
                doc=_doc_after(node.body, at) or _described(each.annotation),
            )
        )
    return found


def _annotation(node: ast.expr) -> str:
    """The type without its bounds: those of `Annotated` are long, and the OpenAPI document has them."""
    if isinstance(node, ast.Subscript) and _unparsed(node.value) == "Annotated" and isinstance(node.slice, ast.Tuple):
        return _unparsed(node.slice.elts[0])
    return _unparsed(node)


def _described(node: ast.AST) -> str:
    """The description inside an `Annotated[…, Meta(description=…)]`."""
    for each in ast.walk(node):
        if isinstance(each, ast.keyword) and each.arg == "description" and isinstance(each.value, ast.Constant):
            return str(each.value.value)
    return ""


def _doc_after(body: list[ast.stmt], at: int) -> str:
    following = body[at + 1] if at + 1 < len(body) else None
    match following:
        case ast.Expr(value=ast.Constant(value=str() as text)):
            return inspect.cleandoc(text)
    return ""


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _line(node: ast.Assign | ast.AnnAssign) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 200 else text[:199] + "…"


def _unparsed(node: ast.expr | None) -> str:
    return "None" if node is None else ast.unparse(node)
