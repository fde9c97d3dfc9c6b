"""What is stored encrypted, moved to the installation's newest key; before that, an older key cannot be dropped."""

from collections.abc import Mapping

import msgspec

from busbar.audit import record
from busbar.auth.actor import Context
from busbar.auth.keys import SigningKeys
from busbar.connectors.secrets import KeyRing, KeyRingBox, Undecipherable, key_id_of
from busbar.db import execute, fetch, transaction

_ENDPOINTS = "select endpoint_id, secrets from core.endpoint where secrets <> '{}' order by endpoint_id for update"
_KEEP = "update core.endpoint set secrets = $2 where endpoint_id = $1"
# Everything that a key has encrypted: these two, and nothing else.
_SEALED = """
select 'the secret ' || s.key || ' of ' || e.endpoint_id as thing, s.value as sealed
from core.endpoint e, jsonb_each_text(e.secrets) s
union all
select 'the signing key ' || kid, private_encrypted from core.signing_key where private_encrypted <> ''
order by thing
"""


class Resealed(msgspec.Struct, frozen=True, kw_only=True):
    """How many values were moved to the newest key."""

    secrets: int
    signing_keys: int


async def reseal(ctx: Context, key_ring: KeyRing) -> Resealed:
    """Encrypt with the newest key whatever an older one has encrypted: all of it, or nothing.

    Running it again is harmless. Values stay the same, so nobody has to be told.

    Raises:
        Undecipherable: a value cannot be read; the text names it, and what can be done.
    """
    secrets = 0
    async with transaction():
        for row in await fetch(_ENDPOINTS):
            endpoint_id = row["endpoint_id"]
            sealed = msgspec.json.decode(row["secrets"], type=dict[str, str])
            moved = _moved(key_ring, endpoint_id, sealed)
            if moved:
                await execute(_KEEP, endpoint_id, msgspec.json.encode(sealed | moved).decode())
                secrets += len(moved)
        signing_keys = await SigningKeys(KeyRingBox(key_ring)).reseal()
        if secrets or signing_keys:
            await record(
                ctx,
                action="secrets.reseal",
                object_kind="secret_key",
                object_id=key_ring.primary_id,
                details={"secrets": secrets, "signing_keys": signing_keys},
            )
    return Resealed(secrets=secrets, signing_keys=signing_keys)


async def sealed_with() -> dict[str, list[str]]:
    """What each key has encrypted, by the key's id, such as `the secret token of sap`."""
    found: dict[str, list[str]] = {}
    for row in await fetch(_SEALED):
        found.setdefault(key_id_of(row["sealed"]), []).append(row["thing"])
    return found


def _moved(key_ring: KeyRing, endpoint_id: str, sealed: Mapping[str, str]) -> dict[str, str]:
    try:
        return {
            name: key_ring.reseal(text, endpoint_id=endpoint_id, name=name)
            for name, text in sealed.items()
            if not key_ring.is_current(text)
        }
    except Undecipherable as error:
        raise Undecipherable(
            f"Nothing was changed, for a secret of the endpoint {endpoint_id} cannot be read: {error.detail} "
            "Add the key that is missing, or enter that secret again."
        ) from error
