"""What requests about users, roles and signing in consist of."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from busbar.auth.passwords import PASSWORD_CHARACTERS_MAX, PASSWORD_CHARACTERS_MIN
from busbar.web.text import IDENTIFIER, SINGLE_LINE, Name, ShortText

ROLES_MAX: Final = 20
SITES_MAX: Final = 100
"""Names of at most 40 characters; so a token with all of them stays below 8 kB. Who works for more sites gets `*`."""
PERMISSIONS_MAX: Final = 200

PERMISSION: Final = r"^(\*|[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+)$(?!\n)"
SITE: Final = r"^(\*|[a-z][a-z0-9_-]*)$(?!\n)"


def _example(*values: Any) -> dict[str, Any]:
    return {"examples": list(values)}


Username = Annotated[
    str, Meta(min_length=1, max_length=60, pattern=IDENTIFIER, extra_json_schema=_example("maria.weber"))
]
"""What somebody signs in with; upper and lower case are the same."""
Password = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=PASSWORD_CHARACTERS_MAX,
        pattern=SINGLE_LINE,
        extra_json_schema={"format": "password"},
    ),
]
"""A password as it is typed to sign in."""
NewPassword = Annotated[
    str,
    Meta(
        min_length=PASSWORD_CHARACTERS_MIN,
        max_length=PASSWORD_CHARACTERS_MAX,
        pattern=SINGLE_LINE,
        extra_json_schema={"format": "password"} | _example("correct horse battery"),
    ),
]
"""A password to be: 12 to 128 characters of any kind, not the user name."""
RoleName = Annotated[
    str,
    Meta(min_length=1, max_length=40, pattern=IDENTIFIER, extra_json_schema=_example("Maintenance_Engineer")),
]
SiteOrAll = Annotated[str, Meta(min_length=1, max_length=40, pattern=SITE, extra_json_schema=_example("north-depot"))]
"""A site id, or `*` for every site."""
PermissionName = Annotated[
    str, Meta(min_length=1, max_length=80, pattern=PERMISSION, extra_json_schema=_example("pm.read"))
]
"""`<module>.<verb>`, or `*` for every permission."""
RoleNames = Annotated[tuple[RoleName, ...], Meta(max_length=ROLES_MAX)]
Sites = Annotated[tuple[SiteOrAll, ...], Meta(max_length=SITES_MAX)]
PermissionNames = Annotated[tuple[PermissionName, ...], Meta(max_length=PERMISSIONS_MAX)]
Email = Annotated[
    str,
    Meta(
        max_length=250,
        pattern=r"^[^\x00-\x20\x7f@]+@[^\x00-\x20\x7f@]+$(?!\n)",
        extra_json_schema=_example("maria.weber@utility.example"),
    ),
]
RefreshTokenText = Annotated[str, Meta(min_length=1, max_length=200, pattern=SINGLE_LINE)]


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who signs in."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"username": "maintenance.engineer", "password": "correct horse battery staple"}

    username: Annotated[str, Meta(min_length=1, max_length=60, pattern=SINGLE_LINE)]
    password: Password


class Refresh(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The session that goes on."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"refresh_token": "the-refresh-token-of-the-last-answer-0123456"}

    refresh_token: RefreshTokenText
    """The one of the last answer; it works once."""


class TokenPair(msgspec.Struct, frozen=True, kw_only=True):
    """What a sign-in or a refresh gives."""

    access_token: str
    """For the header `Authorization: Bearer …`; a JWT with user_id, roles, sites and exp."""
    refresh_token: str
    """For the next refresh; it replaces the one that was sent."""
    token_type: str
    """Always `Bearer`."""
    expires_in: int
    """For how many seconds the access token is valid."""


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who is signed in, and what they may do as of now."""

    user_id: str
    username: str
    display_name: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    """Names such as `pm.write`; `*` is every permission."""
    sites: tuple[str, ...]
    """Site ids; `*` is every site."""
    expires_at: datetime
    """When the access token expires."""


class NewOwnPassword(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signed-in user's password, as it is and as it shall be."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "current_password": "correct horse battery staple",
        "new_password": "a train of wet sparrows",
    }

    current_password: Password
    new_password: NewPassword


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who shall be able to sign in."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "username": "j.berger",
        "display_name": "Jo Berger",
        "password": "a train of wet sparrows",
        "roles": ["Maintenance_Engineer"],
        "sites": ["depot-north"],
    }

    username: Username
    display_name: Name
    password: NewPassword
    email: Email | None = None
    roles: RoleNames = ()
    sites: Sites = ()
    """Site ids, or `*` for every site."""


class UserChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"sites": ["depot-north", "depot-south"]}

    display_name: Name | UnsetType = UNSET
    email: Email | UnsetType | None = UNSET
    roles: RoleNames | UnsetType = UNSET
    sites: Sites | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    """Somebody who is not active cannot sign in, and is signed out within seconds."""


class PasswordChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user's new password; all their sessions end."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"password": "a train of wet sparrows"}

    password: NewPassword


class NewRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named set of permissions."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        "role": "Shift_Lead",
        "title": "Shift lead",
        "permissions": ["tickets.read", "tickets.write", "pm.read"],
    }

    role: RoleName
    title: ShortText
    permissions: PermissionNames = ()


class RoleChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different; fields that are left out stay."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"title": "Shift lead, night"}

    title: ShortText | UnsetType = UNSET
    permissions: PermissionNames | UnsetType = UNSET
