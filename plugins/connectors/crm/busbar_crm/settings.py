"""The settings of a CRM endpoint, which become its form, and the names of its secrets."""

from typing import Annotated, Literal

import msgspec

SECRETS = ("client_secret", "private_key", "webhook_secret")
"""`client_secret` for client credentials, `private_key` (PEM) for JWT bearer, `webhook_secret` for what comes back."""

CustomField = Annotated[
    str, msgspec.Meta(pattern="^[A-Za-z][A-Za-z0-9_]{0,76}__c$", description="API name of a custom field of Case")
]
RecordId = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9]{15}([A-Za-z0-9]{3})?$", description="Id of a record")]
CaseStatus = Annotated[str, msgspec.Meta(min_length=1, max_length=40, description="As the organization's list has it")]


class CrmSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the Salesforce organization is, who Busbar is there, and the choices that differ between organizations."""

    base_url: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^https?://[^/?#@\s]+/?$",
            max_length=300,
            description="My Domain of the organization, such as https://utility.my.salesforce.com",
        ),
    ]
    client_id: Annotated[
        str, msgspec.Meta(min_length=1, max_length=300, description="Consumer key of the external client app")
    ]
    api_version: Annotated[
        str, msgspec.Meta(pattern=r"^v(4[6-9]|[5-9]\d|1\d\d)\.0$", description="Such as v64.0; at least v46.0")
    ] = "v64.0"
    auth: Literal["client_credentials", "jwt_bearer"] = "client_credentials"
    """A client secret, or assertions signed with a private key for `username`."""
    username: (
        Annotated[
            str,
            msgspec.Meta(
                min_length=1,
                max_length=80,
                description="The integration user. Needed for JWT bearer; what this user changes is Busbar's own work, "
                "and is not taken for a change by the service team.",
            ),
        ]
        | None
    ) = None
    audience: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^https://[^/?#@\s]+$",
            max_length=300,
            description="Only for JWT bearer: https://test.salesforce.com for a sandbox",
        ),
    ] = "https://login.salesforce.com"
    external_id_field: CustomField = "Busbar_Id__c"
    """Text, External ID, Unique: the ticket's id."""
    marker_field: CustomField = "Busbar_Marker__c"
    """Text (255): what the Case has been told."""
    owner_id: RecordId | None = None
    """User or queue that gets new Cases; set once, then left to the service team."""
    record_type_id: RecordId | None = None
    """Record type of new Cases."""
    status_new: CaseStatus = "New"
    """Status of the Case of an Open ticket, as the organization's own list of values has it."""
    status_working: CaseStatus = "Working"
    """Status for Assigned and In_Progress."""
    status_on_hold: CaseStatus = "Working"
    """Status while the ticket is on hold."""
    status_closed: CaseStatus = "Closed"
    """Status for Closed."""
    status_cancelled: CaseStatus = "Closed"
    """Status for Cancelled; where it is that of Closed, a Case with it closes the ticket."""
    comments_public: bool = False
    """Whether customers may see the comments that Busbar writes (IsPublished)."""
    quota_percent_max: Annotated[int, msgspec.Meta(ge=10, le=100)] = 90
    """Busbar waits when so much of the organization's API requests of 24 hours is used, and leaves others the rest."""
    poll_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 0
    """Seconds between two looks for changes; 0: never, because a webhook tells them."""
    ca_file: (
        Annotated[
            str, msgspec.Meta(max_length=500, description="PEM file of the utility's own certification authority")
        ]
        | None
    ) = None
    timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=20)] = 8.0
    """How long one request may take, from connecting to the last byte; a delivery needs two or three, and has 25 s."""

    def __post_init__(self) -> None:
        if self.auth == "jwt_bearer" and not self.username:
            raise ValueError("username is needed for JWT bearer.")
        if self.external_id_field.casefold() == self.marker_field.casefold():
            raise ValueError("external_id_field and marker_field are two fields.")
