-- Scheduled jobs, one process at a time; and how far each polled endpoint has been read.

create table core.job (
    name text primary key,
    next_run_at timestamptz not null,
    last_run_at timestamptz,
    last_error text
);

create table core.poll_cursor (
    endpoint_id text primary key,
    cursor text not null,
    polled_at timestamptz not null
);
