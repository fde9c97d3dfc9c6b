"""Runs DataWeave scripts with MuleSoft's own engine: `evaluate` for tests, and what runs in the process that has it."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[3]
RUN_S_MAX = 120


class Bytes(NamedTuple):
    """A payload that nobody has parsed."""

    content: bytes


class Outcome(NamedTuple):
    """What a script came to."""

    value: Any
    error: str | None


def evaluate(
    runs: Sequence[tuple[str, Mapping[str, Any]]], *, properties: Mapping[str, str] | None = None
) -> list[Outcome]:
    """Run each script with its inputs: `Bytes`, or anything else as JSON. `properties` is what `Mule::p` finds.

    What a script makes for Java is read as JSON, for the engine alone knows no Java.
    """
    folder = subprocess.run([ROOT / "ops" / "get-dataweave.sh"], capture_output=True, text=True, check=True)
    request = {
        "properties": dict(properties or {}),
        "runs": [
            {"script": _for_json(script), "inputs": {name: _input(value) for name, value in inputs.items()}}
            for script, inputs in runs
        ],
    }
    ended = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(request),
        env={**os.environ, "PYTHONPATH": folder.stdout.strip()},
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
    )
    assert ended.returncode == 0, ended.stderr
    return [
        Outcome(value=None if each["error"] else json.loads(each["output"]), error=each["error"])
        for each in json.loads(ended.stdout)
    ]


def _for_json(script: str) -> str:
    if "output " not in script:
        return f"output application/json --- {script}"
    return script.replace("output application/java", "output application/json")


def _input(value: Any) -> dict[str, Any]:
    if isinstance(value, Bytes):
        return {"content": base64.b64encode(value.content).decode(), "mimeType": "application/octet-stream"}
    return {"content": base64.b64encode(json.dumps(value).encode()).decode(), "mimeType": "application/json"}


def _run_here(request: dict[str, Any]) -> list[dict[str, Any]]:
    import dataweave

    properties = json.dumps(request["properties"])
    # Mule's module of functions is not in the engine; this is the one that the scripts use.
    mule = f"%dw 2.0\nvar known = {properties}\nfun p(name: String): String | Null = known[name]\n"
    outcomes = []
    with dataweave.DataWeave(resolve_module=dataweave.modules_from_map({"Mule.dwl": mule})) as engine:
        for run in request["runs"]:
            inputs = {
                name: {"content": base64.b64decode(each["content"]), "mimeType": each["mimeType"]}
                for name, each in run["inputs"].items()
            }
            result = engine.run(run["script"], inputs)
            outcomes.append(
                {
                    "output": result.get_string() if result.success else None,
                    "error": None if result.success else result.error,
                }
            )
    return outcomes


if __name__ == "__main__":
    json.dump(_run_here(json.load(sys.stdin)), sys.stdout)
