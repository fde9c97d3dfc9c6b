-- What plugins subscribed to when they last worked: while one cannot even be imported, its deliveries still pile up.

create table core.subscription (
    name text primary key,
    module text not null,
    pattern text[] not null,
    ordered boolean not null
);
