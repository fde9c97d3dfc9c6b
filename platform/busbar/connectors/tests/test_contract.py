"""A connector that is declared wrongly is refused with a sentence that names it."""

from datetime import datetime
from typing import Any

import msgspec
import pytest

from busbar.connectors.contract import (
    Attempt,
    ConnectionReport,
    Connector,
    DeliveryClass,
    Endpoint,
    RateLimited,
    Receipt,
)


class AcmeSettings(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    table: str = "incident"


async def deliver(endpoint: Endpoint, attempt: Attempt) -> Receipt:
    return Receipt(remote_id="1")


async def try_connection(endpoint: Endpoint) -> ConnectionReport:
    return ConnectionReport(ok=True, detail="Reached.")


def declare(**changes: Any) -> Connector:
    fields: dict[str, Any] = {
        "kind": "acme",
        "title": "Acme",
        "delivery_class": DeliveryClass.B,
        "settings": AcmeSettings,
        "secrets": ("password",),
        "deliver": deliver,
        "test_connection": try_connection,
        "default_pattern": "pm.*",
    }
    return Connector(**(fields | changes))


class Callable_:
    async def __call__(self, endpoint: Endpoint, attempt: Attempt) -> Receipt:
        return Receipt(remote_id="1")


class TestADeclaration:
    def test_that_is_complete_is_taken(self) -> None:
        assert declare().kind == "acme"
        assert declare(deliver=Callable_()).receive is None

    @pytest.mark.parametrize("kind", ["", "A", "Acme", "acme corp", "acme-corp", "1acme", "a" * 40, "acme\n"])
    def test_with_a_kind_that_cannot_stand_in_an_address_is_refused(self, kind: str) -> None:
        with pytest.raises(ValueError, match="kind"):
            declare(kind=kind)

    @pytest.mark.parametrize("role", ["deliver", "test_connection", "receive", "simulator"])
    def test_with_a_function_that_is_not_async_is_refused(self, role: str) -> None:
        with pytest.raises(TypeError, match=f"acme: {role} must be an async function"):
            declare(**{role: lambda *_: None})

    def test_that_composes_does_so_without_waiting_and_prepares_only_then(self) -> None:
        assert declare(compose=lambda settings, attempt: {}, prepare=Callable_()).prepare is not None
        with pytest.raises(TypeError, match="acme: compose must not be an async function"):
            declare(compose=Callable_())
        with pytest.raises(TypeError, match="acme: prepare must be an async function"):
            declare(compose=lambda settings, attempt: {}, prepare=lambda *_: {})
        with pytest.raises(ValueError, match="prepare is for a connector that composes"):
            declare(prepare=Callable_())

    def test_with_settings_that_are_no_struct_is_refused(self) -> None:
        with pytest.raises(TypeError, match="settings"):
            declare(settings=dict)

    @pytest.mark.parametrize("secrets", [("Password",), ("password", "password"), ("url",)])
    def test_with_secrets_that_cannot_be_kept_apart_is_refused(self, secrets: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="acme"):
            declare(secrets=secrets)


class TestAQuota:
    def test_ends_at_an_aware_moment(self) -> None:
        with pytest.raises(ValueError, match="aware"):
            RateLimited("Quota.", until=datetime(2026, 11, 23))  # noqa: DTZ001 - that is what is refused
