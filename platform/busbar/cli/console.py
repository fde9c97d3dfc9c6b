"""What the commands print: for people on standard error, data on standard output."""

from rich.console import Console

from busbar.errors import BusbarError

people = Console(stderr=True, highlight=False)
"""Progress, tables, sentences."""


def tell_error(error: BusbarError) -> None:
    """Print an error as one sentence, with each bad field below it."""
    people.print(f"[bold red]Error[/] {error.code}: ", end="")
    people.print(error.detail, markup=False)
    for field in error.errors:
        people.print(f"  {field.field}: {field.message}", markup=False)
