"""The objects of the simulated organization: their fields, types, lengths, lists of values and references."""

import msgspec

EXTERNAL_ID_FIELD = "Busbar_Id__c"
MARKER_FIELD = "Busbar_Marker__c"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulator knows of one field."""

    name: str
    type: str = "string"
    """string, textarea, picklist, boolean, datetime, reference, id, double."""
    length: int = 0
    """0: not limited."""
    values: tuple[str, ...] = ()
    """Of a picklist, which is restricted to them."""
    refers_to: str = ""
    """The object that a reference points into."""
    external_id: bool = False
    createable: bool = True
    updateable: bool = True
    filterable: bool = True
    required: bool = False

    @property
    def relationship(self) -> str:
        """The name by which a query follows the reference: `Parent` for `ParentId`; "" for no reference."""
        return self.name.removesuffix("Id") if self.refers_to else ""


class SObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object, with the prefix that its ids start with."""

    name: str
    prefix: str
    fields: dict[str, Field]
    """By name in lower case: Salesforce compares names without regard to it."""
    defaults: dict[str, object] = {}
    writable: bool = True

    def field(self, name: str) -> Field | None:
        return self.fields.get(name.casefold())


def _system(name: str, kind: str = "datetime", refers_to: str = "") -> Field:
    return Field(name=name, type=kind, refers_to=refers_to, createable=False, updateable=False)


_SYSTEM = (
    Field(name="Id", type="id", createable=False, updateable=False),
    Field(name="IsDeleted", type="boolean", createable=False, updateable=False),
    _system("CreatedDate"),
    _system("CreatedById", "reference", "User"),
    _system("LastModifiedDate"),
    _system("LastModifiedById", "reference", "User"),
    _system("SystemModstamp"),
)


def _object(
    name: str, prefix: str, *fields: Field, defaults: dict[str, object] | None = None, writable: bool = True
) -> SObject:
    return SObject(
        name=name,
        prefix=prefix,
        fields={field.name.casefold(): field for field in (*_SYSTEM, *fields)},
        defaults=defaults or {},
        writable=writable,
    )


STATUSES = ("New", "Working", "Escalated", "Closed")

CASE = _object(
    "Case",
    "500",
    Field(name="CaseNumber", createable=False, updateable=False),
    Field(name="Subject", length=255),
    Field(name="Description", type="textarea", length=32_000, filterable=False),
    Field(name="Status", type="picklist", values=STATUSES),
    Field(name="Priority", type="picklist", values=("High", "Medium", "Low")),
    Field(name="Origin", type="picklist", values=("Phone", "Email", "Web")),
    Field(name="Type", type="picklist", values=("Mechanical", "Electrical", "Electronic", "Structural", "Other")),
    Field(
        name="Reason",
        type="picklist",
        values=("Installation", "Equipment Complexity", "Performance", "Breakdown", "Other"),
    ),
    Field(name="SuppliedName", length=80),
    Field(name="SuppliedEmail", length=80),
    Field(name="IsClosed", type="boolean", createable=False, updateable=False),
    Field(name="ClosedDate", type="datetime", createable=False, updateable=False),
    Field(name="OwnerId", type="reference", refers_to="User"),
    Field(name="RecordTypeId", type="reference"),
    Field(name="AccountId", type="reference"),
    Field(name="ContactId", type="reference"),
    Field(name="ParentId", type="reference", refers_to="Case"),
    Field(name=EXTERNAL_ID_FIELD, length=255, external_id=True),
    Field(name=MARKER_FIELD, length=255),
    defaults={"Status": "New", "Priority": "Medium", "IsClosed": False},
)

OBJECTS: dict[str, SObject] = {
    one.name.casefold(): one
    for one in (
        CASE,
        _object(
            "CaseComment",
            "00a",
            Field(name="ParentId", type="reference", refers_to="Case", updateable=False, required=True),
            Field(name="CommentBody", type="textarea", length=4000, filterable=False),
            Field(name="IsPublished", type="boolean"),
            defaults={"IsPublished": False},
        ),
        _object(
            "CaseHistory",
            "017",
            Field(name="CaseId", type="reference", refers_to="Case"),
            Field(name="Field", type="picklist"),
            Field(name="OldValue", filterable=False),
            Field(name="NewValue", filterable=False),
            writable=False,
        ),
        _object(
            "User", "005", Field(name="Username", length=80), Field(name="Name"), Field(name="Email"), writable=False
        ),
        _object(
            "FieldDefinition",
            "000",
            Field(name="QualifiedApiName"),
            Field(name="IsFieldHistoryTracked", type="boolean"),
            Field(name="EntityDefinitionId", type="reference", refers_to="EntityDefinition"),
            writable=False,
        ),
        _object("EntityDefinition", "000", Field(name="QualifiedApiName"), writable=False),
    )
}
