"""Busbar's names as codes of SAP: by the tables in the settings, else the name itself where it fits."""

import re
from collections.abc import Mapping
from decimal import Decimal

from busbar.sdk import Permanent
from busbar_erp.settings import ErpSettings

UNITS = {
    "each": "EA",
    "pc": "PC",
    "pcs": "PC",
    "piece": "PC",
    "m": "M",
    "metre": "M",
    "meter": "M",
    "km": "KM",
    "ft": "FT",
    "foot": "FT",
    "feet": "FT",
    "l": "L",
    "litre": "L",
    "liter": "L",
    "kg": "KG",
    "set": "SET",
    "roll": "ROL",
    "h": "H",
}
"""Common units; what a system calls them is configuration, so the settings come first."""

PRICE_DECIMALS = 2
PRICE_QUANTITY_MAX = 10_000

_CODE = re.compile(r"[A-Z0-9][A-Z0-9 ._/+#&()-]*")


def material(name: str, settings: ErpSettings) -> str:
    """The material number. Raises Permanent where the name is none."""
    return _code("material", name, settings.materials, setting="materials", characters_max=40)


def cost_center(name: str, settings: ErpSettings) -> str:
    """The cost center. Raises Permanent where the name is none."""
    return _code("cost center", name, settings.cost_centers, setting="cost_centers", characters_max=10)


def unit(name: str, settings: ErpSettings) -> str:
    """The unit of measure. Raises Permanent where the name is none."""
    found = settings.units.get(name) or UNITS.get(name.casefold())
    table = {} if found is None else {name: found}
    return _code("unit of measure", name, table, setting="units", characters_max=3)


def storage_location(name: str, settings: ErpSettings) -> str:
    """The storage location. Raises Permanent where the name is none, and the settings have no default."""
    if name not in settings.storage_locations and settings.default_storage_location is not None:
        return settings.default_storage_location
    table = settings.storage_locations
    return _code("storage location", name, table, setting="storage_locations", characters_max=4)


def user(name: str) -> str | None:
    """A user name for a field of 12 characters; None where it does not fit, for then it says nothing over there."""
    code = name.strip().upper()
    return code if len(code) <= 12 and _CODE.fullmatch(code) else None


def price(unit_price: Decimal) -> tuple[Decimal, int]:
    """A price with at most two decimals, and for how many units it holds: 0.1234 is 12.34 for 100.

    Raises Permanent for a price with more digits than that can tell.
    """
    per = 1
    while per <= PRICE_QUANTITY_MAX:
        amount = unit_price * per
        if amount == round(amount, PRICE_DECIMALS):
            return round(amount, PRICE_DECIMALS), per
        per *= 10
    raise Permanent(f"The unit price {unit_price} has more digits than SAP's price and price unit can tell.")


def asset(asset_id: str, characters_max: int) -> str:
    """An asset id as the number of an equipment or functional location. Raises Permanent where it is none."""
    return _code("asset", asset_id, {}, setting="asset_as", characters_max=characters_max)


def priority(name: str) -> str:
    """SAP's 1 very high to 4 low (general knowledge) of our P1 to P4. Raises Permanent."""
    if name not in ("P1", "P2", "P3", "P4"):
        raise Permanent(f"The priority {name!r} is none of P1, P2, P3, P4.")
    return name[1:]


def _code(what: str, name: str, table: Mapping[str, str], *, setting: str, characters_max: int) -> str:
    if name in table:
        return table[name]
    code = name.strip().upper()
    if len(code) > characters_max or not _CODE.fullmatch(code):
        raise Permanent(
            f"The {what} {name!r} is no code of SAP, which takes {characters_max} characters: "
            f"say in the setting {setting} what it is called there."
        )
    return code
