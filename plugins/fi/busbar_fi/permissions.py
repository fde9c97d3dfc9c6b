"""Who may do what in finance (SPEC R7.3)."""

from busbar.sdk import Permission, RoleDefault

PERMISSIONS = (
    Permission(name="fi.read", title="See cost centers, costs, commitments, approval requests and reports"),
    Permission(name="fi.write", title="Create and change cost centers and budgets, post costs, request approvals"),
    Permission(name="fi.approve", title="Approve and reject what one is asked to decide"),
    Permission(name="fi.import", title="Load cost centers in bulk"),
)

ROLES = (
    RoleDefault(
        role="Finance_Officer",
        title="Finance officer",
        permissions=(
            "fi.read",
            "fi.write",
            "fi.approve",
            "fi.import",
            "tickets.read",
            "tickets.write",
            "sites.read",
            "sla.read",
            "events.read",
            "imports.read",
        ),
    ),
    # Decides, and writes nothing else.
    RoleDefault(
        role="Finance_Approver", title="Finance approver", permissions=("fi.read", "fi.approve", "tickets.read")
    ),
    # Whoever looks after the integration sees what is delivered.
    RoleDefault(role="Integration_Operator", title="Integration operator", permissions=("fi.read", "tickets.read")),
)
