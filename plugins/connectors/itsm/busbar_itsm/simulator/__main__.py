"""Run the simulator as a process: `python -m busbar_itsm.simulator --port 8081 --tls-port 8444 --state-file X`."""

import argparse

import msgspec

from busbar_itsm.simulator.accounts import Credentials
from busbar_itsm.simulator.server import Options, Simulator
from connector_simulation.process import given, options_of, parser_of, serve


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(
        "busbar_itsm.simulator", "A ServiceNow-compatible simulator of the Table API.", port=8081, tls_port=8444
    )
    parser.add_argument("--user", default="busbar.integration", help="user name (%(default)s)")
    parser.add_argument("--password", help="password (default: a random one)")
    parser.add_argument("--client-id", help="OAuth client id (default: a random one)")
    parser.add_argument("--client-secret", help="OAuth client secret (default: a random one)")
    parser.add_argument("--rate-limit", type=int, help="requests per user and window (default: no limit)")
    parser.add_argument("--rate-limit-window-s", type=int, default=3600, help="seconds of a window (%(default)s)")
    return parser


def _simulator(arguments: argparse.Namespace) -> Simulator:
    credentials = given(
        username=arguments.user,
        password=arguments.password,
        client_id=arguments.client_id,
        client_secret=arguments.client_secret,
    )
    options = Options(
        **options_of(arguments),
        credentials=Credentials(**credentials),
        rate_limit=arguments.rate_limit,
        rate_limit_window_s=arguments.rate_limit_window_s,
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
