"""Every variable is read, and a bad value of each is refused in a sentence that names it."""

from pathlib import Path
from typing import Any

import pytest

from busbar.kit.home import default_home
from busbar.settings import VARIABLES, BadSettings, Settings, read_settings

GOOD: dict[str, tuple[str, Any]] = {
    "BUSBAR_HOME": ("/srv/busbar", Path("/srv/busbar")),
    "BUSBAR_PORT": ("9000", 9000),
    "BUSBAR_LISTEN": ("0.0.0.0", "0.0.0.0"),  # noqa: S104 - read, not bound
    "BUSBAR_ADMIN_PASSWORD": ("an orange transformer", "an orange transformer"),
    "BUSBAR_DEMO": ("1", True),
    "BUSBAR_DEMO_PASSWORD": ("a green transformer", "a green transformer"),
    "DATABASE_URL": ("postgresql://u:p@db.example:5433/busbar", "postgresql://u:p@db.example:5433/busbar"),
    "AMQP_URL": ("amqps://u:p@mq.example/busbar", "amqps://u:p@mq.example/busbar"),
    "AMQP_CA_FILE": ("/etc/busbar/ca.pem", Path("/etc/busbar/ca.pem")),
    "BUSBAR_SECRET_KEY": ("c2VjcmV0", "c2VjcmV0"),
    "BUSBAR_MODE": ("production", "production"),
    "BUSBAR_EGRESS": ("erp.example, 10.20.0.0/16:8443,", ("erp.example", "10.20.0.0/16:8443")),
    "BUSBAR_LOCKOUT": ("alarm", "alarm"),
    "BUSBAR_TRUSTED_PROXIES": ("10.0.0.0/24, 192.0.2.7", ("10.0.0.0/24", "192.0.2.7/32")),
    "BUSBAR_POOL_SIZE": ("2", 2),
    "BUSBAR_TAKEOVER_S": ("0.5", 0.5),
    "BUSBAR_STOP_S": ("5", 5.0),
    "BUSBAR_DRAIN_S": ("0", 0.0),
    "BUSBAR_SIMULATOR_PORT": ("9081", 9081),
    "BUSBAR_STRICT": ("1", True),
    "BUSBAR_LOG_LEVEL": ("debug", "DEBUG"),
}
"""What an operator writes, and what it means."""
SECRETS = ("BUSBAR_ADMIN_PASSWORD", "BUSBAR_DEMO_PASSWORD", "DATABASE_URL", "AMQP_URL", "BUSBAR_SECRET_KEY")

BAD = [
    ("BUSBAR_PORT", "0"),
    ("BUSBAR_PORT", "65536"),
    ("BUSBAR_PORT", "80.5"),
    ("BUSBAR_PORT", "http"),
    ("BUSBAR_DEMO", "yes"),
    ("DATABASE_URL", "localhost"),
    ("DATABASE_URL", "mysql://u:hidden@db/busbar"),
    ("DATABASE_URL", "postgresql://u:hid/den@db:port/busbar"),
    ("AMQP_URL", "mq"),
    ("AMQP_URL", "http://u:hidden@mq/busbar"),
    ("AMQP_URL", "amqp://u:hid/den@mq:port/busbar"),
    ("BUSBAR_MODE", "staging"),
    ("BUSBAR_LOCKOUT", "never"),
    ("BUSBAR_TRUSTED_PROXIES", "10.0.0.0/33"),
    ("BUSBAR_TRUSTED_PROXIES", "kong"),
    ("BUSBAR_POOL_SIZE", "1"),
    ("BUSBAR_POOL_SIZE", "201"),
    ("BUSBAR_TAKEOVER_S", "0"),
    ("BUSBAR_TAKEOVER_S", "nan"),
    ("BUSBAR_STOP_S", "601"),
    ("BUSBAR_STOP_S", "inf"),
    ("BUSBAR_DRAIN_S", "-1"),
    ("BUSBAR_SIMULATOR_PORT", "x"),
    ("BUSBAR_STRICT", "true"),
    ("BUSBAR_LOG_LEVEL", "chatty"),
]


class TestReading:
    @pytest.mark.parametrize("name", GOOD)
    def test_takes_what_is_set(self, name: str) -> None:
        text, value = GOOD[name]
        field = next(variable.field for variable in VARIABLES if variable.name == name)
        assert getattr(read_settings({name: f" {text} "}), field) == value

    def test_leaves_out_no_variable_and_no_setting(self) -> None:
        assert {variable.name for variable in VARIABLES} == set(GOOD)
        assert sorted(variable.field for variable in VARIABLES) == sorted(Settings.__struct_fields__)

    def test_falls_back_to_the_defaults_for_what_is_unset_or_empty(self) -> None:
        assert read_settings(dict.fromkeys(GOOD, "  ")) == Settings(home=default_home())

    @pytest.mark.parametrize("name", SECRETS)
    def test_takes_a_secret_from_the_file_that_is_named(self, name: str, tmp_path: Path) -> None:
        text, value = GOOD[name]
        (tmp_path / "secret").write_text(f"{text}\n", "utf-8")
        field = next(variable.field for variable in VARIABLES if variable.name == name)
        assert getattr(read_settings({f"{name}_FILE": str(tmp_path / "secret")}), field) == value

    def test_takes_from_files_all_that_holds_a_password_or_a_key_and_nothing_else(self, tmp_path: Path) -> None:
        assert {variable.name for variable in VARIABLES if variable.secret} == set(SECRETS)
        (tmp_path / "port").write_text("9000", "utf-8")
        assert read_settings({"BUSBAR_PORT_FILE": str(tmp_path / "port")}).port == 8000

    @pytest.mark.parametrize(("mode", "allowed"), [("development", True), ("production", False)])
    def test_lets_connectors_call_this_machine_in_development_only(self, mode: str, allowed: bool) -> None:
        assert read_settings({"BUSBAR_MODE": mode}).allow_loopback is allowed


class TestRefusing:
    @pytest.mark.parametrize(("name", "text"), BAD)
    def test_names_the_variable_in_one_sentence(self, name: str, text: str) -> None:
        with pytest.raises(BadSettings) as refused:
            read_settings({name: text})
        assert refused.value.detail.startswith(f"Busbar cannot start with these settings. {name}: ")
        assert "hid" not in refused.value.detail, "an address may hold a password"

    def test_says_why_a_secrets_file_cannot_be_used(self, tmp_path: Path) -> None:
        empty, binary = tmp_path / "empty", tmp_path / "binary"
        empty.write_text(" \n", "utf-8")
        binary.write_bytes(b"\xff\xfe")
        for file, reason in ((tmp_path / "none", "cannot be read"), (empty, "is empty"), (binary, "it is no text")):
            with pytest.raises(BadSettings, match=rf"BUSBAR_SECRET_KEY: the file .*_FILE names .*{reason}"):
                read_settings({"BUSBAR_SECRET_KEY_FILE": str(file)})

    def test_refuses_a_secret_that_is_given_twice_over_guessing_which_one_holds(self) -> None:
        with pytest.raises(BadSettings, match=r"DATABASE_URL: DATABASE_URL_FILE is set as well; unset one of them"):
            read_settings({"DATABASE_URL": "postgresql://u:p@db/busbar", "DATABASE_URL_FILE": "/run/secrets/url"})

    def test_names_all_that_are_wrong_at_once(self) -> None:
        with pytest.raises(BadSettings, match=r"BUSBAR_PORT: .*; BUSBAR_MODE: .*; BUSBAR_LOG_LEVEL: "):
            read_settings({"BUSBAR_LOG_LEVEL": "x", "BUSBAR_PORT": "x", "BUSBAR_MODE": "x"})
