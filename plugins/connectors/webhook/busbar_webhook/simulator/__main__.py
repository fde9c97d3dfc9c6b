"""Run the receiver as a process: `python -m busbar_webhook.simulator --port 8087 --tls-port 8450 --state-file X`."""

import argparse

from busbar_webhook.simulator.server import Options, Simulator
from connector_simulation.process import options_of, parser_of, serve


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("busbar_webhook.simulator", "A receiver of Standard Webhooks.", port=8087, tls_port=8450)
    parser.add_argument("--secret", help="whsec_ and base64 of 24 to 64 bytes (default: a random one)")
    return parser


def _simulator(arguments: argparse.Namespace) -> Simulator:
    return Simulator(Options(**options_of(arguments), secret=arguments.secret))


def _told(simulator: Simulator) -> dict[str, str]:
    return {"address": simulator.address, "secret": simulator.webhook_secret}


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    serve(_parser(), _simulator, _told)


if __name__ == "__main__":
    main()
