"""`busbar broker-users`: writes what RabbitMQ imports at its start: the topology, and users with hashed passwords."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from busbar.bus.broker_users import VHOST, user_definitions, users_of
from busbar.bus.topology import static_definitions
from busbar.cli.console import people


def write_broker_users(output: Path | None, *, peers: Sequence[str]) -> None:
    """Write the file, or print it; one that is there is replaced as a whole. Raises BadSettings."""
    definitions = {**static_definitions(VHOST), **user_definitions(users_of(os.environ, peers=peers))}
    text = msgspec.json.format(msgspec.json.encode(definitions), indent=2).decode() + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    # The broker may read at any start; it finds the old file or the new one, never half of one.
    beside = output.with_name(f".{output.name}.new")
    beside.write_text(text, "utf-8")
    beside.replace(output)
    people.print(f"Written: {output}.", markup=False, soft_wrap=True)
