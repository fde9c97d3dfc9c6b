"""What the environment sets: every variable that Busbar reads, with its meaning and default."""

import os
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from busbar.errors import BusbarError
from busbar.kit.home import default_home


class BadSettings(BusbarError):
    """An environment variable has a value that Busbar cannot start with."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one process. Each field is set by the variable that `VARIABLES` names."""

    home: Path
    port: int = 8000
    listen: str = "127.0.0.1"
    admin_password: str | None = None
    demo: bool = False
    demo_password: str | None = None
    database_url: str | None = None
    amqp_url: str | None = None
    amqp_ca_file: Path | None = None
    secret_key: str | None = None
    mode: str = "development"
    egress: tuple[str, ...] = ()
    lockout: Literal["lock", "alarm"] = "lock"
    trusted_proxies: tuple[str, ...] = ()
    pool_size: int = 10
    takeover_s: float = 3.0
    stop_s: float = 20.0
    drain_s: float = 0.0
    simulator_port: int = 8081
    strict: bool = False
    log_level: str = "INFO"

    @property
    def allow_loopback(self) -> bool:
        """Whether connectors may call this machine, as they must to reach the simulators."""
        return self.mode == "development"

    @property
    def key_environment(self) -> dict[str, str]:
        """The part of the environment in which the key ring looks for keys."""
        return {} if self.secret_key is None else {"BUSBAR_SECRET_KEY": self.secret_key}


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """One environment variable."""

    name: str
    field: str
    meaning: str
    secret: bool = False
    """A secret may be read from a file instead, as orchestrators hand them out: `file_name` names the file."""

    @property
    def file_name(self) -> str:
        """The variable that names the file which holds the value of a secret."""
        return f"{self.name}_FILE"


VARIABLES = (
    Variable(
        name="BUSBAR_HOME",
        field="home",
        meaning="Folder for all data: the embedded database, the secret key. Default: `/var/lib/busbar` for root, "
        "else `~/.local/share/busbar`.",
    ),
    Variable(
        name="BUSBAR_PORT",
        field="port",
        meaning="TCP port of the API; at a worker, of health and metrics only. Default: 8000.",
    ),
    Variable(
        name="BUSBAR_LISTEN",
        field="listen",
        meaning="Address that the API listens on. Default: 127.0.0.1; `0.0.0.0` for every address.",
    ),
    Variable(
        name="BUSBAR_ADMIN_PASSWORD",
        field="admin_password",
        meaning="Password of the user `admin`, made at the first start. Default: a generated one, printed once.",
        secret=True,
    ),
    Variable(
        name="BUSBAR_DEMO",
        field="demo",
        meaning="`1` adds demo data and one demo user for each role at the first start. Default: 0. "
        "Never for production.",
    ),
    Variable(
        name="BUSBAR_DEMO_PASSWORD",
        field="demo_password",
        meaning="Password of all demo users. Default: a generated one for each, printed once.",
        secret=True,
    ),
    Variable(
        name="DATABASE_URL",
        field="database_url",
        meaning="PostgreSQL to use, `postgresql://user:password@host/database`. Default: the embedded one.",
        secret=True,
    ),
    Variable(
        name="AMQP_URL",
        field="amqp_url",
        meaning="RabbitMQ to use, `amqp://user:password@host/vhost`, or `amqps://…` for TLS. Default: none; "
        "the ledger in PostgreSQL is the queue.",
        secret=True,
    ),
    Variable(
        name="AMQP_CA_FILE",
        field="amqp_ca_file",
        meaning="PEM file of the certification authority of an `amqps` broker. Default: those that the system trusts.",
    ),
    Variable(
        name="BUSBAR_SECRET_KEY",
        field="secret_key",
        meaning="Key that encrypts stored secrets, 32 bytes in base64. Default: the file `secret.key` in BUSBAR_HOME, "
        "made at the first start. Processes on several machines need the same key.",
        secret=True,
    ),
    Variable(
        name="BUSBAR_MODE",
        field="mode",
        meaning="`development` lets connectors call this machine, where the simulators are; `production` does not. "
        "Default: development.",
    ),
    Variable(
        name="BUSBAR_EGRESS",
        field="egress",
        meaning="Where connectors may connect to: host names, `*.suffix` or networks, each with an optional port, "
        "separated by commas. Default: nowhere but the simulators.",
    ),
    Variable(
        name="BUSBAR_LOCKOUT",
        field="lockout",
        meaning="After repeated failed sign-ins: `lock` refuses the account for a while, `alarm` only logs a warning, "
        "for control rooms. Default: lock.",
    ),
    Variable(
        name="BUSBAR_TRUSTED_PROXIES",
        field="trusted_proxies",
        meaning="Networks of the gateways in front, separated by commas, such as `10.0.0.0/24`: the address that they "
        "give in X-Forwarded-For counts for the limit on failed sign-ins. Default: none is believed.",
    ),
    Variable(name="BUSBAR_POOL_SIZE", field="pool_size", meaning="Database connections for requests. Default: 10."),
    Variable(
        name="BUSBAR_TAKEOVER_S",
        field="takeover_s",
        meaning="After so many seconds the deliveries of a process that died are taken over. Default: 3.",
    ),
    Variable(
        name="BUSBAR_STOP_S",
        field="stop_s",
        meaning="So many seconds are given to running work when Busbar is stopped. Default: 20.",
    ),
    Variable(
        name="BUSBAR_DRAIN_S",
        field="drain_s",
        meaning="So many seconds Busbar goes on answering, while saying that it is not ready, before it stops: time "
        "for a load balancer to look elsewhere. Default: 0.",
    ),
    Variable(
        name="BUSBAR_SIMULATOR_PORT",
        field="simulator_port",
        meaning="First TCP port of the simulators that `busbar up` starts. Default: 8081.",
    ),
    Variable(
        name="BUSBAR_STRICT",
        field="strict",
        meaning="`1` makes a plugin that fails stop the start, as CI wants. Default: 0, it is quarantined.",
    ),
    Variable(name="BUSBAR_LOG_LEVEL", field="log_level", meaning="DEBUG, INFO, WARNING or ERROR. Default: INFO."),
)


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings that an environment gives, by default that of this process.

    Raises:
        BadSettings: naming every variable with a bad value.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, object] = {"home": default_home()}
    faults: list[str] = []
    for variable in VARIABLES:
        try:
            if text := _text(variable, environment):
                values[variable.field] = _convert(variable.field, text)
        except ValueError as error:
            faults.append(f"{variable.name}: {error}")
    if faults:
        raise BadSettings(f"Busbar cannot start with these settings. {'; '.join(faults)}.")
    return msgspec.convert(values, Settings)


def _text(variable: Variable, environment: Mapping[str, str]) -> str:
    """What the variable says, or the file that stands in for it; nothing when neither is set."""
    text = environment.get(variable.name, "").strip()
    file = environment.get(variable.file_name, "").strip() if variable.secret else ""
    if not file:
        return text
    if text:
        raise ValueError(f"{variable.file_name} is set as well; unset one of them")
    try:
        text = Path(file).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"the file that {variable.file_name} names cannot be read: {file}: {reason}") from None
    if not text:
        raise ValueError(f"the file that {variable.file_name} names is empty: {file}")
    return text


def _convert(field: str, text: str) -> object:
    match field:
        case "home":
            return Path(text).expanduser()
        case "port" | "simulator_port":
            return _number(text, 1, 65535)
        case "pool_size":
            return _number(text, 2, 200)
        case "drain_s":
            return float(_number(text, 0, 600, kind=float))
        case "takeover_s" | "stop_s":
            return float(_number(text, 0.1, 600, kind=float))
        case "demo" | "strict":
            return _one_of(text, ("0", "1")) == "1"
        case "mode":
            return _one_of(text, ("development", "production"))
        case "lockout":
            return _one_of(text, ("lock", "alarm"))
        case "log_level":
            return _one_of(text.upper(), ("DEBUG", "INFO", "WARNING", "ERROR"))
        case "egress":
            return tuple(part.strip() for part in text.split(",") if part.strip())
        case "trusted_proxies":
            return tuple(str(ip_network(part.strip())) for part in text.split(",") if part.strip())
        case "amqp_url":
            return _address(text, ("amqp", "amqps"), "amqp://user:password@host/vhost")
        case "database_url":
            return _address(text, ("postgresql", "postgres"), "postgresql://user:password@host/database")
        case "amqp_ca_file":
            return Path(text).expanduser()
        case _:
            return text


def _number(text: str, lowest: float, highest: float, *, kind: type = int) -> float:
    try:
        number: float = kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not lowest <= number <= highest:
        raise ValueError(f"{text} is not between {lowest} and {highest}")
    return number


def _address(text: str, schemes: tuple[str, ...], example: str) -> str:
    """Refuse what is no address, without showing it: it holds a password."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in schemes and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"not an address such as {example}")
    return text


def _one_of(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(f"{text!r} is not one of {', '.join(choices)}")
    return text
