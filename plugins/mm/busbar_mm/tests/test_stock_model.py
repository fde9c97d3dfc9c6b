"""Stock as the specification has it, written down a second time, and compared with the API after every step."""

import asyncio
from collections.abc import Coroutine
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any, ClassVar, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from busbar.testing.app import Client, RunningApp
from busbar_mm.tests.work import add, check_books, events_of, ledger, material, post, requisitions, tell

T = TypeVar("T")
PLACES = ("MAIN", "VAN", "YARD")
AMOUNTS = st.decimals(min_value=Decimal("0.001"), max_value=40, places=3)
PRICES = st.none() | st.decimals(min_value=0, max_value=20, places=4)
places = st.sampled_from(PLACES)


class Requisition(msgspec.Struct, kw_only=True):
    """What was asked for."""

    origin: str
    quantity: Decimal
    received: Decimal = Decimal(0)
    status: str = "requested"

    @property
    def is_open(self) -> bool:
        return self.status in ("requested", "approved", "ordered")


class Model(msgspec.Struct, kw_only=True):
    """One material (SPEC R3), apart from the code."""

    level: Decimal
    buffer: Decimal
    at: dict[str, Decimal] = msgspec.field(default_factory=lambda: dict.fromkeys(PLACES, Decimal(0)))
    value: Fraction = Fraction(0)
    average: Fraction = Fraction(0)
    """What a unit was last worth, to four places."""
    lines: list[Decimal] = []
    requisitions: list[Requisition] = []

    @property
    def quantity(self) -> Decimal:
        return sum(self.at.values(), Decimal(0))

    def allows(self, place: str, change: Decimal) -> bool:
        return self.at[place] + change >= 0

    def move(self, place: str, change: Decimal, price: Decimal | None = None) -> None:
        quantity = self.quantity
        if change > 0 and (price is not None or quantity == 0):
            self.value += cents(Fraction(change) * (self.average if price is None else Fraction(price)))
        elif quantity == -change:
            self.value = Fraction(0)
        else:
            self.value += cents(self.value * Fraction(change) / Fraction(quantity))
        self.at[place] += change
        self.lines.append(change)
        if self.quantity > 0:
            self.average = rounded(self.value / Fraction(self.quantity), steps=10_000)

    def look(self) -> None:
        """The reorder rule."""
        waiting = [each for each in self.requisitions if each.is_open]
        if self.quantity >= self.level or any(each.origin == "reorder" for each in waiting):
            return
        coming = sum((max(each.quantity - each.received, Decimal(0)) for each in waiting), Decimal(0))
        missing = self.level - self.quantity + self.buffer - coming
        if missing > 0:
            self.requisitions.append(Requisition(origin="reorder", quantity=missing))


def rounded(value: Fraction, *, steps: int) -> Fraction:
    """To so many steps of one, half away from 0."""
    size = Fraction(floor(abs(value) * steps + Fraction(1, 2)), steps)
    return size if value >= 0 else -size


def cents(value: Fraction) -> Fraction:
    return rounded(value, steps=100)


class StockMachine(RuleBasedStateMachine):
    """Anybody does anything with a material, in any order."""

    app: ClassVar[RunningApp]
    store: ClassVar[Client]
    loop: ClassVar[asyncio.AbstractEventLoop]

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=30)

    @initialize(level=AMOUNTS, buffer=AMOUNTS)
    def begin(self, level: Decimal, buffer: Decimal) -> None:
        self.model = Model(level=level, buffer=buffer)
        self.material_id = self.wait(add(self.store, reorder_level=str(level), reorder_buffer=str(buffer)))
        self.model.look()

    def try_posting(self, change: Decimal, kind: str, place: str, price: Decimal | None = None) -> None:
        more = {} if price is None else {"unit_price": str(price)}
        answer = self.wait(post(self.store, self.material_id, change, kind, storage_location=place, **more))
        if not self.model.allows(place, change):
            assert (answer.status, answer.body["code"]) == (422, "BUS_002"), answer
            return
        assert answer.status == 201, answer
        self.model.move(place, change, price)
        assert Decimal(answer.body["new_quantity"]) == self.model.quantity
        self.model.look()

    @rule(quantity=AMOUNTS, place=places, price=PRICES)
    def receive(self, quantity: Decimal, place: str, price: Decimal | None) -> None:
        self.try_posting(quantity, "receipt", place, price)

    @rule(quantity=AMOUNTS, place=places)
    def issue(self, quantity: Decimal, place: str) -> None:
        self.try_posting(-quantity, "issue", place)

    @rule(place=places)
    def issue_all(self, place: str) -> None:
        if self.model.at[place] > 0:
            self.try_posting(-self.model.at[place], "issue", place)

    @rule(quantity=AMOUNTS, place=places, is_loss=st.booleans())
    def adjust(self, quantity: Decimal, place: str, is_loss: bool) -> None:
        self.try_posting(-quantity if is_loss else quantity, "adjustment", place)

    @rule(quantity=AMOUNTS, source=places, aim=places)
    def transfer(self, quantity: Decimal, source: str, aim: str) -> None:
        where = {"storage_location": source, "to_storage_location": aim}
        answer = self.wait(post(self.store, self.material_id, quantity, "transfer", **where))
        if source == aim or not self.model.allows(source, -quantity):
            assert (answer.status, answer.body["code"]) == (422, "BUS_002"), answer
            return
        assert answer.status == 201, answer
        self.model.at[source] -= quantity
        self.model.at[aim] += quantity
        self.model.lines += [-quantity, quantity]
        self.model.look()

    @rule(level=AMOUNTS)
    def change_level(self, level: Decimal) -> None:
        self.wait(self.store.patch(f"/mm/materials/{self.material_id}", {"reorder_level": str(level)}))
        is_raised = level > self.model.level
        self.model.level = level
        if is_raised:
            self.model.look()

    @rule(quantity=AMOUNTS)
    def request(self, quantity: Decimal) -> None:
        body = {"material_id": self.material_id, "quantity": str(quantity), "justification": "More"}
        self.wait(self.store.post("/mm/purchase-requisitions", body))
        self.model.requisitions.append(Requisition(origin="manual", quantity=quantity))

    @precondition(lambda self: any(each.is_open for each in self.model.requisitions))
    @rule(data=st.data(), end=st.sampled_from(["call off", "reject"]))
    def end_requisition(self, data: st.DataObject, end: str) -> None:
        number, wanted = self.pick(data, "requested", "approved")
        if number is None or wanted is None:
            return
        requisition_id = self.read()[number]["requisition_id"]
        if end == "call off":
            answer = self.wait(self.store.send("DELETE", f"/mm/purchase-requisitions/{requisition_id}"))
            assert answer.status == 204
            wanted.status = "cancelled"
            if wanted.origin == "manual":
                self.model.look()
        elif wanted.status == "requested":
            self.decide(requisition_id, "rejected")
            wanted.status = "rejected"

    @precondition(lambda self: any(each.is_open for each in self.model.requisitions))
    @rule(data=st.data(), share=st.sampled_from([Decimal("0.5"), Decimal(1), Decimal("1.5")]))
    def buy(self, data: st.DataObject, share: Decimal) -> None:
        number, wanted = self.pick(data, "requested", "approved")
        if number is None or wanted is None:
            return
        requisition_id = self.read()[number]["requisition_id"]
        if wanted.status == "requested":
            self.decide(requisition_id, "approved")
            wanted.status = "approved"
        delivered = (wanted.quantity * share).quantize(Decimal("0.001"))
        if delivered == 0:
            return
        more = {"requisition_id": requisition_id, "storage_location": "YARD"}
        answer = self.wait(post(self.store, self.material_id, delivered, "receipt", **more))
        assert answer.status == 201, answer
        wanted.received += delivered
        if wanted.received >= wanted.quantity:
            wanted.status = "received"
        self.model.move("YARD", delivered)
        self.model.look()

    def pick(self, data: st.DataObject, *statuses: str) -> tuple[int | None, Requisition | None]:
        found = [(n, each) for n, each in enumerate(self.model.requisitions) if each.status in statuses]
        return data.draw(st.sampled_from(found)) if found else (None, None)

    def decide(self, requisition_id: str, decision: str) -> None:
        approval = {"approval_id": "A", "amount": "99999999", "subject_kind": "requisition"}
        approval["subject_id"] = requisition_id
        told = {"ticket_id": "F", "approval": approval, "decision": decision, "decided_by": "fred"}
        self.wait(tell("FI_APPROVAL_COMPLETED", requisition_id, told))
        self.wait(self.app.quiet())

    def read(self) -> list[Any]:
        return self.wait(requisitions(self.store, self.material_id))

    @invariant()
    def agrees_with_the_model(self) -> None:
        found = self.wait(material(self.store, self.material_id))
        assert Decimal(found["quantity"]) == self.model.quantity
        assert Fraction(Decimal(found["stock_value"])) == self.model.value
        there = self.wait(self.store.get(f"/mm/materials/{self.material_id}/stock"))
        at = dict.fromkeys(PLACES, Decimal(0)) | {e["storage_location"]: Decimal(e["quantity"]) for e in there}
        assert at == self.model.at
        asked = [
            (each["origin"], each["status"], Decimal(each["quantity"]), Decimal(each["received_quantity"]))
            for each in self.read()
        ]
        assert asked == [(e.origin, e.status, e.quantity, e.received) for e in self.model.requisitions]
        self.wait(check_books(self.material_id))

    def teardown(self) -> None:
        if not hasattr(self, "material_id"):
            return
        lines = self.wait(ledger(self.store, self.material_id))
        assert [Decimal(line["quantity_change"]) for line in lines] == self.model.lines
        for requisition in self.read():
            self.wait(events_of(requisition["ticket_id"]))
        self.wait(events_of(self.material_id))


class TestStock:
    async def test_follows_the_model_whatever_is_done(self, app: RunningApp, store: Client) -> None:
        StockMachine.app, StockMachine.store, StockMachine.loop = app, store, asyncio.get_running_loop()
        few = settings(max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
        # In a thread of its own, for a state machine is synchronous, and the platform runs in this loop.
        await asyncio.to_thread(run_state_machine_as_test, StockMachine, settings=few)
