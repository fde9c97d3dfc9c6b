"""The settings of an ITSM endpoint, which become its form, and the names of its secrets."""

from typing import Annotated, Literal

import msgspec

SECRETS = ("password", "client_secret", "webhook_secret")
"""`password` for Basic, `client_secret` for OAuth, `webhook_secret` for what ServiceNow tells us."""

SysId = Annotated[str, msgspec.Meta(pattern="^[0-9a-z]{32}$", description="sys_id of a record: 32 letters and digits")]


class ItsmSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the ServiceNow instance is, who Busbar is there, and the choices that differ between instances."""

    base_url: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^https?://[^/?#@\s]+/?$",
            max_length=300,
            description="Root of the instance, such as https://dev12345.service-now.com",
        ),
    ]
    username: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=100,
            description="The integration user. With OAuth, the user that the application acts as: what this user "
            "changes is Busbar's own work, and is not taken for a change by the service desk.",
        ),
    ]
    auth: Literal["basic", "oauth"] = "basic"
    """User name and password with each request, or tokens by OAuth client credentials."""
    client_id: (
        Annotated[
            str, msgspec.Meta(min_length=1, max_length=200, description="Of the OAuth application; only for OAuth")
        ]
        | None
    ) = None
    table: Annotated[
        str, msgspec.Meta(pattern="^[a-z][a-z0-9_]{0,79}$", description="incident, or a table with its states")
    ] = "incident"
    ca_file: (
        Annotated[
            str, msgspec.Meta(max_length=500, description="PEM file of the utility's own certification authority")
        ]
        | None
    ) = None
    caller_id: SysId | None = None
    """The user in whose name incidents are opened (`caller_id`)."""
    assignment_group: SysId | None = None
    """The group that gets new incidents; later changes of the group at the remote are left alone."""
    note_field: Literal["work_notes", "comments"] = "work_notes"
    """Where comments go: seen by the service desk only, or by the caller too."""
    closed_as: Literal["resolved", "closed"] = "resolved"
    """The remote state of a Closed ticket. Resolved can be reopened; Closed usually cannot, and needs itil_admin."""
    close_code: Annotated[str, msgspec.Meta(min_length=1, max_length=40)] = "Solution provided"
    """The resolution code, as the instance's list of choices has it."""
    hold_reason: Literal["3", "4", "5"] = "4"
    """Awaiting Problem, Vendor or Change. Awaiting Caller is left out: it needs a comment that the caller reads."""
    timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=20)] = 10.0
    """How long one request may take, from connecting to the last byte; a delivery needs two, and has 25 s for all."""

    def __post_init__(self) -> None:
        if self.auth == "oauth" and not self.client_id:
            raise ValueError("client_id is needed for OAuth.")
