-- Deliveries that another runner makes: since when it has them, and which runner made an attempt.

alter table core.delivery add column handed_over_at timestamptz;
create index delivery_handed_over on core.delivery (endpoint_id) where handed_over_at is not null;

alter table core.delivery_attempt add column runner text not null default 'busbar';
alter table core.delivery_attempt add constraint delivery_attempt_runner_known check (runner in ('busbar', 'camel'));
