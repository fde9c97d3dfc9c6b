"""The topology that operators import is the one of the code, and a real broker takes it."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from busbar.bus.broker_users import platform_user, user_definitions
from busbar.bus.topology import deliver_queue, static_definitions
from busbar.testing.broker import TestBroker

FOLDER = Path(__file__).resolve().parents[4] / "rabbitmq"
# What RabbitMQ 4 has removed or ignores; see its release notes of 4.0 and 4.3, and its list of deprecated features.
REMOVED_ARGUMENTS = {
    "x-ha-policy", "x-ha-nodes", "x-queue-mode", "x-queue-master-locator", "x-queue-version",
    "ha-mode", "ha-params", "ha-sync-mode", "ha-sync-batch-size", "ha-promote-on-shutdown", "ha-promote-on-failure",
    "queue-mode", "queue-master-locator", "queue-version",
}  # fmt: skip
REMOVED_SETTINGS = {
    "mirroring_sync_batch_size", "mirroring_flow_control", "queue_master_locator", "classic_queue.default_version",
    "lazy_queue_explicit_gc_run_operation_threshold", "queue_explicit_gc_run_operation_threshold",
    "vm_memory_high_watermark_paging_ratio", "msg_store_index_module", "queue_index_embed_msgs_below",
    "management.load_definitions", "cluster_formation.node_type", "collect_statistics",
    "cluster_formation.randomized_startup_delay_range.min", "cluster_formation.randomized_startup_delay_range.max",
    "raft.adaptive_failure_detector.poll_interval", "quorum_cluster_size",
}  # fmt: skip


def shipped() -> dict[str, Any]:
    return json.loads((FOLDER / "definitions.json").read_text("utf-8"))


def settings() -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in (FOLDER / "rabbitmq.conf").read_text("utf-8").splitlines()]
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines if line)}


def in_order(things: Iterable[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    return sorted(({key: thing[key] for key in keys} for thing in things), key=str)


class TestDefinitions:
    def test_the_file_says_what_the_code_says(self) -> None:
        write = "json.dumps(busbar.bus.topology.static_definitions('busbar'), indent=2)"
        assert shipped() == static_definitions("busbar"), f"rabbitmq/definitions.json must be {write}"

    async def test_a_broker_has_exactly_that_after_it_was_imported(self, rabbitmq: TestBroker, tmp_path: Path) -> None:
        vhost = await rabbitmq.create_vhost()
        try:
            await rabbitmq.ctl("export_definitions", str(tmp_path / "exported.json"))
            exported = json.loads((tmp_path / "exported.json").read_text("utf-8"))
        finally:
            await rabbitmq.drop_vhost(vhost)
        expected = static_definitions(vhost)
        for part, keys in (
            ("exchanges", ("name", "type", "durable", "auto_delete", "arguments")),
            ("queues", ("name", "durable", "auto_delete", "arguments")),
            ("bindings", ("source", "destination", "destination_type", "routing_key", "arguments")),
        ):
            there = [thing for thing in exported[part] if thing["vhost"] == vhost]
            assert in_order(there, *keys) == in_order(expected[part], *keys)

    async def test_a_broker_has_it_from_its_first_start_without_anybody_logging_in(self, rabbitmq: TestBroker) -> None:
        queues = {queue["name"] for queue in shipped()["queues"]}
        assert queues <= set(await rabbitmq.queues())
        assert (await rabbitmq.ctl("list_users")).split() == ["user", "tags", "busbar", "[]"]

    def test_it_names_no_user(self) -> None:
        assert set(shipped()) == {"vhosts", "exchanges", "queues", "bindings"}

    def test_its_virtual_host_is_the_one_that_users_have_permissions_for(self) -> None:
        (permission,) = user_definitions([platform_user("a long password")])["permissions"]
        assert [vhost["name"] for vhost in shipped()["vhosts"]] == [permission["vhost"]]


class TestRabbitMq4:
    def test_every_queue_is_a_durable_quorum_queue_that_gives_up_on_a_poisonous_message(self) -> None:
        made = [*shipped()["queues"], {"durable": True, "arguments": deliver_queue("fi.costs", ["*.mm.*"]).arguments}]
        for queue in made:
            assert queue["durable"] is True
            assert queue["arguments"]["x-queue-type"] == "quorum"
            assert queue["arguments"]["x-delivery-limit"] > 0

    def test_no_queue_or_exchange_uses_what_it_removed(self) -> None:
        parts = shipped()
        used = {key for part in ("queues", "exchanges") for thing in parts[part] for key in thing["arguments"]}
        used |= set(deliver_queue("fi.costs", ["*.mm.*"]).arguments)
        assert used
        assert used & REMOVED_ARGUMENTS == set()
        assert "policies" not in parts

    def test_no_setting_is_one_that_it_removed(self) -> None:
        used = set(settings())
        assert "listeners.tcp.default" in used
        assert used & REMOVED_SETTINGS == set()
        assert [key for key in used if re.match(r"ra\.|mnesia|management\.", key)] == []
