"""What an effect of the simulated system tells beside what every simulator's does."""

import connector_simulation


class Effect(connector_simulation.Effect, frozen=True, kw_only=True):
    """One write that was carried out."""

    service: str
    entity_set: str
    """That of the record, also when a function changed it."""
    function: str = ""
    """Name of the function import, "" for a plain write."""
    key: str
    """The record's key predicate, after the write."""
    reference: str = ""
    """The record's external reference, where it has one."""


EffectLog = connector_simulation.EffectLog[Effect]
