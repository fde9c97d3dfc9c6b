"""The command line; `app.py` lists the commands. Each imports what it needs when it runs, so that `--help` is quick."""

import sys


def main() -> None:
    """Entry point of the command `busbar`."""
    from busbar.cli.app import cli
    from busbar.cli.console import tell_error
    from busbar.errors import BusbarError

    try:
        cli()
    except BusbarError as error:
        tell_error(error)
        sys.exit(1)
