"""Run the simulator as a process: `python -m busbar_crm.simulator --port 8085 --tls-port 8448 --state-file X`."""

import argparse
from pathlib import Path

import msgspec

from busbar_crm.simulator.accounts import Credentials
from busbar_crm.simulator.server import QUOTA, Options, Simulator
from connector_simulation.process import given, options_of, parser_of, serve


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "busbar_crm.simulator", "A Salesforce-compatible simulator of the REST API.", port=8085, tls_port=8448
    )
    parser.add_argument(
        "--user", help="user name of the integration user (default: busbar.integration@utility.example)"
    )
    parser.add_argument("--client-id", help="consumer key (default: a random one)")
    parser.add_argument("--client-secret", help="consumer secret (default: a random one)")
    parser.add_argument("--public-key", type=Path, help="PEM file of the client app's public key, for JWT bearer")
    parser.add_argument("--quota", type=int, default=QUOTA, help="API requests in 24 hours (%(default)s)")
    return parser


def _simulator(arguments: argparse.Namespace) -> Simulator:
    credentials = given(username=arguments.user, client_id=arguments.client_id, client_secret=arguments.client_secret)
    options = Options(
        **options_of(arguments),
        credentials=Credentials(**credentials),
        public_key=arguments.public_key.read_text() if arguments.public_key else None,
        quota=arguments.quota,
    )
    return Simulator(options)


def _told(simulator: Simulator) -> dict[str, str]:
    told: dict[str, str] = msgspec.to_builtins(simulator.credentials)
    return told


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    serve(_parser(), _simulator, _told)


if __name__ == "__main__":
    main()
