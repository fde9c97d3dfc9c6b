"""Writes the dashboards to the folder that Grafana reads: `python -m ops.grafana`."""

from pathlib import Path
from typing import Final

from ops.grafana import integration, overview, runtime, work
from ops.grafana.panels import as_json

FOLDER: Final = Path(__file__).parent / "dashboards"


def rendered() -> dict[str, str]:
    """The text of each dashboard by the name of its file."""
    built = {"overview": overview, "integration": integration, "work": work, "runtime": runtime}
    return {f"{name}.json": as_json(module.dashboard()) for name, module in built.items()}


def main() -> None:
    """Write every dashboard, and remove what is none any more."""
    texts = rendered()
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
