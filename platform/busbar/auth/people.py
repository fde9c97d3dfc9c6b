"""Whether the people and roles that somebody names exist."""

from collections.abc import Sequence

from busbar.auth.actor import ALL_SITES
from busbar.db import fetch, fetchval
from busbar.errors import FieldError, InvalidPayload

ROLE_PREFIX = "role:"
_USERS = f"""
select username as name from core.user_account
where username = any($1) and active and ($2::text is null or sites && array['{ALL_SITES}', $2])
"""


async def works_at(username: str, site_id: str) -> bool:
    """Whether there is such an active user who works for the site."""
    return bool(await fetchval(f"select exists({_USERS})", [username], site_id))


async def require_people(names: Sequence[str], *, field: str, site_id: str | None = None) -> None:
    """Refuse names that are neither an active user's, at this site if one is given, nor, as `role:<name>`, a role's.

    Raises:
        InvalidPayload: naming every unknown one by its place, as in `approval_hierarchy[1]`.
    """
    roles = [name.removeprefix(ROLE_PREFIX) for name in names if name.startswith(ROLE_PREFIX)]
    users = [name for name in names if not name.startswith(ROLE_PREFIX)]
    rows = await fetch(
        f"{_USERS} union all select $4 || role from core.role where role = any($3)", users, site_id, roles, ROLE_PREFIX
    )
    known = {row["name"] for row in rows}
    where = "" if site_id is None else f" at {site_id}"
    errors = [
        FieldError(field=f"{field}[{n}]", message=f"{name} is neither an active user{where} nor a role (role:<name>)")
        for n, name in enumerate(names)
        if name not in known
    ]
    if errors:
        raise InvalidPayload(f"Unknown names in {field}.", errors=errors)
