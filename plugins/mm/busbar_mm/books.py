"""What a posting does to a material's quantity and value: arithmetic only, on what is locked and read before.

Valuation is by moving average. `value`, to the cent, is the truth; the average price follows from it. What comes in
adds its quantity times its price; what goes out takes its share of the value, and the last unit takes all that is left,
so that an empty store is worth nothing. Products and quotients are rounded half up, once, at the end.
"""

import decimal
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from busbar.sdk import FieldError, InvalidPayload, RuleViolated
from busbar_mm.events import TransactionType

QUANTITY_MAX: Final = Decimal("999999999999.999")
MONEY_MAX: Final = Decimal("9999999999999.99")
_EXACT: Final = decimal.Context(prec=60, rounding=ROUND_HALF_UP)
_CENT: Final = Decimal("0.01")
_PRICE: Final = Decimal("0.0001")
ZERO: Final = Decimal(0)


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """A change of stock that is asked for."""

    material_id: str
    transaction_type: TransactionType
    quantity_change: Decimal
    """Above 0 for a receipt, below 0 for an issue, not 0 for an adjustment; for a transfer what is moved, above 0."""
    storage_location: str | None = None
    """By default the material's own."""
    to_storage_location: str | None = None
    """Where a transfer leads."""
    unit_price: Decimal | None = None
    """Of what is received; by default what the material is worth now."""
    ticket_id: str | None = None
    """The ticket of the work that it is issued to."""
    cost_center_id: str | None = None
    requisition_id: UUID | None = None
    note: str = ""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the ledger, as far as it is arithmetic."""

    storage_location: str
    quantity_change: Decimal
    new_quantity: Decimal
    quantity_at_location: Decimal
    value_change: Decimal


def check(posting: Posting) -> None:
    """Refuse a posting that contradicts itself (SPEC R3.5).

    Raises:
        InvalidPayload: the sign does not agree with the type, or a field does not belong to it.
    """
    change, kind = posting.quantity_change, posting.transaction_type
    rules: tuple[tuple[bool, str, str], ...] = (
        (kind in ("receipt", "transfer") and change <= 0, "quantity_change", f"must be above 0 for a {kind}"),
        (kind == "issue" and change >= 0, "quantity_change", "must be below 0 for an issue"),
        (change == 0, "quantity_change", "must not be 0"),
        (
            (kind == "transfer") != (posting.to_storage_location is not None),
            "to_storage_location",
            "says where a transfer leads, and is for transfers only",
        ),
        (posting.unit_price is not None and kind != "receipt", "unit_price", "is for receipts only"),
        (posting.ticket_id is not None and kind != "issue", "ticket_id", "is for issues only"),
        (posting.cost_center_id is not None and kind != "issue", "cost_center_id", "is for issues only"),
        (posting.requisition_id is not None and kind != "receipt", "requisition_id", "is for receipts only"),
    )
    errors = {field: FieldError(field=field, message=message) for broken, field, message in reversed(rules) if broken}
    if errors:
        raise InvalidPayload("The posting contradicts itself.", errors=list(errors.values()))


class Book:
    """A locked material and its stock by location; postings are tried against it in turn, before any is written."""

    def __init__(self, material: Mapping[str, Any], stock: Mapping[str, Decimal]) -> None:
        self.material_id: str = material["material_id"]
        self.site_id: str = material["site_id"]
        self.description: str = material["description"]
        self.unit_of_measure: str = material["unit_of_measure"]
        self.storage_location: str = material["storage_location"]
        self.cost_center_id: str | None = material["cost_center_id"]
        self.currency: str = material["currency"]
        self.unit_price: Decimal | None = material["unit_price"]
        self.reorder_level: Decimal = material["reorder_level"]
        self.reorder_buffer: Decimal = material["reorder_buffer"]
        self.quantity: Decimal = material["quantity"]
        self.value: Decimal = material["stock_value"]
        self.moving_average: Decimal | None = material["moving_average"]
        self.posted_at = material["posted_at"]
        self.stock = dict(stock)
        self.touched: set[str] = set()
        """Locations whose stock is to be written."""

    @property
    def is_below_level(self) -> bool:
        """Whether the reorder rule has to look."""
        return self.quantity < self.reorder_level

    @property
    def expected_price(self) -> Decimal | None:
        """What a unit is expected to cost when it is bought."""
        return self.moving_average if self.unit_price is None else self.unit_price

    def post(self, posting: Posting) -> tuple[Line, ...]:
        """The lines that a posting makes; the book is changed only if there are any.

        Raises:
            RuleViolated: there is too little at the location, or there would be more than can be counted.
        """
        location = posting.storage_location or self.storage_location
        if posting.to_storage_location is not None:
            return self._transfer(location, posting.to_storage_location, posting.quantity_change)
        change = posting.quantity_change
        if change < 0:
            value = -self._share(location, -change, what=posting.transaction_type)
        else:
            value = self._worth(change, posting.unit_price)
        return (self._line(location, change, value),)

    def _transfer(self, source: str, target: str, moved: Decimal) -> tuple[Line, ...]:
        if source == target:
            raise RuleViolated(f"The transfer leads from {source} to {target}: that is the same place.")
        value = self._share(source, moved, what="transfer")
        return (self._line(source, -moved, -value), self._line(target, moved, value))

    def _share(self, location: str, quantity: Decimal, *, what: str) -> Decimal:
        """The value of what goes out."""
        there = self.stock.get(location, ZERO)
        if quantity > there:
            raise RuleViolated(
                f"There are {_plain(there)} {self.unit_of_measure} of {self.material_id} at {location}, "
                f"{_plain(self.quantity)} in all: {_plain(quantity)} are too many for this {what}."
            )
        if quantity == self.quantity:
            return self.value
        share = _EXACT.divide(_EXACT.multiply(self.value, quantity), self.quantity)
        return min(_EXACT.quantize(share, _CENT), self.value)

    def _worth(self, quantity: Decimal, unit_price: Decimal | None) -> Decimal:
        """The value of what comes in."""
        if quantity + self.quantity > QUANTITY_MAX:
            raise RuleViolated(f"There would be more than {QUANTITY_MAX} of {self.material_id}.")
        if unit_price is None and self.quantity > 0:
            worth = _EXACT.divide(_EXACT.multiply(self.value, quantity), self.quantity)
        else:
            price = self.expected_price if unit_price is None else unit_price
            worth = _EXACT.multiply(quantity, price or ZERO)
        value = _EXACT.quantize(worth, _CENT)
        if value + self.value > MONEY_MAX:
            raise RuleViolated(f"The stock of {self.material_id} would be worth more than {MONEY_MAX}.")
        return value

    def _line(self, location: str, change: Decimal, value: Decimal) -> Line:
        self.quantity += change
        self.value += value
        self.stock[location] = self.stock.get(location, ZERO) + change
        self.touched.add(location)
        if self.quantity > 0:
            self.moving_average = _EXACT.quantize(_EXACT.divide(self.value, self.quantity), _PRICE)
        return Line(
            storage_location=location,
            quantity_change=change,
            new_quantity=self.quantity,
            quantity_at_location=self.stock[location],
            value_change=value,
        )


def amount_of(quantity: Decimal, price: Decimal | None) -> Decimal:
    """Quantity times price, two decimals, half up; 0 where the price is not known, or the amount cannot be written."""
    amount = _EXACT.quantize(_EXACT.multiply(quantity, price or ZERO), _CENT)
    return amount if amount <= MONEY_MAX else Decimal("0.00")


def _plain(quantity: Decimal) -> str:
    """A quantity for people: without needless zeros or an exponent."""
    return f"{quantity.normalize():f}"
