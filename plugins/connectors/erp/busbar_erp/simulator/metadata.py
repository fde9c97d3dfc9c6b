"""The `$metadata` of the simulated services, written from the facts in `catalog/`."""

from collections.abc import Iterator
from functools import cache
from xml.sax.saxutils import quoteattr

from busbar_erp.model import EntitySet, Field, Function, Service, services

DONE = "FunctionDone"
"""The complex type of a function that gives no entity back."""

_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx"\
 xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"\
 xmlns:sap="http://www.sap.com/Protocols/SAPData"><edmx:DataServices m:DataServiceVersion="2.0">"""
_TAIL = "</Schema></edmx:DataServices></edmx:Edmx>"


@cache
def metadata_of(name: str) -> bytes:
    """The EDMX document of a service."""
    service = services()[name]
    lines = [_HEAD, f'<Schema Namespace={quoteattr(name)} xmlns="http://schemas.microsoft.com/ado/2008/09/edm">']
    for entity_set in service.sets.values():
        lines += _entity_type(entity_set)
    lines.append(f'<ComplexType Name="{DONE}"><Property Name="IsInvalid" Type="Edm.Boolean"/></ComplexType>')
    for parent, navigation, child in _navigations(service):
        lines.append(
            f'<Association Name="{_association(parent, navigation)}">'
            f'<End Type="{name}.{parent}Type" Multiplicity="1" Role="From"/>'
            f'<End Type="{name}.{child}Type" Multiplicity="*" Role="To"/></Association>'
        )
    lines.append(f'<EntityContainer Name="{name}_Entities" m:IsDefaultEntityContainer="true">')
    lines += [_entity_set(entity_set) for entity_set in service.sets.values()]
    for parent, navigation, child in _navigations(service):
        association = _association(parent, navigation)
        lines.append(
            f'<AssociationSet Name="{association}Set" Association="{name}.{association}">'
            f'<End EntitySet="{parent}" Role="From"/><End EntitySet="{child}" Role="To"/></AssociationSet>'
        )
    for function in service.functions.values():
        lines += _function_import(function)
    return "\n".join([*lines, "</EntityContainer>", _TAIL]).encode()


def _entity_type(entity_set: EntitySet) -> Iterator[str]:
    yield f'<EntityType Name="{entity_set.name}Type" sap:content-version="1"><Key>'
    yield from (f'<PropertyRef Name="{name}"/>' for name in entity_set.keys)
    yield "</Key>"
    for field in entity_set.fields.values():
        access = "" if field.creatable else ' sap:creatable="false"'
        access += "" if field.updatable else ' sap:updatable="false"'
        if entity_set.has_etag and field.name == "LastChangeDateTime":
            access += ' ConcurrencyMode="Fixed"'
        yield f'<Property {_typed(field)} Nullable="{str(field.nullable).lower()}"{access}/>'
    for navigation in entity_set.navigations:
        relationship = f"{entity_set.service}.{_association(entity_set.name, navigation)}"
        yield f'<NavigationProperty Name="{navigation}" Relationship="{relationship}" FromRole="From" ToRole="To"/>'
    yield "</EntityType>"


def _entity_set(entity_set: EntitySet) -> str:
    creatable = any(field.creatable for field in entity_set.fields.values())
    updatable = any(field.updatable for field in entity_set.fields.values()) and not is_document(entity_set)
    access = "" if creatable else ' sap:creatable="false"'
    access += "" if updatable else ' sap:updatable="false"'
    kind = f"{entity_set.service}.{entity_set.name}Type"
    return f'<EntitySet Name="{entity_set.name}" EntityType="{kind}"{access} sap:deletable="false"/>'


def is_document(entity_set: EntitySet) -> bool:
    """Whether it is a material document, which is never changed: it is cancelled by another."""
    return entity_set.name.startswith("A_MaterialDocument")


def _function_import(function: Function) -> Iterator[str]:
    name = function.service
    returned = f'ReturnType="{name}.{DONE}"'
    if function.returns is not None:
        returned = f'ReturnType="{name}.{function.returns}Type" EntitySet="{function.returns}"'
    yield f'<FunctionImport Name="{function.name}" {returned} m:HttpMethod="POST">'
    for field in function.parameters.values():
        nullable = f' Nullable="{str(field.nullable).lower()}"'
        yield f'<Parameter {_typed(field)} Mode="In"{nullable}/>'
    yield "</FunctionImport>"


def _typed(field: Field) -> str:
    text = f'Name="{field.name}" Type="Edm.{field.type}"'
    if field.length is not None:
        text += f' MaxLength="{field.length}"'
    if field.precision is not None:
        text += f' Precision="{field.precision}" Scale="{field.scale}"'
    elif field.type in ("DateTime", "DateTimeOffset", "Time"):
        text += ' Precision="0"' if field.type != "DateTimeOffset" else ' Precision="7"'
    return text


def _navigations(service: Service) -> Iterator[tuple[str, str, str]]:
    for entity_set in service.sets.values():
        for navigation, child in entity_set.navigations.items():
            yield entity_set.name, navigation, child


def _association(parent: str, navigation: str) -> str:
    return f"{parent}_{navigation}"
