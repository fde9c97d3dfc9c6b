-- One number that changes with every commit that changes where events go, so that the relay can tell whether what it
-- knows is what held when the events before it were written.

create table core.configuration (name text primary key, version bigint not null);
insert into core.configuration (name, version) values ('routing', 1);

create function core.count_configuration() returns trigger language plpgsql as $$
begin
    update core.configuration set version = version + 1 where name = 'routing';
    return null;
end $$;

-- Deferred to the end of the transaction, so that none waits for the row while it holds anything that others wait for.
create constraint trigger site_counted after insert or update or delete on core.site
    deferrable initially deferred for each row execute function core.count_configuration();
create constraint trigger site_module_counted after insert or update or delete on core.site_module
    deferrable initially deferred for each row execute function core.count_configuration();
create constraint trigger route_counted after insert or update or delete on core.route
    deferrable initially deferred for each row execute function core.count_configuration();
create constraint trigger endpoint_counted after insert or delete or update of sites on core.endpoint
    deferrable initially deferred for each row execute function core.count_configuration();
