"""compose.yml as docker compose understands it, so far as processes without containers can follow it."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One service; texts are as in the container, with its paths, hosts and ports."""

    name: str
    replicas: int
    command: tuple[str, ...]
    """Entry point and command, where compose.yml gives one."""
    has_entrypoint: bool
    environment: Mapping[str, str]
    health: tuple[str, ...]
    """The command that says whether it is well; empty for a job."""
    needs: Mapping[str, str]
    """What it waits for, with the condition."""
    mounts: Mapping[str, str]
    """Path in the container: `secret:name`, `volume:name`, or the path of a file or folder of this repository."""
    grace_s: float
    stop_signal: str


def load(variables: Mapping[str, str]) -> dict[str, Service]:
    """The services in the order in which they start, with these variables in the place of a `.env`."""
    tool = subprocess.run(
        [ROOT / "ops" / "get-go-tool.sh", "compose-check", "ops/compose/check"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    asked = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables}
    text = subprocess.run([tool, ROOT / "compose.yml"], env=asked, stdout=subprocess.PIPE, check=True).stdout
    services = {name: _service(name, given) for name, given in json.loads(text)["services"].items()}
    order = TopologicalSorter({name: service.needs.keys() for name, service in services.items()})
    return {name: services[name] for name in order.static_order()}


def _service(name: str, given: dict[str, Any]) -> Service:
    health = given.get("healthcheck", {})
    mounts = {
        secret.get("target") or f"/run/secrets/{secret['source']}": f"secret:{secret['source']}"
        for secret in given.get("secrets", ())
    }
    for mount in given.get("volumes", ()):
        source = mount["source"]
        mounts[mount["target"]] = source if mount["type"] == "bind" else f"volume:{source}"
    return Service(
        name=name,
        replicas=int(given.get("deploy", {}).get("replicas", 1)),
        command=tuple(map(_unescaped, (*(given.get("entrypoint") or ()), *(given.get("command") or ())))),
        has_entrypoint=bool(given.get("entrypoint")),
        environment=given.get("environment") or {},
        health=() if health.get("disable") else tuple(map(_unescaped, health["test"][1:])),
        needs={needed: how["condition"] for needed, how in given.get("depends_on", {}).items()},
        mounts=mounts,
        grace_s=_seconds(given.get("stop_grace_period", "10s")),
        stop_signal=given.get("stop_signal", "SIGTERM"),
    )


def _unescaped(text: str) -> str:
    """A dollar that is meant for a shell is written twice."""
    return text.replace("$$", "$")


def _seconds(text: str) -> float:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))
