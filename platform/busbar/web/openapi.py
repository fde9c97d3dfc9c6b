"""Makes the OpenAPI document tell the whole truth about msgspec structs, and about the errors of each operation.

Litestar's own description of a struct loses the bounds of items and of optional fields, doc strings, refused unknown
fields and `extra_json_schema`. Since requests are validated against the published document (SPEC R5.6), it may not.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Final, get_origin

import msgspec
from litestar._openapi.schema_generation.schema import SchemaCreator
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Operation, Parameter, Reference, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.plugins import OpenAPISchemaPlugin, ReceiveRoutePlugin
from litestar.routes import BaseRoute, HTTPRoute
from litestar.typing import FieldDefinition
from msgspec import inspect

from busbar.web.access import is_open
from busbar.web.problems import PROBLEM_RESPONSES


class StructSchemas(OpenAPISchemaPlugin):
    """Describes msgspec structs with every bound: `Litestar(plugins=[StructSchemas(), ProblemDocumentation()])`."""

    def is_plugin_supported_field(self, field_definition: FieldDefinition) -> bool:
        return not field_definition.is_union and field_definition.is_subclass_of(msgspec.Struct)

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: SchemaCreator) -> Schema:
        info = inspect.type_info(field_definition.annotation)
        if not isinstance(info, inspect.StructType):
            raise TypeError(f"{field_definition.annotation!r} is not a struct")
        # Registered first, filled afterwards: that is what lets a struct contain itself.
        schema = schema_creator.create_component_schema(field_definition, required=[], property_fields={})
        properties: dict[str, Any] = {field.encode_name: _field_schema(field, schema_creator) for field in info.fields}
        required = [field.encode_name for field in info.fields if field.required]
        if info.tag_field:
            properties[info.tag_field] = Schema(const=info.tag)
            required.append(info.tag_field)
        schema.properties = properties
        schema.required = sorted(required) or None
        schema.description = _own_docstring(get_origin(field_definition.annotation) or field_definition.annotation)
        if info.forbid_unknown_fields:
            schema.additional_properties = False
        # By its own class only: an example of the base would lack what the struct adds.
        if (example := vars(info.cls).get("EXAMPLE")) is not None:
            schema.examples = [example]
        return schema


class ProblemDocumentation(ReceiveRoutePlugin):
    """Documents on every operation the problems it may answer with, and its parameters as they can really be sent."""

    def __init__(self) -> None:
        self._routes_by_path: dict[str, list[HTTPRoute]] = {}

    def receive_route(self, route: BaseRoute) -> None:
        if not isinstance(route, HTTPRoute):
            return
        for handler in route.route_handlers:
            document_problems(handler)
            if is_open(handler):
                # An empty requirement: unlike the rest of the document, this takes no token.
                handler.security = [{}]
            if handler.operation_class is Operation:
                handler.operation_class = HonestOperation
        # Litestar makes a new route for each further handler of a path, and lets the first one answer OPTIONS.
        same_path = self._routes_by_path.setdefault(route.path, [])
        same_path.append(route)
        methods = set().union(*(each.methods for each in same_path))
        for each in same_path:
            each.methods = methods


@dataclass
class HonestOperation(Operation):
    """An operation whose optional parameters are not documented as nullable: a query or header cannot be null."""

    def __post_init__(self) -> None:
        for parameter in self.parameters or ():
            if isinstance(parameter, Parameter) and isinstance(parameter.schema, Schema):
                parameter.schema = _without_null(parameter.schema)


def _without_null(schema: Schema) -> Schema | Reference:
    members = [each for each in schema.one_of or () if not (isinstance(each, Schema) and each.type == OpenAPIType.NULL)]
    if len(members) != 1 or len(schema.one_of or ()) == 1:
        return schema
    member = members[0]
    if isinstance(member, Reference):
        return member
    # The bounds stand beside oneOf; those of the member itself say more where both exist.
    kept = {field.name: getattr(member, field.name) for field in fields(member)}
    return replace(schema, **{**{k: v for k, v in kept.items() if v is not None}, "one_of": None})


def document_problems(handler: HTTPRouteHandler) -> None:
    """Add PROBLEM_RESPONSES to the operation, except where it documents a status itself."""
    own = dict(handler.responses or {})
    handler.responses = {**{s: r for s, r in PROBLEM_RESPONSES.items() if s != handler.status_code}, **own}


def _own_docstring(cls: type) -> str | None:
    text = cls.__doc__
    return text.strip() if text and not text.startswith(f"{cls.__name__}(") else None


def _field_schema(field: inspect.Field, creator: SchemaCreator) -> Schema | Reference:
    schema = _schema(field.type, creator)
    default = field.default
    if default is msgspec.NODEFAULT or default is None or not isinstance(schema, Schema):
        return schema
    schema.default = msgspec.to_builtins(default)
    return schema


_STRINGS: Final[dict[type[inspect.Type], OpenAPIFormat | None]] = {
    inspect.DateType: OpenAPIFormat.DATE,
    inspect.TimeType: OpenAPIFormat.TIME,
    inspect.TimeDeltaType: OpenAPIFormat.DURATION,
    inspect.UUIDType: OpenAPIFormat.UUID,
    inspect.BytesType: None,
    inspect.DateTimeType: OpenAPIFormat.DATE_TIME,
    inspect.DecimalType: None,
}


def _schema(info: inspect.Type, creator: SchemaCreator) -> Schema | Reference:
    """The JSON Schema of one msgspec type."""
    if type(info) in _STRINGS:
        return Schema(type=OpenAPIType.STRING, format=_STRINGS[type(info)])
    match info:
        case inspect.Metadata():
            return _with_metadata(_schema(info.type, creator), info.extra_json_schema or {})
        case inspect.NoneType():
            return Schema(type=OpenAPIType.NULL)
        case inspect.BoolType():
            return Schema(type=OpenAPIType.BOOLEAN)
        case inspect.IntType() | inspect.FloatType():
            return _number(info)
        case inspect.StrType():
            return Schema(
                type=OpenAPIType.STRING, min_length=info.min_length, max_length=info.max_length, pattern=info.pattern
            )
        case inspect.LiteralType():
            return Schema(enum=list(info.values))
        case inspect.EnumType():
            return creator.for_field_definition(FieldDefinition.from_annotation(info.cls))
        case inspect.UnionType():
            return _union(info, creator)
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            return _array(info, creator)
        case inspect.DictType():
            return _mapping(info, creator)
        case inspect.StructType():
            return creator.for_field_definition(FieldDefinition.from_annotation(info.cls))
        case inspect.TupleType():
            return Schema(
                type=OpenAPIType.ARRAY,
                prefix_items=[_schema(each, creator) for each in info.item_types],
                min_items=len(info.item_types),
                max_items=len(info.item_types),
            )
    cls = getattr(info, "cls", None)
    # Data classes, typed dictionaries and custom types are described by the framework; Any and Raw are anything.
    return Schema() if cls is None else creator.for_field_definition(FieldDefinition.from_annotation(cls))


def _number(info: inspect.IntType | inspect.FloatType) -> Schema:
    schema = Schema(
        type=OpenAPIType.INTEGER if isinstance(info, inspect.IntType) else OpenAPIType.NUMBER,
        minimum=info.ge,
        maximum=info.le,
        exclusive_minimum=info.gt,
        exclusive_maximum=info.lt,
        multiple_of=info.multiple_of,
    )
    if isinstance(info, inspect.IntType):
        # msgspec reads integers of 64 bits and no more.
        if info.ge is None and info.gt is None:
            schema.minimum = -(2**63)
        if info.le is None and info.lt is None:
            schema.maximum = 2**63 - 1
    return schema


def _union(info: inspect.UnionType, creator: SchemaCreator) -> Schema | Reference:
    members = [_schema(each, creator) for each in info.types]
    return members[0] if len(members) == 1 else Schema(any_of=members)


def _array(
    info: inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType, creator: SchemaCreator
) -> Schema:
    return Schema(
        type=OpenAPIType.ARRAY,
        items=_schema(info.item_type, creator),
        min_items=info.min_length,
        max_items=info.max_length,
    )


def _mapping(info: inspect.DictType, creator: SchemaCreator) -> Schema:
    schema = Schema(
        type=OpenAPIType.OBJECT,
        additional_properties=_schema(info.value_type, creator),
        min_properties=info.min_length,
        max_properties=info.max_length,
    )
    match info.key_type:
        case inspect.StrType(pattern=None, min_length=None, max_length=None):
            return schema
        case _:
            schema.property_names = _schema(info.key_type, creator)
            return schema


def _with_metadata(schema: Schema | Reference, extra: dict[str, Any]) -> Schema | Reference:
    if not extra or not isinstance(schema, Schema):
        return schema
    aliases = schema.field_aliases()
    for key, value in extra.items():
        name = aliases.get(key, key)
        if not hasattr(schema, name):
            raise ValueError(f"extra_json_schema has the key {key!r}, which a schema does not know")
        setattr(schema, name, [OpenAPIType(each) for each in value] if key == "type" else value)
    return schema
