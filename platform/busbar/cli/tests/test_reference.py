"""`busbar reference` writes what the code says, with --check only tells, and never publishes what breaks consumers."""

from pathlib import Path

import msgspec
import pytest

from busbar.cli import reference
from busbar.cli.reference import run_reference
from busbar.cli.source import fields_of, find_definition
from busbar.connectors.contract import RateLimited
from busbar.events.compatibility import Incompatible
from busbar.host.loader import PluginRefused
from busbar.tickets.events import TicketCreated

SCHEMA = "PM_TICKET_CREATED.v1.json"


def written(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*.*")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run_reference(tmp_path, check=False)
    return tmp_path


class TestWriting:
    def test_writes_a_page_for_each_subject_and_a_schema_for_each_event(self, folder: Path) -> None:
        names = set(written(folder))
        assert {"README.md", "settings.md", "hooks.md", "events.md", "errors.md", "commands.md", "sdk.md"} < names
        assert f"events/{SCHEMA}" in names

    def test_says_what_the_code_says(self, folder: Path) -> None:
        pages = written(folder)
        assert "| `BUSBAR_DEMO_PASSWORD` | Password of all demo users." in pages["settings.md"]
        assert "| `BUS_001` | 422 | Forbidden state transition | `ForbiddenTransition` |" in pages["errors.md"]
        assert "## `busbar site add`" in pages["commands.md"]
        assert "Returns `Sequence[Permission]`." in pages["hooks.md"]
        assert "| `customers_affected` | `int` |" in pages["events.md"]
        assert "async def publish(ctx: Context, event_type: str, *, subject: str" in pages["sdk.md"]

    def test_changes_nothing_the_second_time(self, folder: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
        run_reference(folder, check=False)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")} == before

    def test_refuses_to_publish_an_event_that_lost_a_field_and_writes_nothing(self, folder: Path) -> None:
        lose_a_field(folder)
        before = written(folder)
        with pytest.raises(Incompatible, match=r"PM_TICKET_CREATED: .*former"):
            run_reference(folder, check=False)
        assert written(folder) == before


class TestChecking:
    def test_is_content_with_what_was_written(self, folder: Path) -> None:
        run_reference(folder, check=True)

    @pytest.mark.parametrize("name", ["errors.md", f"events/{SCHEMA}"])
    def test_ends_with_1_and_a_sentence_for_what_is_missing_and_writes_nothing(
        self, folder: Path, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / name).unlink()
        with pytest.raises(SystemExit) as ended:
            run_reference(folder, check=True)
        assert ended.value.code == 1
        told = " ".join(capsys.readouterr().err.split())
        assert Path(name).name in told
        assert "make docs" in told
        assert not (folder / name).exists()

    def test_tells_of_an_event_that_lost_a_field(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        lose_a_field(folder)
        with pytest.raises(SystemExit):
            run_reference(folder, check=True)
        assert "raise its version to 2" in " ".join(capsys.readouterr().err.split())

    def test_refuses_to_work_with_a_faulty_plugin(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plugins = reference.plugins()
        plugins[0].quarantine("import", "The plugin itsm cannot be imported: no reason")
        monkeypatch.setattr(reference, "plugins", lambda: plugins)
        with pytest.raises(PluginRefused, match="no reason"):
            run_reference(folder, check=True)


class TestReadingTheSource:
    def test_follows_a_name_to_where_it_is_defined(self) -> None:
        found = find_definition("busbar.sdk", "RateLimited")
        assert found.module == "busbar.connectors.contract"
        assert found.signature == "class RateLimited(detail: str, *, until: datetime)"
        assert found.doc == RateLimited.__doc__

    def test_knows_a_context_manager_by_how_it_is_used(self) -> None:
        assert find_definition("busbar.sdk", "transaction").signature == "async with transaction()"

    def test_lists_the_fields_of_a_struct_after_those_it_inherits(self) -> None:
        class More(TicketCreated, frozen=True, kw_only=True):
            pass

        assert [field.name for field in fields_of(More)] == list(TicketCreated.__struct_fields__)

    def test_says_when_there_is_no_such_name(self) -> None:
        with pytest.raises(LookupError, match=r"busbar\.sdk neither defines nor imports Nothing"):
            find_definition("busbar.sdk", "Nothing")


def lose_a_field(folder: Path) -> None:
    """Let the published schema have a field that the code no longer has."""
    path = folder / "events" / SCHEMA
    schema = msgspec.json.decode(path.read_bytes())
    struct = schema["$defs"]["PmTicketCreated"]
    struct["properties"]["former"] = {"type": "string"}
    struct["required"].append("former")
    path.write_bytes(msgspec.json.encode(schema))
