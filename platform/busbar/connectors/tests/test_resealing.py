"""Everything that is stored encrypted moves to a new key, all of it or nothing, so that the old one can go."""

import os
from datetime import UTC, datetime

import pytest

from busbar.auth.keys import SigningKeys
from busbar.connectors.resealing import Resealed, reseal, sealed_with
from busbar.connectors.secrets import KeyRing, KeyRingBox, Secret, Undecipherable
from busbar.connectors.tests.support import CANARY, Remote, add_endpoint, add_site, context, make_desk
from busbar.db import execute, fetch, fetchval

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OLD, NEW = os.urandom(32), os.urandom(32)


@pytest.fixture
async def used(database: str, remote: Remote) -> None:
    """A database in which the old key has encrypted an endpoint's secrets and a signing key."""
    desk = make_desk(key_ring=KeyRing(OLD))
    await add_site("north")
    await add_endpoint(desk, remote, secrets={"token": CANARY, "webhook_secret": f"whsec_{'Q0FOQVJZ' * 4}"})
    await desk.close()
    await SigningKeys(KeyRingBox(KeyRing(OLD))).start(now=NOW)


async def stored() -> list[str]:
    return [str(tuple(row)) for row in await fetch("select endpoint_id, secrets, version from core.endpoint")] + [
        str(tuple(row)) for row in await fetch("select kid, private_encrypted from core.signing_key")
    ]


class TestResealing:
    async def test_moves_all_to_the_new_key_which_then_suffices(self, used: None) -> None:
        version = await fetchval("select version from core.endpoint")
        assert {key_id: len(things) for key_id, things in (await sealed_with()).items()} == {KeyRing(OLD).primary_id: 3}
        assert await reseal(context(), KeyRing(NEW, OLD)) == Resealed(secrets=2, signing_keys=1)
        assert list(await sealed_with()) == [KeyRing(NEW).primary_id]

        after = make_desk(key_ring=KeyRing(NEW))
        await after.refresh()
        endpoint = after.get("acme-1")
        assert endpoint is not None
        assert endpoint.fault is None
        assert endpoint.secrets["token"].reveal() == CANARY
        keys = SigningKeys(KeyRingBox(KeyRing(NEW)))
        await keys.start(now=NOW)
        assert await fetchval("select count(*) from core.signing_key") == 1
        assert await fetchval("select version from core.endpoint") == version, "nobody's change is made stale"
        await after.close()

    async def test_is_in_the_trail_without_any_value(self, used: None) -> None:
        await reseal(context(), KeyRing(NEW, OLD))
        (entry,) = await fetch("select * from core.audit where action = 'secrets.reseal'")
        assert entry["object_id"] == KeyRing(NEW).primary_id
        assert '"secrets":2' in entry["details"].replace(" ", "")

    async def test_again_changes_nothing(self, used: None) -> None:
        await reseal(context(), KeyRing(NEW, OLD))
        before = await stored()
        assert await reseal(context(), KeyRing(NEW, OLD)) == Resealed(secrets=0, signing_keys=0)
        assert await stored() == before
        assert await fetchval("select count(*) from core.audit where action = 'secrets.reseal'") == 1

    async def test_of_a_value_that_cannot_be_read_changes_nothing_and_names_it(self, used: None) -> None:
        lost = KeyRing(os.urandom(32))
        await execute(
            "update core.endpoint set secrets = jsonb_set(secrets, '{webhook_secret}', to_jsonb($1::text))",
            lost.seal(Secret(CANARY), endpoint_id="acme-1", name="webhook_secret"),
        )
        before = await stored()
        with pytest.raises(Undecipherable, match=rf"acme-1.*webhook_secret.*{lost.primary_id}"):
            await reseal(context(), KeyRing(NEW, OLD))
        assert await stored() == before
        assert (await sealed_with())[lost.primary_id] == ["the secret webhook_secret of acme-1"]
