-- How often in a row a delivery lost its worker: what does so again and again is tried alone, and then parked.

alter table core.delivery add column lost integer not null default 0;
create index delivery_risky on core.delivery (subscription, position)
    where state in ('pending', 'retrying') and lost >= 2;
