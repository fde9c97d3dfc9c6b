"""Starts the simulators of the remote systems for `busbar up`, and connects Busbar to them on the first start."""

from busbar.auth.actor import Context
from busbar.connectors import commands as endpoints
from busbar.connectors.commands import Changes
from busbar.connectors.contract import Connector, RunningSimulator
from busbar.connectors.secrets import Secret
from busbar.db import fetchval
from busbar.routing import commands as routes
from busbar.routing.definition import RouteDefinition
from busbar.runtime import Platform


async def start_simulators(ctx: Context, running: Platform) -> dict[str, RunningSimulator]:
    """Start one for each connector that has one, on ports from BUSBAR_SIMULATOR_PORT on.

    Each keeps its effects in a file below BUSBAR_HOME, and so has its records back after a restart. The first time,
    an endpoint `<kind>-simulator` and a published route to it are made; what an operator makes of them later stays.
    """
    started = {}
    port = running.settings.simulator_port
    for kind, connector in sorted(running.endpoints.connectors.items()):
        if connector.simulator is None:
            continue
        folder = running.settings.home / "simulators"
        folder.mkdir(parents=True, exist_ok=True)
        simulator = await connector.simulator("127.0.0.1", port, folder / f"{kind}.jsonl")
        port += 2  # plain and TLS
        await _connect(ctx, running, connector, simulator)
        started[kind] = simulator
    return started


async def _connect(ctx: Context, running: Platform, connector: Connector, simulator: RunningSimulator) -> None:
    endpoint_id = f"{connector.kind}-simulator"
    settings = dict(simulator.endpoint_settings)
    secrets = {name: Secret(text) for name, text in simulator.endpoint_secrets.items()}
    inbound = f"http://127.0.0.1:{running.settings.port}/api/v1/inbound/{endpoint_id}"
    simulator.tell(inbound)
    if await fetchval("select exists(select from core.endpoint where endpoint_id = $1)", endpoint_id):
        changes = Changes(settings=settings, secrets=dict(secrets))
        await endpoints.change_endpoint(ctx, running.endpoints, endpoint_id, changes)
        return
    await endpoints.create_endpoint(
        ctx,
        running.endpoints,
        endpoint_id=endpoint_id,
        connector=connector.kind,
        name=f"Simulator: {connector.title}",
        sites=(),
        settings=settings,
        secrets=secrets,
    )
    definition = RouteDefinition(
        name=f"{connector.default_pattern} to {connector.title}",
        pattern=(connector.default_pattern,),
        endpoint_id=endpoint_id,
    )
    route_id = await routes.create_route(ctx, definition, route_id=f"all-to-{endpoint_id}")
    await routes.publish_route(ctx, route_id)
