"""Run the simulator as a process: `python -m busbar_erp.simulator --port 8083 --tls-port 8446 --state-file X`."""

import argparse

import msgspec

from busbar_erp.simulator.accounts import Credentials
from busbar_erp.simulator.server import Options, Simulator
from connector_simulation.process import given, options_of, parser_of, serve


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "busbar_erp.simulator", "An SAP-compatible simulator of OData V2 services.", port=8083, tls_port=8446
    )
    parser.add_argument("--user", default="BUSBAR", help="user name (%(default)s)")
    parser.add_argument("--password", help="password (default: a random one)")
    parser.add_argument("--client-id", help="OAuth client id (default: a random one)")
    parser.add_argument("--client-secret", help="OAuth client secret (default: a random one)")
    return parser


def _simulator(arguments: argparse.Namespace) -> Simulator:
    credentials = given(
        username=arguments.user,
        password=arguments.password,
        client_id=arguments.client_id,
        client_secret=arguments.client_secret,
    )
    return Simulator(Options(**options_of(arguments), credentials=Credentials(**credentials)))


def _told(simulator: Simulator) -> dict[str, str]:
    told: dict[str, str] = msgspec.to_builtins(simulator.credentials)
    return told


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    serve(_parser(), _simulator, _told)


if __name__ == "__main__":
    main()
