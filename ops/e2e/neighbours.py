"""How the neighbours of Busbar start here: with the configuration of this repository, on free ports."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import yaml
from acceptance.camel import build as build_camel
from acceptance.processes import free_port

from busbar.db.cluster import prepare
from busbar.testing.broker_ground import Ground
from ops.e2e.model import ROOT, Service
from ops.e2e.places import Places

StandIn = Callable[[Places, list[str], dict[str, str]], Awaitable[list[str]]]
"""Of the places, the command of compose.yml and the environment, which it may change, makes the command to run."""

CHECKS = {"kong": ("python", "-m", "busbar.observability.probe")}
"""Health checks in place of those that are of no use here."""
STOP_SIGNALS = {"kong": signal.SIGTERM}
GOOD_ENDS = {"camel": (143,), "kong": (-signal.SIGTERM,)}
"""How those end that do not end with 0 when they are asked to; 143 is how Java says that it has heeded a SIGTERM."""


async def postgres(places: Places, command: list[str], environment: dict[str, str]) -> list[str]:
    """A cluster like the one that PostgreSQL's image makes: a superuser with a password, asked for by TCP."""
    cluster = await asyncio.to_thread(prepare, places.folder / "postgres", fast_and_unsafe=False)
    data = Path(cluster.folder) / "data"
    password = Path(cluster.folder) / "superuser"
    password.write_text(places.secret("postgres_password"))
    become: list[str] = []
    if cluster.uid is not None:
        os.chown(password, cluster.uid, -1)
        become = ["setpriv", f"--reuid={cluster.uid}", f"--regid={cluster.gid}", "--clear-groups"]
    environment["PATH"] = os.pathsep.join((cluster.binaries, environment["PATH"]))
    initialise = [f"{cluster.binaries}/initdb", f"--pgdata={data}", "--username=postgres", f"--pwfile={password}"]
    initialise += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]
    await asyncio.to_thread(
        subprocess.run, [*become, *initialise], env=environment, stdout=subprocess.DEVNULL, cwd="/", check=True
    )
    password.unlink()
    listening = ["-D", str(data), "-h", "127.0.0.1", "-p", str(places.port("postgres")), "-k", cluster.sockets]
    return [*become, f"{cluster.binaries}/postgres", *command[1:], *listening]


async def create_busbar(places: Places, service: Service, environment: dict[str, str]) -> None:
    """Run the scripts that the image would run on an empty data folder, as the superuser."""
    scripts = [source for target, source in service.mounts.items() if target.startswith("/docker-entrypoint-initdb.d/")]
    assert scripts, "nothing makes Busbar's role"
    administrator = {"PGHOST": "127.0.0.1", "PGPASSWORD": places.secret("postgres_password")}
    for script in scripts:
        await asyncio.to_thread(subprocess.run, [script], env=environment | administrator, check=True)


async def rabbitmq(places: Places, command: list[str], environment: dict[str, str]) -> list[str]:
    """rabbitmq.conf, enabled_plugins and what broker-definitions has written."""
    ground = Ground(places.folder / "rabbitmq")
    places.broker_ground = ground
    overrides = ground.folder / "conf.d"
    overrides.mkdir()
    metrics = free_port()
    (ground.folder / "metrics_port").write_text(str(metrics))
    lines = [
        f"listeners.tcp.default = 127.0.0.1:{places.port('rabbitmq')}",
        f"load_definitions = {places.volume('broker-definitions')}",
        "disk_free_limit.absolute = 50MB",
        "prometheus.tcp.ip = 127.0.0.1",
        f"prometheus.tcp.port = {metrics}",
    ]
    (overrides / "90-here.conf").write_text("\n".join([*lines, ""]))
    shutil.copy(ROOT / "rabbitmq" / "enabled_plugins", ground.folder)
    own = {
        "HOME": environment["HOME"],
        "RABBITMQ_NODENAME": "rabbit@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONFIG_FILE": str(ROOT / "rabbitmq" / "rabbitmq.conf"),
        "RABBITMQ_CONFIG_FILES": str(overrides),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(ground.folder / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(ground.folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(ground.folder / "data"),
        "RABBITMQ_LOG_BASE": str(ground.folder / "log"),
        "RABBITMQ_PID_FILE": str(ground.folder / "pid"),
        "RABBITMQ_ALLOW_INPUT": "1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
    }
    shutil.copy(ground.folder / ".erlang.cookie", environment["HOME"])
    environment |= ground.environment(own)
    environment["PATH"] = os.pathsep.join((str(ground.programs), environment["PATH"]))
    return [str(ground.programs / "rabbitmq-server"), "-noinput"]


async def proxy(places: Places, command: list[str], environment: dict[str, str]) -> list[str]:
    """HAProxy before the replicas of the platform, for there is no Kong here; it asks /health/ready as Kong does."""
    replicas = [number for name, number in places.ports if name == "platform"]
    servers = "\n".join(
        f"  server platform-{number} 127.0.0.1:{places.port('platform', number)} check inter 500ms fall 1 rise 1"
        for number in replicas
    )
    configuration = Path(environment["HOME"]) / "haproxy.cfg"
    configuration.write_text(
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  timeout server 60s\n"
        "  option redispatch\n  retries 3\n  retry-on conn-failure\n"
        f"frontend front\n  bind 127.0.0.1:{places.port('kong')}\n  default_backend platform\n"
        f"backend platform\n  balance leastconn\n  option httpchk GET /health/ready\n{servers}\n"
    )
    return ["haproxy", "-db", "-f", str(configuration)]


async def prometheus(places: Places, command: list[str], environment: dict[str, str]) -> list[str]:
    """ops/prometheus, its targets replaced by the ports of this machine."""
    folder = Path(environment["HOME"])
    written = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    metrics = (places.folder / "rabbitmq" / "metrics_port").read_text()
    for job in written["scrape_configs"]:
        names = [name for found in job.pop("dns_sd_configs", ()) for name in found["names"]]
        asked = [target for found in job.pop("static_configs", ()) for target in found["targets"]]
        here = [f"127.0.0.1:{port}" for (name, _), port in places.ports.items() if name in names]
        known = {"rabbitmq": metrics, "camel": places.port("camel"), "localhost": places.port("prometheus")}
        here += [f"127.0.0.1:{known[host]}" for host in (target.partition(":")[0] for target in asked) if host in known]
        job["static_configs"] = [{"targets": here}]
    written["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(written), "utf-8")
    (folder / "rules").symlink_to(ROOT / "ops" / "prometheus" / "rules")
    source = str(ROOT / "ops" / "prometheus" / "prometheus.yml")
    options = [part.replace(source, str(folder / "prometheus.yml")) for part in command]
    return ["prometheus", *options, f"--web.listen-address=127.0.0.1:{places.port('prometheus')}"]


async def camel(places: Places, command: list[str], environment: dict[str, str]) -> list[str]:
    """Camel as ops/camel/Dockerfile starts it."""
    await asyncio.to_thread(build_camel)
    return [str(ROOT / "ops" / "camel" / "run.sh"), *command]


STAND_INS: dict[str, StandIn] = {
    "postgres": postgres,
    "rabbitmq": rabbitmq,
    "kong": proxy,
    "prometheus": prometheus,
    "camel": camel,
}
NEEDED: Sequence[str] = ("rabbitmq-server", "prometheus", "haproxy", "java", "mvn", "go")
"""What ops/need.sh makes sure of before."""
