"""The tables of the simulator: their fields, default values, references and choices.

The incident fields are those of the Table API examples in ServiceNow's documentation (Apache-2.0), plus hold_reason.
"""

import msgspec

SYSTEM_FIELDS = {
    "sys_id": "",
    "sys_created_on": "",
    "sys_created_by": "",
    "sys_updated_on": "",
    "sys_updated_by": "",
    "sys_mod_count": "0",
    "sys_tags": "",
}

_INCIDENT_EMPTY = """
activity_due additional_assignee_list approval_history approval_set assigned_to assignment_group business_duration
business_service business_stc calendar_duration calendar_stc caller_id caused_by close_code close_notes closed_at
closed_by cmdb_ci comments comments_and_work_notes company correlation_display correlation_id delivery_plan
delivery_task description due_date expected_start follow_up group_list hold_reason location number opened_at opened_by
order parent parent_incident problem_id rejection_goto resolved_at resolved_by rfc short_description sla_due
subcategory time_worked user_input watch_list wf_activity work_end work_notes work_notes_list work_start
"""

_INCIDENT_DEFAULTS = {
    "active": "true",
    "approval": "not requested",
    "category": "inquiry",
    "child_incidents": "0",
    "contact_type": "phone",
    "escalation": "0",
    "impact": "3",
    "incident_state": "1",
    "knowledge": "false",
    "made_sla": "true",
    "notify": "1",
    "priority": "5",
    "reassignment_count": "0",
    "reopen_count": "0",
    "severity": "3",
    "state": "1",
    "sys_class_name": "incident",
    "sys_domain": "global",
    "sys_domain_path": "/",
    "upon_approval": "proceed",
    "upon_reject": "cancel",
    "urgency": "3",
}

_INCIDENT_REFERENCES = {
    "assigned_to": "sys_user",
    "assignment_group": "sys_user_group",
    "business_service": "cmdb_ci",
    "caller_id": "sys_user",
    "caused_by": "change_request",
    "closed_by": "sys_user",
    "cmdb_ci": "cmdb_ci",
    "company": "core_company",
    "location": "cmn_location",
    "opened_by": "sys_user",
    "parent": "task",
    "parent_incident": "incident",
    "problem_id": "problem",
    "resolved_by": "sys_user",
    "rfc": "change_request",
    "sys_domain": "sys_user_group",
}

_LEVELS = {"1": "1 - High", "2": "2 - Medium", "3": "3 - Low"}
_STATES = {"1": "New", "2": "In Progress", "3": "On Hold", "6": "Resolved", "7": "Closed", "8": "Canceled"}

_INCIDENT_CHOICES = {
    "state": _STATES,
    "incident_state": _STATES,
    "hold_reason": {"1": "Awaiting Caller", "3": "Awaiting Problem", "4": "Awaiting Vendor", "5": "Awaiting Change"},
    "impact": _LEVELS,
    "urgency": _LEVELS,
    "severity": _LEVELS,
    "priority": {"1": "1 - Critical", "2": "2 - High", "3": "3 - Moderate", "4": "4 - Low", "5": "5 - Planning"},
}


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulator knows of one table."""

    name: str
    defaults: dict[str, str]
    """Every field of the table with the value that a new record starts with."""
    references: dict[str, str] = {}
    """Reference field to the table that it points into; that table need not be simulated."""
    choices: dict[str, dict[str, str]] = {}
    """Choice field to its values and what people see for them."""
    lengths_max: dict[str, int] = {}
    """Longest value of a field; longer ones are cut without a word, as on a real instance (general knowledge)."""
    journals: frozenset[str] = frozenset()
    """Fields whose texts are kept as journal entries; the field itself always reads as empty."""
    display: str = "name"
    """The field that stands for the record where a reference to it is shown."""
    number_prefix: str = ""
    number_first: int = 0


def _plain(name: str, fields: str, references: dict[str, str] | None = None) -> Table:
    return Table(
        name=name, defaults={**SYSTEM_FIELDS, **dict.fromkeys(fields.split(), "")}, references=references or {}
    )


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            name="incident",
            defaults={**SYSTEM_FIELDS, **dict.fromkeys(_INCIDENT_EMPTY.split(), ""), **_INCIDENT_DEFAULTS},
            references=_INCIDENT_REFERENCES,
            choices=_INCIDENT_CHOICES,
            lengths_max={"correlation_id": 100, "correlation_display": 100, "short_description": 160},
            journals=frozenset({"comments", "work_notes"}),
            display="number",
            number_prefix="INC",
            number_first=10001,
        ),
        _plain("sys_user", "user_name name first_name last_name email active"),
        _plain("sys_user_group", "name description manager email active", {"manager": "sys_user"}),
        _plain("cmdb_ci", "name asset_tag category serial_number correlation_id operational_status short_description"),
        _plain("sys_journal_field", "name element element_id value"),
    )
}
