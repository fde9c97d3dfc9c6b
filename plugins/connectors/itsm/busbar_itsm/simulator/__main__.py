"""Run the simulator as a process: `python -m busbar_itsm.simulator --port 8081 --tls-port 8444 --state-file X`."""

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from busbar_itsm.simulator.accounts import Credentials
from busbar_itsm.simulator.server import Options, Simulator, run_simulator
from busbar_itsm.simulator.webhook import Webhook


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m busbar_itsm.simulator",
        description="A ServiceNow-compatible simulator of the Table API. When it is ready it prints one line of JSON "
        "with its addresses and credentials. The control API is at /_simulator/status and beside it.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="plain HTTP port, 0 for a free one (%(default)s)")
    parser.add_argument("--tls-port", type=int, default=8444, help="HTTPS port, 0 for a free one (%(default)s)")
    parser.add_argument("--ca-file", type=Path, help="where to write the certificate (default: a temporary file)")
    parser.add_argument("--hostname", action="append", default=[], help="a further name in the certificate; repeatable")
    parser.add_argument("--state-file", type=Path, help="effect log (JSON Lines); records are restored from it")
    parser.add_argument("--user", default="busbar.integration", help="user name (%(default)s)")
    parser.add_argument("--password", help="password (default: a random one)")
    parser.add_argument("--client-id", help="OAuth client id (default: a random one)")
    parser.add_argument("--client-secret", help="OAuth client secret (default: a random one)")
    parser.add_argument("--rate-limit", type=int, help="requests per user and window (default: no limit)")
    parser.add_argument("--rate-limit-window-s", type=int, default=3600, help="seconds of a window (%(default)s)")
    parser.add_argument("--webhook-url", help="where changes by users are told")
    parser.add_argument("--webhook-secret", help="whsec_ and base64 of 24 to 64 bytes; needed with --webhook-url")
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    given: dict[str, Any] = {
        "username": arguments.user,
        "password": arguments.password,
        "client_id": arguments.client_id,
        "client_secret": arguments.client_secret,
    }
    credentials = Credentials(**{name: value for name, value in given.items() if value is not None})
    webhook = None
    if arguments.webhook_url:
        webhook = Webhook(url=arguments.webhook_url, secret=arguments.webhook_secret or "")
    return Options(
        host=arguments.host,
        port=arguments.port,
        tls_port=arguments.tls_port,
        ca_file=arguments.ca_file,
        hostnames=tuple(arguments.hostname),
        state_file=arguments.state_file,
        credentials=credentials,
        rate_limit=arguments.rate_limit,
        rate_limit_window_s=arguments.rate_limit_window_s,
        webhook=webhook,
    )


def _ready_line(simulator: Simulator) -> str:
    ready = {
        "ready": True,
        "url": simulator.url,
        "tls_url": simulator.tls_url,
        "ca_file": str(simulator.ca_file),
        **msgspec.to_builtins(simulator.credentials),
    }
    return msgspec.json.encode(ready).decode()


async def _serve(options: Options) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with run_simulator(options) as simulator:
        sys.stdout.write(_ready_line(simulator) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = _parser()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        options = _options(parser.parse_args())
        asyncio.run(_serve(options))
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
