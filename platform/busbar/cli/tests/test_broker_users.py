"""Topology and users are written for import, without a password in the file."""

import json
from pathlib import Path

import pytest

from busbar.cli.broker_users import write_broker_users

PASSWORD = "copper rails carry it"


class TestBrokerUsers:
    def test_writes_them_with_the_topology_into_the_folder_that_the_broker_imports(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BUSBAR_BROKER_PASSWORD", PASSWORD)
        monkeypatch.setenv("MULE_BROKER_PASSWORD", PASSWORD)
        file = tmp_path / "definitions" / "users.json"
        write_broker_users(file, peers=["mule"])
        written = json.loads(file.read_text("utf-8"))
        assert [user["name"] for user in written["users"]] == ["busbar", "mule"]
        assert [permission["user"] for permission in written["permissions"]] == ["busbar", "mule"]
        assert [vhost["name"] for vhost in written["vhosts"]] == ["busbar"]
        assert "busbar.events" in [exchange["name"] for exchange in written["exchanges"]]
        assert PASSWORD not in file.read_text("utf-8")
        assert list(file.parent.iterdir()) == [file]

    def test_prints_them_without_an_output(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("BUSBAR_BROKER_PASSWORD", PASSWORD)
        write_broker_users(None, peers=[])
        assert json.loads(capsys.readouterr().out)["users"][0]["name"] == "busbar"
