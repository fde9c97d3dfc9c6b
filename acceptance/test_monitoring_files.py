"""The files of Prometheus and Grafana fit together, with the documents, and with the metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from ops.grafana.__main__ import rendered
from prometheus_client.parser import text_string_to_metric_families

from acceptance.promql import (
    DASHBOARDS,
    PROMETHEUS,
    ROOT,
    Panel,
    Rule,
    as_number,
    dashboards,
    metric_names,
    panels,
    read_yaml,
    rules,
)
from busbar.testing.app import RunningApp

ALERTS, RECORDINGS, PANELS = rules("alerts"), rules("recording"), panels()
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
OPERATE = ROOT / "docs" / "how-to" / "operate.md"
MONITOR = ROOT / "docs" / "how-to" / "monitor.md"

OF_PROMETHEUS = {"up", "ALERTS", "scrape_duration_seconds", "scrape_samples_scraped",
                 "prometheus_rule_evaluation_failures_total"}  # fmt: skip
WITH_A_BROKER_ONLY = {"busbar_publication_lag_events"}
OF_RABBITMQ = {
    "rabbitmq_alarms_free_disk_space_watermark",
    "rabbitmq_alarms_memory_used_watermark",
    "rabbitmq_detailed_queue_consumers",
    "rabbitmq_detailed_queue_messages",
    "rabbitmq_detailed_queue_messages_ready",
    "rabbitmq_disk_space_available_bytes",
    "rabbitmq_disk_space_available_limit_bytes",
    "rabbitmq_global_messages_delivered_total",
    "rabbitmq_global_messages_received_total",
    "rabbitmq_global_messages_redelivered_total",
    "rabbitmq_process_resident_memory_bytes",
}
OF_CAMEL = {"camel_exchanges_total", "camel_exchanges_failed_total"}


def promtool(*arguments: str | Path) -> str:
    """Run promtool; what it prints. Without it there is no green run."""
    program = shutil.which("promtool")
    if program is None:
        raise AssertionError("promtool is not installed: `ops/need.sh prometheus` installs it.")
    ended = subprocess.run([program, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class TestPrometheusFiles:
    def test_are_valid(self) -> None:
        promtool("check", "config", "prometheus.yml")
        promtool("check", "rules", "--lint=all", "--lint-fatal", "rules/recording.yml", "rules/alerts.yml")

    @pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
    def test_alerts_fire_when_they_should_and_else_do_not(self, path: Path) -> None:
        promtool("test", "rules", path)

    @pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
    def test_every_alert_is_seen_to_fire_and_to_stay_silent(self, alert: Rule) -> None:
        cases = [
            case["exp_alerts"]
            for path in TESTS
            for test in read_yaml(path)["tests"]
            for case in test["alert_rule_test"]
            if case["alertname"] == alert.name
        ]
        assert any(cases), "no test lets it fire"
        assert not all(cases), "no test sees it silent"

    def test_scrape_jobs_that_rules_and_dashboards_ask_for(self) -> None:
        jobs = {job["job_name"] for job in read_yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]}
        asked = [rule.expr for rule in (*ALERTS, *RECORDINGS)] + [query for panel in PANELS for query in panel.queries]
        exact = {job for expr in asked for job in re.findall(r'\bjob="([^"]+)"', expr)}
        assert exact
        assert exact - jobs == set()
        for pattern in {job for expr in asked for job in re.findall(r'\bjob=~"([^"]+)"', expr)}:
            assert any(re.fullmatch(pattern, job) for job in jobs), pattern


class TestCompose:
    """That compose.yml, these files and each other agree; what compose.yml is apart from that, its own test says."""

    def test_has_the_services_that_are_scraped_on_networks_that_prometheus_is_on(self) -> None:
        services = read_yaml(ROOT / "compose.yml")["services"]
        hosts = set()
        for job in read_yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]:
            for names in job.get("dns_sd_configs", ()):
                hosts |= set(names["names"])
            for targets in job.get("static_configs", ()):
                hosts |= {target.partition(":")[0] for target in targets["targets"]}
        assert hosts - {"localhost"} == {"platform", "worker", "rabbitmq", "camel", "kong"}
        near = set(services["prometheus"]["networks"])
        assert {host for host in hosts - {"localhost"} if not near & set(services[host]["networks"])} == set()
        assert set(services["grafana"]["networks"]) & near

    def test_puts_every_file_where_its_reader_looks(self) -> None:
        services = read_yaml(ROOT / "compose.yml")["services"]
        mounted = {
            source: target
            for service in ("prometheus", "grafana")
            for source, target, *_ in (volume.split(":") for volume in services[service]["volumes"])
        }
        folder = Path(mounted["./ops/prometheus/prometheus.yml"]).parent
        assert f"--config.file={folder / 'prometheus.yml'}" in services["prometheus"]["command"]
        for pattern in read_yaml(PROMETHEUS / "prometheus.yml")["rule_files"]:
            assert Path(mounted["./ops/prometheus/rules"]) == (folder / pattern).parent
        provisioning = ROOT / "ops" / "grafana" / "provisioning"
        (provider,) = read_yaml(provisioning / "dashboards" / "busbar.yml")["providers"]
        assert mounted["./ops/grafana/dashboards"] == provider["options"]["path"]
        (source,) = read_yaml(provisioning / "datasources" / "prometheus.yml")["datasources"]
        assert source["url"] == "http://prometheus:9090"
        scraped = read_yaml(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
        assert source["jsonData"]["timeInterval"] == scraped


class TestAlerts:
    @pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
    def test_say_how_urgent_it_is_what_happened_what_to_do_and_where_to_read_on(self, alert: Rule) -> None:
        assert alert.body["labels"]["severity"] in ("critical", "warning")
        annotations = alert.body["annotations"]
        assert set(annotations) == {"summary", "description", "runbook"}
        assert not annotations["summary"].endswith(".")
        assert annotations["description"].endswith(".")
        page, _, anchor = annotations["runbook"].partition("#")
        assert ROOT / page == OPERATE
        assert anchor in anchors(OPERATE), f"{page} has no section {anchor}"

    @pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
    def test_compare_something_in_a_way_that_can_be_executed_without_the_comparison(self, alert: Rule) -> None:
        assert as_number(alert.expr).count(" bool ") >= 1
        bare = re.sub(r'"[^"]*"', "", alert.expr)
        assert len(re.findall(r"[<>]|==", bare)) == as_number(alert.expr).count(" bool ")

    def test_have_names_of_their_own(self) -> None:
        names = [rule.name for rule in (*ALERTS, *RECORDINGS)]
        assert len(names) == len(set(names))

    def test_stand_in_the_document_as_they_are(self) -> None:
        rows = re.findall(r"^\| `(\w+)` \| (critical|warning) \| (.+) \|$", MONITOR.read_text("utf-8"), re.MULTILINE)
        listed = {name: (severity, text) for name, severity, text in rows}
        assert listed == {alert.name: (alert.body["labels"]["severity"], in_words(alert)) for alert in ALERTS}


def in_words(alert: Rule) -> str:
    """The summary of an alert with the names of its labels in place of their values."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"*\1*", alert.body["annotations"]["summary"])
    return re.sub(r"\{\{ \$value[^}]*\}\}", "*n*", text)


class TestDashboards:
    def test_are_what_the_code_writes(self) -> None:
        there = {path.name: path.read_text("utf-8") for path in DASHBOARDS.glob("*.json")}
        assert there == rendered(), "run .venv/bin/python -m ops.grafana"

    @pytest.mark.parametrize("name", sorted(dashboards()))
    def test_are_whole_in_the_schema_of_grafana(self, name: str) -> None:
        # Read into the typed model of Grafana's own schema and written again, what does not belong there would be gone.
        register_default_plugins()
        read = Dashboard.from_json(dashboards()[name])
        assert json.loads(JSONEncoder().encode(read)) == dashboards()[name]

    def test_have_an_address_of_their_own(self) -> None:
        uids = [dashboard["uid"] for dashboard in dashboards().values()]
        assert len(uids) == len(set(uids)) == 4
        assert all(uid.startswith("busbar-") for uid in uids)

    @pytest.mark.parametrize("name", sorted(dashboards()))
    def test_have_panels_with_ids_of_their_own_that_do_not_cover_each_other(self, name: str) -> None:
        found = dashboards()[name]["panels"]
        assert sorted(panel["id"] for panel in found) == list(range(1, len(found) + 1))
        covered: dict[tuple[int, int], str] = {}
        for panel in found:
            for cell in cells(panel["gridPos"]):
                assert cell not in covered, f"{panel['title']} covers {covered[cell]}"
                covered[cell] = panel["title"]
        assert all(0 <= x < 24 for x, _ in covered)

    @pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel.dashboard}: {panel.title}")
    def test_have_panels_that_say_what_they_show_and_in_which_unit(self, panel: Panel) -> None:
        assert panel.queries
        assert panel.body["description"].endswith(".")
        assert panel.body["fieldConfig"]["defaults"]["unit"]
        assert panel.body["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        if panel.body["type"] != "stat":
            assert all(target["legendFormat"] for target in panel.body["targets"])


def cells(grid: dict[str, int]) -> list[tuple[int, int]]:
    return [(grid["x"] + right, grid["y"] + down) for right in range(grid["w"]) for down in range(grid["h"])]


class TestMetricNames:
    def test_are_found_in_a_query(self) -> None:
        expr = 'topk(10, sum by (le) (rate(a_bucket{b="c", d=~"e.+"}[5m]))) > bool f:g:max and on (h) i or vector(0)'
        assert metric_names(expr) == {"a_bucket", "f:g:max", "i"}

    async def test_in_rules_and_dashboards_are_those_that_there_are(self, app: RunningApp) -> None:
        answer = await app.anonymous.send("GET", "//metrics")
        families = text_string_to_metric_families(answer.content.decode())
        ours = {name for family in families for name in (family.name, *names_of(family))}
        known = ours | WITH_A_BROKER_ONLY | OF_PROMETHEUS | OF_RABBITMQ | OF_CAMEL | {rule.name for rule in RECORDINGS}
        asked = {
            (where, name)
            for where, expr in (
                *((rule.name, rule.expr) for rule in (*ALERTS, *RECORDINGS)),
                *((f"{panel.dashboard}: {panel.title}", query) for panel in PANELS for query in panel.queries),
            )
            for name in metric_names(expr)
        }
        assert {(where, name) for where, name in asked if name not in known} == set()
        assert (WITH_A_BROKER_ONLY | OF_PROMETHEUS | OF_RABBITMQ | OF_CAMEL) - {name for _, name in asked} == set()

    async def test_of_busbar_stand_in_the_document_with_what_they_tell(self, app: RunningApp) -> None:
        text = MONITOR.read_text("utf-8").partition("## Busbar's metrics")[2].partition("\n## ")[0]
        listed = set(re.findall(r"`([a-z_]+)`", text))
        answer = await app.anonymous.send("GET", "//metrics")
        found = text_string_to_metric_families(answer.content.decode())
        families = [family for family in found if not family.name.startswith("process_")]
        assert len(families) > 20
        assert {family.name for family in families if not {family.name, f"{family.name}_total"} & listed} == set()
        assert {family.name for family in families if not family.documentation.endswith(".")} == set()

    def test_that_are_recorded_are_used(self) -> None:
        asked = [rule.expr for rule in (*ALERTS, *RECORDINGS)] + [query for panel in PANELS for query in panel.queries]
        used = set().union(*map(metric_names, asked))
        assert {rule.name for rule in RECORDINGS} - used == set()


def names_of(family: Any) -> list[str]:
    """Every name under which a family's samples can be asked for, also before there is one."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
    return [family.name + ending for ending in endings]
