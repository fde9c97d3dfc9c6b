"""Python's collector of reference cycles, set for a process that serves.

By default it looks after every 700 new objects, and now and then at all there are. A process that handles thousands of
messages a second makes many that live for a moment and in no cycle; looking for those took a tenth of its time
(`benchmarks/bench_bus.py`). Counting references frees them as before.
"""

import gc
from typing import Final

THRESHOLDS: Final = (10_000, 20, 50)


def collect_rarely() -> None:
    """Leave what is there now out of every collection, and look less often; call it when the process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
