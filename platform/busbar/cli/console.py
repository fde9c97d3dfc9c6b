"""What the commands print: for people on standard error, data on standard output."""

from rich.console import Console

from busbar.errors import BusbarError

people = Console(stderr=True, highlight=False)
"""Progress, tables, sentences."""


def tell_error(error: BusbarError) -> None:
    """Print an error as one sentence, with each bad field below it."""
    people.print(f"[bold red]Error[/] {error.code}: ", end="")
    people.print(error.detail, markup=False, soft_wrap=True)
    for field in error.errors:
        people.print(f"  {field.field}: {field.message}", markup=False, soft_wrap=True)


def tell_first_password(password: str | None) -> None:
    """Print the password of `admin` if this start made that user; nobody can read it again."""
    if password is None:
        return
    people.print("  sign in as [bold]admin[/] with the password ", end="")
    people.print(password, style="bold", markup=False, soft_wrap=True)
    people.print("  It is shown only now; set another with `busbar user password admin`.")
