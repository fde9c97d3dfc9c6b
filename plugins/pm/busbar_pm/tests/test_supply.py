"""Who loses supply when one branch opens."""

from hypothesis import given
from hypothesis import strategies as st

from busbar_pm.supply import trace_supply

NODES = [f"n{number}" for number in range(8)]


def supplied(branches: list[tuple[str, str]], source: str) -> set[str]:
    reached = {source}
    while True:
        more = {y for a, b in branches for x, y in ((a, b), (b, a)) if x in reached} - reached
        if not more:
            return reached
        reached |= more


class TestTraceSupply:
    def test_counts_everybody_behind_a_branch_of_a_radial_feeder(self) -> None:
        supply = trace_supply(
            [("busbar", "a"), ("a", "b"), ("a", "c")], source="busbar", customers_at={"a": 1, "b": 10, "c": 100}
        )
        assert supply.behind == (111, 10, 100)
        assert supply.entering == {"a": 0, "b": 1, "c": 2}
        assert supply.upstream == {"a": "busbar", "b": "a", "c": "a"}

    def test_says_none_for_two_parallel_branches_but_counts_what_hangs_behind_both(self) -> None:
        supply = trace_supply(
            [("hv", "mv"), ("hv", "mv"), ("mv", "feeder")], source="hv", customers_at={"mv": 1, "feeder": 5}
        )
        assert supply.behind == (None, None, 5)

    def test_counts_nobody_behind_a_branch_without_path_to_the_source(self) -> None:
        supply = trace_supply([("source", "a"), ("x", "y")], source="source", customers_at={"a": 1, "y": 7})
        assert supply.behind == (1, 0)
        assert "y" not in supply.entering

    def test_walks_a_feeder_deeper_than_the_stack(self) -> None:
        chain = [(str(number), str(number + 1)) for number in range(50_000)]
        assert trace_supply(chain, source="0", customers_at={"50000": 1}).behind == (1,) * 50_000

    @given(
        branches=st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES)), max_size=14),
        customers=st.dictionaries(st.sampled_from(NODES), st.integers(1, 9)),
    )
    def test_agrees_with_opening_every_branch_in_turn(
        self, branches: list[tuple[str, str]], customers: dict[str, int]
    ) -> None:
        supply = trace_supply(branches, source="n0", customers_at=customers)
        normal = supplied(branches, "n0")
        for index, behind in enumerate(supply.behind):
            lost = normal - supplied(branches[:index] + branches[index + 1 :], "n0")
            assert (behind or 0) == sum(customers.get(node, 0) for node in lost)
            assert (behind is None) == (branches[index][0] in normal and not lost)
