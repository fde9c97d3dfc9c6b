"""Who may do what in plant maintenance (SPEC R7.3)."""

from busbar.sdk import Permission, RoleDefault

PERMISSIONS = (
    Permission(name="pm.read", title="See assets, orders and incidents"),
    Permission(name="pm.write", title="Create and change assets, orders and incidents"),
    Permission(name="pm.import", title="Load assets and incidents in bulk"),
)

ROLES = (
    RoleDefault(
        role="Maintenance_Engineer",
        title="Maintenance engineer",
        permissions=(
            "pm.read",
            "pm.write",
            "pm.import",
            "tickets.read",
            "tickets.write",
            "sites.read",
            "sla.read",
            "events.read",
            "imports.read",
        ),
    ),
    # Whoever looks after the integration sees what is delivered.
    RoleDefault(role="Integration_Operator", title="Integration operator", permissions=("pm.read", "tickets.read")),
)
