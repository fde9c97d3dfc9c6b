"""Who may do what in materials management (SPEC R7.3)."""

from busbar.sdk import Permission, RoleDefault

PERMISSIONS = (
    Permission(name="mm.read", title="See materials, stock, counts and requisitions"),
    Permission(name="mm.write", title="Create and change materials, post stock, count, request purchases"),
    Permission(name="mm.import", title="Load materials and stock in bulk"),
)

ROLES = (
    RoleDefault(
        role="Store_Manager",
        title="Store manager",
        permissions=(
            "mm.read",
            "mm.write",
            "mm.import",
            "tickets.read",
            "tickets.write",
            "sites.read",
            "sla.read",
            "events.read",
            "imports.read",
        ),
    ),
    # Whoever looks after the integration sees what is delivered.
    RoleDefault(role="Integration_Operator", title="Integration operator", permissions=("mm.read", "tickets.read")),
)
