"""`python -m benchmarks [--quick] [NAME…]`: measure, print, and keep the results; by default all of them.

A quick run prints only: it is for trying a benchmark out, and its numbers say nothing.
"""

import argparse
import asyncio
import datetime as dt
import importlib
import sys
import time

from benchmarks.findings import HERE, Findings, Kept, Scale, in_plain_text, keep, machine


def main() -> int:
    """Run what is asked for; returns how many goals were missed, as an exit code of 0 or 1."""
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Busbar on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; by default all")
    parser.add_argument("--quick", action="store_true", help="a tenth of time and size; prints, and keeps nothing")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(names):
        parser.error(f"There is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}.")
    missed = 0
    for name in asked.names or names:
        bench = importlib.import_module(f"benchmarks.bench_{name}")
        print(f"\n== {name}: {bench.QUESTION}", flush=True)
        began = time.monotonic()
        findings: Findings = asyncio.run(bench.measure(Scale(quick=asked.quick)))
        print(in_plain_text(findings))
        print(f"({time.monotonic() - began:.0f} s)", flush=True)
        missed += sum(not goal.met for goal in findings.goals)
        if not asked.quick:
            today = dt.datetime.now(tz=dt.UTC).date()
            keep(name, Kept(question=bench.QUESTION, day=today, quick=False, machine=machine(), findings=findings))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
