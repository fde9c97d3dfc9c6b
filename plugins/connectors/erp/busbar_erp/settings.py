"""The settings of an ERP endpoint, which become its form, and the names of its secrets."""

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

SECRETS = ("password", "client_secret", "webhook_secret")
"""`password` for Basic, `client_secret` for OAuth, `webhook_secret` for what SAP tells us."""


TOKEN_PATH = "/sap/bc/sec/oauth2/token"  # noqa: S105 - a path, not a token


def _code(characters_max: int) -> msgspec.Meta:
    return msgspec.Meta(pattern=rf"^[^\s'](?:[^']{{0,{characters_max - 2}}}[^\s'])?$", max_length=characters_max)


Code2 = Annotated[str, msgspec.Meta(pattern="^[A-Z0-9]{2}$")]
Code3 = Annotated[str, _code(3)]
Code4 = Annotated[str, _code(4)]
Code8 = Annotated[str, _code(8)]
Code9 = Annotated[str, _code(9)]
Code10 = Annotated[str, _code(10)]
Code40 = Annotated[str, _code(40)]


class ErpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the SAP system is, who Busbar is there, and how Busbar's names are its codes."""

    base_url: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^https?://[^/?#@\s]+/?$",
            max_length=300,
            description="Root of the system, such as https://s4.example.com:44300",
        ),
    ]
    username: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=100,
            description="The communication user. What this user changes is Busbar's own work, and is not taken back.",
        ),
    ]
    plant: Code4
    """Of all documents (`Plant`, `MaintenancePlant`)."""
    purchasing_group: Code3
    """Of purchase requisitions."""
    auth: Literal["basic", "oauth"] = "basic"
    """User name and password with each request, or tokens by OAuth client credentials."""
    client_id: (
        Annotated[str, msgspec.Meta(min_length=1, max_length=200, description="Of the OAuth client; only for OAuth")]
        | None
    ) = None
    token_path: Annotated[str, msgspec.Meta(pattern=r"^/[^\s?#]*$", max_length=200)] = TOKEN_PATH
    """Where tokens are given; only for OAuth."""
    sap_client: Annotated[str, msgspec.Meta(pattern="^([0-9]{3})?$")] = ""
    """The client (`sap-client`); empty for the system's default."""
    language: Code2 = "EN"
    """Of texts, and of SAP's messages (`sap-language`)."""
    time_zone: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "UTC"
    """Zone whose calendar day is the posting date, such as Europe/Berlin."""
    ca_file: (
        Annotated[
            str, msgspec.Meta(max_length=500, description="PEM file of the utility's own certification authority")
        ]
        | None
    ) = None
    poll_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60.0
    """Seconds between two looks at what changed in SAP; 0 for never."""
    timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=20)] = 6.0
    """How long one request may take, from connecting to the last byte; a delivery needs up to seven, and has 25 s."""
    reference_prefix: Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$")] = "BB"
    """First letters of our references in SAP; two installations that share a system need different ones."""
    company_code: Code4 | None = None
    """Of purchase requisitions; None lets SAP find it by the plant."""
    controlling_area: Code4 | None = None
    """Of cost centers."""
    purchasing_organization: Code4 | None = None
    """Of purchase requisitions; None lets SAP find it."""
    requisition_type: Code4 = "NB"
    """Document type of purchase requisitions."""
    default_material_group: Code9 | None = None
    """Of requisitions; None lets SAP take that of the material."""
    gl_account: Code10 | None = None
    """G/L account of requisitions for a cost center; None lets SAP find it."""
    default_cost_center: Code10 | None = None
    """Charged with issues that name no cost center, and whose maintenance order SAP does not have."""
    default_storage_location: Code4 | None = None
    """For locations that are not in `storage_locations`; None refuses those that are no code of SAP."""
    storage_locations: dict[str, Code4] = {}
    """Busbar's storage location to SAP's."""
    materials: dict[str, Code40] = {}
    """Busbar's material to SAP's; one that is not here keeps its name."""
    cost_centers: dict[str, Code10] = {}
    """Busbar's cost center to SAP's; one that is not here keeps its name."""
    units: dict[str, Code3] = {}
    """Busbar's unit of measure to SAP's; one that is not here keeps its name."""
    planning_plant: Code4 | None = None
    """Maintenance planning plant; the plant unless given."""
    work_center: Code8 | None = None
    """Main work center of notifications and orders."""
    incident_notification_type: Code2 = "M2"
    """Type of the notification of an incident: malfunction report."""
    order_notification_type: Code2 = "M1"
    """Type of the notification of a maintenance order: maintenance request."""
    order_type: Code4 = "PM01"
    """Type of maintenance orders, as your configuration has it."""
    release_orders: bool = True
    """Release a maintenance order as soon as it is made; goods can be issued to released orders only."""
    asset_as: Literal["text", "equipment", "functional_location"] = "text"
    """What Busbar's asset ids are in SAP: numbers of equipment, of functional locations, or nothing."""

    def __post_init__(self) -> None:
        if self.auth == "oauth" and not self.client_id:
            raise ValueError("client_id is needed for OAuth.")
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"There is no time zone {self.time_zone}.") from None
