-- A new signing key is published before it signs, so that a gateway can know it.

alter table core.signing_key add column signs_from timestamptz;
update core.signing_key set signs_from = created_at;
alter table core.signing_key alter column signs_from set not null;
