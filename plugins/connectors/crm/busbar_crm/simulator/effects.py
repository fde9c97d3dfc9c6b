"""One write in the effect log, in Salesforce's words."""

from connector_simulation import Effect as AnyEffect


class Effect(AnyEffect, frozen=True, kw_only=True):
    """One write that was carried out; its method is CHANGE, COMMENT or REMOVE for what a simulated person did."""

    object: str
    id: str
    external_id: str
    """Busbar_Id__c of the Case after the write; of a comment, that of its Case."""
    number: str = ""
    """CaseNumber."""
