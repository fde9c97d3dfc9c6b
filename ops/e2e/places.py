"""Where the files, folders, hosts and ports of compose.yml are on this machine."""

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from acceptance.processes import free_port

from busbar.testing.broker_ground import Ground
from ops.e2e.model import ROOT, Service

PORTS = {
    "postgres": 5432,
    "rabbitmq": 5672,
    "platform": 8000,
    "worker": 8000,
    "kong": 8000,
    "camel": 8090,
    "prometheus": 9090,
    "itsm-simulator": 8081,
    "erp-simulator": 8082,
    "crm-simulator": 8083,
}
"""Where each service listens in its container."""
WITH_ADDRESSES = ("database_url", "amqp_url", "camel_amqp_url")


class Places:
    """One folder for everything, and a free port for each replica."""

    def __init__(self, folder: Path, services: Mapping[str, Service]) -> None:
        self.folder = folder
        self.ports = {(name, number): free_port() for name in PORTS for number in range(1, services[name].replicas + 1)}
        self.broker_ground: Ground | None = None
        self.secrets = folder / "secrets"
        subprocess.run([ROOT / "ops" / "make-secrets.sh", self.secrets], stdout=subprocess.DEVNULL, check=True)
        for name in WITH_ADDRESSES:
            text = self._hosts(self.secret(name))
            (self.secrets / name).chmod(0o600)
            (self.secrets / name).write_text(text)

    def port(self, name: str, number: int = 1) -> int:
        """Where a replica listens."""
        return self.ports[name, number]

    def url(self, name: str, number: int = 1) -> str:
        """The address of a replica that speaks HTTP."""
        return f"http://127.0.0.1:{self.port(name, number)}"

    def secret(self, name: str) -> str:
        """What a secret says."""
        return (self.secrets / name).read_text("utf-8").strip()

    def volume(self, name: str) -> Path:
        """The folder that stands for a named volume."""
        path = self.folder / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def home(self, service: Service, number: int) -> Path:
        """A folder of the replica's own."""
        path = self.folder / f"{service.name}-{number}"
        path.mkdir(exist_ok=True)
        return path

    def own_variables(self, service: Service, number: int) -> dict[str, str]:
        """What a container need not be told: a port for itself, and that the simulators are on this machine."""
        if service.name == "camel":
            return {"OBSERVE_HOST": "127.0.0.1", "OBSERVE_PORT": str(self.port("camel"))}
        if "BUSBAR_HOME" in service.environment:
            own = {"BUSBAR_HOME": str(self.home(service, number)), "BUSBAR_MODE": "development"}
            port = self.ports.get((service.name, number))
            return own if port is None else own | {"BUSBAR_PORT": str(port)}
        if service.name in PORTS:
            return {"BUSBAR_PORT": str(self.port(service.name, number)), "PGPORT": str(self.port("postgres"))}
        return {}

    def translated(self, service: Service) -> Callable[[str], str]:
        """What a text of the service's container is here."""
        paths = {target: self._source(source) for target, source in service.mounts.items()}
        longest_first = "|".join(re.escape(target) for target in sorted(paths, key=len, reverse=True))
        pattern = re.compile(rf"(?<![\w/.-])({longest_first})(?![\w-])")

        def here(text: str) -> str:
            text = pattern.sub(lambda found: paths[found[0]], text) if paths else text
            text = self._hosts(text.replace("0.0.0.0", "127.0.0.1"))  # noqa: S104 - it is taken away
            own_port = self.ports.get((service.name, 1))
            if own_port is None:
                return text
            return re.sub(rf"(?<!\d){PORTS[service.name]}(?!\d)", str(own_port), text)

        return here

    def close(self) -> None:
        """End what the broker stood on."""
        if self.broker_ground is not None:
            self.broker_ground.close()

    def _source(self, source: str) -> str:
        kind, _, name = source.partition(":")
        match kind:
            case "secret":
                return str(self.secrets / name)
            case "volume":
                return str(self.volume(name))
            case _:
                return source

    def _hosts(self, text: str) -> str:
        for name, port in PORTS.items():
            text = re.sub(rf"(?<![\w-]){name}:{port}(?!\d)", f"127.0.0.1:{self.port(name)}", text)
        return text
