"""The commands of `busbar`."""

from pathlib import Path
from typing import Annotated

import typer

cli = typer.Typer(
    name="busbar",
    help="Busbar: operations and integration platform for electricity, water and gas utilities.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
site_cli = typer.Typer(help="Sites: depots, plants, regions, offices.", no_args_is_help=True)
user_cli = typer.Typer(help="Users.", no_args_is_help=True)
plugin_cli = typer.Typer(help="Plugins.", no_args_is_help=True)
import_cli = typer.Typer(help="Load data in bulk.", no_args_is_help=True)
simulate_cli = typer.Typer(help="Load and remote systems, simulated.", no_args_is_help=True)
cli.add_typer(site_cli, name="site")
cli.add_typer(user_cli, name="user")
cli.add_typer(plugin_cli, name="plugin")
cli.add_typer(import_cli, name="import")
cli.add_typer(simulate_cli, name="simulate")

Site = Annotated[str | None, typer.Option(help="Site id; may be left out where there is only one.")]


@cli.command()
def up() -> None:
    """Run everything in one process: database, API, workers, and the simulators of the remote systems."""
    from busbar.cli.serving import run_up

    run_up()


@cli.command()
def serve(
    work: Annotated[bool, typer.Option(help="Relay events and run deliveries in this process too.")] = True,
) -> None:
    """Serve the API; run as many as you like on one database (DATABASE_URL)."""
    from busbar.cli.serving import run_serve

    run_serve(work=work)


@cli.command()
def worker() -> None:
    """Relay events and run deliveries, without serving the API; the port answers for health and metrics only."""
    from busbar.cli.serving import run_worker

    run_worker()


@cli.command()
def migrate() -> None:
    """Bring the database schema up to date; every start does so as well."""
    from busbar.cli.data import run_migrate

    run_migrate()


@cli.command()
def seed(demo: Annotated[bool, typer.Option("--demo", help="Add demo data and demo users.")] = False) -> None:
    """Add data to start with."""
    from busbar.cli.data import run_seed

    run_seed(demo=demo)


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document of the API."""
    from busbar.cli.documents import print_openapi

    print_openapi()


@cli.command()
def asyncapi() -> None:
    """Print the AsyncAPI document of the events."""
    from busbar.cli.documents import print_asyncapi

    print_asyncapi()


@cli.command("broker-users")
def broker_users(
    output: Annotated[Path | None, typer.Option(help="File to replace; printed without it.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="Peer with queues of its own; may be repeated.")] = None,
) -> None:
    """Write what RabbitMQ imports at its start: topology, and users with hashed passwords from the environment."""
    from busbar.cli.broker_users import write_broker_users

    write_broker_users(output, peers=peer or [])


@cli.command()
def kong(
    upstream: Annotated[
        list[str] | None, typer.Option(help="Process that serves the API; may be repeated. Default: this machine's.")
    ] = None,
    module: Annotated[list[str] | None, typer.Option(help="Only these modules and the core; may be repeated.")] = None,
    output: Annotated[Path | None, typer.Option(help="File to replace; printed without it.")] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Take requests without TLS too.")] = False,
    expose_health: Annotated[bool, typer.Option("--expose-health", help="Let the health checks through.")] = False,
    requests_per_minute: Annotated[int, typer.Option(min=1, help="For each token, and for each open caller.")] = 6_000,
    logins_per_minute: Annotated[int, typer.Option(min=1, help="For each address of a caller.")] = 5,
    without_keys: Annotated[bool, typer.Option("--without-keys", help="Leave the public keys out.")] = False,
) -> None:
    """Write Kong's declarative configuration from the live route table and the keys that verify our tokens."""
    from busbar.cli.gateway_file import GatewaySettings
    from busbar.cli.kong import write_kong

    settings = GatewaySettings(
        upstreams=tuple(upstream or ["http://127.0.0.1:8000"]),
        requests_per_minute=requests_per_minute,
        logins_per_minute=logins_per_minute,
        plain_http=plain_http,
    )
    write_kong(output, settings=settings, modules=module or [], with_health=expose_health, with_keys=not without_keys)


@cli.command()
def reference(
    folder: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("docs/reference"),
    check: Annotated[bool, typer.Option("--check", help="Only tell whether it is up to date.")] = False,
) -> None:
    """Write the reference pages: settings, hooks, events, errors, commands."""
    from busbar.cli.reference import run_reference

    run_reference(folder, check=check)


@cli.command()
def doctor() -> None:
    """Look for what is wrong: settings, folders, database, schema, plugins, broker, deliveries, clock."""
    from busbar.cli.doctor import run_doctor

    run_doctor()


@site_cli.command("add")
def site_add(
    site_id: str,
    name: str,
    timezone: Annotated[str, typer.Option(help="IANA time zone.")] = "UTC",
    module: Annotated[list[str] | None, typer.Option(help="Module to enable; may be repeated.")] = None,
) -> None:
    """Make a site."""
    from busbar.cli.people import add_site

    add_site(site_id, name, timezone, module or [])


@site_cli.command("list")
def site_list() -> None:
    """List the sites and their modules."""
    from busbar.cli.people import list_sites

    list_sites()


@site_cli.command("enable")
def site_enable(site_id: str, module: str) -> None:
    """Enable a module at a site."""
    from busbar.cli.people import switch_module

    switch_module(site_id, module, enabled=True)


@site_cli.command("disable")
def site_disable(site_id: str, module: str) -> None:
    """Disable a module at a site; its data stays."""
    from busbar.cli.people import switch_module

    switch_module(site_id, module, enabled=False)


@user_cli.command("add")
def user_add(
    username: str,
    role: Annotated[list[str], typer.Option(help="Role; may be repeated.")],
    site: Annotated[list[str], typer.Option(help="Site id, or * for all; may be repeated.")],
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
) -> None:
    """Make a user; asks for the password."""
    from busbar.cli.people import add_user

    add_user(username, role, site, password_stdin=password_stdin)


@user_cli.command("list")
def user_list() -> None:
    """List the users."""
    from busbar.cli.people import list_users

    list_users()


@user_cli.command("password")
def user_password(
    username: str, password_stdin: Annotated[bool, typer.Option(help="Read it from standard input.")] = False
) -> None:
    """Set a user's password and end all of the user's sessions."""
    from busbar.cli.people import set_password

    set_password(username, password_stdin=password_stdin)


@cli.command("rotate-key")
def rotate_key(
    after_minutes: Annotated[
        int, typer.Option(min=0, max=10_080, help="Sign with it only then, so that a gateway can know it before.")
    ] = 0,
) -> None:
    """Make a new key that signs access tokens; nobody is signed out."""
    from busbar.cli.people import rotate_signing_key

    rotate_signing_key(after_minutes=after_minutes)


@cli.command("reseal-secrets")
def reseal_secrets() -> None:
    """Encrypt with the newest secret key what older ones have encrypted, so that those can be dropped."""
    from busbar.cli import people

    people.reseal_secrets()


@plugin_cli.command("list")
def plugin_list() -> None:
    """List the installed plugins, and why one does not work."""
    from busbar.cli.documents import list_plugins

    list_plugins()


@import_cli.command("simbench")
def import_simbench(folder: Path, site: Site = None) -> None:
    """Load a SimBench grid (a folder of CSV files) as assets."""
    from busbar.cli.data import run_importer

    run_importer("pm.simbench", folder, site=site, partial=False, mapping=None)


@import_cli.command("file")
def import_file(
    importer: Annotated[str, typer.Argument(help="Such as pm.assets or pm.oe417.")],
    path: Path,
    site: Site = None,
    mapping: Annotated[Path | None, typer.Option(help="JSON file: which column becomes which field.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Take the good rows even if others are bad.")] = False,
    errors: Annotated[Path | None, typer.Option(help="Write the rejected rows to this CSV file.")] = None,
) -> None:
    """Load a CSV or spreadsheet file."""
    from busbar.cli.data import run_importer

    run_importer(importer, path, site=site, partial=partial, mapping=mapping, errors=errors)


@import_cli.command("list")
def import_list() -> None:
    """List the kinds of file that can be loaded."""
    from busbar.cli.documents import list_importers

    list_importers()


@simulate_cli.command("storm")
def simulate_storm(
    url: Annotated[str, typer.Option(help="The running Busbar.")] = "http://127.0.0.1:8000",
    username: Annotated[str, typer.Option(help="Who reports; needs pm.write.")] = "admin",
    password: Annotated[str, typer.Option(envvar="BUSBAR_ADMIN_PASSWORD", help="Of that user.")] = "",
    incidents: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many.")] = 10_000,
    seconds: Annotated[
        float, typer.Option(min=0, max=3_600, help="Spread over so many; 0 is as fast as it goes.")
    ] = 60,
    connections: Annotated[int, typer.Option(min=1, max=512, help="So many at once.")] = 64,
    site: Site = None,
) -> None:
    """Report many incidents at once, as in a storm, and tell what became of them."""
    from busbar.cli.storm import run_storm

    run_storm(url, username, password, incidents=incidents, seconds=seconds, connections=connections, site=site)
