"""Five years of outages as a utility of two million customers has them, made by one statement.

The shape follows what such utilities publish: many small outages and few large ones, most of them over in an hour or
two, and a few storm days with as many outages as other months. The numbers themselves are drawn.
"""

from datetime import UTC, datetime
from typing import Final

COUNT: Final = 107_000
DAYS: Final = 1_826
FIRST: Final = datetime(2021, 1, 1, tzinfo=UTC)
STORM_DAYS: Final = 18

GENERATE: Final = f"""
with asset as (
    select array_agg(asset_id order by asset_id) as ids from pm.asset
    where site_id = $1 and asset_type in ('feeder', 'transformer', 'line', 'switch') and customers_served > 0
), storm as (
    select array_agg(day) as days from (
        select floor(random() * $3::int)::int as day from generate_series(1, {STORM_DAYS})) s
), drawn as materialized (
    select n, gen_random_uuid() as incident_id, in_storm,
        ids[1 + floor(random() * cardinality(ids))::int] as asset_id,
        $2::timestamptz + make_interval(secs => 86400 * (
            case when in_storm then days[1 + floor(random() * {STORM_DAYS})::int] + power(random(), 2) * 0.9
            else random() * $3 end)) as started_at,
        -- Pareto: half of them up to 10 customers, one in a hundred above 400.
        least(20000, ceil(5 / power(1 - random(), 0.95)))::int as customers,
        -- Log-normal: half of them within 90 minutes, in a storm within 8 hours.
        exp(ln(case when in_storm then 480 else 90 end)
            + 1.1 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) as minutes,
        case when random() < 0.55 then 1 else 2 + floor(random() * 3)::int end as steps,
        random() < 0.01 as is_cancelled, random() < 0.001 as is_open
    from (select n, random() < 0.2 as in_storm from generate_series(1, $4::int) n) s, asset, storm
), ticket as (
    insert into core.ticket (ticket_id, module, ticket_type, title, description, priority, status, site_id, created_by,
        created_at, updated_at, sla_deadline, object_kind, object_id, correlation_id)
    select $1 || '-' || n, 'pm', 'Incident', 'Outage ' || n, '', 'P2',
        case when is_cancelled then 'Cancelled' when is_open then 'In_Progress' else 'Closed' end,
        $1, 'maker', started_at, started_at, started_at + interval '8 hours', 'incident', incident_id::text, n::text
    from drawn
), incident as (
    insert into pm.incident (incident_id, ticket_id, asset_id, fault_type, severity, description, started_at,
        restored_at, customers_affected, site_id, created_at, updated_at)
    select incident_id, $1 || '-' || n, asset_id, 'outage', 'P2', '', started_at,
        case when is_open then null else started_at + make_interval(secs => 60 * minutes) end, customers, $1,
        started_at, started_at
    from drawn
)
insert into pm.restoration_step (incident_id, step, restored_at, customers_restored)
select incident_id, step, started_at + make_interval(secs => 60 * minutes * step / steps),
    -- The last step takes who is left; of an open outage they are left.
    case when step = steps then customers - customers / steps * (steps - 1) else customers / steps end
from drawn, generate_series(1, steps) step
where customers >= steps and not (is_open and step = steps)
"""
"""Parameters: site, first moment, days, outages. The site has its assets already; `setseed` makes it repeatable."""
