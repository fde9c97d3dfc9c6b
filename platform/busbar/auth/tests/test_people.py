"""Names of people and roles that somebody writes down: each that is unknown is named by its place."""

import pytest

from busbar.auth.people import require_people, works_at
from busbar.db import execute
from busbar.errors import InvalidPayload


@pytest.fixture(autouse=True)
async def people(database: str) -> None:
    for name, active in (("mia", True), ("gone", False), ("role:Fake", True)):
        await execute(
            "insert into core.user_account (user_id, username, display_name, password_hash, roles, sites, active, "
            "sessions_valid_from, created_at) values (gen_random_uuid(), $1, $1, '', '{}', '{}', $2, now(), now())",
            name,
            active,
        )
    await execute("insert into core.role (role, title, permissions, offered) values ('Approver', 'x', '{}', '{}')")


class TestWorksAt:
    async def test_is_true_of_those_who_work_there_or_everywhere(self) -> None:
        await execute("update core.user_account set sites = '{north}' where username = 'mia'")
        await execute("update core.user_account set sites = '{*}' where username = 'role:Fake'")
        there = [await works_at(name, "north") for name in ("mia", "role:Fake", "gone", "nobody")]
        assert there == [True, True, False, False]
        assert not await works_at("mia", "south")
        await require_people(["mia", "role:Approver"], field="approvers", site_id="north")
        with pytest.raises(InvalidPayload) as refused:
            await require_people(["mia"], field="approvers", site_id="south")
        assert refused.value.errors[0].message == "mia is neither an active user at south nor a role (role:<name>)"


class TestRequirePeople:
    async def test_takes_active_users_and_roles_also_twice_and_none_at_all(self) -> None:
        await require_people(["mia", "role:Approver", "mia"], field="approval_hierarchy")
        await require_people([], field="approval_hierarchy")

    async def test_names_every_unknown_one_by_its_place(self) -> None:
        names = ["mia", "nobody", "gone", "role:Approver", "role:Nothing", "Approver", "role:mia", "MIA"]
        with pytest.raises(InvalidPayload) as refused:
            await require_people(names, field="approval_hierarchy")
        assert [each.field for each in refused.value.errors] == [f"approval_hierarchy[{n}]" for n in (1, 2, 4, 5, 6, 7)]
        assert refused.value.errors[1].message == "gone is neither an active user nor a role (role:<name>)"

    async def test_takes_no_user_for_a_role_by_a_name_that_looks_like_one(self) -> None:
        with pytest.raises(InvalidPayload):
            await require_people(["role:Fake"], field="approvers")
