-- Whether the remote may have what an attempt did not end well with: such a delivery is flagged when it is repeated.

alter table core.delivery_attempt add column uncertain boolean not null default true;
