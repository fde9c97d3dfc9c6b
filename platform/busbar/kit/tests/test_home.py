"""Where a program keeps its data when nobody says so."""

import os
from pathlib import Path

import pytest

from busbar.kit.home import default_home


class TestDefaultHome:
    def test_the_variable_wins_for_everybody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("BUSBAR_HOME", "/srv/busbar")
        assert default_home() == Path("/srv/busbar")

    def test_root_gets_a_folder_outside_its_closed_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("BUSBAR_HOME", raising=False)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert default_home() == Path("/var/lib/busbar")

    def test_others_get_a_folder_in_their_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("BUSBAR_HOME", raising=False)
        monkeypatch.setenv("HOME", "/home/operator")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert default_home() == Path("/home/operator/.local/share/busbar")
