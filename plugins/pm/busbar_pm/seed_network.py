"""The assets of the demo sites: two small utilities between the coasts, for electricity and for water."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import msgspec

from busbar_pm.assets import AssetFields, AssetStatus


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A town with a substation."""

    name: str
    latitude: float
    longitude: float
    feeders: tuple[int, ...]
    """Customers of each feeder."""


class Waterworks(msgspec.Struct, frozen=True, kw_only=True):
    """Where a site's water comes from."""

    name: str
    latitude: float
    longitude: float
    customers: int


TOWNS: dict[str, tuple[Place, ...]] = {
    "north": (
        Place(name="Husum", latitude=54.4767, longitude=9.0517, feeders=(1_840, 920, 410)),
        Place(name="Schleswig", latitude=54.5216, longitude=9.5586, feeders=(2_310, 1_175, 640)),
        Place(name="Rendsburg", latitude=54.3041, longitude=9.6636, feeders=(3_020, 1_490, 880, 215)),
    ),
    "south": (
        Place(name="Lüneburg", latitude=53.2464, longitude=10.4115, feeders=(4_150, 2_260, 1_030, 560)),
        Place(name="Uelzen", latitude=52.9651, longitude=10.5598, feeders=(1_620, 870, 330)),
    ),
}
WATERWORKS = {
    "north": Waterworks(name="Treene", latitude=54.4312, longitude=9.2874, customers=6_900),
    "south": Waterworks(name="Ilmenau", latitude=53.1987, longitude=10.4262, customers=8_400),
}

Asset = tuple[str, AssetFields]


def assets_of(site_id: str) -> list[Asset]:
    """The assets of a demo site as (id, fields), parents first."""
    assets: list[Asset] = []
    for number, town in enumerate(TOWNS[site_id], start=1):
        assets.extend(_substation(site_id.upper(), number, town))
    assets.extend(_waterworks(site_id.upper(), WATERWORKS[site_id]))
    return assets


def _substation(site: str, number: int, town: Place) -> Iterator[Asset]:
    substation_id = f"{site}-SUB-{number:02}"
    here: Any = {"location": town.name, "latitude": town.latitude, "longitude": town.longitude}
    yield (
        substation_id,
        AssetFields(
            asset_type="substation",
            name=f"Substation {town.name}",
            installation_date=date(1968 + 7 * number, 5, 12),
            customers_served=sum(town.feeders),
            voltage_kv=110,
            **here,
        ),
    )
    for index in (1, 2):
        # The transformers share the feeders: odd ones hang on the first, even ones on the second.
        feeders = town.feeders[index - 1 :: 2]
        transformer_id = f"{site}-TRF-{number:02}{index}"
        yield (
            transformer_id,
            AssetFields(
                asset_type="transformer",
                name=f"Transformer {index} {town.name}",
                installation_date=date(1989 + 6 * number + index, 9, 3),
                parent_id=substation_id,
                customers_served=sum(feeders),
                voltage_kv=110,
                attributes={"rating_mva": 40, "secondary_kv": 20, "oil_t": 11.5},
                **here,
            ),
        )
        for place, customers in enumerate(feeders):
            yield from _feeder(site, transformer_id, town, number * 10 + index + 2 * place, customers)


def _feeder(site: str, transformer_id: str, town: Place, number: int, customers: int) -> Iterator[Asset]:
    feeder_id = f"{site}-FDR-{number:03}"
    latitude, longitude = round(town.latitude + 0.011 * (number % 5), 5), round(town.longitude + 0.008 * number / 10, 5)
    yield (
        feeder_id,
        AssetFields(
            asset_type="feeder",
            name=f"Feeder {number} {town.name}",
            location=f"{town.name}, from the 20 kV busbar",
            latitude=town.latitude,
            longitude=town.longitude,
            installation_date=date(1994 + number % 20, 4, 20),
            parent_id=transformer_id,
            customers_served=customers,
            voltage_kv=20,
            attributes={"length_km": round(3.4 + number % 9 * 1.7, 1)},
        ),
    )
    ends: tuple[tuple[str, float, AssetStatus], ...] = (
        ("A", 1.0, "in_service"),
        ("B", 0.45, "out_of_service" if number % 7 == 0 else "in_service"),
    )
    for letter, share, status in ends:
        yield (
            f"{site}-SWT-{number:03}{letter}",
            AssetFields(
                asset_type="switch",
                name=f"Load-break switch {number}{letter}",
                location=f"{town.name}, ring main unit {number}{letter}",
                latitude=latitude,
                longitude=longitude,
                installation_date=date(2006 + number % 15, 8, 1),
                status=status,
                parent_id=feeder_id,
                customers_served=int(customers * share),
                voltage_kv=20,
            ),
        )


def _waterworks(site: str, works: Waterworks) -> Iterator[Asset]:
    main_id = f"{site}-MAIN-01"
    yield (
        main_id,
        AssetFields(
            asset_type="main",
            name=f"Trunk main {works.name}",
            location=f"Waterworks {works.name} to the elevated tank",
            latitude=works.latitude,
            longitude=works.longitude,
            installation_date=date(1979, 10, 2),
            customers_served=works.customers,
            attributes={"diameter_mm": 500, "material": "ductile iron"},
        ),
    )
    for kind, number, title in (("PUMP", 1, "Pump"), ("PUMP", 2, "Pump"), ("VLV", 1, "Valve"), ("VLV", 2, "Valve")):
        yield (
            f"{site}-{kind}-{number:02}",
            AssetFields(
                asset_type=title.lower(),
                name=f"{title} {number} {works.name}",
                location=f"Waterworks {works.name}",
                latitude=round(works.latitude + 0.001 * number, 5),
                longitude=works.longitude,
                installation_date=date(2001 + 4 * number, 3, 15),
                status="planned" if (kind, number) == ("VLV", 2) else "in_service",
                parent_id=main_id,
                customers_served=works.customers if number == 1 else 0,
            ),
        )
