"""Users, roles, sign-in sessions, keys, and what limits attempts."""

from piccolo.columns import UUID, Array, BigSerial, Boolean, Bytea, Integer, Text, Timestamptz
from piccolo.table import Table

from busbar.db import DB


class User(Table, tablename="user_account", schema="core", db=DB):
    """Somebody who can sign in."""

    user_id = UUID(primary_key=True, default=None, null=False)
    username = Text(default=None, null=False, unique=True)
    display_name = Text(default=None, null=False)
    email = Text(default=None, null=True)
    password_hash = Text(default=None, null=False, secret=True)
    roles = Array(base_column=Text(), default=None, null=False)
    sites = Array(base_column=Text(), default=None, null=False)
    active = Boolean(default=True, null=False)
    sessions_valid_from = Timestamptz(default=None, null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)


class Role(Table, tablename="role", schema="core", db=DB):
    """A named set of permissions; roles are data.

    `offered` are the permissions that the core and the plugins gave it by default, so that each is given only once and
    one that an operator took away stays away.
    """

    role = Text(primary_key=True, default=None, null=False)
    title = Text(default=None, null=False)
    permissions = Array(base_column=Text(), default=None, null=False)
    offered = Array(base_column=Text(), default=None, null=False)
    builtin = Boolean(default=False, null=False)
    version = Integer(default=1, null=False)


class RefreshToken(Table, tablename="refresh_token", schema="core", db=DB):
    """One refresh token, stored as a hash; a family is the chain that one sign-in started.

    `successor_seed` and the token itself make its successor: only who holds the token can be told the successor again.
    """

    token_hash = Text(primary_key=True, default=None, null=False)
    family = UUID(default=None, null=False)
    user_id = UUID(default=None, null=False)
    issued_at = Timestamptz(default=None, null=False)
    expires_at = Timestamptz(default=None, null=False)
    family_expires_at = Timestamptz(default=None, null=False)
    used_at = Timestamptz(default=None, null=True)
    successor_seed = Bytea(default=None, null=True)
    revoked_at = Timestamptz(default=None, null=True)


class SigningKey(Table, tablename="signing_key", schema="core", db=DB):
    """A key that signs access tokens; the private half is encrypted with the installation's secret key."""

    kid = Text(primary_key=True, default=None, null=False)
    public_jwk = Text(default=None, null=False)
    private_encrypted = Text(default=None, null=False, secret=True)
    created_at = Timestamptz(default=None, null=False)
    retired_at = Timestamptz(default=None, null=True)
    signs_from = Timestamptz(default=None, null=False)


class LoginFailure(Table, tablename="login_failure", schema="core", db=DB):
    """A failed sign-in; counted for lockout and limits, dropped after a day."""

    id = BigSerial(primary_key=True)
    at = Timestamptz(default=None, null=False)
    username = Text(default=None, null=False)
    source = Text(default=None, null=False)
