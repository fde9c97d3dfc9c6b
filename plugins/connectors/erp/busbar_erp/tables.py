"""The table of this connector: which document of SAP is which thing of Busbar's."""

from piccolo.columns import BigSerial, Boolean, Integer, Text, Timestamptz
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from busbar.sdk import DB


class Document(Table, tablename="document", schema="erp", db=DB):
    """A document in SAP: reserved before it is made, so that it is found after an answer that never came.

    SAP's fields for a reference take 10 to 35 characters, and a UUID has 36: hence the short id.
    """

    id = BigSerial(primary_key=True)
    endpoint_id = Text(default=None, null=False)
    kind = Text(default=None, null=False)
    subject = Text(default=None, null=False)
    """Busbar's id: of the requisition, of the stock transaction, or of the maintenance ticket."""
    short_id = Text(default=None, null=False)
    ticket_id = Text(default=None, null=True)
    remote_id = Text(default=None, null=True)
    """SAP's number; None until an answer has told it."""
    told_version = Integer(default=0, null=False)
    told_at = Timestamptz(default=None, null=True)
    state = Text(default="", null=False)
    """Where the document stood when we last wrote it, or when its state was last taken over."""
    intended_state = Text(default="", null=False)
    """Where our own latest call brings it; it may have been carried out without an answer."""
    reported_state = Text(default="", null=False)
    reported_message = Text(default="", null=False)
    """The state that was handed to the core as somebody else's change, and the id of the message that did."""
    purchase_order = Text(default="", null=False)
    purchase_order_item = Text(default="", null=False)
    withdrawn = Boolean(default=False, null=False)
    """Called off before SAP had it: it must not be made any more."""
    created_at = Timestamptz(default=None, null=False)

    document_once = Unique(["endpoint_id", "kind", "subject"])
    document_short_id = Unique(["endpoint_id", "short_id"])
    document_kind_known = Check("kind in ('requisition', 'movement', 'reversal', 'notification', 'order')")


TABLES = (Document,)
