"""The collector of reference cycles still does its work when it looks less often."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from busbar.kit.garbage import THRESHOLDS, collect_rarely


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    former = gc.get_threshold()
    yield
    gc.set_threshold(*former)
    gc.unfreeze()


class Node:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_leaves_out_what_was_there_and_frees_cycles_that_come_later() -> None:
    collect_rarely()
    assert gc.get_freeze_count() > 0
    first = weakref.ref(Node())
    kept = [[n] for n in range(THRESHOLDS[0] + 1)]
    assert first() is None, "so many new objects begin a collection"
    assert len(kept) > 0
