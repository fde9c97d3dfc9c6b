"""The tables of materials management. Money is numeric(15,2), a price numeric(15,4), a quantity numeric(15,3)."""

from decimal import Decimal

from piccolo.columns import UUID, BigSerial, Integer, Numeric, Text, Timestamptz
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from busbar.sdk import DB

_QUANTITY = (15, 3)
_MONEY = (15, 2)
_NOTHING = Decimal(0)


class Material(Table, tablename="material", schema="mm", db=DB):
    """Something that is kept in store, at one site; its row is locked by whoever changes anything about its stock."""

    material_id = Text(primary_key=True, default=None, null=False)
    description = Text(default=None, null=False)
    unit_of_measure = Text(default=None, null=False)
    quantity = Numeric(digits=_QUANTITY, default=_NOTHING, null=False)
    reorder_level = Numeric(digits=_QUANTITY, default=_NOTHING, null=False)
    reorder_buffer = Numeric(digits=_QUANTITY, default=_NOTHING, null=False)
    storage_location = Text(default=None, null=False)
    cost_center_id = Text(default=None, null=True)
    unit_price = Numeric(digits=(15, 4), default=None, null=True)
    moving_average = Numeric(digits=(21, 4), default=None, null=True)
    stock_value = Numeric(digits=_MONEY, default=_NOTHING, null=False)
    currency = Text(default="EUR", null=False)
    site_id = Text(default=None, null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)
    posted_at = Timestamptz(default=None, null=True)

    material_quantity_not_negative = Check("quantity >= 0")
    material_value_not_negative = Check("stock_value >= 0")


class StorageLocation(Table, tablename="storage_location", schema="mm", db=DB):
    """A place of a site where materials are kept."""

    id = BigSerial(primary_key=True)
    site_id = Text(default=None, null=False)
    storage_location = Text(default=None, null=False)
    title = Text(default="", null=False)
    created_at = Timestamptz(default=None, null=False)

    storage_location_unique = Unique(["site_id", "storage_location"])


class Stock(Table, tablename="stock", schema="mm", db=DB):
    """How much of a material is at a storage location of its site."""

    id = BigSerial(primary_key=True)
    material_id = Text(default=None, null=False)
    storage_location = Text(default=None, null=False)
    quantity = Numeric(digits=_QUANTITY, default=_NOTHING, null=False)

    stock_unique = Unique(["material_id", "storage_location"])
    stock_not_negative = Check("quantity >= 0")


class StockTransaction(Table, tablename="stock_transaction", schema="mm", db=DB):
    """A line of the ledger; append-only. A transfer has two lines, every other transaction one."""

    entry = BigSerial(primary_key=True)
    transaction_id = UUID(default=None, null=False)
    line = Integer(default=1, null=False)
    material_id = Text(default=None, null=False)
    transaction_type = Text(default=None, null=False)
    quantity_change = Numeric(digits=_QUANTITY, default=None, null=False)
    new_quantity = Numeric(digits=_QUANTITY, default=None, null=False)
    storage_location = Text(default=None, null=False)
    quantity_at_location = Numeric(digits=_QUANTITY, default=None, null=False)
    value_change = Numeric(digits=_MONEY, default=None, null=False)
    currency = Text(default=None, null=False)
    ticket_id = Text(default=None, null=True)
    cost_center_id = Text(default=None, null=True)
    requisition_id = UUID(default=None, null=True)
    note = Text(default="", null=False)
    posted_at = Timestamptz(default=None, null=False)
    posted_by = Text(default=None, null=False)
    correlation_id = Text(default=None, null=False)
    site_id = Text(default=None, null=False)

    stock_transaction_line_unique = Unique(["transaction_id", "line"])
    stock_transaction_type_agrees_with_sign = Check(
        "case transaction_type when 'receipt' then quantity_change > 0 when 'issue' then quantity_change < 0 "
        "when 'adjustment' then quantity_change <> 0 when 'transfer' then quantity_change <> 0 else false end"
    )
    stock_transaction_never_negative = Check("new_quantity >= 0 and quantity_at_location >= 0")


class Reservation(Table, tablename="reservation", schema="mm", db=DB):
    """What a maintenance order plans to use of a material; what was issued to its ticket is in the ledger."""

    id = BigSerial(primary_key=True)
    ticket_id = Text(default=None, null=False)
    material_id = Text(default=None, null=False)
    quantity = Numeric(digits=_QUANTITY, default=None, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)
    released_at = Timestamptz(default=None, null=True)

    reservation_unique = Unique(["ticket_id", "material_id"])
    reservation_not_negative = Check("quantity >= 0")


class PurchaseRequisition(Table, tablename="purchase_requisition", schema="mm", db=DB):
    """A request to buy a material, with its Procurement ticket."""

    requisition_id = UUID(primary_key=True, default=None, null=False)
    ticket_id = Text(default=None, null=False, unique=True)
    material_id = Text(default=None, null=False)
    quantity = Numeric(digits=_QUANTITY, default=None, null=False)
    received_quantity = Numeric(digits=_QUANTITY, default=_NOTHING, null=False)
    unit_price = Numeric(digits=(21, 4), default=None, null=True)
    amount = Numeric(digits=_MONEY, default=_NOTHING, null=False)
    currency = Text(default=None, null=False)
    cost_center_id = Text(default=None, null=True)
    justification = Text(default="", null=False)
    origin = Text(default="manual", null=False)
    requested_by = Text(default=None, null=False)
    storage_location = Text(default=None, null=False)
    status = Text(default="requested", null=False)
    external_number = Text(default=None, null=True)
    decided_by = Text(default=None, null=True)
    decided_at = Timestamptz(default=None, null=True)
    comment = Text(default=None, null=True)
    site_id = Text(default=None, null=False)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    requisition_quantity_positive = Check("quantity > 0")
    requisition_origin_known = Check("origin in ('manual', 'reorder')")
    requisition_status_known = Check(
        "status in ('requested', 'approved', 'rejected', 'ordered', 'received', 'cancelled')"
    )


class StockCount(Table, tablename="stock_count", schema="mm", db=DB):
    """A count of what lies at a storage location, to be compared with the books."""

    count_id = UUID(primary_key=True, default=None, null=False)
    storage_location = Text(default=None, null=False)
    description = Text(default="", null=False)
    status = Text(default="open", null=False)
    site_id = Text(default=None, null=False)
    created_by = Text(default=None, null=False)
    posted_by = Text(default=None, null=True)
    posted_at = Timestamptz(default=None, null=True)
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=None, null=False)
    updated_at = Timestamptz(default=None, null=False)

    stock_count_status_known = Check("status in ('open', 'posted', 'cancelled')")


class StockCountLine(Table, tablename="stock_count_line", schema="mm", db=DB):
    """What a count says of one material: what the books had when it began, and what was found."""

    id = BigSerial(primary_key=True)
    count_id = UUID(default=None, null=False)
    material_id = Text(default=None, null=False)
    book_quantity = Numeric(digits=_QUANTITY, default=None, null=False)
    counted_quantity = Numeric(digits=_QUANTITY, default=None, null=True)
    counted_by = Text(default=None, null=True)
    counted_at = Timestamptz(default=None, null=True)
    transaction_id = UUID(default=None, null=True)

    stock_count_line_unique = Unique(["count_id", "material_id"])
    stock_count_line_not_negative = Check("counted_quantity >= 0")


TABLES = (
    Material,
    PurchaseRequisition,
    Reservation,
    Stock,
    StockCount,
    StockCountLine,
    StockTransaction,
    StorageLocation,
)
