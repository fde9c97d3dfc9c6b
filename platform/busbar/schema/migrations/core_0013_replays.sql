-- Replays of many deliveries are jobs, which any process takes further.

create table core.replay (
    replay_id uuid primary key,
    state text not null constraint replay_state_known check (state in ('running', 'done', 'stopped')),
    reason text not null,
    wanted jsonb not null,
    actor jsonb not null,
    per_second integer not null,
    matching integer not null,
    replayed integer not null default 0,
    mark bigint not null default 0,
    last_delivery_id bigint not null,
    created_by text not null,
    username text not null,
    correlation_id text not null,
    created_at timestamptz not null,
    next_step_at timestamptz not null,
    finished_at timestamptz
);
create index replay_running on core.replay (next_step_at) where state = 'running';
alter table core.delivery add column replay_id uuid;
create index delivery_replay on core.delivery (replay_id) where replay_id is not null;
