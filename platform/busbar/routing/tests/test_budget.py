"""What slow routes may take, on clocks that the test moves."""

from busbar.routing.budget import BURST_S, SHARE, SLOW_S, Budget


class Clocks:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.spent_s = 0.0
        self.budget = Budget(clock_s=lambda: self.now_s, cpu_s=lambda: self.spent_s)

    def work(self, cpu_s: float) -> None:
        with self.budget.spending():
            self.spent_s += cpu_s
            self.now_s += cpu_s


class TestBudget:
    def test_fast_work_is_never_limited(self) -> None:
        clocks = Clocks()
        for _ in range(10_000):
            clocks.work(0.9 * SLOW_S)
        assert not clocks.budget.used_up

    def test_slow_work_ends_after_the_burst(self) -> None:
        clocks = Clocks()
        rounds = 0
        while not clocks.budget.used_up:
            clocks.work(0.1)
            rounds += 1
        assert rounds == int(BURST_S / 0.1) + 1

    def test_refills_with_its_share_up_to_the_burst(self) -> None:
        clocks = Clocks()
        clocks.work(BURST_S + 0.1)
        assert clocks.budget.used_up
        clocks.now_s += 0.2 / SHARE
        assert not clocks.budget.used_up
        clocks.now_s += 1_000_000
        clocks.work(BURST_S + 0.1)
        assert clocks.budget.used_up

    def test_counts_work_that_fails(self) -> None:
        clocks = Clocks()
        try:
            with clocks.budget.spending():
                clocks.spent_s += BURST_S + 0.1
                raise ValueError
        except ValueError:
            pass
        assert clocks.budget.used_up
