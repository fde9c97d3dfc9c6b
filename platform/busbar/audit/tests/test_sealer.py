"""The chain over the trail: it seals what commits, in whatever order, and shows every kind of tampering."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
import pytest

from busbar.audit import record, sealer
from busbar.audit.sealer import GENESIS, Sealer, SealHead, verify
from busbar.db import execute, fetch, fetchval, transaction

AT = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


class Clerk(msgspec.Struct, frozen=True):
    user_id: str = "u-1"
    username: str = "clerk"
    site_filter: list[str] | None = None

    def may(self, permission: str) -> bool:
        return True


class Office(msgspec.Struct, frozen=True):
    actor: Clerk = Clerk()
    correlation_id: str = "c-1"

    def clock(self) -> datetime:
        return AT


async def note(number: int) -> None:
    await record(
        Office(),
        action="move",
        object_kind="ticket",
        object_id=f"TKT-PM-20261123-{number:04}",
        previous_status="Open",
        new_status="Assigned",
        details={"number": number},
    )


async def sealed_trail(entries: int = 12) -> SealHead:
    for number in range(entries):
        await note(number)
    assert await Sealer().seal() == entries
    return await sealer.head()


async def as_owner(*statements: str) -> None:
    """What somebody can do who has the database's owner's rights and switches the trigger off."""
    async with transaction():
        await execute("alter table core.audit disable trigger user")
        for statement in statements:
            await execute(statement)
        await execute("alter table core.audit enable trigger user")


async def kinds(anchor: SealHead | None = None) -> list[str]:
    return [finding.kind for finding in (await verify(anchor)).findings]


async def audit_id_of(seal_id: int) -> int:
    found: int = await fetchval("select audit_id from core.audit_seal where seal_id = $1", seal_id)
    return found


class TestSealing:
    async def test_an_empty_trail_is_intact_and_has_the_first_hash(self, database: str) -> None:
        assert await Sealer().seal() == 0
        assert await sealer.head() == SealHead(seal_id=0, hash=GENESIS.hex())
        assert (await verify()).intact

    async def test_is_no_business_of_the_transaction_that_writes_an_entry(self, database: str) -> None:
        # LESSONS D11: chained inside each transaction, requests would wait for each other.
        async with transaction():
            await note(0)
        await note(1)
        assert await fetchval("select count(*) from core.audit_seal") == 0
        assert (
            await fetchval("select count(*) from pg_trigger where tgrelid = 'core.audit'::regclass and tgtype & 4 > 0")
            == 0
        )

    async def test_seals_each_entry_once(self, database: str) -> None:
        await sealed_trail(3)
        one = Sealer()
        assert await one.seal() == 0
        await note(3)
        assert await one.seal() == 1 and await one.seal() == 0
        assert await fetchval("select array_agg(seal_id order by seal_id) from core.audit_seal") == [1, 2, 3, 4]
        result = await verify()
        assert (result.intact, result.entries, result.unsealed) == (True, 4, 0)

    async def test_an_entry_that_commits_late_gets_a_later_seal(self, database: str) -> None:
        first_in, let_go = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            async with transaction():
                await note(1)
                first_in.set()
                await let_go.wait()

        one = Sealer()
        await note(0)
        writing = asyncio.create_task(slow())
        await first_in.wait()
        await note(2)
        assert await one.seal() == 2
        let_go.set()
        await writing
        assert await one.seal() == 1
        rows = await fetch("select audit_id from core.audit_seal order by seal_id")
        order = [row["audit_id"] for row in rows]
        assert order[2] < order[1], "the late one has the lower id and the later seal"
        assert (await verify()).intact

    async def test_what_commits_far_behind_is_found_by_the_sweep(
        self, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sealer, "LOOK_BACK", 0)
        await sealed_trail(3)
        last = await audit_id_of(3)
        one = Sealer()
        await one.seal()
        await execute("select setval('core.audit_audit_id_seq', $1)", last + 10)
        await note(11)
        assert await one.seal() == 1
        await execute("select setval('core.audit_audit_id_seq', $1)", last + 4)
        await note(5)
        assert await one.seal() == 0 and (await verify()).unsealed == 1
        monkeypatch.setattr(sealer, "SWEEP_S", 0.0)
        assert await one.seal() == 1
        assert (await verify()).intact

    async def test_several_processes_make_one_chain(self, database: str) -> None:
        for number in range(20):
            await note(number)
        sealers = [Sealer() for _ in range(4)]
        counts = await asyncio.gather(*(each.seal() for each in sealers))
        assert sum(counts) == 20
        result = await verify()
        assert result.intact and result.entries == 20

    async def test_goes_on_in_batches(self, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sealer, "_UNSEALED", sealer._UNSEALED.replace("limit 2000", "limit 5"))
        monkeypatch.setattr(sealer, "_SEALED", sealer._SEALED.replace("limit 2000", "limit 5"))
        monkeypatch.setattr(sealer, "BATCH_MAX", 5)
        for number in range(12):
            await note(number)
        one = Sealer()
        assert [await one.seal(), await one.seal(), await one.seal()] == [5, 5, 2]
        result = await verify()
        assert result.intact and result.entries == 12


class TestTheTriggers:
    @pytest.mark.parametrize(
        "statement",
        ["update core.audit set comment = 'x'", "delete from core.audit", "truncate core.audit"],
    )
    async def test_the_trail_refuses_any_change(self, database: str, statement: str) -> None:
        await note(1)
        with pytest.raises(Exception, match="append-only"):
            await execute(statement)
        assert await fetchval("select count(*) from core.audit") == 1


Tampering = Callable[[], Awaitable[None]]


def _altered(column: str, value: str) -> Tampering:
    async def tamper() -> None:
        await as_owner(f"update core.audit set {column} = {value} where audit_id = {await audit_id_of(6)}")

    tamper.__name__ = column
    return tamper


class TestTampering:
    @pytest.mark.parametrize(
        "tamper",
        [
            _altered("at", "at + interval '1 microsecond'"),
            _altered("actor_id", "'u-2'"),
            _altered("actor_name", "'somebody'"),
            _altered("action", "'create'"),
            _altered("object_kind", "'asset'"),
            _altered("object_id", "object_id || 'x'"),
            _altered("site_id", "'north'"),
            _altered("previous_status", "null"),
            _altered("new_status", "''"),
            _altered("comment", "''"),
            _altered("details", "'{\"number\": 50}'"),
            _altered("correlation_id", "'c-2'"),
        ],
        ids=lambda tamper: tamper.__name__,
    )
    async def test_any_altered_field_is_found(self, database: str, tamper: Tampering) -> None:
        await sealed_trail()
        await tamper()
        result = await verify()
        assert [(finding.kind, finding.seal_id) for finding in result.findings] == [("altered", 6)]

    async def test_text_moved_from_one_field_to_the_next_is_found(self, database: str) -> None:
        await sealed_trail()
        number = await audit_id_of(6)
        await as_owner(
            f"update core.audit set object_kind = object_kind || object_id, object_id = '' where audit_id = {number}"
        )
        assert await kinds() == ["altered"]

    async def test_a_deleted_entry_is_found(self, database: str) -> None:
        await sealed_trail()
        number = await audit_id_of(4)
        await as_owner(f"delete from core.audit where audit_id = {number}")
        (finding,) = (await verify()).findings
        assert (finding.kind, finding.audit_id) == ("deleted", number)

    async def test_an_entry_deleted_with_its_seal_is_found(self, database: str) -> None:
        await sealed_trail()
        number = await audit_id_of(4)
        await as_owner(
            f"delete from core.audit where audit_id = {number}",
            f"delete from core.audit_seal where audit_id = {number}",
        )
        assert "seal_missing" in await kinds()

    async def test_renumbered_seals_do_not_hide_a_deleted_entry(self, database: str) -> None:
        await sealed_trail()
        number = await audit_id_of(4)
        await as_owner(
            f"delete from core.audit where audit_id = {number}",
            f"delete from core.audit_seal where audit_id = {number}",
            "update core.audit_seal set seal_id = -seal_id where seal_id > 4",
            "update core.audit_seal set seal_id = -seal_id - 1 where seal_id < 0",
        )
        assert "altered" in await kinds()

    async def test_two_exchanged_entries_are_found(self, database: str) -> None:
        await sealed_trail()
        low, high = await audit_id_of(3), await audit_id_of(9)
        await as_owner(
            f"update core.audit set audit_id = -1 where audit_id = {low}",
            f"update core.audit set audit_id = {low} where audit_id = {high}",
            f"update core.audit set audit_id = {high} where audit_id = -1",
        )
        assert await kinds() == ["altered", "altered"]

    async def test_two_exchanged_seals_are_found(self, database: str) -> None:
        await sealed_trail()
        await as_owner(
            "update core.audit_seal set seal_id = -1 where seal_id = 3",
            "update core.audit_seal set seal_id = 3 where seal_id = 9",
            "update core.audit_seal set seal_id = 9 where seal_id = -1",
        )
        assert "altered" in await kinds()

    async def test_a_cut_off_end_is_found_with_an_exported_head(self, database: str) -> None:
        exported = await sealed_trail()
        await as_owner(
            "delete from core.audit where audit_id in (select audit_id from core.audit_seal where seal_id > 10)",
            "delete from core.audit_seal where seal_id > 10",
        )
        assert await kinds() == [], "nothing inside the database can show it"
        assert await kinds(exported) == ["cut_off"]

    async def test_a_chain_computed_anew_is_found_with_an_exported_head(self, database: str) -> None:
        exported = await sealed_trail()
        number = await audit_id_of(2)
        await as_owner(
            f"update core.audit set actor_name = 'somebody' where audit_id = {number}", "delete from core.audit_seal"
        )
        assert await Sealer().seal() == 12
        assert await kinds() == [], "nothing inside the database can show it"
        assert await kinds(exported) == ["rewritten"]

    async def test_a_head_exported_earlier_fits_a_trail_that_grew(self, database: str) -> None:
        exported = await sealed_trail()
        await note(99)
        await Sealer().seal()
        assert (await verify(exported)).intact
