"""Whether the people and roles that somebody names exist."""

from collections.abc import Sequence

from busbar.db import fetch
from busbar.errors import FieldError, InvalidPayload

ROLE_PREFIX = "role:"


async def require_people(names: Sequence[str], *, field: str) -> None:
    """Refuse names that are neither an active user's nor, written `role:<name>`, a role's.

    Raises:
        InvalidPayload: naming every unknown one by its place, as in `approval_hierarchy[1]`.
    """
    roles = [name.removeprefix(ROLE_PREFIX) for name in names if name.startswith(ROLE_PREFIX)]
    users = [name for name in names if not name.startswith(ROLE_PREFIX)]
    rows = await fetch(
        "select username as name from core.user_account where username = any($1) and active "
        "union all select $3 || role from core.role where role = any($2)",
        users,
        roles,
        ROLE_PREFIX,
    )
    known = {row["name"] for row in rows}
    errors = [
        FieldError(field=f"{field}[{n}]", message=f"{name} is neither an active user nor a role (role:<name>)")
        for n, name in enumerate(names)
        if name not in known
    ]
    if errors:
        raise InvalidPayload(f"Unknown names in {field}.", errors=errors)
