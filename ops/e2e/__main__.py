"""`python -m ops.e2e`: the services of compose.yml at work, then the acceptance suite over RabbitMQ and with Camel.

`composed`, `rabbitmq` and `camel` as arguments run only these parts. The suite over the embedded bus is `make test`.
"""

import os
import subprocess
import sys
import time

from ops.e2e.model import ROOT

WORK = tuple(
    f"acceptance/test_{name}.py"
    for name in ("walk_through", "chain", "crash", "database_down", "scale_out", "storm", "outage")
)
PARTS = {
    "composed": ("camel", ("ops/e2e/test_composed.py",)),
    "rabbitmq": (
        "rabbitmq",
        (*WORK, "acceptance/test_webhook_out.py", "acceptance/test_stock_load.py"),
    ),
    "camel": ("camel", WORK),
}
"""What carries the events of the installations that tests start, and the tests of which that is a part."""


def main() -> int:
    """Run the parts that are asked for, all of them by default; 1 when any failed."""
    asked = sys.argv[1:] or list(PARTS)
    if unknown := set(asked) - set(PARTS):
        print(f"There is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    took: dict[str, str] = {}
    for part in asked:
        bus, tests = PARTS[part]
        began = time.monotonic()
        print(f"== {part}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--durations=10", *tests],
            cwd=ROOT,
            env=os.environ | {"BUSBAR_ACCEPTANCE_BUS": bus},
            check=False,
        )
        took[part] = f"{'green' if done.returncode == 0 else 'RED'} in {time.monotonic() - began:.0f} s"
    for part, result in took.items():
        print(f"{part}: {result}")
    return int(any(result.startswith("RED") for result in took.values()))


if __name__ == "__main__":
    sys.exit(main())
