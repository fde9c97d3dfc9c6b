"""`busbar kong`: writes Kong's declarative configuration from the live route table and the keys that verify tokens."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from busbar.app import create_litestar
from busbar.auth.tokens import LEEWAY_S
from busbar.cli.console import people
from busbar.cli.gateway_file import GatewayKeys, GatewaySettings, kong_document
from busbar.cli.gateway_routes import GatewayRoute, gateway_routes, of_modules
from busbar.cli.gateway_yaml import yaml_text
from busbar.cli.session import run
from busbar.runtime import Platform

HEADING: Final = """\
# Written by `busbar kong` from the route table and the public keys; write it anew after an upgrade, another module, or
# another key. docs/how-to/put-kong-in-front.md says how to use it.
"""


def write_kong(
    output: Path | None, *, settings: GatewaySettings, modules: Sequence[str], with_health: bool, with_keys: bool
) -> None:
    """Write the file, or print it; one that is there is replaced as a whole."""

    async def work(running: Platform) -> str:
        return kong_text(running, settings=settings, modules=modules, with_health=with_health, with_keys=with_keys)

    text = run(work)
    if output is None:
        sys.stdout.write(text)
        return
    # Kong may read at any moment; it finds the old file or the new one, never half of one.
    beside = output.with_name(f".{output.name}.new")
    beside.write_text(text, "utf-8")
    beside.replace(output)
    people.print(f"Written: {output}.", markup=False, soft_wrap=True)


def kong_text(
    running: Platform,
    *,
    settings: GatewaySettings,
    modules: Sequence[str] = (),
    with_health: bool = False,
    with_keys: bool = True,
) -> str:
    """The configuration of a running platform, as text; without keys Kong lets no token through.

    Raises:
        NotFound: a module is asked for that is not there.
        InvalidPayload: an upstream is no address that a gateway may be sent to.
    """
    document = kong_document(
        exposed(running, modules=modules, with_health=with_health),
        keys=_keys(running, with_keys=with_keys),
        settings=settings,
    )
    return HEADING + yaml_text(document)


def exposed(running: Platform, *, modules: Sequence[str] = (), with_health: bool = False) -> tuple[GatewayRoute, ...]:
    """The routes that are written."""
    routes = gateway_routes(create_litestar(running), with_health=with_health)
    return of_modules(routes, wanted=modules, known=running.catalog.modules)


def _keys(running: Platform, *, with_keys: bool) -> GatewayKeys:
    auth = running.auth
    published = auth.keys.jwks(now=running.clock())["keys"] if with_keys else ()
    return GatewayKeys(jwks=tuple(published), token_life_s_max=auth.settings.access_ttl_s + LEEWAY_S)
