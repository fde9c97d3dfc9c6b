"""Import jobs and what became of them."""

from piccolo.columns import JSONB, UUID, BigInt, Text, Timestamptz
from piccolo.constraints import Check
from piccolo.table import Table

from busbar.db import DB


class ImportJob(Table, tablename="import_job", schema="core", db=DB):
    """One bulk import: its progress and its report."""

    import_id = UUID(primary_key=True, default=None, null=False)
    importer = Text(default=None, null=False)
    site_id = Text(default=None, null=False)
    file_name = Text(default=None, null=False)
    mode = Text(default=None, null=False)
    state = Text(default=None, null=False)
    rows_read = BigInt(default=0, null=False)
    rows_accepted = BigInt(default=0, null=False)
    rows_rejected = BigInt(default=0, null=False)
    report = JSONB(default=None, null=True)
    failure = Text(default=None, null=True)
    created_by = Text(default=None, null=False)
    correlation_id = Text(default=None, null=False)
    created_at = Timestamptz(default=None, null=False)
    heartbeat_at = Timestamptz(default=None, null=False)
    finished_at = Timestamptz(default=None, null=True)

    import_job_mode_known = Check("mode in ('all_or_nothing', 'partial')")
    import_job_state_known = Check("state in ('running', 'done', 'failed')")
