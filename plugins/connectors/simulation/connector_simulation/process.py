"""A simulator as a process: its arguments, the line of JSON that says it is ready, and its end on a signal."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from connector_simulation.server import SimulatorServer, running
from connector_simulation.webhook import Webhook

Make = Callable[[argparse.Namespace], SimulatorServer[Any]]
Told = Callable[[SimulatorServer[Any]], dict[str, Any]]


def parser_of(module: str, description: str, *, port: int, tls_port: int) -> argparse.ArgumentParser:
    """The arguments that every simulator takes; its own are added by the caller."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=f"{description} When it is ready it prints one line of JSON with its addresses and credentials. "
        "The control API is at /_simulator/status and beside it.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=port, help="plain HTTP port, 0 for a free one (%(default)s)")
    parser.add_argument("--tls-port", type=int, default=tls_port, help="HTTPS port, 0 for a free one (%(default)s)")
    parser.add_argument("--ca-file", type=Path, help="where to write the certificate (default: a temporary file)")
    parser.add_argument("--hostname", action="append", default=[], help="a further name in the certificate; repeatable")
    parser.add_argument("--state-file", type=Path, help="effect log (JSON Lines); records are restored from it")
    parser.add_argument("--webhook-url", help="where changes by users are told")
    parser.add_argument("--webhook-secret", help="whsec_ and base64 of 24 to 64 bytes; needed with --webhook-url")
    return parser


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of Options that `parser_of` asks for."""
    webhook = None
    if arguments.webhook_url:
        webhook = Webhook(url=arguments.webhook_url, secret=arguments.webhook_secret or "")
    return {
        "host": arguments.host,
        "port": arguments.port,
        "tls_port": arguments.tls_port,
        "ca_file": arguments.ca_file,
        "hostnames": tuple(arguments.hostname),
        "state_file": arguments.state_file,
        "webhook": webhook,
    }


def given(**values: Any) -> dict[str, Any]:
    """The values that were given, for a struct whose defaults stand for the others."""
    return {name: value for name, value in values.items() if value is not None}


def serve(parser: argparse.ArgumentParser, make: Make, told: Callable[[Any], dict[str, Any]]) -> None:
    """Run the simulator that `make` makes of the arguments, until SIGTERM or SIGINT.

    `told` is what its ready line says beside the addresses. `make` may raise ValueError for arguments that cannot be.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    arguments = parser.parse_args()
    try:
        asyncio.run(_serve(arguments, make, told))
    except (ValueError, OSError) as error:
        parser.error(str(error))


async def _serve(arguments: argparse.Namespace, make: Make, told: Told) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with running(make(arguments)) as simulator:
        ready = {
            "ready": True,
            "url": simulator.url,
            "tls_url": simulator.tls_url,
            "ca_file": str(simulator.ca_file),
            **told(simulator),
        }
        sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
        sys.stdout.flush()
        await stopped.wait()
