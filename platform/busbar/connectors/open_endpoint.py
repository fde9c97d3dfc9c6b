"""An endpoint as one process holds it: its settings and secrets read, its HTTP session made when first needed."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from busbar.connectors.contract import Connector, Endpoint, SecretBag
from busbar.connectors.egress import Gate
from busbar.connectors.http import HttpSettings, make_session
from busbar.connectors.secrets import KeyRing, Undecipherable
from busbar.kit.clock import Clock

CONNECTIONS_MAX = 8
"""Connections to one remote, and attempts at it, at a time."""


class OpenEndpoint:
    """One version of an endpoint. A change makes a new one; the old one's session closes when its last user is done."""

    def __init__(
        self,
        row: Mapping[str, Any],
        *,
        connector: Connector | None,
        key_ring: KeyRing,
        gate: Gate,
        clock: Clock,
    ) -> None:
        """`row` is one of core.endpoint. What is wrong with it is kept in `fault`, for it must not harm the others."""
        self.endpoint_id: str = row["endpoint_id"]
        self.kind: str = row["connector"]
        self.name: str = row["name"]
        self.sites: tuple[str, ...] = tuple(row["sites"])
        self.runner: str = row["runner"]
        self.active: bool = row["active"]
        self.version: int = row["version"]
        self.connector = connector
        self.fault: str | None = None
        self.secrets = SecretBag({})
        self._settings: Any = None
        self._gate = gate
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._users = 0
        self._retired = False
        if connector is None:
            self.fault = f"No plugin offers the connector {self.kind}."
            return
        try:
            self._settings = msgspec.json.decode(row["settings"], type=connector.settings)
            self.secrets = read_secrets(row["endpoint_id"], row["secrets"], key_ring=key_ring)
        except msgspec.ValidationError as error:
            self.fault = f"The stored settings no longer fit the connector {self.kind}: {error}."
        except Undecipherable as error:
            self.fault = error.detail
        if self._ca_file is not None and not self._ca_file.is_file():
            self.fault = f"There is no file {self._ca_file}, which the setting ca_file names."

    @property
    def poll_s(self) -> float:
        """The setting `poll_s`, where the connector has it: seconds between two polls, 0 for none."""
        return float(getattr(self._settings, "poll_s", 0))

    @property
    def retry_waits_s(self) -> tuple[float, ...]:
        """The connector's own schedule of attempts by these settings; empty where it has none."""
        waits = None if self.connector is None else self.connector.retry_waits
        return () if waits is None else waits(self._settings)

    @property
    def _ca_file(self) -> Path | None:
        """The setting `ca_file`, where the connector has it: a certification authority to trust beside the system's."""
        name = getattr(self._settings, "ca_file", None)
        return None if name is None else Path(name)

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[Endpoint]:
        """The endpoint for the connector's code; its session stays open for the time of the block."""
        if self._session is None:
            limits = HttpSettings(connections_max=CONNECTIONS_MAX, ca_file=self._ca_file)
            self._session = make_session(self._gate, settings=limits)
        self._users += 1
        try:
            yield Endpoint(
                endpoint_id=self.endpoint_id,
                name=self.name,
                sites=self.sites,
                settings=self._settings,
                secrets=self.secrets,
                http=self._session,
                clock=self._clock,
            )
        finally:
            self._users -= 1
            if self._retired and self._users == 0:
                await self._close()

    async def retire(self, *, at_once: bool = False) -> None:
        """Let go of the session: now if nobody uses it or `at_once`, else when the last user is done."""
        self._retired = True  # who comes later still gets a session, and the last one out closes it
        if self._users == 0 or at_once:
            await self._close()

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def read_secrets(endpoint_id: str, stored: str, *, key_ring: KeyRing) -> SecretBag:
    """The secrets of a row of core.endpoint.

    Raises:
        Undecipherable: one of them cannot be read; its value is not shown.
    """
    sealed = msgspec.json.decode(stored, type=dict[str, str])
    return SecretBag({name: key_ring.open(text, endpoint_id=endpoint_id, name=name) for name, text in sealed.items()})
