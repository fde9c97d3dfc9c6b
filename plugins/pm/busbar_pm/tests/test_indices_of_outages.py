"""What each kind of outage counts for, and when."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from busbar.sdk import Context, execute, fetchrow, fetchval, transaction, uuid7
from busbar.testing.plugins import context_of
from busbar_pm import indices_reports
from busbar_pm.assets import AssetFields, insert_many
from busbar_pm.indices import Grouping
from busbar_pm.indices_reports import Asked, IndexCell, ReliabilityReport
from busbar_pm.tests import outages
from busbar_pm.tests.conftest import ALL
from busbar_pm.tests.indices_reference import PARENTS, SERVED, Outage, counted, day_of, feeder

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)
NOON = datetime(2025, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def at_noon(ctx: Context) -> Context:
    """Erna of the site `north`, at a fixed moment."""
    return msgspec.structs.replace(ctx, clock=lambda: NOW)


async def add_network(ctx: Context, site: str = "north", *, timezone: str = "Europe/Berlin", prefix: str = "") -> None:
    """The network of the reference at a site."""
    await execute("update core.site set timezone = $2 where site_id = $1", site, timezone)
    assets = [
        (
            prefix + asset_id,
            AssetFields(
                asset_type="feeder" if feeder(asset_id) == asset_id else "line",
                name=asset_id,
                parent_id=parent_id and prefix + parent_id,
                customers_served=SERVED.get(asset_id, 0),
            ),
        )
        for asset_id, parent_id in PARENTS.items()
    ]
    await insert_many(ctx, site, assets)


async def add_outages(
    some: Sequence[Outage], *, site: str = "north", prefix: str = "", restored_at: datetime | None = None
) -> list[UUID]:
    """Store outages as if they had been reported, with their tickets; returns their ids."""
    ids = []
    async with transaction():
        for outage in some:
            incident_id = uuid7()
            ids.append(incident_id)
            ticket_id = f"T-{incident_id}"
            await execute(
                """insert into core.ticket (ticket_id, module, ticket_type, title, priority, status, site_id,
                    created_by, created_at, updated_at, sla_deadline, correlation_id)
                values ($1, 'pm', 'Incident', '', 'P2', $2, $3, 'erna', $4, $4, $4, '')""",
                ticket_id,
                "Cancelled" if outage.state == "cancelled" else "Open",
                site,
                outage.started_at,
            )
            over = outage.started_at + max(lasted for lasted, _ in outage.steps) if outage.state == "over" else None
            await execute(
                """insert into pm.incident (incident_id, ticket_id, asset_id, fault_type, severity, description,
                    started_at, restored_at, customers_affected, site_id, created_at, updated_at)
                values ($1, $2, $3, 'outage', 'P2', '', $4, $5, $6, $7, $4, $4)""",
                incident_id,
                ticket_id,
                prefix + outage.asset,
                outage.started_at,
                restored_at or over,
                outage.customers,
                site,
            )
            for number, (lasted, customers) in enumerate(outage.steps, start=1):
                await execute(
                    "insert into pm.restoration_step (incident_id, step, restored_at, customers_restored) "
                    "values ($1, $2, $3, $4)",
                    incident_id,
                    number,
                    outage.started_at.astimezone(UTC) + lasted,
                    customers,
                )
    return ids


def outage(
    started_at: datetime = NOON,
    *steps: tuple[float, int],
    asset: str = "F1-L1",
    customers: int = 0,
    state: str = "over",
) -> Outage:
    """An outage whose steps are (minutes, customers); all its customers are restored unless `customers` says more."""
    return Outage(
        asset=asset,
        started_at=started_at,
        customers=customers or sum(step[1] for step in steps),
        steps=tuple((timedelta(minutes=minutes), restored) for minutes, restored in steps),
        state=state,
    )


async def ask(
    ctx: Context, begins: date = date(2025, 1, 1), ends: date = date(2026, 1, 1), by: Grouping = "total", **more: object
) -> ReliabilityReport:
    asked = msgspec.convert({"site": "north", "begins": begins, "ends": ends, **more}, Asked)
    return await indices_reports.report(ctx, asked, by=by, per_feeder=False)


async def total(ctx: Context, **more: object) -> IndexCell:
    (cell,) = (await ask(ctx, **more)).cells  # type: ignore[arg-type]
    return cell


class TestSteps:
    async def test_count_as_in_the_example_of_the_standard(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(NOON, (45, 500), (60, 300), (120, 200))])
        # 70 minutes later the feeder trips again; 800 had supply by then.
        await add_outages([outage(NOON + timedelta(minutes=70), (20, 800))])
        found = (await total(at_noon, customers_served=1_000)).all_days
        assert (found.customer_interruptions, found.customer_minutes) == (1_800, 80_500)
        assert (found.saifi, found.saidi_minutes) == (1.8, 80.5)
        assert found.caidi_minutes == pytest.approx(44.7, abs=0.05)

    async def test_of_five_minutes_are_momentary_and_of_a_moment_more_sustained(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(NOON, (5, 70), (5.00001, 30))])
        found = (await total(at_noon)).all_days
        assert (found.momentary_interruptions, found.customer_interruptions, found.outages) == (70, 30, 1)
        assert found.customer_minutes == pytest.approx(30 * 5.00001, rel=1e-6)

    async def test_that_are_missing_end_when_the_ticket_was_closed(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(NOON, (10, 60), customers=100)], restored_at=NOON + timedelta(hours=1))
        cell = await total(at_noon)
        assert cell.all_days.customer_minutes == 60 * 10 + 40 * 60
        assert (cell.all_days.customer_interruptions, cell.open.customers) == (100, 0)


class TestAnOpenOutage:
    async def test_counts_for_frequency_and_its_duration_is_told_apart(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(NOW - timedelta(hours=2), (30, 60), customers=100, state="open")])
        cell = await total(at_noon)
        assert (cell.all_days.customer_interruptions, cell.all_days.customer_minutes) == (100, 60 * 30)
        assert (cell.open.outages, cell.open.customers, cell.open.customer_minutes) == (1, 40, 40 * 120)

    async def test_is_neither_sustained_nor_momentary_in_its_first_five_minutes(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(NOW - timedelta(minutes=4), customers=100, state="open")])
        cell = await total(at_noon)
        assert (cell.all_days.customer_interruptions, cell.all_days.momentary_interruptions) == (0, 0)
        assert (cell.open.outages, cell.open.customers, cell.open.customer_minutes) == (1, 100, 400)


class TestWhatDoesNotCount:
    async def test_cancelled_outages(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(NOON, (30, 60), customers=100, state="cancelled")])
        assert (await total(at_noon)).all_days.outages == 0

    async def test_faults_and_degradations(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(NOON, (30, 60))])
        await execute("update pm.incident set fault_type = 'degradation'")
        assert (await total(at_noon)).all_days.outages == 0

    async def test_outages_of_other_sites(self, at_noon: Context) -> None:
        both = context_of("ben", permissions=ALL, sites=["north", "south"], clock=lambda: NOW)
        await add_network(both)
        await add_network(both, "south", prefix="S-")
        await add_outages([outage(NOON, (30, 60))], site="south", prefix="S-")
        assert (await total(both)).all_days.outages == 0
        assert (await total(both, site="south")).all_days.customer_interruptions == 60
        listed = await indices_reports.outages(
            both, Asked(site="north", begins=date(2025, 1, 1)), outside_feeders=False, on_major_event_days=None,
            limit=50, cursor=None, sort=None,
        )  # fmt: skip
        assert listed.items == ()


class TestDays:
    @pytest.mark.parametrize(
        ("started_at", "day"),
        [
            ("2025-03-29T22:59:59+00:00", date(2025, 3, 29)),
            ("2025-03-29T23:00:00+00:00", date(2025, 3, 30)),
            ("2025-03-30T21:59:59+00:00", date(2025, 3, 30)),
            ("2025-03-30T22:00:00+00:00", date(2025, 3, 31)),
            ("2024-10-26T22:00:00+00:00", date(2024, 10, 27)),
            ("2024-10-27T22:59:59+00:00", date(2024, 10, 27)),
            ("2024-10-27T23:00:00+00:00", date(2024, 10, 28)),
            ("2024-12-31T23:00:00+00:00", date(2025, 1, 1)),
        ],
    )
    async def test_begin_at_the_sites_midnight(self, at_noon: Context, started_at: str, day: date) -> None:
        await add_network(at_noon)
        await add_outages([outage(datetime.fromisoformat(started_at), (3_000, 60))])
        found = await ask(at_noon, day - timedelta(days=1), day + timedelta(days=2), "day")
        assert [cell.all_days.customer_interruptions for cell in found.cells] == [0, 60, 0]
        assert found.cells[1].all_days.customer_minutes == 60 * 3_000

    @pytest.mark.parametrize(
        ("day", "hours"), [(date(2025, 3, 30), 23), (date(2024, 10, 27), 25), (date(2025, 5, 1), 24)]
    )
    async def test_have_the_hours_that_their_clocks_show(self, at_noon: Context, day: date, hours: int) -> None:
        await add_network(at_noon)
        midday = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        await add_outages([outage(midday, (60, 5_000))])
        (cell,) = (await ask(at_noon, day, day + timedelta(days=1))).cells
        assert cell.all_days.asai == pytest.approx(1 - 1 / hours, rel=1e-15)

    async def test_of_a_period_that_is_not_over_count_until_now(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(datetime(2025, 7, 1, 6, tzinfo=UTC), (60, 5_000))])
        found = await ask(at_noon, date(2025, 7, 1), date(2025, 7, 3), "day")
        # By the clocks of Berlin it is 14 h.
        assert found.cells[0].all_days.asai == pytest.approx(1 - 1 / 14, rel=1e-15)
        assert found.cells[1].all_days.asai is None


class TestCustomersServed:
    async def test_are_those_at_the_top_of_the_hierarchy_that_are_in_use(self, at_noon: Context) -> None:
        await add_network(at_noon)
        extra = [
            ("NEW", AssetFields(asset_type="feeder", name="New", status="planned", customers_served=70)),
            ("OLD", AssetFields(asset_type="feeder", name="Old", status="retired", customers_served=80)),
            ("OFF", AssetFields(asset_type="main", name="Off", status="out_of_service", customers_served=9)),
        ]
        await insert_many(at_noon, "north", extra)
        assert (await ask(at_noon)).customers_served == 5_009

    async def test_of_a_feeder_are_its_own(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(NOON, (60, 120), asset="F3-T1"), outage(NOON, (60, 100), asset="F1-T1-L1")])
        for feeder_id, saifi in (("F3", 120 / 400), ("F1", 100 / 2_000), ("F2", 0)):
            assert (await total(at_noon, feeder_id=feeder_id)).all_days.saifi == saifi


class TestMajorEventDays:
    async def test_are_judged_by_the_years_before_and_not_by_their_own(self, at_noon: Context) -> None:
        await add_network(at_noon)
        calm = [outage(datetime(2024, month, 9, 10, tzinfo=UTC), (30 + month, 100)) for month in range(1, 13)]
        storm = [outage(datetime(2025, 2, day, 10, tzinfo=UTC), (600, 2_000)) for day in (3, 4)]
        await add_outages([*calm, *storm, outage(datetime(2025, 2, 5, 10, tzinfo=UTC), (35, 100))])
        found = await indices_reports.major_event_days(at_noon, site="north", year=2025, customers_served=None)
        assert [day.day for day in found.days] == [date(2025, 2, 3), date(2025, 2, 4)]
        assert {day.saidi_minutes for day in found.days} == {2_000 * 600 / 5_000}
        assert found.threshold.days == 12
        cell = await total(at_noon)
        assert cell.all_days.customer_interruptions == 4_100
        assert cell.without_major_event_days.customer_interruptions == 100
        # They are history for the year after, which is harder to exceed by them.
        later = await indices_reports.major_event_days(at_noon, site="north", year=2026, customers_served=None)
        assert later.threshold.t_med_minutes > found.threshold.t_med_minutes  # type: ignore[operator]

    async def test_are_not_judged_by_more_than_five_years(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(datetime(2019, 12, day, tzinfo=UTC), (500 * day, 900)) for day in (1, 2, 3)])
        await add_outages([outage(datetime(2020, 1, 1, 8, tzinfo=UTC), (10, 10))])
        found = await indices_reports.major_event_days(at_noon, site="north", year=2025, customers_served=None)
        assert (found.threshold.days, found.threshold.t_med_minutes) == (1, None)
        earlier = await indices_reports.major_event_days(at_noon, site="north", year=2024, customers_served=None)
        assert earlier.threshold.days == 4

    async def test_of_the_site_are_left_out_for_its_feeders(self, at_noon: Context) -> None:
        await add_network(at_noon)
        await add_outages([outage(datetime(2024, m, 9, tzinfo=UTC), (30 + m, 100)) for m in range(1, 13)])
        await add_outages([outage(NOON, (900, 2_000)), outage(NOON, (7, 9), asset="F2")])
        cell = await total(at_noon, feeder_id="F2")
        assert (cell.all_days.customer_interruptions, cell.without_major_event_days.customer_interruptions) == (9, 0)


STEPS = st.lists(st.tuples(st.integers(0, 4_000), st.integers(1, 500)), max_size=4)


@st.composite
def any_outage(draw: st.DrawFn) -> Outage:
    started_at = datetime(2024, 12, 25, tzinfo=UTC) + timedelta(seconds=draw(st.integers(0, 86_400 * 14)))
    seconds = draw(STEPS)
    state = draw(st.sampled_from(["over", "over", "open", "cancelled"]) if seconds else st.sampled_from(["open"]))
    left = draw(st.integers(0, 300)) if state == "open" else 0
    return Outage(
        asset=draw(st.sampled_from(list(PARENTS))),
        started_at=started_at,
        customers=sum(customers for _, customers in seconds) + left,
        steps=tuple((timedelta(seconds=lasted), customers) for lasted, customers in seconds),
        state=state,
    )


class TestAnyOutages:
    @settings(max_examples=25, deadline=None, suppress_health_check=[*HealthCheck])
    @given(some=st.lists(any_outage(), max_size=12), order=st.randoms(use_true_random=False))
    async def test_add_up_by_day_as_plain_loops_find_whatever_the_order_of_steps(
        self, at_noon: Context, some: list[Outage], order: object
    ) -> None:
        for table in ("pm.restoration_step", "pm.incident", "core.ticket"):
            await execute(f"delete from {table}")
        if not await fetchval("select exists (select from pm.asset)"):
            await add_network(at_noon)
        shuffled = []
        for each in some:
            steps = list(each.steps)
            order.shuffle(steps)  # type: ignore[attr-defined]
            shuffled.append(msgspec.structs.replace(each, steps=tuple(steps)))
        await add_outages(shuffled)
        first, end = date(2024, 12, 24), date(2025, 1, 12)
        (whole,) = (await ask(at_noon, first, end)).cells
        days = (await ask(at_noon, first, end, "day")).cells
        for cell in days:
            inside = [each for each in some if day_of(each) == cell.begins]
            sustained, minutes, momentary, still_out = counted(inside, as_of=NOW)
            assert cell.all_days.customer_interruptions == sustained
            assert cell.all_days.customer_minutes == pytest.approx(minutes, rel=1e-12)
            assert (cell.all_days.momentary_interruptions, cell.open.customers) == (momentary, still_out)
        for name in ("saidi_minutes", "saifi", "maifi", "customer_minutes", "customer_interruptions", "outages"):
            values = [getattr(cell.all_days, name) for cell in days]
            assert getattr(whole.all_days, name) == pytest.approx(sum(values), rel=1e-12)
        found = whole.all_days
        assert found.saidi_minutes == pytest.approx(found.saifi * (found.caidi_minutes or 0), rel=1e-12)  # type: ignore[operator]


INDEPENDENT = """
select count(distinct incident_id) filter (where minutes > 5), sum(customers) filter (where minutes > 5),
    sum(customers * minutes) filter (where minutes > 5 and not still_out),
    sum(customers) filter (where minutes <= 5 and not still_out), sum(customers) filter (where still_out)
from (
    select incident_id, customers_restored as customers, false as still_out,
        (extract(epoch from s.restored_at) - extract(epoch from started_at)) / 60 as minutes
    from pm.restoration_step s join pm.incident using (incident_id)
    union all
    select incident_id, customers_affected - coalesce((
            select sum(customers_restored) from pm.restoration_step s where s.incident_id = i.incident_id), 0),
        true, (extract(epoch from $1::timestamptz) - extract(epoch from started_at)) / 60
    from pm.incident i where restored_at is null) piece
join pm.incident using (incident_id) join core.ticket using (ticket_id)
where status <> 'Cancelled'
"""


class TestFiveYears:
    @pytest.mark.slow
    async def test_add_up_to_what_another_statement_finds(self, at_noon: Context) -> None:
        await add_network(at_noon, timezone="UTC")
        async with transaction():
            await execute("select setseed(0.25)")
            await execute(outages.GENERATE, "north", outages.FIRST, outages.DAYS, outages.COUNT)
        now = outages.FIRST + timedelta(days=2_000)
        later = msgspec.structs.replace(at_noon, clock=lambda: now)
        years = {"begins": date(2021, 1, 1), "ends": date(2026, 2, 1)}
        cell = await total(later, customers_served=2_200_000, **years)
        expected = await fetchrow(INDEPENDENT, now)
        assert expected is not None
        found = cell.all_days
        assert found.outages == expected[0]
        assert found.customer_interruptions == expected[1]
        assert found.customer_minutes == pytest.approx(float(expected[2]), rel=1e-12)
        assert (found.momentary_interruptions, cell.open.customers) == (expected[3], expected[4])
        report = await ask(later, customers_served=2_200_000, by="month", **years)  # type: ignore[arg-type]
        assert len(report.major_event_days) > 5
        assert sum(each.all_days.outages for each in report.cells) == found.outages
