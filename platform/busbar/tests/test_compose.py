"""compose.yml: a real implementation loads it, and what it promises about order, health, secrets and guards holds."""

import json
import os
import re
import subprocess
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from busbar.settings import VARIABLES
from busbar.tests.test_house import ROOT

COMPOSE = ROOT / "compose.yml"
PUBLISHED = ROOT / "ops" / "compose" / "published.yml"
JOBS = {"broker-definitions", "migrate", "kong-routes"}
SERVICES = {"postgres", "rabbitmq", "platform", "worker", "kong", "camel", "prometheus", "grafana"}
SIMULATORS = {"itsm-simulator", "erp-simulator", "crm-simulator"}


@cache
def model(*beside: Path) -> dict[str, Any]:
    """compose.yml, and files beside it, as the library of docker compose understands them, with all defaults."""
    script = str(ROOT / "ops" / "get-go-tool.sh")
    tool = subprocess.run([script, "compose-check", "ops/compose/check"], capture_output=True, text=True, check=True)
    nothing_set = {name: value for name, value in os.environ.items() if name not in variables_of_compose()}
    loaded = subprocess.run(
        [tool.stdout.strip(), COMPOSE, *beside],
        env=nothing_set,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    found: dict[str, Any] = json.loads(loaded.stdout)
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = model()["services"]
    return found


def variables_of_compose() -> dict[str, str]:
    """The variables that the files take from outside, with their defaults."""
    text = COMPOSE.read_text("utf-8") + PUBLISHED.read_text("utf-8")
    return dict(re.findall(r"(?<!\$)\$\{([A-Z_]+):-([^}]*)\}", text))


def seconds(text: str) -> float:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))


class TestTheFile:
    def test_is_loaded_by_the_library_of_docker_compose(self) -> None:
        assert set(services()) == JOBS | SERVICES | SIMULATORS

    def test_fits_the_published_schema(self) -> None:
        checked = subprocess.run(
            ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
            env=os.environ | {"PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout

    def test_runs_two_of_what_scales_out(self) -> None:
        assert {name: services()[name]["deploy"]["replicas"] for name in ("platform", "worker")} == {
            "platform": 2,
            "worker": 2,
        }

    def test_mounts_only_what_is_there(self) -> None:
        mounts = [
            (name, mount["source"])
            for name, service in services().items()
            for mount in service.get("volumes", ())
            if mount["type"] == "bind"
        ]
        assert len(mounts) > 5
        assert [mount for mount in mounts if not Path(mount[1]).exists()] == []


class TestOrder:
    def test_is_a_start_in_which_everything_waits_for_what_it_needs(self) -> None:
        needs = {name: set(service.get("depends_on", ())) for name, service in services().items()}
        order = list(TopologicalSorter(needs).static_order())
        for earlier, later in (
            *(("postgres", "migrate"), ("migrate", "platform"), ("migrate", "worker"), ("rabbitmq", "worker")),
            *(("broker-definitions", "rabbitmq"), ("kong-routes", "kong"), ("platform", "kong"), ("platform", "camel")),
            *(("rabbitmq", "camel"), ("platform", "prometheus"), ("prometheus", "grafana")),
        ):
            assert order.index(earlier) < order.index(later)
            assert earlier in needs[later] or any(earlier in needs[middle] for middle in needs[later])

    def test_waits_for_health_or_for_the_end_of_a_job(self) -> None:
        for name, service in services().items():
            for needed, how in service.get("depends_on", {}).items():
                job = needed in JOBS
                expected = "service_completed_successfully" if job else "service_healthy"
                assert how["condition"] == expected, f"{name} needs {needed}"
                if not job:
                    assert not services()[needed]["healthcheck"].get("disable"), needed

    def test_ends_jobs_and_keeps_services_up(self) -> None:
        assert {name for name, service in services().items() if service["restart"] == "no"} == JOBS


@pytest.mark.parametrize("name", sorted(JOBS | SERVICES | SIMULATORS))
class TestEveryService:
    def test_may_do_no_more_than_it_needs(self, name: str) -> None:
        service = services()[name]
        assert service["cap_drop"] == ["ALL"]
        assert "cap_add" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert not service.get("privileged")
        assert service["user"].partition(":")[0] not in ("0", "root")

    def test_has_limits(self, name: str) -> None:
        service = services()[name]
        limits = service["deploy"]["resources"]["limits"]
        assert float(limits["cpus"]) <= 2
        assert limits["memory"]
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}

    def test_says_whether_it_is_well_unless_it_ends_by_itself(self, name: str) -> None:
        health = services()[name]["healthcheck"]
        if name in JOBS:
            assert health["disable"]
            return
        assert health["test"][0] == "CMD"
        assert {"interval", "timeout", "retries", "start_period"} <= health.keys()

    def test_comes_from_an_image_of_one_version(self, name: str) -> None:
        tag = services()[name]["image"].rpartition(":")[2]
        assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-[a-z]+)?", tag), tag


class TestSecrets:
    def test_are_files_that_one_script_makes(self, tmp_path: Path) -> None:
        made = {path.name for path in make_secrets(tmp_path / "secrets").iterdir()}
        assert {Path(secret["file"]).name for secret in model()["secrets"].values()} == made
        used = {one["source"] for service in services().values() for one in service.get("secrets", ())}
        assert used == made

    def test_stand_in_no_variable(self) -> None:
        texts = [
            f"{name}: {variable}"
            for name, service in services().items()
            for variable in service.get("environment", {})
            if re.search(r"PASSWORD|SECRET|_KEY|DATABASE_URL|AMQP_URL|TOKEN", variable)
            and not variable.endswith("_FILE")
        ]
        assert texts == []

    def test_are_given_only_to_who_reads_them(self) -> None:
        for name, service in services().items():
            asked = " ".join(map(str, [*service.get("environment", {}).values(), *(service.get("command") or ())]))
            for secret in service.get("secrets", ()):
                assert f"/run/secrets/{secret['source']}" in asked, f"{name} does not read {secret['source']}"

    def test_are_random_kept_and_behind_a_closed_door(self, tmp_path: Path) -> None:
        folder, other = make_secrets(tmp_path / "secrets"), make_secrets(tmp_path / "other")
        texts = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
        assert len(set(texts.values())) == len(texts) - len(SIMULATORS)
        assert all(text != (other / name).read_text("utf-8") for name, text in texts.items())
        assert min(len(text.strip()) for text in texts.values()) >= 32
        assert folder.stat().st_mode & 0o777 == 0o700
        # The user of a container, whoever that is, must be able to read them; on this machine nobody else gets here.
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
        assert f":{texts['busbar_database_password'].strip()}@postgres:5432/" in texts["database_url"]
        assert f":{texts['busbar_broker_password'].strip()}@rabbitmq:5672/" in texts["amqp_url"]
        (folder / "simulator_password").unlink()
        make_secrets(folder)
        again = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
        assert {name for name in texts if texts[name] != again[name]} == {"simulator_password"}

    def test_are_not_taken_into_the_repository(self) -> None:
        ignored = subprocess.run(
            ["git", "check-ignore", "secrets/database_url", ".env"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ignored.stdout.split() == ["secrets/database_url", ".env"]


class TestSettings:
    def test_are_all_explained_in_the_example_with_the_defaults_that_hold(self) -> None:
        text = (ROOT / ".env.example").read_text("utf-8")
        told = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
        assert told == variables_of_compose()
        for block in text.split("\n\n"):
            assert block.startswith("#"), f"nothing explains {block}"

    def test_are_known_to_busbar(self) -> None:
        known = {variable.name for variable in VARIABLES}
        known |= {variable.file_name for variable in VARIABLES if variable.secret}
        # `busbar broker-users` reads these; postgres' script that makes Busbar's role the last one.
        known |= {"BUSBAR_BROKER_PASSWORD_FILE", "BUSBAR_ROLE_PASSWORD_FILE"}
        given = {variable for service in services().values() for variable in service.get("environment", {})}
        ours = {name for name in given if name.startswith(("BUSBAR_", "DATABASE_", "AMQP_"))}
        assert ours
        assert ours - known == set()

    def test_leave_time_to_stop(self) -> None:
        for name in ("platform", "worker"):
            service = services()[name]
            needed = float(service["environment"]["BUSBAR_DRAIN_S"]) + float(service["environment"]["BUSBAR_STOP_S"])
            assert seconds(service["stop_grace_period"]) >= needed + 10

    def test_leave_connections_for_all(self) -> None:
        command = services()["postgres"]["command"]
        (most,) = [int(part.partition("=")[2]) for part in command if part.startswith("max_connections=")]
        each = int(services()["platform"]["environment"]["BUSBAR_POOL_SIZE"]) + 8
        assert 4 * each < most


class TestNetworks:
    def test_only_the_gateway_is_published_and_only_on_this_machine(self) -> None:
        published = {name: service["ports"] for name, service in services().items() if service.get("ports")}
        assert set(published) == {"kong"}
        assert [port["host_ip"] for port in published["kong"]] == ["127.0.0.1"]

    def test_those_who_ask_get_grafana_and_prometheus_on_this_machine_too(self) -> None:
        published = {
            name: service["ports"] for name, service in model(PUBLISHED)["services"].items() if "ports" in service
        }
        assert set(published) == {"kong", "grafana", "prometheus"}
        assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}
        inside = {name for name, network in model()["networks"].items() if network.get("internal")}
        for name in published:
            assert model(PUBLISHED)["services"][name]["networks"].keys() - inside, f"{name} cannot be reached"

    def test_nothing_but_busbar_reaches_the_database(self) -> None:
        inside = {name for name, service in services().items() if "data" in service.get("networks", {})}
        assert inside == {"postgres", "migrate", "kong-routes", "platform", "worker"}
        assert {name for name, network in model()["networks"].items() if network.get("internal")} == {
            *("bus", "data", "watch"),
        }

    def test_each_replica_is_found_once(self) -> None:
        # A name has an address in every network that two services share: two would count each replica twice.
        for asking, asked in (("prometheus", "platform"), ("prometheus", "worker"), ("kong", "platform")):
            shared = services()[asking]["networks"].keys() & services()[asked]["networks"].keys()
            assert len(shared) == 1, f"{asking} and {asked} share {shared}"

    def test_prometheus_reaches_what_it_scrapes(self) -> None:
        scraped = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
        hosts = {
            target.partition(":")[0]
            for job in scraped
            for found in (*job.get("static_configs", ()), *job.get("dns_sd_configs", ()))
            for target in found.get("targets", found.get("names", ()))
        } - {"localhost"}
        assert {"platform", "worker", "rabbitmq", "kong"} <= hosts
        own = services()["prometheus"]["networks"].keys()
        assert [host for host in hosts if not own & services()[host]["networks"].keys()] == []


def make_secrets(folder: Path) -> Path:
    subprocess.run([str(ROOT / "ops" / "make-secrets.sh"), str(folder)], capture_output=True, check=True)
    return folder
