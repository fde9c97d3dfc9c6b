"""Checks what somebody enters for an endpoint, and names every bad field at once."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from busbar.connectors.contract import Connector
from busbar.connectors.egress import Gate
from busbar.connectors.egress_url import EgressRefused
from busbar.connectors.secrets import SECRET_BYTES_MAX, Secret
from busbar.connectors.signature import BadSigningSecret, read_signing_secrets
from busbar.errors import FieldError, InvalidPayload
from busbar.web.validation import collect_errors

WEBHOOK_SECRET: Final = "webhook_secret"  # noqa: S105 - the name of a secret, not one
"""The secret that signs what comes in; every connector that receives has it, declared or not."""
LOOKUP_S: Final = 3.0


class BadEndpoint(InvalidPayload):
    """The settings or secrets of an endpoint do not fit its connector."""

    title = "Bad endpoint"


def secret_names(connector: Connector) -> tuple[str, ...]:
    """The secrets that an endpoint of this connector may have."""
    names = connector.secrets
    return names if connector.receive is None or WEBHOOK_SECRET in names else (*names, WEBHOOK_SECRET)


async def check_configuration(
    connector: Connector,
    *,
    settings: Mapping[str, Any] | None,
    secrets: Mapping[str, Secret | None],
    gate: Gate,
) -> str | None:
    """The settings as JSON, defaults filled in; None when no settings are given.

    A secret of None is one to be removed. Every address among the settings must pass the gate.

    Raises:
        BadEndpoint: naming every bad field as `settings.<name>` or `secrets.<name>`; never a value.
    """
    errors = _bad_secrets(connector, secrets)
    stored: str | None = None
    if settings is not None:
        bad = _bad_settings(connector, settings)
        if not bad:
            typed = msgspec.convert(dict(settings), connector.settings)
            stored = msgspec.json.encode(typed).decode()
            bad = await _bad_addresses(msgspec.json.decode(stored), gate)
        errors += bad
    if errors:
        names = ", ".join(error.field for error in errors)
        raise BadEndpoint(f"Not accepted: {names}.", errors=errors)
    return stored


def _bad_settings(connector: Connector, settings: Mapping[str, Any]) -> list[FieldError]:
    known = {field.encode_name for field in msgspec.structs.fields(connector.settings)}
    # A misspelt setting would otherwise leave its default in force, and nobody would notice.
    unknown = [
        FieldError(field=f"settings.{name}", message="There is no such setting.")
        for name in settings
        if name not in known
    ]
    named = {name: value for name, value in settings.items() if name in known}
    return unknown + collect_errors(named, connector.settings, path="settings")


def _bad_secrets(connector: Connector, secrets: Mapping[str, Secret | None]) -> list[FieldError]:
    errors = []
    names = secret_names(connector)
    for name, secret in secrets.items():
        field = f"secrets.{name}"
        if name not in names:
            errors.append(FieldError(field=field, message="There is no such secret."))
        elif secret is None:
            continue
        elif not secret:
            errors.append(FieldError(field=field, message="Must not be empty; null removes it."))
        elif len(secret.reveal().encode()) > SECRET_BYTES_MAX:
            errors.append(FieldError(field=field, message=f"At most {SECRET_BYTES_MAX} bytes."))
        elif name == WEBHOOK_SECRET:
            try:
                read_signing_secrets(secret)
            except BadSigningSecret as error:
                errors.append(FieldError(field=field, message=error.detail))
    return errors


async def _bad_addresses(settings: Mapping[str, Any], gate: Gate) -> list[FieldError]:
    errors = []
    for name, value in settings.items():
        if isinstance(value, str) and (name == "url" or name.endswith("_url")):
            try:
                await _check_address(value, gate)
            except EgressRefused as refused:
                errors.append(FieldError(field=f"settings.{name}", message=refused.detail))
    return errors


async def _check_address(url: str, gate: Gate) -> None:
    target = gate.check_url(url)
    try:
        async with asyncio.timeout(LOOKUP_S):
            await gate.addresses(target)
    except (OSError, TimeoutError):
        # A name that is not known yet, or a slow name server: each connection is checked again anyway.
        return
